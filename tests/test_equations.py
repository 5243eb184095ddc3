"""A tower whose neurons write known texts: what a concept is made of is then known."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.store import Store
from decompose import bakeoff, coding, equations
from decompose.bakeoff import compare_solvers
from decompose.equations import Equation, Term, compose, equation, name_neurons, printed_terms
from decompose.pages import equations_page
from decompose.prompting import PROMPT_TEMPLATES, chosen_templates, other_templates
from decompose.results import write_page
from decompose.solvers import logistic
from tests.fakes import fake_store, part, write_array
from tests.towers import adopt, noise

DATA = Path(__file__).parent / "data"
WORDS = ("ship", "moon", "rain", "lemon", "robot", "ghost", "violin", "desert", "tiger", "candle")
WRITERS = range(10, 60, 5)  # the neurons that write these words


@pytest.fixture(scope="module", autouse=True)
def short_vocabulary():
    """Encoding all the words of emoji takes seconds."""
    patch = pytest.MonkeyPatch()
    patch.setattr(equations, "_vocabulary", lambda: (*WORDS, *(f"word{i}" for i in range(150))))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def clip(towers) -> Clip:
    """Neuron 10 + 5 i writes word i, less what all texts share; the others write anything."""
    clip = towers("resnet", dim=64)
    rng, pool = np.random.default_rng(0), clip.model.visual.attnpool
    rows = rng.normal(size=(clip.neurons, clip.dim))
    X = clip.encode_texts(WORDS) - clip.encode_texts(equations._vocabulary()[:: equations.BACKGROUND_STEP]).mean(0)
    rows[list(WRITERS)] = X / np.linalg.norm(X, axis=1, keepdims=True)
    rows *= rng.uniform(0.5, 2, (clip.neurons, 1))  # a neuron's own unit means nothing
    pool.v_proj.weight.copy_(torch.eye(clip.neurons))
    pool.c_proj.weight.copy_(torch.from_numpy(rows.T.astype(np.float32)))
    return clip


@pytest.fixture
def store(tmp_path, clip) -> Store:
    made = fake_store(tmp_path / "s", images=30, words=4, texts=4, neurons=clip.neurons, dim=clip.dim, derived=False)
    store = adopt(made, clip)
    for shard in store.of_kind("image"):
        A = np.array(shard.array("mean"))
        A[:, WRITERS[0]] = 0
        write_array(store, shard, "mean", A)
    return store


# -- printing ----------------------------------------------------------------------------------------------------------


def test_the_papers_equations_are_printed_exactly():
    weights = json.loads((DATA / "emotion_weights.json").read_text("utf-8"))
    figures = json.loads((DATA / "emotion_equations.json").read_text("utf-8"))
    names = {int(neuron): name for neuron, name in weights["neuron_names"].items()}
    for emotion, expected in figures.items():
        level = {neuron: weight for weight, neuron in weights["levels"]["40"][emotion]}
        found = printed_terms(level, names, removed=weights["text_neurons"], by_positive=True)
        assert [{"weight": round(t.weight, 4), "unit": t.neuron, "name": t.label} for t in found] == expected, emotion
    assert len(figures) == 16


def test_the_papers_rule_of_printing():
    weights = {1: 2.0, 2: 4.0, 3: -8.0, 4: 0.1, 5: -1.0, 6: 9.0, 7: 3.0}
    found = printed_terms(weights, {2: "two", 3: "three"}, removed=[6], by_positive=True)
    assert found == (Term(2, 1.0, "two"), Term(7, 0.75, "neuron 7"), Term(1, 0.5, "neuron 1"))  # of four one is faint
    found = printed_terms(weights, {}, removed=[6], limit=9, least=0.0, by_positive=True)
    assert [t.neuron for t in found] == [2, 7, 1, 4, 3, 5]
    assert [t.weight for t in printed_terms({1: -4.0, 2: -2.0}, {}, by_positive=True)] == [-1, -0.5]
    found = printed_terms({1: 0.001, 2: -4.0}, {}, by_positive=True)
    assert [(t.neuron, t.weight) for t in found] == [(2, -1)]  # not 1 less 4,000 times 2


def test_weights_are_relative_to_the_largest_whatever_its_sign():
    weights = {1: 2.0, 2: 4.0, 3: -8.0, 4: 0.1, 5: -1.0, 6: 9.0, 7: 3.0}
    found = printed_terms(weights, {2: "two", 3: "three"}, removed=[6])
    assert found == (
        Term(2, 0.5, "two"),
        Term(7, 0.375, "neuron 7"),
        Term(1, 0.25, "neuron 1"),
        Term(3, -1.0, "three"),
    )  # the largest term is among the four
    found = printed_terms(weights, {}, removed=[6], limit=9, least=0.0)
    assert [t.neuron for t in found] == [2, 7, 1, 4, 3, 5]
    assert printed_terms({6: 1.0, 2: 0.0}, {}, removed=[6]) == ()


@pytest.mark.parametrize("method", ["omp", "lasso", "iht", "logistic"])
def test_no_weight_is_larger_than_1(clip, method):
    found = compose(clip, WORDS, 5, method=method)
    assert all(max(abs(t.weight) for t in each.terms) == pytest.approx(1) for each in found)


def terms(*parts: tuple[float, str]) -> tuple[Term, ...]:
    return tuple(Term(i, float(weight), label) for i, (weight, label) in enumerate(parts))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(1, "success"), (0.97, "hug"), (0.223, "grumpy")], "jealous = success + hug + 0.2 grumpy"),
        ([(1, "heart"), (-1.05, "crying"), (-2.4451, "sick")], "jealous = heart - 1.1 crying - 2.4 sick"),
        ([(1, "heart"), (-1.02, "crying"), (-0.0312, "sick")], "jealous = heart - crying - 0.03 sick"),
        ([(-1, "heart"), (-0.5, "sick")], "jealous = - heart - 0.5 sick"),
        ([(1, "heart"), (0.5, "sick"), (-2, "heart")], "jealous = heart [0] + 0.5 sick - 2.0 heart [2]"),
        ([], "jealous = 0"),
    ],
)
def test_an_equation_is_written_as_a_person_would(parts, expected):
    assert str(Equation("jealous", terms(*parts), 0.5, "omp")) == expected


def test_an_equation_shows_itself_safely():
    html = Equation("<b>", terms((1.0, "a&b")), 0.456, "omp")._repr_html_()
    assert "&lt;b&gt;" in html
    assert "a&amp;b" in html
    assert "46% of the logit" in html


# -- equations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["omp", "lasso", "iht", "nnls"])
def test_a_concept_is_made_of_the_neuron_that_writes_it(clip, method):
    for found, neuron, word in zip(compose(clip, WORDS, 1, method=method), WRITERS, WORDS, strict=True):
        assert [(t.neuron, t.weight, t.label) for t in found.terms] == [(neuron, 1, word)]
        assert found.kept == pytest.approx(1, abs=5e-3)  # the words asked for are no part of their background
        assert str(found) == f"{word} = {word}"


def test_a_sum_of_concepts_is_taken_apart(clip):
    """The text tower is told to read "both" as ship + 0.5 moon - 0.8 rain."""
    read = clip.encode_texts

    def encode(texts):
        rows = read(texts)
        V, shared = clip.basis()[list(WRITERS)[:3]], read(equations._vocabulary()[:: equations.BACKGROUND_STEP]).mean(0)
        V = V / np.linalg.norm(V, axis=1, keepdims=True)
        for i, text in enumerate(texts):
            rows[i] = shared + 0.1 * (V[0] + 0.5 * V[1] - 0.8 * V[2]) if text == "both" else rows[i]
        return rows

    clip.encode_texts = encode
    try:
        found = equation(clip, "both", k=3, method="omp")
        kept = [equation(clip, "both", k=k, method="omp").kept for k in (1, 2, 3)]
    finally:
        del clip.encode_texts
    assert str(found) == "both = ship + 0.5 moon - 0.8 rain"
    assert [t.neuron for t in found.terms] == [10, 15, 20]
    assert kept == sorted(kept)
    assert kept[-1] == pytest.approx(1, abs=1e-4)


def test_the_papers_way_tells_a_concept_from_other_words(clip):
    found = equation(clip, "ship", k=2, method="logistic")
    assert 1 <= len(found.terms) <= 2
    assert found.kept > 0.5
    fewer = equation(clip, "ship", method="lasso", penalty=0.05)
    assert len(fewer.terms) <= len(equation(clip, "ship", method="lasso", penalty=0.0005).terms)


def test_a_neuron_that_never_fires_is_left_out(clip, store):
    assert equation(clip, WORDS[0], k=1).terms[0].neuron == WRITERS[0]
    assert WRITERS[0] not in {t.neuron for t in equation(clip, WORDS[0], k=3, store=store).terms}


def test_labels_come_from_the_store_where_it_has_them(clip, store):
    W = clip.basis()
    assert name_neurons(clip, [20, 15], W) == {20: "rain", 15: "moon"}
    assert name_neurons(clip, [15], W, store) == {15: "moon"}
    with store.deriving(part("neurons/texts"), {}) as folder:
        pq.write_table(pa.table({"neuron": [15, 20], "texts": [["night", "dark"], ["wet"]]}), folder / "texts.parquet")
    assert name_neurons(clip, [15, 20, 25], W, store) == {15: "night", 20: "wet", 25: "lemon"}
    with store.deriving(part("neurons/labels"), {}) as folder:
        table = pa.table({"neuron": [15, 15, 20], "label": ["lunar", "round", "none"]})
        pq.write_table(table, folder / "labels.parquet")
    assert name_neurons(clip, [15, 20], W, store) == {15: "lunar", 20: "wet"}
    assert name_neurons(clip, [15, 20], W, store, most=2) == {15: "lunar, round", 20: "wet"}


def test_directions_compose_a_concept_too(clip):
    pair = Directions.neurons([10, 15], clip.neurons)
    named = Directions(pair.read, pair.write, ("boat", "luna"), pair.bias)
    found = equation(clip, "moon", k=1, directions=named)
    assert found.terms == (Term(1, 1.0, "luna"),)


def test_an_equation_brings_its_receipts(clip):
    images = noise(clip, 4)
    found = equation(clip, "ship", k=2, images=images)
    assert [r.act for r in found.receipts] == ["raise", "ablate"] * len(found.terms)
    assert [r.direction for r in found.receipts[::2]] == [f"neuron {t.neuron}" for t in found.terms]
    assert [r.expected for r in found.receipts[::2]] == [1 if t.weight > 0 else -1 for t in found.terms]
    table = found.table()
    assert table["neuron"].to_pylist() == [t.neuron for t in found.terms]
    for act, place in (("raise", 0), ("ablate", 1)):
        for name in ("effect", "low", "high", "control", "p", "confirmed"):
            assert table[f"{act}_{name}"].to_pylist() == [getattr(r, name) for r in found.receipts[place::2]]
    assert table["ablate_images"].to_pylist() == [r.images for r in found.receipts[1::2]]


@pytest.mark.parametrize("chosen", [None, "neutral", "drawing", ("this is {}", "a photo of a {}"), "a {} hat"])
def test_receipts_are_tried_with_prompts_that_chose_nothing(clip, monkeypatch, chosen):
    asked = []
    real = equations.receipt
    monkeypatch.setattr(equations, "receipt", lambda *args, **kw: asked.append(args[4]) or real(*args, **kw))
    found = equation(clip, "ship", k=1, images=noise(clip, 2), templates=chosen)
    tried = set(PROMPT_TEMPLATES[asked[0]])
    assert not tried & set(chosen_templates(chosen))
    assert set(found.receipts[0].templates) == tried
    page = equations_page([found])
    assert all(f"“{prompt}”" in page for prompt in tried)
    assert "usual neuron's" in page  # what it was raised by
    confirmed = sum(each.confirmed for each in found.receipts)
    assert f"1 neuron keeps {round(100 * found.kept)} % of the logit of" in page
    done = 1 + (found.receipts[1].images > 0)  # silencing has no image where the neuron never fires
    assert f"of {done} acts on these neurons {confirmed} are confirmed" in page
    acts = page.count('<td class="q-said') + page.count("never fires here")
    assert acts == 2
    raised = found.receipts[0]
    assert f", {raised.images} images</small>" in page
    assert f"<small>push {raised.balance:.2f}</small>" in page


def test_a_page_without_a_term_is_not_written(store, capsys):
    nothing = [equations.Equation("dust", (), 0.0, "omp")]
    assert equations_page(nothing) == ""
    assert write_page(store, "equations", "Equations", equations_page(nothing), ["equation"]) == 0
    assert "nothing to show under 'Equations'" in capsys.readouterr().err
    assert "site-fragments/equations" not in store.everything_derived()


def test_templates_of_every_set_leave_none_to_try_with():
    with pytest.raises(Refused, match="no set is left"):
        other_templates([each[0] for each in PROMPT_TEMPLATES.values()])


def test_what_cannot_be_composed_is_refused(clip, tmp_path):
    foreign = fake_store(tmp_path / "s", images=4, words=2, texts=2, derived=False)
    for match, options in {
        "is empty": {"concept": " "},
        "was made by fake": {"concept": "cat", "store": foreign},
        "k is 0": {"concept": "cat", "k": 0},
        "penalty is 0.0": {"concept": "cat", "penalty": 0.0, "method": "lasso"},
        "has no penalty": {"concept": "cat", "penalty": 0.0},
    }.items():
        with pytest.raises(Refused, match=match):
            equation(clip, **options)
    with pytest.raises(Refused, match="no concept given"):
        compose(clip, [])


# -- the bake-off ------------------------------------------------------------------------------------------------------


def test_the_solvers_are_compared(clip, store):
    methods = ("omp", "nnls", "logistic")
    found = compare_solvers(clip, WORDS[:4], methods, ks=(1, 3), store=store, resamples=1)
    pairs = [(method, k) for method in methods for k in (1, 3)]
    assert list(zip(found["method"].to_pylist(), found["k"].to_pylist(), strict=True)) == pairs
    for row in found.to_pylist():
        assert 0 < row["terms"] <= row["k"]
        assert 0 <= row["stability"] <= 1
        assert 0 <= row["logit_r2"] <= 1
        assert row["held_cosine"] < row["cosine"] <= 1 or row["method"] == "logistic"  # which fits no cosine
        assert row["seconds"] > 0
    by = {(row["method"], row["k"]): row for row in found.to_pylist()}
    assert by["omp", 3]["cosine"] > by["omp", 1]["cosine"]
    assert compare_solvers(clip, WORDS[:3], ["omp"], (1,), resamples=1)["logit_r2"].to_pylist() == [None]
    with pytest.raises(Refused, match="two at least"):
        compare_solvers(clip, ["cat"])


@pytest.mark.parametrize("concepts", [2, 4])
def test_a_few_concepts_are_told_apart_in_a_few_rounds(clip, concepts, monkeypatch):
    """Any penalty tells them apart, however faint, and steps end in rounding; a warning would fail the test."""
    rounds, solved = [], []
    restricted, solver = logistic._restricted, coding.logistic_codes
    monkeypatch.setattr(logistic, "_restricted", lambda *args: rounds.append(1) or restricted(*args))
    monkeypatch.setattr(coding, "logistic_codes", lambda *args: solved.append(1) or solver(*args))
    P = equations.prompt_embeddings(clip, WORDS[:concepts], "drawing")
    Z = equations.solve_codes(equations.centred_unit_rows(clip, clip.basis(), None), P - P.mean((0, 1)), "logistic", 8)
    assert (Z != 0).any(1).all()
    assert len(rounds) <= 4 * len(solved)
    assert len(solved) < coding.PENALTY_TRIALS  # faint penalties change nothing, and are not tried


def test_stability_and_fidelity_by_hand():
    Z = np.array([[1.0, 2, 0, 0], [0, 0, 0, 0]])
    other = np.array([[1.0, 0, 3, 0], [0, 0, 0, 0]])
    assert bakeoff._stability(Z, [Z]) == 1
    assert bakeoff._stability(Z, [other]) == pytest.approx((1 / 3 + 1) / 2)
    V = np.eye(4, dtype=np.float32)
    P = np.array([[[1.0, 2, 0, 0]], [[0, 0, 0, 1.0]]], np.float32)
    found = bakeoff._fidelity(Z, V, P, P, None)
    assert found == {"terms": 1, "cosine": pytest.approx(0.5), "held_cosine": pytest.approx(0.5), "logit_r2": None}
