"""A derived part that is stale names the command that makes it again, with the options it was made with."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import atlas
import decompose.cli
from atlas.analysis import parts
from atlas.analysis.derivation import (
    MapOptions,
    index_embeddings,
    relate_neurons,
    relate_texts,
    summarise_neurons,
)
from atlas.cli import main
from atlas.console import command_line, options_changed
from atlas.dream.gallery import DRAWINGS_FILE, write_drawings
from atlas.errors import Refused
from atlas.pages.fragments import fragment_part
from atlas.pages.site import SINGLE_FILE, SITE
from atlas.store.files import read_json
from atlas.store.part import Part, option_words
from atlas.store.store import Store
from decompose import store_commands
from decompose.components import COMPONENTS
from decompose.lookup import TEXT_BANK
from decompose.results import write_table
from decompose.studies import commands

PROGRAMS = {"atlas": main, "decompose": decompose.cli.main}


@pytest.fixture(scope="module")
def clip() -> atlas.Clip:
    return atlas.Clip("mini", device="cpu")


@pytest.fixture(scope="module")
def store(clip: atlas.Clip, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("a place")  # a space, so that the printed command needs quotes
    (folder / "photos").mkdir()
    for number in range(50):
        rough = np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(rough).resize((48, 48)).save(folder / "photos" / f"{number}.png")
    return atlas.collect(folder / "photos", clip, folder / "out")


def stale(store: Store, part: Part, monkeypatch: pytest.MonkeyPatch) -> str:
    """The command that is named when the Store has changed since the part was made."""
    with monkeypatch.context() as patch:
        patch.setattr(Store, "digest", "0" * 64)
        with pytest.raises(Refused, match=f"{part.name} was made of store .* make it again: ") as refused:
            store.derived(part)
    return str(refused.value).split("make it again: ")[1]


def run(command: str) -> None:
    """Run what was printed, as a shell would split it."""
    for each in command.split(" && "):
        program, *words = shlex.split(each)
        assert PROGRAMS[program](words) == 0


@pytest.mark.slow
def test_an_index_and_maps_keep_the_options_that_differ_from_the_defaults(store, monkeypatch) -> None:
    out = shlex.quote(str(store.path))
    index_embeddings(store)
    assert stale(store, parts.EMBEDDINGS, monkeypatch) == f"atlas index {out}"
    index_embeddings(store, seed=3)
    assert main(["stats", str(store.path)]) == 0
    options = ["--neighbors", "5", "--min-dist", "0.3", "--raw", "--columns", "2", "--seed", "4"]
    assert main(["map", str(store.path), *options]) == 0
    named = {part: stale(store, part, monkeypatch) for part in (parts.MAP, parts.NEURON_MAP, parts.CELLS)}
    assert set(named.values()) == {f"atlas map {out} {' '.join(options)}"}, "each of the maps names one command"
    before = {part: (store.derived(part) / "made.json").read_bytes() for part in (*named, parts.EMBEDDINGS)}
    run(named[parts.MAP])
    run(stale(store, parts.EMBEDDINGS, monkeypatch))
    assert {part: (store.derived(part) / "made.json").read_bytes() for part in before} == before


def test_default_options_are_not_recorded() -> None:
    assert parts.MAP.made_with(**MapOptions().changed).command == "atlas map {store}"
    changed = MapOptions(columns=3, centre=False).changed
    assert parts.MAP.made_with(**changed).command == "atlas map {store} --raw --columns 3"


@pytest.mark.slow
def test_stale_drawings_name_the_commands_that_draw_all_of_them(store, clip, monkeypatch) -> None:
    index_embeddings(store)
    write_drawings(store, clip, [3, 4, 9], steps=1)
    write_drawings(store, clip, [9], steps=2, seed=1, repeats=2)
    command = stale(store, parts.DRAWINGS, monkeypatch)
    out = shlex.quote(str(store.path))
    assert command == f"atlas dream {out} 3-4 --steps 1 && atlas dream {out} 9 --repeats 2 --steps 2 --seed 1"
    made = read_json(store.derived(parts.DRAWINGS) / "made.json")
    columns = ["neuron", "repeat", "steps", "repeats", "seed"]
    before = pq.read_table(store.derived(parts.DRAWINGS) / DRAWINGS_FILE, columns=columns)
    (store.derived(parts.DRAWINGS) / "made.json").unlink()
    run(command)
    assert read_json(store.derived(parts.DRAWINGS) / "made.json")["command"] == made["command"]
    assert pq.read_table(store.derived(parts.DRAWINGS) / DRAWINGS_FILE, columns=columns).equals(before)


def test_themes_are_quoted_and_named_with_the_neurons_they_were_drawn_for() -> None:
    from atlas.dream.gallery import _remade

    options = {"repeats": 1, "steps": 200, "seed": 0}
    rows = [{"neuron": n, "theme": "", "strength": 0.0, **options} for n in (1, 2)]
    rows += [{"neuron": 2, "theme": theme, "strength": 1.0, **options} for theme in ("a face", "words")]
    rows += [{"neuron": 7, "theme": "sea", "strength": 0.5, **options}]
    commands = _remade(rows).command.split(" && ")
    assert commands == [
        "atlas dream {store} 1-2",
        "atlas dream {store} 2 --theme 'a face' words",
        "atlas dream {store} 7 --theme sea --strength 0.5",
    ]


def test_a_stale_vocabulary_names_its_command(store, monkeypatch) -> None:
    monkeypatch.setattr("decompose.lookup.default_texts", lambda: ("cat", "dog", "sun"))
    first = ["texts", "5", "--store", str(store.path), "--templates", "a drawing of {}", "-k", "1"]
    assert decompose.cli.main(first) == 0
    command = stale(store, TEXT_BANK, monkeypatch)
    assert command.startswith("decompose texts 0 --store ")
    assert shlex.split(command)[-1] == "a drawing of {}"
    before = (store.derived(TEXT_BANK) / "made.json").read_bytes()
    (store.derived(TEXT_BANK) / "made.json").unlink()
    run(command)
    assert (store.derived(TEXT_BANK) / "made.json").read_bytes() == before


def test_components_and_their_page_keep_the_options_that_differ_from_the_defaults(store, monkeypatch) -> None:
    out, page = shlex.quote(str(store.path)), fragment_part("components")
    for given, kept in ((["-k", "2", "--alpha", "0.0"], " -k 2"), (["-k", "2", "--seed", "3"], " -k 2 --seed 3")):
        assert decompose.cli.main(["nmf", str(store.path), *given]) == 0
        assert {stale(store, part, monkeypatch) for part in (COMPONENTS, page)} == {f"decompose nmf {out}{kept}"}


def test_every_option_of_a_command_can_be_recorded() -> None:
    """With the defaults that argparse itself passes, nothing is left to record."""
    parser = command_line("decompose", "", decompose.cli.DECOMPOSE_COMMANDS)
    for command, needed in (
        (store_commands.label_command, {"store": "out"}),
        (decompose.cli.equation_command, {"concept": "happy"}),
        (decompose.cli.emotions_command, {}),
        (commands.attack_command, {"store": "out"}),
        (commands.conditional_command, {"store": "out", "neuron": "3"}),
        (commands.concept_command, {"store": "out", "name": "pizza"}),
        (commands.words_command, {"store": "out", "word": "king"}),
        (commands.probe_command, {"store": "out"}),
        (commands.regions_command, {"store": "out"}),
        (commands.audit_command, {"store": "out"}),
        (commands.given_command, {"store": "out", "neuron": "3"}),
        (commands.replicate_command, {"study": "goh2021", "reference": "--reference=there"}),
    ):
        given = vars(parser.parse_args([command.__name__.removesuffix("_command"), *needed.values()]))
        options = {name: value for name, value in given.items() if name not in ("command", "function", *needed)}
        assert option_words(**options_changed(command, **options)) == []
    for command in (store_commands.label_command, decompose.cli.equation_command):
        assert option_words(**options_changed(command, directions=Path("a b"))) == ["--directions", "a b"]


@pytest.mark.parametrize(("made", "words"), [(SITE, ""), (SINGLE_FILE, " --single-file")])
def test_a_stale_site_names_its_command(store, made, words, monkeypatch) -> None:
    with store.deriving(made, {}) as folder:
        (Path(folder) / "index.html").write_text("a page")
    assert stale(store, made, monkeypatch) == f"atlas page {shlex.quote(str(store.path))}{words}"


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rate": 0.05, "seed": 0}, ""), ({"rate": 0.01, "seed": 3}, " --rate 0.01 --seed 3")],
)
@pytest.mark.parametrize("made", [parts.LABELS, parts.FACETS, parts.RECEIPTS], ids=lambda part: part.name)
def test_stale_labels_name_their_command_with_its_options(store, made, options, words, monkeypatch) -> None:
    write_table(store, made, options, pa.table({"neuron": [3], "label": ["cat"]}))
    assert stale(store, made, monkeypatch) == f"decompose label {shlex.quote(str(store.path))}{words}"
    shutil.rmtree(store.path / made.name)


def test_what_stats_makes_names_stats(store, clip, monkeypatch) -> None:
    monkeypatch.setattr("atlas.sources.vocabulary.picture_words", lambda: tuple(f"word {i}" for i in range(40)))
    summarise_neurons(store)
    relate_neurons(store, clip)
    relate_texts(store, clip)
    for made in (parts.STATS, parts.BASIS, parts.NEIGHBOURS, parts.TEXTS, parts.TERMS):
        assert stale(store, made, monkeypatch) == f"atlas stats {shlex.quote(str(store.path))}"


def test_stale_names_are_refused_before_anything_is_drawn(store, monkeypatch, capsys) -> None:
    monkeypatch.setattr("atlas.dream.gallery.visualise", lambda *_, **__: pytest.fail("drawn all the same"))
    labels = pa.table({"neuron": [3], "label": ["cat"]})
    for again in (False, True):
        with store.deriving(parts.STATS, {"again": again}):
            pass
        if not again:
            write_table(store, parts.LABELS, {}, labels, of=(parts.STATS,))
    assert main(["dream", str(store.path), "3"]) == 1
    assert "make it again: decompose label" in capsys.readouterr().err
    for made in (parts.LABELS, parts.STATS):
        shutil.rmtree(store.path / made.name)
