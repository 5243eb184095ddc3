"""Whether a model joins images and texts: found where planted, not found where it is not, and said on the pages."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from atlas.analysis.alignment import LEAST_NAMED, LEVEL, Alignment, measure_alignment
from atlas.analysis.naming import NeuronNames, RowNames
from atlas.model.clip import Clip
from atlas.pages import write_site
from atlas.pages.provenance import RANDOM_TEXT, RANDOM_WEIGHTS
from atlas.sources.builtin import emoji_source
from atlas.sources.vocabulary import emoji_names
from atlas.store.files import read_json, write_json
from atlas.store.store import Store
from tests.fakes import fake_store, part


def planted(shared: float, n: int = 300, d: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Images and texts of the same axes; `shared`: how much of an image its text gives."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(2, 0.3, d)
    texts, noise = rng.standard_normal((2, n, d)) * lengths
    return (shared * texts + (1 - shared) * noise + 3).astype(np.float32), (texts - 2).astype(np.float32)


def test_images_that_texts_describe_are_told_from_those_that_they_do_not() -> None:
    joined, apart = measure_alignment(*planted(0.8)), measure_alignment(*planted(0.0))
    assert joined is not None
    assert apart is not None
    assert joined.share > 0.95
    assert joined.sees
    assert apart.share == pytest.approx(LEVEL, abs=0.06)
    assert not apart.sees
    assert apart.cosine == pytest.approx(apart.chance, abs=0.03)


def test_shuffled_texts_of_the_same_images_change_nothing_but_turned_ones_do() -> None:
    E, T = planted(0.8)
    order = np.random.default_rng(1).permutation(len(T))
    assert measure_alignment(E, T[order]) == measure_alignment(E, T)
    turned = T @ np.linalg.qr(np.random.default_rng(2).standard_normal((T.shape[1],) * 2))[0].astype(np.float32)
    found = measure_alignment(E, turned)
    assert found is not None
    assert found.share < LEAST_NAMED


def test_few_images_or_texts_are_not_judged() -> None:
    E, T = planted(0.8)
    assert measure_alignment(E[:5], T) is None
    assert measure_alignment(E, np.repeat(T[:3], 50, axis=0)) is None


def test_figures_survive_their_recipe() -> None:
    found = Alignment(0.25, 400, 2503, 0.4, 0.39)
    assert Alignment.read({"alignment": found.recipe()}) == found
    assert Alignment.read({}) is None
    assert "cannot tell these pictures apart" in found.sentence()
    assert "25% of 400 pictures" in found.sentence()
    assert "--pretrained" in found.sentence()
    assert "cannot" not in Alignment(0.9, 400, 2503, 0.6, 0.4).sentence()


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_pages_of_a_model_that_sees_nothing_say_so_and_leave_names_out(tmp_path, share: float) -> None:
    store = fake_store(tmp_path / "run", images=30, words=0, texts=20)
    table = pq.read_table(store.derived(part("neurons/texts")) / "texts.parquet")
    recipe = {"alignment": Alignment(share, 30, 20, 0.4, 0.39).recipe()}
    with store.deriving(part("neurons/texts"), recipe) as folder:
        pq.write_table(table, folder / "texts.parquet")
    site = write_site(store).parent
    pages = [*site.glob("*.html"), *(site / "neurons").glob("*.html")]
    assert len(pages) > 10
    for page in pages:
        assert ("cannot tell these pictures apart" in page.read_text("utf-8")) == (share < LEAST_NAMED), page.name
    sources = {NeuronNames.read(store)[neuron].source for neuron in range(16)}
    assert ("text" in sources) <= (share >= LEAST_NAMED)


def test_random_weights_are_named_on_every_page(tmp_path) -> None:
    place = tmp_path / "run"
    fake_store(place, images=20, words=0, texts=0, derived=False)
    manifest = read_json(place / "store.json")
    manifest["request"]["model"]["origin"] = RANDOM_WEIGHTS
    write_json(place / "store.json", manifest)
    site = write_site(Store.open(place)).parent
    assert all(RANDOM_TEXT in page.read_text("utf-8").replace("&#39;", "'") for page in site.glob("*.html"))


@pytest.mark.parametrize("words", [0, 1])
def test_photos_are_called_by_their_files_and_single_pictures_by_their_folders(
    tmp_path, monkeypatch, words: int
) -> None:
    ids = ["photos/Altai/IMG_1.jpg", "photos/Altai/IMG_2.jpg", "photos/Path/path.png", "words/altai"]
    labels, kinds = ["Altai", "Altai", "Path", "altai"], ["image"] * 3 + ["word"]
    rows = pa.table({"id": ids, "kind": kinds, "caption": ["", "a hill", "", "altai"], "label": labels})
    store = fake_store(tmp_path / "run", images=3, words=1, texts=0, derived=False)
    monkeypatch.setattr(Store, "table", lambda *_: rows.slice(0, 3 + words))
    names = RowNames(store)
    assert names.captions[:3] == ["IMG_1.jpg", "a hill", "Path"]
    assert names.filed[:3] == [True, True, False]
    assert names[0] == "Altai"


def crops(side: int = 96, count: int = 40) -> list[Image.Image]:
    """Pieces of two photographs: a temple and a flower."""
    rng, found = np.random.default_rng(0), []
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for number in range(count):
        picture = photographs[number % 2]
        size = int(rng.integers(200, min(picture.size)))
        left, top = (int(rng.integers(0, edge - size + 1)) for edge in picture.size)
        found.append(picture.crop((left, top, left + size, top + size)).resize((side, side)))
    return found


def test_the_embedded_model_says_that_it_cannot_see_photographs_and_not_so_of_emoji(mini: Clip) -> None:
    T = mini.encode_texts(list(emoji_names()[::5]))
    drawings = [item.load() for item in emoji_source("emoji", ("Google",), skin=False) if item.load][::20]
    photographs, emoji = (measure_alignment(mini.encode_images(some), T) for some in (crops(), drawings))
    assert photographs is not None
    assert emoji is not None
    assert not photographs.sees
    assert emoji.sees
