"""The path from a Store to its site, on the embedded model and real drawings; Neuron and the queries on top."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import atlas
from atlas import cli
from atlas.analysis import derivation, queries
from atlas.errors import Refused
from tests.fakes import fake_store, part


@pytest.fixture
def store(real_store: atlas.Store) -> atlas.Store:
    return real_store


def test_statistics_are_those_of_the_arrays(store: atlas.Store) -> None:
    table = pq.read_table(store.derived(part("neurons/stats")) / "image.parquet")
    A = np.asarray(store.array("max", "image"), np.float32)
    np.testing.assert_allclose(table["mean"].to_numpy(), A.mean(0), rtol=1e-4, atol=1e-5)
    best = [top[0] for top in table["top"].to_pylist()]
    np.testing.assert_array_equal(best, store.positions("image")[A.argmax(0)])
    assert {sum(counts) for counts in table["counts"].to_pylist()} == {len(A)}


def test_words_are_averaged_over_their_fonts(store: atlas.Store) -> None:
    table = pq.read_table(store.derived(part("neurons/stats")) / "word.parquet")
    labels = np.array(store.table(["label"], "word")["label"].to_pylist())
    assert table["count"][0].as_py() == len({*labels}) < len(labels)
    A = np.asarray(store.array("max", "word"), np.float64)[:, 5]
    means = {label: A[labels == label].mean() for label in labels}
    first = store.rows["label"][table["top"][5][0].as_py()].as_py()
    assert first == max(means, key=lambda label: means[label])


def test_neighbours_are_the_most_alike(store: atlas.Store, clip: atlas.Clip) -> None:
    W = clip.basis()
    near = atlas.Neuron(store, 7).neighbours
    cosine = W @ W[7] / np.linalg.norm(W, axis=1) / np.linalg.norm(W[7])
    cosine[7] = -2
    assert near["by_basis"][0] == cosine.argmax()
    A = np.asarray(store.array("max", "image"), np.float64)
    correlation = np.corrcoef(A.T)[7]
    correlation[7] = -2
    assert near["by_response"][0] == np.nanargmax(correlation)


def test_a_neuron_shows_itself(store: atlas.Store) -> None:
    neuron = atlas.Neuron(store, 3)
    assert neuron.label == ", ".join(neuron.words(3))
    values = [image["value"] for image in neuron.images()]
    assert values == sorted(values, reverse=True)
    assert neuron.images(1, "bottom")[0]["value"] < values[-1]
    assert neuron._repr_html_().count("data:image/webp") == 12
    assert neuron.histogram()[0].sum() == store.counts["image"]
    with pytest.raises(Refused, match="neuron 5000 is out of range"):
        atlas.Neuron(store, 5000)


def test_queries_find_the_row_itself_and_its_place(store: atlas.Store, clip: atlas.Clip, tmp_path: Path) -> None:
    row = int(store.positions("image")[40])
    vector = np.asarray(store.array("embedding")[row], np.float32)
    assert queries.rows_near(store, vector, 3)[0]["row"] == row
    assert row not in [found["row"] for found in queries.rows_near_row(store, row, 5)]
    points = pq.read_table(store.derived(part("layout/map")) / "points.parquet")
    there = [points["x"][row].as_py(), points["y"][row].as_py()]
    np.testing.assert_allclose(queries.place_on_map(store, vector, "image"), there, atol=0.05)
    text = queries.rows_near(store, queries.embed_query(store, text="angry"), 2, kind="text")
    assert text[0]["caption"] == "angry"
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    assert len(queries.rows_near(store, queries.embed_query(store, image=tmp_path / "red.png"), 4)) == 4


def test_bad_questions_get_one_line(store: atlas.Store, tmp_path: Path) -> None:
    for ask, says in (
        (lambda: queries.embed_query(store, text=" "), "empty"),
        (lambda: queries.embed_query(store, image=tmp_path / "none.png"), "none.png"),
        (lambda: queries.rows_near_row(store, "nothing"), "no row with the id"),
        (lambda: queries.neurons_near(store, 0, by="luck"), "by basis or by response"),
        (lambda: queries.rows_near(store, np.zeros(256), 0), "k=0"),
    ):
        with pytest.raises(Refused, match=says) as refused:
            ask()
        assert "\n" not in str(refused.value)


def test_the_map_says_how_honest_it_is(store: atlas.Store) -> None:
    quality = store.recipe(part("layout/map"))
    assert 0.5 < quality["trustworthiness"] <= 1
    assert 0 < quality["preservation"] < 1
    assert quality["modality_gap"]["centred"]["image-word"] < quality["modality_gap"]["raw"]["image-word"]
    assert set(quality["word_meets_drawing"]) == {"raw", "centred"}
    assert set(quality["mixing"]) == set(quality["preservation_within"]) == set(store.counts)
    assert quality["name_matches"]["word-image"]["of_ten"] >= quality["name_matches"]["word-image"]["first"] > 0
    assert quality["umap"]["balanced"]
    assert store.recipe(part("index/embedding"))["image"]["recall_at_10"] == 1.0


def test_cells_hold_images_and_have_names(store: atlas.Store) -> None:
    cells = pq.read_table(store.derived(part("layout/cells")) / "cells.parquet").to_pylist()
    images = set(store.positions("image").tolist())
    assert len(cells) > 20
    assert all(set(cell["members"]) <= images and cell["count"] >= 5 for cell in cells)
    recipe = store.recipe(part("layout/cells"))
    assert recipe["grids"] == sorted({cell["grid"] for cell in cells})
    assert recipe["patches"] + recipe["blank"] <= len(images)


@pytest.mark.parametrize("images", [1, 3, 20])
def test_few_images_have_cells_too(images: int, tmp_path: Path) -> None:
    store = fake_store(tmp_path / "few", images=images, words=0, texts=0, derived=False)
    cells = pq.read_table(derivation.lay_out_cells(store) / "cells.parquet").to_pylist()
    assert cells
    assert min(cell["count"] for cell in cells) >= min(images, 5)


def test_blank_patches_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fake_store(tmp_path / "half", images=40, words=0, texts=0, derived=False)
    blank = {store.thumb(row) for row in store.positions("image").tolist()[::2]}
    monkeypatch.setattr("atlas.analysis.cells.is_blank", lambda thumb, *_: thumb in blank)
    cells = pq.read_table(derivation.lay_out_cells(store) / "cells.parquet")["members"].to_pylist()
    assert store.recipe(part("layout/cells"))["blank"] >= 20
    assert not [row for members in cells for row in members if store.thumb(row) in blank]


def test_nothing_current_is_derived_again(store: atlas.Store, clip: atlas.Clip) -> None:
    assert derivation.derive(store, clip) == []


def test_other_weights_are_refused(store: atlas.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store.request["model"], "weights_sha256", "0" * 64)
    with pytest.raises(Refused, match="made with weights 000000000000"):
        derivation.clip_of(store)


def test_a_checkpoint_file_that_lies_elsewhere_is_asked_for(
    store: atlas.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store.request["model"], "pretrained", "tuned.safetensors")
    with pytest.raises(Refused, match=r"made with the checkpoint file tuned.safetensors.*--pretrained FILE"):
        derivation.clip_of(store)


@pytest.mark.slow
def test_the_command_line_goes_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = "words:emotions?sizes=32&fonts=open-sans"
    assert cli.main(["collect", "emoji?vendors=Google&skin=no", words, "texts:emotions", str(out)]) == 0
    for step in ("stats", "index", "map", "page", "check"):
        assert cli.main([step, str(out)]) == 0, step
    assert (out / "site" / "index.html").exists()
    capsys.readouterr()
    assert cli.main(["near", str(out), "--neuron", "12", "--json"]) == 0
    import json

    assert len(json.loads(capsys.readouterr().out)) == 10
    assert cli.main(["near", str(out), "--text", "sad face", "-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[-1].startswith("place on the map")
    assert cli.main(["export", str(out), str(tmp_path / "a.parquet")]) == 0
    exported = pq.read_table(tmp_path / "a.parquet")
    assert {"id", "embedding", "x", "y"} <= set(exported.column_names)
    places = out / "layout" / "map" / "points.parquet"
    places.write_bytes(places.read_bytes()[:-1] + b"?")
    assert cli.main(["near", str(out), "--text", "sad face", "-k", "3"]) == 0, "rows do not rest on the map"
    said = capsys.readouterr()
    assert "place on the map" not in said.out
    assert f"no place on the map: {places} is damaged" in said.err
    array = out / "shards" / "00000" / "mean.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"?")
    assert cli.main(["check", str(out)]) == 1
    assert "mean.npy" in capsys.readouterr().out
