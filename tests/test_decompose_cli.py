"""`decompose ...` as a user runs it: a Store of the embedded model, tables on stdout, pages, one line for a mistake."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from atlas.cli import main as atlas
from atlas.packaged import emoji
from atlas.pages import write_site
from atlas.store import Store
from decompose.cli import main
from decompose.confirmation import COLUMNS
from decompose.opening import VOCABULARY


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


def test_the_vocabulary_is_embedded_once_for_a_store(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from decompose.lookup import TextBank

    command = ["texts", "3", "-k", "2", "--store", str(store), "--json"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert Store.open(store).current(VOCABULARY)
    with monkeypatch.context() as patch:
        patch.setattr(TextBank, "build", None)  # would fail if it were called
        assert main(command) == 0
    assert capsys.readouterr().out == first
    monkeypatch.setattr("decompose.lookup.default_texts", lambda: ("cat", "dog", "sun"))
    assert main(command) == 0  # another vocabulary is embedded anew
    assert {row["text"] for row in json.loads(capsys.readouterr().out)} < {"cat", "dog", "sun"}


def test_latents_of_an_autoencoder_stand_where_neurons_do(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 1024)).astype(np.float32)
    save_file({"W_enc": rows.T.copy(), "W_dec": rows}, tmp_path / "sae.safetensors")
    sae = ["--sae", str(tmp_path / "sae.safetensors")]
    assert main(["search", "happy", "--json", *sae]) == 0
    assert {row["label"] for row in json.loads(capsys.readouterr().out)} == {"latent 0", "latent 1", "latent 2"}
    assert main(["nearest", str(store), "2", "-k", "1", *sae]) == 0
    assert main(["equation", "happy", "-k", "1", *sae]) == 0
    assert "latent" in capsys.readouterr().out
    for number in ("3", "-1"):
        assert main(["nearest", str(store), number, *sae]) == 1
        assert f"latent {number} is out of range" in capsys.readouterr().err


def test_a_store_agrees_with_itself(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["universality", str(store), str(store), "-k", "2"]) == 0
    first, _, head, *rows = capsys.readouterr().out.splitlines()
    assert "each other's nearest" in first
    assert head.split() == ["neuron", "other", "correlation", "p", "q"]
    assert all(row.split()[0] == row.split()[1] for row in rows)
    assert len(rows) == 2


def test_equations_are_printed_and_become_a_page(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["equation", "happy", "very sad", "--store", str(store), "-k", "2", "--receipts"]) == 0
    out = capsys.readouterr().out
    assert "happy = " in out
    assert "of the logit; R2 of the bilinear form" in out
    assert "effect" in out
    page = (Store.open(store).derived("site-fragments/equations") / "page.html").read_text("utf-8")
    assert "Raising it" in page
    assert '<h2 dir="ltr"><bdi>very sad</bdi> = ' in page


def test_nmf_label_and_emotions_become_pages_of_the_site(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = store.parent / "feelings.txt"
    words.write_text("happy\nsad\nangry\nafraid\nproud\ncalm\nbored\ntired\njoyful\nworried\nglad\nlonely\n", "utf-8")
    assert main(["nmf", str(store), "-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["emotions", "--words", str(words), "--store", str(store)]) == 0
    out = capsys.readouterr().out
    assert "happy = " in out
    assert "text embeddings" in out
    capsys.readouterr()
    assert main(["label", str(store), "-k", "5", "--rate", "0.9"]) == 0
    assert "neurons have a label; the surest:" in capsys.readouterr().out
    receipts = pq.read_table(Store.open(store).derived("neurons/receipts") / "receipts.parquet")
    assert receipts.schema.equals(COLUMNS)
    labels = pq.read_table(Store.open(store).derived("neurons/labels") / "labels.parquet").to_pylist()
    given = [(row["neuron"], row["label"]) for row in labels if row["label"] != "none"]
    assert given
    assert [(row["neuron"], row["concept"]) for row in receipts.to_pylist()][::2] == given
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
        (["search", "happy", "--templates", ""], "no templates"),
        (["search", "happy", "-k", "-1"], "at least one"),
        (["search", "happy", "--sae", "nowhere"], "cannot read nowhere as safetensors"),
        (["equation", "happy", "-k", "99999"], "99999"),
        (["equation", " "], "is empty"),
        (["compare", "happy"], "needs two"),
        (["texts", "-1"], "neuron -1"),
    ],
)
def test_a_mistake_is_one_line(command: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("decompose: ")
    assert line in said[0]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["label", "{}", "--rate", "nan"], "false discovery rate is nan"),
        (["nmf", "{}", "--alpha", "nan"], "alpha is nan"),
        (["nmf", "{}", "-k", "99999"], "99,999 components"),
        (["nearest", "{}", "1024"], "neuron 1024"),
        (["universality", "{}", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_about_a_store_is_one_line(
    store: Path, command: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    test_a_mistake_is_one_line([part.format(store) for part in command], line, capsys)


def test_a_store_without_statistics_says_what_makes_them(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(store, bare, ignore=shutil.ignore_patterns("neurons", "site*", "index", "layout"))
    for command in (["search", "cat", "--store", str(bare)], ["nearest", str(bare), "3"]):
        test_a_mistake_is_one_line(command, f"atlas stats {bare}", capsys)


def test_right_to_left_text_is_text_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "שלום", "-k", "1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
