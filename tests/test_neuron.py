"""A neuron, a Store and a search as a notebook shows them, and the Parquet that other tools open."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas.analysis.index import Index
from atlas.analysis.neuron import Neuron
from atlas.analysis.queries import export_parquet
from atlas.errors import Refused
from atlas.pages.notebook import map_figure
from atlas.store.store import Store
from tests.fakes import fake_store, part

HOSTILE = "\"'><img src=x onerror=alert(1)></style><script>alert(1)</script>"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    captions = dict.fromkeys(range(280), HOSTILE)
    store = fake_store(tmp_path_factory.mktemp("neuron") / "demo", captions=captions, label=HOSTILE)
    rows = [
        {"neuron": 3, "label": HOSTILE, "evidence": "words", "p": 0.0004, "q": 0.01},
        {"neuron": 3, "label": "pizza", "evidence": "images", "p": 0.02, "q": 0.04},
        {"neuron": 4, "label": "none", "evidence": "words", "p": 0.7, "q": 0.9},
    ]
    with store.deriving(part("neurons/labels"), {}) as folder:
        pq.write_table(pa.Table.from_pylist(rows), folder / "labels.parquet")
    points = pq.read_table(store.derived(part("layout/map")) / "points.parquet")
    recipe, near = (
        store.recipe(part("layout/map")),
        np.random.default_rng(0).permuted(np.tile(np.arange(300), (300, 1)), axis=1),
    )
    with store.deriving(part("layout/map"), recipe) as folder:
        pq.write_table(points, folder / "points.parquet")
        np.save(folder / "near.npy", near[:, :8].astype(np.uint32))
    return store


class Tags(HTMLParser):
    """Every tag of some HTML, with its attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_neuron_is_called_by_its_significant_labels(store: Store) -> None:
    assert Neuron(store, 3).label == f"{HOSTILE}, pizza"
    assert [row["p"] for row in Neuron(store, 3).labels] == [0.0004, 0.02]
    assert Neuron(store, 4).labels == []
    assert Neuron(store, 4).label == ", ".join(Neuron(store, 4).words(3))
    with pytest.raises(Refused, match=r"^neuron 16 is out of range: .* has neurons 0 to 15$"):
        Neuron(store, 16)


@pytest.mark.parametrize("what", ["neuron", "store", "search"])
def test_what_a_notebook_shows_is_whole_and_inert(store: Store, what: str) -> None:
    index = Index.build(np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    shown = {"neuron": Neuron(store, 3), "store": store, "search": index.search(np.eye(3, 8, dtype=np.float32), 5)}
    tags = Tags(shown[what]._repr_html_()).found
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    sources = [attributes["src"] or "" for tag, attributes in tags if tag == "img"]
    assert len(sources) == (0 if what == "search" else 12)
    assert all(re.match("data:image/webp;base64,[A-Za-z0-9+/=]{40,}$", source) for source in sources)


def test_a_neuron_shows_label_words_histogram_and_neighbours(store: Store) -> None:
    html = Neuron(store, 3)._repr_html_()
    assert "(p 4e-4)" in html
    assert html.count("<svg") == 1
    assert all(word in html for word in Neuron(store, 3).words(3)[1:])


def test_a_search_is_still_two_arrays(store: Store) -> None:
    vectors = np.eye(6, dtype=np.float32)
    scores, ids = Index.build(vectors).search(vectors[:2], 3)
    assert scores.shape == ids.shape == (2, 3)
    assert "<b>2</b> queries, the <b>3</b> nearest" in Index.build(vectors).search(vectors[:2], 3)._repr_html_()


def test_the_figure_shows_a_sample_with_its_own_thumbnails(store: Store) -> None:
    fig = map_figure(store, rows=40)
    data = fig.renderers[0].data_source.data
    assert len(data["x"]) == 40
    assert map_figure(store, rows=40).renderers[0].data_source.data["caption"] == data["caption"]
    assert "--atlas-0:url(data:image/webp;base64," in fig.stylesheets[0].css
    with pytest.raises(Refused, match="show at least one"):
        map_figure(store, rows=0)


def test_the_export_holds_what_other_tools_open(store: Store, tmp_path: Path) -> None:
    found = pq.read_table(export_parquet(store, tmp_path / "a.parquet"))
    assert found.num_rows == len(store)
    assert found["id"].to_pylist() == store.rows["id"].to_pylist()
    assert found["image"][0].as_py() == {"bytes": store.thumb(0), "path": store.rows["id"][0].as_py()}
    assert found["image"][299].as_py() is None
    E = np.asarray(store.array("embedding"), np.float32)
    assert np.array_equal(np.stack(found["embedding"].to_pylist()), E)
    kinds = np.array(store.rows["kind"].to_pylist())
    centred = E / np.linalg.norm(E, axis=1, keepdims=True)
    centred -= np.stack([centred[kinds == kind].mean(0) for kind in kinds])
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    for row in (0, 210, 299):
        near = found["neighbors"][row].as_py()
        assert near["ids"] == np.load(store.derived(part("layout/map")) / "near.npy")[row].tolist()
        np.testing.assert_allclose(near["distances"], 1 - centred[near["ids"]] @ centred[row], atol=1e-5)
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(Refused, match="make the folder first"):
        export_parquet(store, tmp_path / "none" / "a.parquet")


def test_a_store_without_a_map_exports_its_rows(tmp_path: Path) -> None:
    bare = fake_store(tmp_path / "bare", images=3, words=0, texts=2, derived=False)
    assert {"embedding", "image"} < set(pq.read_schema(export_parquet(bare, tmp_path / "b.parquet")).names)
    assert "nothing yet" in bare._repr_html_()
