"""`decompose ...` as a user runs it: a Store of the embedded model, tables on stdout, pages, one line for a mistake."""

import json
import shutil
import subprocess
import sys
from functools import partial
from itertools import takewhile
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_model

from atlas import collect
from atlas.analysis.derivation import summarise_neurons
from atlas.cli import main as atlas
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.pages import write_site
from atlas.sources.builtin import emoji_source
from atlas.store.files import read_json, write_json
from atlas.store.store import Store
from decompose import bakeoff, equations
from decompose.candidates import LabelTest
from decompose.cli import main
from decompose.confirmation import RECEIPT_COLUMNS
from decompose.prompting import concept_embeddings
from tests.fakes import part
from tests.towers import tower

TEXTS = ("happy", "sad", "angry", "proud", "afraid", "dog", "cat", "sun", "moon", "pizza", "red", "Italy", "dog face")


@pytest.fixture(scope="module")
def store(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings in folders of their own names, and a few rendered words, with statistics."""
    out = tmp_path_factory.mktemp("decompose") / "out"
    sources = [f"folder:{drawings / 'drawings'}", f"words:{drawings / 'words.txt'}?fonts=open-sans"]
    assert atlas(["collect", *sources, str(out), "--device", "cpu"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atlas.sources.vocabulary.picture_words", lambda: TEXTS)
        assert atlas(["stats", str(out), "--device", "cpu"]) == 0
    return out


@pytest.fixture(autouse=True)
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary that is embedded in a moment; the examples of docstrings have the whole one."""
    monkeypatch.setattr("decompose.lookup.default_texts", lambda: TEXTS)
    monkeypatch.setattr(equations, "_vocabulary", lambda: TEXTS)


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


def in_readme(command: str) -> list[str]:
    """The lines that README shows below a command, without empty ones."""
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    lines = [line for line in readme.partition(f"$ {command}")[2].splitlines()[1:] if line]
    return list(takewhile(lambda line: line.startswith(" " * 8), lines))


def test_readme_shows_the_columns_that_are_printed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert atlas(["index", str(store)]) == 0
    near, search = ["near", str(store), "--text", "dog"], ["search", "dog", "--store", str(store)]
    for command, program, given in (("atlas near", atlas, near), ("decompose search", main, search)):
        capsys.readouterr()
        assert program([*given, "-k", "1"]) == 0
        assert capsys.readouterr().out.splitlines()[0].split() == in_readme(command)[0].split()


def test_the_vocabulary_is_embedded_once_for_a_store(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from decompose.lookup import TextBank

    command = ["texts", "3", "-k", "2", "--store", str(store), "--json"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert Store.open(store).current(part("index/vocabulary"))
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
    (tmp_path / "cfg.json").write_text('{"architecture": "standard"}')
    sae = ["--sae", str(tmp_path / "sae.safetensors")]
    assert main(["search", "happy", "--json", *sae]) == 0
    assert {row["label"] for row in json.loads(capsys.readouterr().out)} == {"latent 0", "latent 1", "latent 2"}
    assert main(["nearest", str(store), "2", "-k", "1", *sae]) == 0
    assert main(["equation", "happy", "-k", "1", *sae]) == 0
    assert "latent" in capsys.readouterr().out
    save_file({"W_enc": rows.T.copy(), "W_dec": 0 * rows}, tmp_path / "mute.safetensors")
    assert main(["texts", "1", "--store", str(store), "--sae", str(tmp_path / "mute.safetensors")]) == 1
    assert "1 adds nothing to the embedding" in capsys.readouterr().err
    save_file({"W_enc": rows[:0].T.copy(), "W_dec": rows[:0]}, tmp_path / "none.safetensors")
    assert main(["search", "happy", "--sae", str(tmp_path / "none.safetensors")]) == 1
    assert "none.safetensors holds no directions" in capsys.readouterr().err
    assert main(["nearest", str(store), "3", *sae]) == 1
    assert "direction 3 is out of range" in capsys.readouterr().err


@pytest.mark.slow
def test_components_of_a_store_stand_where_neurons_do(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nmf", str(store), "-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    file = store / "neurons/components/components.safetensors"
    for command in (["search", "happy"], ["nearest", str(store), "2"], ["texts", "2"]):
        assert main([*command, "-k", "2", "--json", "--directions", str(file)]) == 0
        json.loads(capsys.readouterr().out)


@pytest.fixture
def short_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """The solvers that are fast while types are checked."""
    monkeypatch.setattr(
        bakeoff, "compare_solvers", partial(bakeoff.compare_solvers, methods=["omp"], ks=(2,), resamples=1)
    )


@pytest.mark.slow
def test_two_concepts_are_compared_in_seconds(store: Path) -> None:
    """Without the checks of types that slow the tests."""
    command = [sys.executable, "-m", "decompose", "compare", "happy", "sad", "--store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert len(done.stdout.splitlines()) == 16  # a head, five solvers of three sizes
    assert "not optimal" not in done.stderr


@pytest.mark.usefixtures("short_comparison")
def test_prompts_that_are_asked_for_count(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("decompose.lookup.default_texts", lambda: ("cat", "dog", "sun"))
    for command in (["texts", "3", "-k", "3", "--json"], ["compare", "happy", "sad", "--json"]):
        said = []
        for templates in ("photo", "the word {}"):
            assert main([*command, "--templates", templates]) == 0
            said.append([{**row, "seconds": 0} for row in json.loads(capsys.readouterr().out)])
        assert said[0] != said[1]


@pytest.mark.slow
def test_what_a_search_found_is_tried(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "happy", "-k", "2", "--store", str(store), "--receipts"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert {"raise_effect", "raise_p", "ablate_confirmed"} < {*head.split()}
    assert len(rows) == 2


def test_receipts_of_a_search_are_of_images_that_it_did_not_go_by(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def stop(_: Store, __: Clip, rows: np.ndarray) -> None:
        tried.extend(rows.tolist())
        raise Refused("seen enough")

    monkeypatch.setattr("atlas.store.originals.original_pictures", stop)
    assert main(["search", "happy", "--store", str(store), "--receipts"]) == 1
    assert "seen enough" in capsys.readouterr().err
    opened = Store.open(store)
    nearness = opened.array("embedding", "image")[:].astype(np.float32) @ concept_embeddings(Clip("mini"), "happy")[0]
    far = np.isin(opened.positions("image"), tried)
    assert 0 < far.sum() <= len(far) / 2 + 1
    assert nearness[far].max() <= np.median(nearness) + 1e-6


def test_a_store_agrees_with_itself(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["universality", str(store), str(store), "-k", "2"]) == 0
    first, _, head, *rows = capsys.readouterr().out.splitlines()
    assert "each other's nearest" in first
    assert head.split() == ["neuron", "other", "correlation", "p", "q", "label", "other_label"]
    assert all(row.split()[0] == row.split()[1] for row in rows)
    assert len(rows) == 2


def test_equations_are_printed_and_become_a_page(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["equation", "happy", "very sad", "--store", str(store), "-k", "2"]) == 0
    out = capsys.readouterr().out
    assert "happy = " in out
    assert "of the logit; R2 of the bilinear form" in out
    page = (Store.open(store).derived(part("site-fragments/equations")) / "page.html").read_text("utf-8")
    assert '<h2 dir="ltr"><bdi>very sad</bdi> = ' in page
    assert "Raising it" not in page


@pytest.mark.slow
def test_equations_bring_their_receipts(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["equation", "very sad", "--store", str(store), "-k", "2", "--receipts"]) == 0
    out = capsys.readouterr().out
    assert "raise" in out
    assert "ablate" in out
    assert "tried with this is {}, " in out
    page = (Store.open(store).derived(part("site-fragments/equations")) / "page.html").read_text("utf-8")
    assert "Raising it" in page


@pytest.mark.slow
def test_nmf_label_and_emotions_become_pages_of_the_site(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("decompose.emotions.RANDOM_BASES", 2)
    words = store.parent / "feelings.txt"
    words.write_text("happy\nsad\nangry\nafraid\nproud\ncalm\nbored\ntired\njoyful\nworried\nglad\nlonely\n", "utf-8")
    assert main(["nmf", str(store), "-k", "2"]) == 0
    assert main(["emotions", "--words", str(words), "--store", str(store), "--factors", "3", "2"]) == 0
    out = capsys.readouterr().out
    assert "happy = " in out
    assert "text embeddings" in out
    assert "The factors of the neurons agree with the families" in out
    capsys.readouterr()
    assert main(["label", str(store), "-k", "5", "--rate", "0.9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "neurons have a label; the most significant:" in lines[0]
    assert lines[2].split() == in_readme("decompose label")[1].split()
    found = {
        name: pq.read_table(Store.open(store).derived(part(f"neurons/{name}")) / f"{name}.parquet")
        for name in ("labels", "receipts", "facets")
    }
    receipts = found["receipts"]
    assert receipts.schema.equals(RECEIPT_COLUMNS)
    monkeypatch.setattr("decompose.labels.label_neurons", lambda *_, **__: found["labels"])
    monkeypatch.setattr("decompose.confirmation.confirm_labels", lambda *_, **__: receipts)
    monkeypatch.setattr("decompose.facets.split_neurons", lambda *_, **__: found["facets"])
    assert main(["label", str(store), "-k", "5", "--rate", "0.9", "--json"]) == 0
    surest = json.loads(capsys.readouterr().out)
    assert [str(row["neuron"]) for row in surest] == [line.split()[0] for line in lines[3:]]
    assert [row["q"] for row in surest] == sorted(row["q"] for row in surest)
    given = [(row["neuron"], row["label"]) for row in found["labels"].to_pylist() if row["label"] != "none"]
    assert given
    assert [(row["neuron"], row["concept"]) for row in receipts.to_pylist()][::2] == given
    write_site(opened := Store.open(store))
    site = opened.derived(part("site"))
    index, studies = ((site / f"{page}.html").read_text("utf-8") for page in ("index", "studies"))
    assert "studies.html" in index
    assert "emotions.html" in studies
    assert "components.html" in studies


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["search", ""], "the text is empty"),
        (["search", "x" * 10_000], "the text ('xxxxxxxxxxxxxxxxxxxx'...) has 10,000 characters"),
        (["search", "happy", "--by", "response"], "needs a Store"),
        (["texts", "99999"], "neuron 99999"),
        (["equation", "happy", "--receipts"], "need images"),
        (["emotions", "--words", "nowhere.txt"], "is not a file"),
        (["nmf", "nowhere"], "nowhere"),
        (["search", "happy", "--templates", ""], "the text is empty"),
        (["search", "happy", "-k", "-1"], "no whole number from 1 on"),
        (["search", "happy", "--sae", "nowhere"], "cannot read nowhere: there is no such file or folder"),
        (["equation", "happy", "-k", "99999"], "99999"),
        (["equation", " "], "the text is empty"),
        (["compare", "happy"], "needs two"),
        (["texts", "-1"], "no whole number from 0 on"),
        (["texts", "3", "-k", "0"], "no whole number from 1 on"),
        (["texts", "3", "--climb", "-k", "-2"], "no whole number from 1 on"),
        (["texts", "3", "--climb", "--templates", "photo"], "takes no --templates"),
        (["search", "happy", "--receipts"], "need images"),
        (["emotions", "--factors", "0"], "no whole number from 1"),
    ],
)
def test_a_mistake_is_one_line(command: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(command)
    except SystemExit as ended:
        code = ended.code
    assert code in (1, 2)
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("decompose")
    assert line in said[0]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["label", "{}", "--rate", "nan"], "'nan' is no number above 0 to 1"),
        (["nmf", "{}", "--alpha", "nan"], "'nan' is no number from 0"),
        (["nmf", "{}", "-k", "99999"], "99,999 components"),
        (["nearest", "{}", "1024"], "neuron 1024"),
        (["universality", "{}", "nowhere"], "nowhere"),
        (["universality", "{}", "{}", "--layer", "nowhere"], "was not collected"),
        (["universality", "{}", "{}", "--other-layer", "nowhere"], "was not collected"),
        (["universality", "{}", "{}", "-k", "0"], "no whole number from 1 on"),
        (["label", "{}", "-k", "-3"], "no whole number from 1 on"),
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
    assert main(["search", "cat", "-k", "1", "--store", str(bare)]) == 0  # which needs none
    capsys.readouterr()
    test_a_mistake_is_one_line(["nearest", str(bare), "3"], f"atlas stats {bare}", capsys)


@pytest.fixture
def vit(towers, tmp_path: Path) -> Path:
    """Three dozen drawings and some words, read by a small ViT of random weights: its hidden units have two signs."""
    torch.manual_seed(0)
    random = open_clip.create_model(tower("vit"))
    save_model({key: value.contiguous() for key, value in random.state_dict().items()}, tmp_path / "vit.safetensors")
    (tmp_path / "drawings").mkdir()
    for number, item in enumerate(emoji_source("emoji", ("Google",), skin=False)):
        if number % 50 == 0 and item.load:
            item.load().save(tmp_path / "drawings" / f"{number:04d}.png")
    (tmp_path / "words.txt").write_text("happy\nsad\nangry\ndog\ncat\nsun\n", "utf-8")
    sources = [str(tmp_path / "drawings"), f"words:{tmp_path / 'words.txt'}?fonts=open-sans"]
    clip = Clip(tower("vit"), str(tmp_path / "vit.safetensors"), device="cpu")
    summarise_neurons(collect(sources, clip, tmp_path / "out"))
    return tmp_path / "out"


@pytest.mark.usefixtures("short_comparison")
@pytest.mark.slow
def test_every_command_works_on_a_vit(vit: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("decompose.lookup.default_texts", lambda: ("cat", "dog", "sun"))
    monkeypatch.setattr(equations, "_vocabulary", lambda: tuple(f"word{i}" for i in range(40)))
    monkeypatch.setattr("decompose.labels.LabelTest", partial(LabelTest, draws=200))
    own = ["--store", str(vit), "--pretrained", str(vit.parent / "vit.safetensors")]
    components = str(vit / "neurons/components/components.safetensors")
    for command in (
        ["search", "cat", "-k", "2", "--receipts", *own],
        ["texts", "3", "-k", "2", *own],
        ["equation", "cat", "-k", "2", "--receipts", *own],
        ["nmf", str(vit), "-k", "2"],
        ["nearest", str(vit), "3", "-k", "2"],
        ["label", str(vit), "-k", "2", "--directions", components, *own[2:]],
        ["label", str(vit), "-k", "2", *own[2:]],
        ["search", "cat", "-k", "1", "--directions", components, *own],
    ):
        assert main([*command, "--json"]) == 0, command
        assert isinstance(json.loads(capsys.readouterr().out), list)
        of_neurons = command[0] == "label" and "--directions" not in command
        assert Store.open(vit).has(part("neurons/labels")) == of_neurons or command[0] == "search"
    assert "component 1" in (vit / "site-fragments/directions/page.html").read_text("utf-8")
    assert main(["compare", "cat", "dog", *own]) == 0
    assert "not optimal" not in capsys.readouterr().err
    shutil.rmtree(vit / "neurons")
    for shard in Store.open(vit).of_kind("image"):
        shutil.rmtree(shard.folder)
    manifest = read_json(vit / "store.json")
    manifest["shards"] = {
        name: digest for name, digest in manifest["shards"].items() if (vit / "shards" / name).exists()
    }
    write_json(vit / "store.json", manifest)
    for command in (["equation", "cat", "-k", "2", *own], ["search", "cat", "-k", "2", *own]):
        assert main([*command, "--json"]) == 0, command  # words alone
        capsys.readouterr()


@pytest.mark.parametrize(("text", "unread"), [("שלום", True), ("🍕", True), ("pizza", False), ("zxqvbn", False)])
def test_a_text_of_nothing_that_was_learned_is_said_to_be_so(
    text: str, unread: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", text, "-k", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1
    assert err == (f"mini has learned no part of {text!r}, and reads nothing there\n" if unread else "")


def test_of_many_texts_that_are_not_read_few_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["equation", "🍕", "pizza", "🍖", "🍗", "🍔", "-k", "1", "--json"]) == 0
    assert "of '🍕', '🍖', '🍗' and 1 more, and" in capsys.readouterr().err
