"""A neuron has one name, whoever asks for it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import atlas
from atlas.analysis import naming, parts
from atlas.analysis.derivation import summarise_neurons
from atlas.analysis.naming import NONE, NeuronNames, RowNames
from atlas.cli import main
from atlas.pages.frame import StoreFrame
from atlas.pages.neurons import Neurons
from atlas.pages.rows import PageRows
from atlas.store.store import Store
from decompose.neighbours import similar_neurons
from tests.fakes import fake_store

NEURONS = 16


def put_table(store: Store, part: parts.Part, file: str, columns: dict[str, list]) -> None:
    with store.deriving(part, {}) as folder:
        pq.write_table(pa.table(columns), folder / file)


def put_texts(store: Store) -> None:
    texts = [["a drawing", "a face", "a sea", "a fourth"]] * NEURONS
    put_table(store, parts.TEXTS, "texts.parquet", {"neuron": list(range(NEURONS)), "texts": texts})


def put_labels(store: Store, rows: list[tuple[int, str]]) -> None:
    columns = {"neuron": [n for n, _ in rows], "label": [label for _, label in rows]}
    put_table(store, parts.LABELS, "image.parquet", columns)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Pictures and words of many labels, with nothing derived."""
    return fake_store(tmp_path / "store", images=60, words=24, texts=6, neurons=NEURONS, derived=False)


def test_labels_come_before_words_words_before_texts_and_numbers_last(store: Store) -> None:
    assert NeuronNames.read(store)[5] == (("neuron 5",), "number")
    put_texts(store)
    assert NeuronNames.read(store)[5] == (("a drawing", "a face", "a sea"), "text")
    summarise_neurons(store)
    words = atlas.Neuron(store, 5).words(3)
    assert NeuronNames.read(store)[5] == (tuple(words), "word")
    put_labels(store, [(5, "sun"), (5, "moon"), (5, "sun"), (6, NONE), (7, "")])
    names = NeuronNames.read(store)
    assert names[5] == (("sun", "moon"), "label")
    assert str(names[5]) == "sun, moon"
    assert names[6].source == names[7].source == "word", "a neuron without a label is named by its words"


def test_images_come_before_texts_where_there_are_no_words(tmp_path: Path) -> None:
    store = fake_store(tmp_path / "store", images=60, words=0, texts=6, neurons=NEURONS, derived=False)
    put_texts(store)
    summarise_neurons(store)
    rows = RowNames(store)
    found = [rows[row["row"]] for row in atlas.Neuron(store, 5).images(24)]
    assert NeuronNames.read(store)[5] == (tuple(dict.fromkeys(found))[:3], "image")


@pytest.mark.parametrize("folders", [("",), ("red", "blue")])
@pytest.mark.parametrize("texts", [0, 12])
def test_the_name_of_a_folder_is_no_label(tmp_path: Path, folders: tuple[str, ...], texts: int) -> None:
    for number in range(12):
        folder = tmp_path / "photos" / folders[number % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (20 * number, 90, 40)).save(folder / f"{number}.png")
    (tmp_path / "list.txt").write_text("".join(f"a thing of kind {letter}\n" for letter in "abcdefghijkl"[:texts]))
    sources = [str(tmp_path / "photos"), *[f"texts:{tmp_path / 'list.txt'}"] * bool(texts)]
    store = atlas.collect(sources, atlas.Clip("mini", device="cpu"), tmp_path / "out")
    assert (store.counts["image"], store.counts.get("text", 0)) == (12, texts)
    summarise_neurons(store)
    rows = RowNames(store)
    assert not rows.telling
    assert [rows[0], rows[6]] == (["0.png", "4.png"] if folders == ("",) else ["blue", "red"]), "one label: file names"
    assert {atlas.Neuron(store, n).label for n in (3, 700)} == {"neuron 3", "neuron 700"}
    pages = Neurons.read(StoreFrame(store, store.path, [], {}), PageRows(store))
    assert pages is not None
    assert set(pages.terms(3)) == {"neuron 3"}, "and regions are not named by it"


def test_a_neuron_has_the_same_name_everywhere(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    summarise_neurons(store)
    near = [[(n + i) % NEURONS for i in range(1, 9)] for n in range(NEURONS)]
    columns = {"neuron": list(range(NEURONS)), "by_basis": near, "by_response": near}
    put_table(store, parts.NEIGHBOURS, "neighbours.parquet", columns)
    put_labels(store, [(n, f"label {n}") for n in range(0, NEURONS, 2)])
    names = NeuronNames.read(store)
    capsys.readouterr()
    assert main(["near", str(store.path), "--neuron", "3", "-k", "8", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert {(row["neuron"] % 2, row["source"]) for row in table} == {(0, "label"), (1, "word")}
    listed = {row["neuron"]: row["label"] for row in table}
    assert {label.startswith("label ") for label in listed.values()} == {True, False}, "labels, and words"
    pages = Neurons.read(StoreFrame(store, store.path, [], {}), PageRows(store))
    assert pages is not None
    tables = similar_neurons(store, 3, k=8).to_pylist()
    assert len(listed) == len(tables) == 8
    for neuron, label in [*listed.items(), *((row["neuron"], row["label"]) for row in tables)]:
        assert label == str(names[neuron]) == atlas.Neuron(store, neuron).label == pages.label(neuron)


def test_each_table_is_read_once_for_all_neurons(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    summarise_neurons(store)
    put_texts(store)
    put_labels(store, [(n, f"label {n}") for n in range(0, NEURONS, 2)])
    read, table, rows = [], pq.read_table, RowNames(store)

    def note(path: Path, **options: object) -> pa.Table:
        read.append(Path(path).parent.name + "/" + Path(path).stem)
        return table(path, **options)

    monkeypatch.setattr(naming.pq, "read_table", note)
    names = NeuronNames.read(store, rows)
    assert len({str(names[n]) for n in range(NEURONS)}) > NEURONS // 2
    assert sorted(read) == ["labels/image", "stats/image", "stats/word", "texts/texts"]
    assert np.all([names[n] is names[n] for n in range(0, NEURONS, 2)])


def test_names_are_read_once_for_an_open_store_and_again_when_labels_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    summarise_neurons(store)
    put_labels(store, [(n, f"label {n}") for n in range(NEURONS)])
    read, table = [], pq.read_table

    def note(path: Path, **options: object) -> pa.Table:
        read.append(path)
        return table(path, **options)

    monkeypatch.setattr(pq, "read_table", note)
    _ = atlas.Neuron(store, 0).label
    first = len(read)
    assert first >= 3, "the rows, the statistics and the labels"
    assert [atlas.Neuron(store, n).label for n in range(NEURONS)] == [f"label {n}" for n in range(NEURONS)]
    assert len(read) == first
    put_labels(store, [(3, "moon")])
    assert atlas.Neuron(store, 3).label == "moon"
    assert atlas.Neuron(store, 4).label_source == "word"
