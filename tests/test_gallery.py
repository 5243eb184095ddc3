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
from atlas.analysis.derivation import index_embeddings
from atlas.cli import main
from atlas.dream import gallery
from atlas.dream.gallery import DRAWINGS_FILE, DRAWINGS_SCHEMA, mean_colour, write_drawings
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
    assert found[0]["strongest"] == pytest.approx(strongest[3])
    assert found[2]["strongest"] == pytest.approx(strongest[700])
    assert pq.read_table(store.derived(part("neurons/drawings")) / DRAWINGS_FILE).schema.equals(DRAWINGS_SCHEMA)


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
    (words, others), (cats, rest) = asked
    assert len(words) == len(cats) == 25
    assert len(others) == 60
    assert len(rest) == 35, "pictures of the theme are not among the others"
    assert len({picture.tobytes() for picture in [*cats, *rest]}) == 60


def test_a_theme_that_takes_all_pictures_is_refused(store, clip):
    with pytest.raises(Refused, match="has too few images to learn the theme 'a cat'"):
        write_drawings(store, clip, [5], ["a cat"], steps=STEPS)


def test_the_colour_of_a_store_is_its_images(store, tmp_path):
    red, green, blue = mean_colour(store) or (0, 0, 0)
    assert red > green > blue
    white = tmp_path / "white"
    white.mkdir()
    for i in range(3):
        Image.new("RGB", (20, 20), "white").save(white / f"{i}.png")
    assert mean_colour(atlas.collect(str(white), Clip("mini"), tmp_path / "out")) == (0.95, 0.95, 0.95)


def test_the_command_prints_what_was_drawn(store, capsys):
    assert main(["dream", str(store.path), "12", "40-41", "--steps", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["neuron"] for row in rows] == [12, 40, 41]
    assert set(rows[0]) == {"neuron", "theme", "repeat", "reached", "strongest", "label"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((), "name neurons, as in 12 40-47, or ask for --all of them"),
        (("3", "--all"), "name neurons, as in 12 40-47, or ask for --all of them"),
        (("1024",), "neuron 1024 is out of range"),
        (("3", "--steps", "0"), "'0' is no whole number from 1 on"),
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


def test_cards_show_drawings(tmp_path, browser):
    store = fake_store(tmp_path / "store", neurons=16)
    picture = gallery.encode_webp(np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8))
    hostile = "<b onmouseover=harm()>\"'"
    rows = [
        {"neuron": 3, "theme": theme, "repeat": 0, "image": picture, "reached": 0.5, "strongest": 0.25,
         "steps": 2, "strength": 1.0, "repeats": 1, "seed": 0} for theme in ("", hostile)
    ]  # fmt: skip
    with store.deriving(part("neurons/drawings"), {}) as folder:
        pq.write_table(pa.Table.from_pylist(rows, DRAWINGS_SCHEMA), folder / DRAWINGS_FILE)
    site = write_site(store).parent
    page = browser.new_page()
    page.goto((site / "neurons" / "0003.html").as_uri())
    assert page.locator(".drawn img").evaluate_all("all => all.map(one => one.naturalWidth)") == [112, 112]
    captions = page.locator(".drawn figcaption").all_inner_texts()
    assert captions == ["no facet\n0.500", f"{hostile}\n0.500"]
    assert page.locator(".drawn b").count() == 0
    assert "has 0.250" in page.locator("article").inner_text()
    page.goto((site / "neurons" / "0004.html").as_uri())
    assert page.locator(".drawn").count() == 0
    page.close()
