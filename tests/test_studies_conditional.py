"""Conditional probabilities: the published plots from their counts, known counts, the null, labelling, the command."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atlas
from atlas.analysis import derivation
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.pages.fragments import check_fragment
from atlas.store.store import Store
from decompose.cli import main
from decompose.pages.conditional import stacked_bars
from decompose.studies import untrained_nulls
from decompose.studies.conditional import (
    Conditional,
    Stimuli,
    cohen_kappa,
    conditional_shares,
    frequent_categories,
    mutual_information,
    neuron_stimuli,
)
from decompose.studies.labelling import labelling_page, read_answers
from decompose.studies.untrained_nulls import untrained_information

PUBLISHED = json.loads((Path(__file__).parent / "data" / "conditional_shares.json").read_text("utf-8"))
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("plot", PUBLISHED.values(), ids=list(PUBLISHED))
def test_the_published_plots_come_out_of_their_counts(plot: dict) -> None:
    published, totals = np.array(plot["p_label_given_bin"]).T, np.array(plot["bucket_counts_recovered"])
    counts = np.rint(published * totals[:, None]).astype(int)
    starts = np.array(plot["bins"], float)
    edges = np.append(starts, 2 * starts[-1] - starts[-2])
    found = Conditional(edges, plot["std"], tuple(plot["labels"]), counts)
    assert (found.totals == totals).all()
    assert found.shares == pytest.approx(published, abs=1e-9)
    assert found.shares.sum(1) == pytest.approx(1)
    assert found.x[:-1] == pytest.approx(starts / plot["std"])
    assert counts.sum(0).tolist() == plot["label_counts"]


def test_counts_and_shares_of_known_stimuli() -> None:
    bucket, category = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, -1, 1])
    found = conditional_shares(bucket, category, np.array([-3.0, -1, 1, 3, 5]), 2.0, ["cat", "dog"])
    assert found.counts.tolist() == [[2, 1], [0, 1], [0, 1], [0, 0]]
    assert found.shares[:3].sum(1) == pytest.approx(1)
    assert np.isnan(found.shares[3]).all()
    assert found.x.tolist() == [-1.5, -0.5, 0.5, 1.5, 2.5]  # from zero, not centred
    low, high = found.intervals
    assert (low <= np.nan_to_num(found.shares, nan=0.5)).all()
    assert (high >= np.nan_to_num(found.shares, nan=0.5)).all()
    assert (low[3].tolist(), high[3].tolist()) == ([0, 0], [1, 1])
    assert len(found.rows()) == 8
    assert sum(row["count"] for row in found.rows()) == 5


def test_mutual_information_is_scikit_learns() -> None:
    from sklearn.metrics import mutual_info_score

    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 4, 90), rng.integers(0, 3, 90)
    counts = np.zeros((4, 3), int)
    np.add.at(counts, (one, other), 1)
    assert mutual_information(counts) == pytest.approx(mutual_info_score(one, other))


@pytest.mark.slow
def test_p_is_flat_for_shuffled_categories_and_small_for_related_ones() -> None:
    rng, edges = np.random.default_rng(1), np.arange(6.0)
    bucket = np.repeat(np.arange(5), 12)
    p = np.array([_p(bucket, rng.integers(0, 4, 60), edges, i) for i in range(300)])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.08)
    assert _p(bucket, np.minimum(bucket, 3), edges, 0) == 0.001


def _p(bucket: np.ndarray, category: np.ndarray, edges: np.ndarray, seed: int) -> float:
    found = conditional_shares(bucket, category, edges, 1.0, list("abcd"), seed).p
    assert found is not None
    return found


def test_bars_are_as_high_as_shares_and_fill_their_columns() -> None:
    found = conditional_shares(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([-1.0, 0, 1]), 1.0, ["a", "b"])
    bars = stacked_bars(found)
    assert [round(bar["height"]) for bar in bars] == [150, 150, 300]
    assert [round(bar["y"]) for bar in bars] == [0, 150, 0]
    assert bars[2]["x"] == 380


def test_kappa_is_scikit_learns_on_what_both_labelled() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(2)
    one = rng.integers(-1, 3, 80)
    other = np.where(rng.random(80) < 0.6, one, rng.integers(-1, 3, 80))
    both = (one >= 0) & (other >= 0)
    assert cohen_kappa(one, other) == pytest.approx(cohen_kappa_score(one[both], other[both]))
    assert cohen_kappa(np.array([-1, 0]), np.array([1, -1])) is None
    assert cohen_kappa(np.array([0, 0]), np.array([0, 0])) == 1
    independent = [cohen_kappa(rng.integers(0, 3, 60), rng.integers(0, 3, 60)) for _ in range(200)]
    assert np.mean(np.array(independent, float)) == pytest.approx(0, abs=0.02)


def test_rare_categories_are_joined() -> None:
    numbers, names = frequent_categories(["a", "b", "a", "c", "d", "b"], 2)
    assert names == ["a", "b", "other"]
    assert numbers.tolist() == [0, 1, 0, 2, 2, 1]
    assert frequent_categories(["a", "b"], 2)[1] == ["a", "b"]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Forty discs of two colours in folders, with statistics; one folder has a hostile name."""
    place, rng = tmp_path_factory.mktemp("conditional"), np.random.default_rng(3)
    for i in range(40):
        folder = place / "images" / ("<b onclick=x>" if i % 2 else "green")
        folder.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 80, (40, 40, 3), np.uint8)
        noise[..., i % 2] += 150
        Image.fromarray(noise).save(folder / f"{i}.png")
    store = atlas.collect(f"folder:{place / 'images'}", mini, place / "store")
    derivation.summarise_neurons(store)
    return store


def _varying(store: Store) -> int:
    return int(np.asarray(store.array("max", "image"), np.float32).std(0).argmax())


def test_stimuli_lie_in_their_buckets(made: Store) -> None:
    neuron = _varying(made)
    stimuli, A = neuron_stimuli(made, neuron), np.asarray(made.array("max", "image"), np.float32)[:, neuron]
    assert stimuli.edges[0] == pytest.approx(A.min())
    assert stimuli.edges[-1] == pytest.approx(A.max())
    for row, bucket in zip(stimuli.rows, stimuli.bucket, strict=True):
        assert stimuli.edges[bucket] - 1e-3 <= A[row] <= stimuli.edges[bucket + 1] + 1e-3


@pytest.mark.slow
def test_the_command_by_labels_words_and_people(
    made: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    neuron = str(_varying(made))
    command = ["conditional", str(made.path), neuron]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["category"] for row in found["shares"]} == {"<b onclick=x>", "green"}
    assert found["bits"] > found["bits_shuffled"]
    assert 0 <= found["bits_untrained"][0] <= found["bits_untrained"][1] <= 1
    page = made.path / "site-fragments" / "conditional" / "page.html"
    check_fragment(page.read_text("utf-8"), page)
    assert "<b onclick" not in page.read_text("utf-8")
    assert "random weights" in page.read_text("utf-8")
    assert main([*command, "--categories", "red", "green", "blue"]) == 0
    assert "by zero-shot words" in page.read_text("utf-8")
    file = tmp_path / "label.html"
    assert main([*command, "--labelling-page", str(file), "--categories", "red", HOSTILE]) == 0
    text = file.read_text("utf-8")
    assert HOSTILE not in text
    facts = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])  # type: ignore[index]
    shown = facts.pop("stimuli")
    stimuli = neuron_stimuli(made, int(neuron))
    assert sorted(one["row"] for one in shown) == sorted(stimuli.rows.tolist())
    assert [one["row"] for one in shown] != stimuli.rows.tolist()  # shuffled
    assert set(shown[0]) == {"row", "picture"}  # the activation is not told
    answers = {str(one["row"]): one["row"] % 2 for one in shown}
    for name, given in (("a.json", answers), ("b.json", dict(list(answers.items())[:10]))):
        (tmp_path / name).write_text(json.dumps(facts | {"answers": given}))
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert main([*command, "--labels", *files]) == 0
    assert "kappa of the labellers 1.00" in capsys.readouterr().out
    assert "Cohen&#39;s kappa" in page.read_text("utf-8") or "Cohen's kappa" in page.read_text("utf-8")


def test_refusals(made: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    neuron = _varying(made)
    stimuli = neuron_stimuli(made, neuron)
    with pytest.raises(Refused, match="out of range"):
        neuron_stimuli(made, 5000)
    with pytest.raises(Refused, match="needs --categories: 2 to 9 different"):
        labelling_page(made, stimuli, ["one"])
    good = {"store": made.digest, "neuron": neuron, "categories": ["a", "b"], "answers": {}}
    faults = {
        "is no file that": "[]",
        "was labelled with another Store": json.dumps(good | {"store": "0"}),
        f"has labels of neuron {neuron + 1}; asked is neuron {neuron}": json.dumps(good | {"neuron": neuron + 1}),
        "is none of the 2": json.dumps(good | {"answers": {"0": 7}}),
    }
    for said, content in faults.items():
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(Refused, match=said):
            read_answers(tmp_path / "bad.json", made, stimuli)
    with pytest.raises(Refused, match="there is no file"):
        read_answers(tmp_path / "not there.json", made, stimuli)
    (tmp_path / "none.json").write_text(json.dumps(good))
    assert main(["conditional", str(made.path), str(neuron), "--labels", str(tmp_path / "none.json")]) == 1
    assert "no stimulus has a category" in capsys.readouterr().err
    with pytest.raises(Refused, match="same activation everywhere"):
        conditional_shares(np.array([0]), np.array([0]), np.array([0.0, 0]), 0.0, ["a"])


def test_an_untrained_neuron_tells_what_its_order_tells() -> None:
    """In buckets of the same sizes: all of it where the responses follow the categories, chance where they do not."""
    rng = np.random.default_rng(0)
    category = np.repeat([0, 1, -1], [60, 40, 20])
    bucket = np.where(category == 0, 0, 1)
    A = rng.normal(size=(120, 50)).astype(np.float32)
    A[:, 0] = category == 1
    found = untrained_information(A, bucket, category)
    own = mutual_information(np.array([[60, 0], [0, 40]]))
    assert found[0] == pytest.approx(own)
    assert found[1:].max() < own / 5


@pytest.mark.parametrize(("ordered", "most", "least"), [(True, 1 / 50, 1 / 50), (False, 1, 0.1)])
def test_p_is_the_rank_among_untrained_neurons_where_stimuli_are_alike(
    made: Store, monkeypatch: pytest.MonkeyPatch, ordered: bool, most: float, least: float
) -> None:
    """An ordinary neuron whose responses follow groups of copies has p .001 by shuffles, and no small rank."""
    rng, category = np.random.default_rng(0), np.repeat(np.arange(10) % 2, 6)
    A = np.repeat(rng.normal(size=(10, 50)), 6, axis=0).astype(np.float32)
    bucket = category if ordered else np.argsort(np.argsort(A[:, 0], kind="stable")) // 12
    edges = np.arange(float(bucket.max()) + 2)
    monkeypatch.setattr(untrained_nulls, "untrained_responses", lambda *_: A[:, 1:])
    found = conditional_shares(bucket, category, edges, 1.0, ["a", "b"])
    beside = untrained_nulls.beside_untrained(found, made, Stimuli(0, np.arange(60), bucket, edges, 1.0), category)
    assert found.p == 0.001
    assert beside.p_untrained is not None
    assert least <= beside.p_untrained <= most


@pytest.mark.slow
@pytest.mark.browser
def test_the_labelling_page_by_keyboard(
    made: Store, tmp_path: Path, browser: object, capsys: pytest.CaptureFixture[str]
) -> None:
    neuron = _varying(made)
    stimuli = neuron_stimuli(made, neuron)
    file = tmp_path / "label.html"
    file.write_text(labelling_page(made, stimuli, ["red", HOSTILE]), "utf-8")
    labelled, errors = [], []
    for number, keys in enumerate(("12", "1212121211")):  # the second person disagrees once in ten
        context = browser.new_context(accept_downloads=True)  # type: ignore[attr-defined]
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(file.as_uri())
        assert "activation" not in page.inner_text("body").lower()
        for i in range(len(stimuli.rows)):
            assert f"{i + 1} of" in page.text_content("#place")
            page.keyboard.press(keys[i % len(keys)])
        page.reload()
        assert f"{len(stimuli.rows)} labelled" in page.text_content("#place")  # kept in the browser
        with page.expect_download() as download:
            page.click("#export")
        labelled.append(tmp_path / f"{number}.json")
        download.value.save_as(labelled[-1])
        context.close()
    assert errors == []
    (one, names), (other, _) = (read_answers(path, made, stimuli) for path in labelled)
    assert names == ["red", HOSTILE]
    assert sorted(np.bincount(one).tolist()) == sorted([len(one) // 2, -(-len(one) // 2)])
    assert one.tolist() != [i % 2 for i in range(len(one))]  # the order of the page is not that of the buckets
    kappa = cohen_kappa(one, other)
    assert kappa is not None
    assert 0 < kappa < 1
    assert main(["conditional", str(made.path), str(neuron), "--labels", *map(str, labelled)]) == 0
    assert f"kappa of the labellers {kappa:.2f}" in capsys.readouterr().out
