"""Shares of p and q up to 0.05 in worlds where nulls hold, and what is found of what is planted.

Run with `pytest -n 0 -s`: it prints. WORLDS=100 in the environment asks for fewer worlds than 1,000.
"""

import os
from collections import Counter

import numpy as np
from scipy.stats import binomtest

from decompose.labels import label_activations
from tests.worlds import ANSWERING, EACH_KIND, KINDS, null_shares, other_shares, planted

WORLDS = int(os.environ.get("WORLDS", "1000"))


def test_every_null_keeps_its_level() -> None:
    found = null_shares(WORLDS) | other_shares(WORLDS)
    print(f"\n{WORLDS} worlds\n{'null':20}{'statistic':18}{'p <= .05':>28}{'q <= .05':>28}")
    for (name, kind), share in found.items():
        print(f"{name:20}{kind:18}{share.interval(share.p):>28}{share.interval(share.q):>28}")
    for what, share in found.items():
        shares = binomtest(share.p, share.neurons).proportion_ci(0.999)
        assert shares.low <= 0.07, what
        assert shares.high >= 0.03, what
        assert share.q / share.neurons <= 0.07, what


def test_the_rate_of_false_labels_and_the_power_at_each_kind() -> None:
    right, kept, false, named = Counter[str](), Counter[str](), [], Counter[str]()
    for seed in range(WORLDS):
        w = planted(seed)
        given = label_activations(
            w.A, w.texts, w.T, w.E, list(w.captions), w.W, list(w.groups), scale=40.0, draws=1000
        ).to_pylist()
        given = [row for row in given if row["label"] != "none"]
        wrong = 0
        firsts = {}
        for row in given:
            kind = w.kinds[row["neuron"]]
            true = row["label"] in {w.texts[c] for c in w.means[row["neuron"]]}
            firsts.setdefault(row["neuron"], true)
            wrong, right[kind], kept[kind] = wrong + (not true), right[kind] + true, kept[kind] + 1
        named.update(w.kinds[neuron] for neuron in firsts)
        false.append(wrong / max(len(given), 1))
    rate, error = float(np.mean(false)), float(np.std(false) / len(false) ** 0.5)
    print(f"\n{WORLDS} worlds: false labels {rate:.4f} (95 % {rate - 1.96 * error:.4f} to {rate + 1.96 * error:.4f})")
    print(f"{'kind':12}{'neurons labelled':>30}{'labels that are right':>24}")
    for kind in KINDS:
        count = WORLDS * (EACH_KIND + 24 * (kind == "noise"))
        low, high = binomtest(named[kind], count).proportion_ci()
        share = f"{right[kind] / kept[kind]:.3f}" if kept[kind] else "-"
        print(f"{kind:12}{f'{named[kind] / count:.3f} ({low:.3f} to {high:.3f})':>30}{share:>24}")
    assert rate - 1.96 * error <= 0.05
    assert named["mono"] >= 0.9 * WORLDS * EACH_KIND
    assert {*ANSWERING} <= {*KINDS}
