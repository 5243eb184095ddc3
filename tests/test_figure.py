"""Neurons as a figure: PDF, SVG and PNG, the same bytes again, and names that are text alone."""

import resource
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atlas.analysis import parts
from atlas.analysis.naming import RowNames
from atlas.cli import main
from atlas.errors import Misuse, Refused
from atlas.pages.figure import FORMATS, new_figure, save_figure, write_figure
from atlas.pages.fragments import picture_tag
from atlas.pages.mapfigure import write_map_figure
from atlas.store.store import Store
from decompose.enrichment import concepts_in
from decompose.equations import Equation, Term
from decompose.pages import covers, equations_page
from decompose.pages.shown import shown_rows
from decompose.pages.sum_figure import write_sum_figure
from tests.fakes import HOSTILE, fake_store


@pytest.mark.parametrize("kind", [pytest.param("pdf", marks=pytest.mark.slow), "svg", "png"])
def test_a_figure_is_the_same_again(told_store: Store, tmp_path: Path, kind: str) -> None:
    file = write_figure(told_store, [3, 4, 3], tmp_path / f"a.{kind}", dpi=50)
    before = file.read_bytes()
    assert write_figure(told_store, [3, 4], file, dpi=50).read_bytes() == before
    assert write_figure(told_store, [4, 3], tmp_path / f"b.{kind}", dpi=50).read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{kind}", f"b.{kind}"]
    if kind == "png":
        with Image.open(file) as image:
            assert image.size == (500, 172)
    if kind == "svg":
        text = before.decode()
        assert "Neuron 3" in text
        assert "<script" not in text
        assert text.count("<image") >= 2
        assert told_store.digest[:16] in text


def test_a_name_is_no_formula(told_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.pages.neurons.Neurons.label", lambda *_: "$\\frac{1}{$ a\x1b[31m & <b>")
    text = write_figure(told_store, [3], tmp_path / "a.svg").read_text("utf-8")
    assert "$\\frac{1}{$ a" in text
    assert "\x1b" not in text
    assert HOSTILE[0] not in text


def test_a_view_of_the_map_holds_what_its_address_names(told_store: Store, tmp_path: Path) -> None:
    whole = write_map_figure(told_store, file=tmp_path / "whole.svg")
    before = whole.read_bytes()
    assert write_map_figure(told_store, file=whole).read_bytes() == before
    pictures = before.count(b"<image") - 1  # one image is that of all points
    assert pictures >= 3
    assert told_store.digest[:16].encode() in before
    far = write_map_figure(told_store, "map.html#v=9000000,0,10", tmp_path / "far.svg").read_bytes()
    assert far.count(b"<image") == 0
    assert b"v=9000000,0,10." in far
    bare = write_map_figure(told_store, "#hide=kind.0", tmp_path / "bare.svg").read_bytes()
    assert bare.count(b"<image") < pictures
    assert b"image" in before.split(b"\xe2\x97\x8f")[1], "the legend names the kinds"
    groups = write_map_figure(told_store, "#c=group", tmp_path / "groups.svg").read_bytes()
    assert groups.count(b"\xe2\x97\x8f") != before.count(b"\xe2\x97\x8f")
    assert b"\x1b" not in before


def test_equations_are_drawn_as_sums_of_pictures(told_store: Store, tmp_path: Path) -> None:
    terms = (Term(3, 1.0, HOSTILE[1]), Term(4, 0.5, "rain"), Term(9, -0.25, "sun"))
    found = [Equation("a\x1bmood", terms, 0.71, "omp"), Equation("none", (), 0.0, "omp")]
    text = write_sum_figure(told_store, found, tmp_path / "a.svg").read_text("utf-8")
    assert text.count("<image") == 3
    for said in ("71% of the logit kept", "+ 0.5", "− 0.25", "rain", "nothing", told_store.digest[:16]):
        assert said in text.replace("\xa0", " ")
    assert "\x1b" not in text
    assert "<script" not in text
    with pytest.raises(Misuse, match="a figure shows 1 to 40"):
        write_sum_figure(told_store, found * 21, tmp_path / "b.svg")
    with pytest.raises(Misuse, match="is inside the Store"):
        write_sum_figure(told_store, found, told_store.path / "b.svg")


def test_a_sum_shows_only_pictures_that_its_names_are_true_of(told_store: Store, tmp_path: Path) -> None:
    names, cover, shown = RowNames(told_store), covers(told_store), shown_rows(told_store)
    tops = {kind: _tops(told_store, kind)[4] for kind in ("image", "word")}
    pictured, written = (
        next(names[row] for row in tops[kind][::-1] if names[row] not in {names[each] for each in tops[other]})
        for kind, other in (("image", "word"), ("word", "image"))
    )
    for name, kind in ((pictured, "image"), (written, "word")):
        row = next(row for row in tops[kind] if name.casefold() in concepts_in(names[row]))
        assert shown(Term(4, 1.0, name)) == (row, name)
        assert cover(Term(4, 1.0, name)) == (picture_tag(told_store, row, name, "neurons/0004.html"), name)
    nowhere = Term(4, 1.0, "xylophone")
    assert shown(nowhere) == (tops["image"][0], "neuron 4")
    assert "<small><bdi>neuron 4</bdi></small>" in equations_page([Equation("a", (nowhere,), 0.5, "omp")], cover=cover)
    text = write_sum_figure(told_store, [Equation("a", (nowhere,), 0.5, "omp")], tmp_path / "a.svg").read_text("utf-8")
    assert "neuron 4" in text
    assert "xylophone" not in text


def _tops(store: Store, kind: str) -> dict[int, list[int]]:
    table = pq.read_table(store.derived(parts.STATS) / f"{kind}.parquet", columns=["neuron", "top"])
    return dict(zip(table["neuron"].to_pylist(), table["top"].to_pylist(), strict=True))


def test_no_view_is_one_line(told_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "v=1,2 is no view; copy the address of map.html": ["--view", "#v=1,2"],
        "v=1,2,-3 is no view": ["--view", "#v=1,2,-3"],
        "v=nan,2,3 is no view": ["--view", "#v=nan,2,3"],
        "foo is no address of map.html": ["--view", "foo"],
        "c=evidence is no colouring of this map; it has kind, group": ["--view", "#c=evidence"],
        "leave one of them out": ["3", "--view", "#v=1,2,3"],
    }
    for said, words in cases.items():
        assert main(["figure", str(told_store.path), *words, "--to", str(tmp_path / "a.png")]) == 2
        assert said in capsys.readouterr().err
    plain = fake_store(tmp_path / "plain", derived=False)
    assert main(["figure", str(plain.path), "--to", str(tmp_path / "a.png")]) == 1
    assert "has no map; make it: atlas map" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_one_line(
    told_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.png").write_bytes(b"a picture of my own")
    cases = {
        "there is no neuron 70": ["70", "--to", str(tmp_path / "a.png")],
        "a figure is a .pdf, .svg or .png file": ["3", "--to", str(tmp_path / "a.gif")],
        "no figure of a Store": ["3", "--to", str(tmp_path / "mine.png")],
        "is not there; make the folder": ["3", "--to", str(tmp_path / "none" / "a.png")],
        "inside the Store": ["3", "--to", str(told_store.path / "a.png")],
        "a figure shows 1 to 60": ["0-69", "--to", str(tmp_path / "a.png")],
    }
    for said, words in cases.items():
        assert main(["figure", str(told_store.path), *words]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(Misuse):
        write_figure(told_store, [], tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_cannot_be_written_to_its_end_is_a_line(kind: str, tmp_path: Path) -> None:
    figure, (soft, hard) = new_figure(2.0, 2.0), resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    for bottom in (0.1, 0.3, 0.5):  # an image of a PDF begins while the one before it is still to be written
        figure.add_axes((0.1, bottom, 0.2, 0.2)).imshow(noise)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(Refused, match="file too large"):
            save_figure(figure, tmp_path / f"a.{kind}", 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
