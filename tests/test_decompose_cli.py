"""`decompose ...` as a user runs it: a Store of the embedded model, tables on stdout, pages, one line for a mistake."""

import json
from pathlib import Path

import pytest

from atlas.cli import main as atlas
from atlas.packaged import emoji
from atlas.pages import write_site
from atlas.store import Store
from decompose.cli import main


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety drawings in folders of their own names, and a few rendered words."""
    place = tmp_path_factory.mktemp("decompose")
    for number, item in enumerate(emoji("emoji", ("Google",), skin=False)):
        if number % 20 == 0 and item.load:
            folder = place / "drawings" / item.label.replace("/", " ")
            folder.mkdir(parents=True, exist_ok=True)
            item.load().save(folder / "google.png")
    (place / "words.txt").write_text("happy\nsad\nangry\ndog\ncat\nsun\nmoon\n", "utf-8")
    sources = [f"folder:{place / 'drawings'}", f"words:{place / 'words.txt'}?fonts=open-sans"]
    assert atlas(["collect", *sources, str(place / "out"), "--device", "cpu"]) == 0
    assert atlas(["stats", str(place / "out"), "--device", "cpu"]) == 0
    return place / "out"


def test_search_and_its_inverse(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "happy", "-k", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 3
    assert rows[0]["score"] >= rows[1]["score"]
    assert main(["search", "happy", "-k", "3", "--store", str(store)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4  # a head and three
    assert main(["texts", str(rows[0]["neuron"]), "-k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["nearest", str(store), "7", "-k", "2", "--json"]) == 0
    assert 7 not in [row["neuron"] for row in json.loads(capsys.readouterr().out)]


def test_equations_are_printed_and_become_a_page(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["equation", "happy", "very sad", "--store", str(store), "-k", "2", "--receipts"]) == 0
    out = capsys.readouterr().out
    assert "happy = " in out
    assert "of the logit)" in out
    assert "effect" in out
    page = (Store.open(store).derived("site-fragments/equations") / "page.html").read_text("utf-8")
    assert "very sad = " in page
    assert "Effect of raising it" in page


def test_nmf_label_and_emotions_become_pages_of_the_site(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = store.parent / "feelings.txt"
    words.write_text("happy\nsad\nangry\nafraid\nproud\ncalm\nbored\ntired\njoyful\nworried\nglad\nlonely\n", "utf-8")
    assert main(["nmf", str(store), "-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["emotions", "--words", str(words), "--store", str(store)]) == 0
    out = capsys.readouterr().out
    assert "happy = " in out
    assert "text embeddings" in out
    assert main(["label", str(store)]) == 0
    site = write_site(Store.open(store)).parent if (opened := Store.open(store)) else None
    assert site is not None
    index = (opened.derived("site") / "index.html").read_text("utf-8")
    assert "emotions.html" in index
    assert "components.html" in index


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["search", ""], "empty"),
        (["search", "x" * 10_000], "10,000 characters"),
        (["search", "happy", "--by", "response"], "needs a Store"),
        (["texts", "99999"], "neuron 99999"),
        (["equation", "happy", "--receipts"], "need images"),
        (["emotions", "--words", "nowhere.txt"], "is not a file"),
        (["nmf", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line(command: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("decompose: ")
    assert line in said[0]


def test_right_to_left_text_is_text_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "שלום", "-k", "1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
