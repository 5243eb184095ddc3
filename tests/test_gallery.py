"""A Store's drawings: kept as they are made, not made twice, and shown on the cards."""

import json
import shutil
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import atlas
from atlas.analysis.derivation import index_embeddings, lay_out_cells
from atlas.cli import main
from atlas.dream import gallery
from atlas.dream.gallery import DRAWINGS_FILE, DRAWINGS_SCHEMA, write_drawings
from atlas.dream.prior import image_style, strongest_images
from atlas.dream.scenes import ICONS_SCHEMA, TEXTS_SCHEMA, draw_cells, draw_texts
from atlas.dream.visualisation import visualise
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.pages import write_site
from tests.fakes import fake_store, part

STEPS = 2


@pytest.fixture(scope="module")
def made(clip, tmp_path_factory):
    """Sixty rough pictures on yellow, and some words."""
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "photos").mkdir()
    for i in range(60):
        rough = np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8)
        picture = Image.new("RGB", (96, 96), (250, 220, 40))
        picture.paste(Image.fromarray(rough).resize((40, 40)), (28, 28))
        picture.save(folder / "photos" / f"{i}.png")
    store = atlas.collect([str(folder / "photos"), "words?top=30&fonts=pt-serif&sizes=24"], clip, folder / "out")
    index_embeddings(store)
    return store


@pytest.fixture
def store(made):
    yield made
    shutil.rmtree(made.path / "neurons/drawings", ignore_errors=True)


@pytest.fixture
def drawn(monkeypatch) -> list[list[int]]:
    """The neurons that were really drawn, a list a call."""
    calls: list[list[int]] = []

    def draw(clip, part, *args, **options):
        calls.append(list(part))
        return visualise(clip, part, *args, **options)

    monkeypatch.setattr(gallery, "visualise", draw)
    return calls


def test_a_drawing_is_kept_with_what_it_reaches(store, clip):
    found = write_drawings(store, clip, [3, 700], repeats=2, steps=STEPS)
    assert [(row["neuron"], row["repeat"]) for row in found] == [(3, 0), (3, 1), (700, 0), (700, 1)]
    picture = Image.open(BytesIO(found[0]["image"]))
    assert (picture.format, picture.size) == ("WEBP", (112, 112))
    assert np.asarray(picture)[..., 2].mean() < np.asarray(picture)[..., 0].mean(), "it begins as yellow as the images"
    strongest = np.asarray(store.array("mean", "image")[:], np.float32).max(0)
    for row in found[::2]:
        assert 0.2 < row["strongest"] / strongest[row["neuron"]] < 20, "of rough pictures, some views do far more"
        assert row["kept"] is row["seen"] is None
    assert pq.read_table(store.derived(part("neurons/drawings")) / DRAWINGS_FILE).schema.equals(DRAWINGS_SCHEMA)


@pytest.mark.slow
def test_what_was_drawn_alike_is_not_drawn_again(store, clip, drawn):
    write_drawings(store, clip, [1, 2], steps=STEPS)
    kept = pq.read_table(store.derived(part("neurons/drawings")) / DRAWINGS_FILE)
    both = write_drawings(store, clip, [2, 3, 2], steps=STEPS)
    assert drawn == [[1, 2], [3]]
    assert [row["neuron"] for row in both] == [2, 3]
    assert pq.read_table(store.derived(part("neurons/drawings")) / DRAWINGS_FILE).slice(0, 2).equals(kept)
    write_drawings(store, clip, [1], steps=STEPS + 1)
    assert drawn[2] == [1]
    assert len(pq.read_table(store.derived(part("neurons/drawings")) / DRAWINGS_FILE)) == 3, (
        "the same neuron and theme has one set of drawings"
    )


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(store, clip, drawn, monkeypatch):
    monkeypatch.setattr(gallery, "directions_at_once", lambda clip, repeats: 2)
    draw = gallery.visualise

    def fail(clip, part, *args, **options):
        if 6 in part:
            raise KeyboardInterrupt
        return draw(clip, part, *args, **options)

    monkeypatch.setattr(gallery, "visualise", fail)
    with pytest.raises(KeyboardInterrupt):
        write_drawings(store, clip, range(4, 10), steps=STEPS)
    monkeypatch.setattr(gallery, "visualise", draw)
    found = write_drawings(store, clip, range(4, 10), steps=STEPS)
    assert drawn == [[4, 5], [6, 7], [8, 9]]
    assert [row["neuron"] for row in found] == list(range(4, 10))


@pytest.mark.slow
def test_themes_are_learnt_from_words_and_from_pictures_near_a_text(store, clip, monkeypatch):
    monkeypatch.setattr(gallery, "_THEME_PICTURES", 25)
    asked, learn = [], gallery.Theme.learn

    def note(clip, own, others):
        asked.append((own, others))
        return learn(clip, own, others)

    monkeypatch.setattr(gallery.Theme, "learn", note)
    found = write_drawings(store, clip, [5], ("", "words", "a cat"), steps=STEPS)
    assert [row["theme"] for row in found] == ["", "a cat", "words"]
    assert [row["strength"] for row in found] == [0, 1, 1]
    assert [row["kept"] is None for row in found] == [row["seen"] is None for row in found] == [True, False, False]
    assert found[1]["kept"] == pytest.approx(found[1]["reached"] / max(found[0]["reached"], 1e-12), rel=1e-4)
    assert 0 <= found[1]["seen"] <= 1
    (words, others), (cats, rest) = asked
    assert len(words) == len(cats) == 25
    assert len(others) == 60
    assert len(rest) == 35, "pictures of the theme are not among the others"
    assert len({picture.tobytes() for picture in [*cats, *rest]}) == 60


def test_a_theme_that_takes_all_pictures_is_refused(store, clip):
    with pytest.raises(Refused, match="has too few images to learn the theme 'a cat'"):
        write_drawings(store, clip, [5], ["a cat"], steps=STEPS)


def test_the_style_of_a_store_is_that_of_its_images(store, tmp_path):
    style = image_style(store)
    assert style.ground == pytest.approx((0.97, 220 / 255, 40 / 255), abs=0.05), "they lie on yellow"
    assert style.spectrum[0] > style.spectrum[-1] > 0
    assert np.linalg.norm(style.colours, axis=0)[0] == np.linalg.norm(style.colours, axis=0).max()
    white = tmp_path / "white"
    white.mkdir()
    for i in range(3):
        Image.new("RGB", (20, 20), "white").save(white / f"{i}.png")
    plain = image_style(atlas.collect(str(white), Clip("mini"), tmp_path / "out"))
    assert plain.ground == pytest.approx((0.97, 0.97, 0.97))


def test_the_command_prints_what_was_drawn(store, capsys):
    assert main(["dream", str(store.path), "12", "40-41", "--steps", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["neuron"] for row in rows] == [12, 40, 41]
    assert set(rows[0]) == {"neuron", "theme", "repeat", "reached", "strongest", "times", "label"}
    assert rows[0]["times"] == pytest.approx(rows[0]["reached"] / rows[0]["strongest"])


def test_the_images_that_activate_a_direction_most_come_first(store):
    A = np.asarray(store.array("mean", "image")[:], np.float32)
    D = np.zeros((2, A.shape[1]), np.float32)
    D[0, 3], D[1, 700] = 1, 1
    rows = strongest_images(store, D, m=4)
    assert rows.tolist() == [
        store.positions("image")[np.argsort(-A[:, n], kind="stable")[:4]].tolist() for n in (3, 700)
    ]
    some = np.sort(np.random.default_rng(0).choice(store.positions("image"), 10, replace=False))
    among = strongest_images(store, D[:1], among=some, m=3)[0]
    assert among.tolist() == sorted(some.tolist(), key=lambda row: -A[row - store.positions("image")[0], 3])[:3]


@pytest.mark.slow
def test_texts_are_drawn_beside_their_nearest_images_and_kept(store, clip):
    first = draw_texts(store, clip, ["a cat"], steps=STEPS)
    E, t = np.asarray(store.array("embedding", "image")[:], np.float32), clip.encode_texts(["a cat"])[0]
    assert first[0]["rows"][0] == store.positions("image")[(E @ t).argmax()]
    draw_texts(store, clip, ["sea", "a cat"], steps=STEPS)
    table = pq.read_table(store.derived(part("drawings/texts")) / "texts.parquet")
    assert table.schema.equals(TEXTS_SCHEMA)
    assert table["text"].to_pylist() == ["sea", "a cat"]
    assert json.loads((store.derived(part("drawings/texts")) / "made.json").read_text())["command"].endswith(
        "--text sea 'a cat'"
    )
    shutil.rmtree(store.path / "drawings")


@pytest.mark.slow
def test_cells_have_icons_and_a_run_goes_on(store, clip, monkeypatch):
    lay_out_cells(store, columns=3, minimum=2)
    calls = []
    monkeypatch.setattr("atlas.dream.scenes.directions_at_once", lambda clip: calls.append(0) or 2)
    found = draw_cells(store, clip, steps=STEPS)
    cells = pq.read_table(store.derived(part("layout/cells")) / "cells.parquet")
    assert [row["cell"] for row in found] == list(range(len(cells)))
    assert Image.open(BytesIO(found[0]["image"])).size == (64, 64)
    path = store.derived(part("layout/icons")) / "icons.parquet"
    kept = pq.read_table(path)
    assert kept.schema.equals(ICONS_SCHEMA)
    assert (
        json.loads((path.parent / "made.json").read_text())["command"]
        == f"atlas dream {{store}} --cells --steps {STEPS}"
    )
    with store.deriving(part("layout/icons"), {}, of=[part("layout/cells")]) as folder:
        pq.write_table(kept.slice(0, 1), folder / "icons.parquet")
    again = draw_cells(store, clip, steps=STEPS)
    assert again[0]["image"] == found[0]["image"]
    assert [row["cell"] for row in again] == list(range(len(cells)))
    for name in ("icons", "cells"):
        shutil.rmtree(store.path / "layout" / name)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((), "name neurons, as in 12 40-47, or ask for --all of them"),
        (("3", "--all"), "name neurons, as in 12 40-47, or ask for --all of them"),
        (("1024",), "neuron 1024 is out of range"),
        (("3", "--steps", "0"), "'0' is no whole number from 1 on"),
        (("3", "--text", "cat"), "name neurons, as in 12 40-47, or ask for --all of them, for --text or for --cells"),
        (("--text", "cat", "--theme", "sea"), "--theme and --strength are of neurons; leave them out"),
        (("--text", " "), "the text is empty"),
        (("--cells", "--repeats", "2"), "a cell has one icon; leave --repeats out"),
        (("--cells",), "atlas map"),
        (("9-3",), "'9-3' is neither a number nor a span such as 40-47"),
        (("x",), "'x' is neither a number nor a span such as 40-47"),
    ],
)
def test_mistakes_are_told_in_a_line(store, asked, said, capsys):
    try:
        code = main(["dream", str(store.path), *asked])
    except SystemExit as stop:
        code = stop.code
    assert code in (1, 2)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in last
    assert not store.has(part("neurons/drawings"))


@pytest.mark.slow
def test_cards_show_drawings(tmp_path, browser):
    store = fake_store(tmp_path / "store", neurons=16)
    picture = gallery.encode_webp(np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8))
    hostile = "<b onmouseover=harm()>\"'"
    rows = [
        {"neuron": 3, "theme": theme, "repeat": 0, "image": picture, "reached": 0.5, "strongest": 0.75,
         "kept": 0.625 if theme else None, "seen": 0.9 if theme else None,
         "steps": 2, "strength": 1.0, "repeats": 1, "seed": 0} for theme in ("", hostile)
    ]  # fmt: skip
    with store.deriving(part("neurons/drawings"), {}) as folder:
        pq.write_table(pa.Table.from_pylist(rows, DRAWINGS_SCHEMA), folder / DRAWINGS_FILE)
    site = write_site(store).parent
    page = browser.new_page()
    page.goto((site / "neurons" / "0003.html").as_uri())
    assert page.locator(".drawn img").evaluate_all("all => all.map(one => one.naturalWidth)") == [112, 112]
    captions = page.locator(".drawn figcaption").all_inner_texts()
    assert captions == ["no facet\n0.500\nless than the best image", f"{hostile}\n0.500\nkeeps 62 %\nseen 0.90"]
    assert page.locator(".drawn b").count() == 0
    assert "has 0.750" in page.locator("article").inner_text()
    page.goto((site / "neurons" / "0004.html").as_uri())
    assert page.locator(".drawn").count() == 0
    page.close()


@pytest.mark.slow
def test_the_page_of_drawings_and_the_icons_of_cells(tmp_path, browser):
    store = fake_store(tmp_path / "store", neurons=16)
    hostile = "<b onmouseover=harm()>\"'"
    icons = [np.full((64, 64, 3), level, np.uint8) for level in (250, 20)]
    rows = [
        {"text": hostile, "repeat": 0, "image": gallery.encode_webp(np.zeros((112, 112, 3), np.uint8)), "reached": 4.0,
         "strongest": 5.0, "rows": [0, 3], "steps": 2, "seed": 0}
    ]  # fmt: skip
    with store.deriving(part("drawings/texts"), {}) as folder:
        pq.write_table(pa.Table.from_pylist(rows, TEXTS_SCHEMA), folder / "texts.parquet")
    cells = len(pq.read_table(store.derived(part("layout/cells")) / "cells.parquet"))
    rows = [
        {"cell": cell, "image": gallery.encode_webp(icons[cell % 2]), "reached": 3.0, "strongest": 1.0, "steps": 2,
         "seed": 0} for cell in range(cells)
    ]  # fmt: skip
    with store.deriving(part("layout/icons"), {}, of=[part("layout/cells")]) as folder:
        pq.write_table(pa.Table.from_pylist(rows, ICONS_SCHEMA), folder / "icons.parquet")
    site = write_site(store).parent
    page = browser.new_page()
    page.goto((site / "drawings.html").as_uri())
    assert page.locator("h3").all_inner_texts() == [hostile]
    assert page.locator(".drawn figcaption").all_inner_texts() == [
        "logit 4.00\nbest image 5.00\nless than the best image"
    ]
    assert page.locator(".drawn i.t").count() == 2
    text = page.locator("article").inner_text()
    assert "1 drawing of texts: 0 of 1 exceed" in text
    assert f"{cells} drawings of cells: {cells} of {cells} exceed the best real image; the median is 3.00" in text
    page.goto((site / "activations.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    shown = "all => all.map(one => getComputedStyle(one).backgroundImage.includes('icons.webp'))"
    assert all(page.locator(".grid .t").evaluate_all(shown))
    page.locator(".grid .t").first.click()
    assert page.locator("#card .head .icon").count() == 1
    page.get_by_role("button", name="Drawings").click()
    assert not any(page.locator(".grid .t").evaluate_all(shown)), "patches in place of drawings"
    page.close()
