"""Drawings of known neurons, judged by what is no network, by the model, and on the same views as real images.

Run with `pytest tests/bench/test_dream.py -s`. DEMO=FOLDER in the environment names the demo Store, NEURONS=N how many
neurons at random are drawn (16). The judge is checked on a vendor that it never saw.
"""

import json
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atlas
from atlas.dream.objectives import direction_responses
from atlas.dream.prior import image_style, store_prior, strongest_images
from atlas.dream.visualisation import visualise
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from tests.bench.picture_judge import PictureJudge, picture_features

DEMO, NEURONS = os.environ.get("DEMO", "outputs/demo"), int(os.environ.get("NEURONS", "16"))
EVIDENCE = Path(atlas.__file__).parent / "mini/evidence.json"
NAMES, UNSEEN, FIRST = 1000, "Samsung", 50


@pytest.fixture(scope="module")
def store() -> Store:
    if not Path(DEMO).exists():
        pytest.skip(f"{DEMO} is not there; atlas demo makes it")
    return Store.open(DEMO)


@pytest.fixture(scope="module")
def truth(store) -> dict[int, list[str]]:
    """The concepts of neurons whose concept is known, of those that the Store holds."""
    found, held = {}, set(store.table(["label"], "image")["label"].to_pylist())
    for pair in json.loads(EVIDENCE.read_text("utf-8"))["neurons"]["model"]["examples"]:
        if pair["concept"] in held:
            found.setdefault(pair["neuron"], []).append(pair["concept"])
    return found


@pytest.fixture(scope="module")
def seen(store, truth):
    """Features, numbers of names (-1 for other names) and vendors of the Store's images, and the names."""
    rows = store.table(["label", "group", "thumb"], "image")
    labels = np.array(rows["label"].to_pylist())
    known = sorted({concept for concepts in truth.values() for concept in concepts})
    rest = [name for name in sorted({*labels.tolist()} - {*known}) if "skin tone" not in name]
    names = known + np.random.default_rng(0).permutation(rest)[: NAMES - len(known)].tolist()
    place = {name: i for i, name in enumerate(names)}
    y = np.array([place.get(label, -1) for label in labels.tolist()])
    kept = np.flatnonzero(y >= 0)
    thumbs = [rows["thumb"][int(i)].as_py() for i in kept]
    images = np.stack([np.asarray(Image.open(BytesIO(each)).convert("RGB").resize((64, 64))) for each in thumbs])
    return picture_features(images), y[kept], np.array(rows["group"].to_pylist())[kept], names


def test_the_judge_names_what_it_never_saw(seen) -> None:
    X, y, vendors, names = seen
    asked = vendors == UNSEEN
    ranks = PictureJudge(X[~asked], y[~asked], names).ranks(X[asked], [[names[i]] for i in y[asked]])
    print(f"\njudge on {UNSEEN}: first {(ranks == 1).mean():.3f}, among five {(ranks <= 5).mean():.3f}")
    assert (ranks == 1).mean() > 0.75


def test_drawings_of_known_neurons(store, truth, seen) -> None:
    clip = atlas.Clip("mini", device="cpu")
    X, y, _, names = seen
    judge = PictureJudge(X, y, names)
    chosen = np.random.default_rng(16).choice(sorted(truth), 64, replace=False)[:NEURONS].tolist()
    D, style = np.eye(clip.neurons, dtype=np.float32)[chosen], image_style(store)
    rows, read = strongest_images(store, D), torch.from_numpy(D)
    prior = store_prior(store, clip, lambda m: direction_responses(read.repeat_interleave(m, 0)), rows, style)
    drawn = visualise(clip, chosen, style=style, prior=prior)
    images, wanted = np.concatenate([one.images for one in drawn]), [truth[n] for n in chosen]
    ratio = np.array([one.reached[0] for one in drawn]) / prior.best.numpy()
    texts = clip.encode_texts([f"a drawing of a {name}" for name in names])
    scores, place = clip.encode_images(images) @ texts.T, {name: i for i, name in enumerate(names)}
    by_model = np.array([min(1 + (s > s[place[n]]).sum() for n in own) for s, own in zip(scores, wanted, strict=True)])
    ranks = judge.ranks(picture_features(images), wanted)
    best = judge.ranks(picture_features(original_pictures(store, clip, rows[:, 0])), wanted)
    first = (ranks <= FIRST).mean()
    print(f"\n{len(chosen)} drawings: judge's rank of {NAMES}, median {np.median(ranks):.0f}, first 50 {first:.2f}")
    print(f"best real images: median {np.median(best):.0f}, first 50 {(best <= FIRST).mean():.2f}")
    print(f"the model names it among five: {(by_model <= 5).mean():.2f}")
    print(f"same views: median {np.median(ratio):.2f} times the best image, above it {(ratio > 1).mean():.2f}")
    assert first >= 0.4
    assert (by_model <= 5).mean() >= 0.85
    assert np.median(ratio) >= 1.8
