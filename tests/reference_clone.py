"""Writes a folder in the format of the article's public repository, from any figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def write_regions(
    folder: Path,
    units: Sequence[tuple[str, int]],
    words: Sequence[Sequence[str]],
    countries: Mapping[str, Sequence[int]],
    cities: Mapping[str, Sequence[int]],
) -> None:
    """Region neurons with their words, and their responses to countries and cities (0 to 254)."""
    place = folder / "static" / "diagram-data" / "regional"
    place.mkdir(parents=True)
    (place / "units.json").write_text(json.dumps([list(unit) for unit in units]))
    (place / "top_words.json").write_text(json.dumps([list(each) for each in words]))
    geography = {
        "cities": [{"name": name, "index": i, "pos": [0, 0]} for i, name in enumerate(cities)],
        "countries": [
            {"type": "Feature", "properties": {"name": name, "index": i}} for i, name in enumerate(countries)
        ],
    }
    (place / "geo.json").write_text(json.dumps(geography))
    for name, table in (("country", countries), ("city", cities)):
        np.save(place / f"{name}.npy", np.array(list(table.values()), np.uint8).T.reshape(len(units), len(table)))


def write_emotions(
    folder: Path,
    levels: Mapping[str, Mapping[str, Sequence[tuple[float, int]]]],
    text_units: Sequence[int],
    atlas: Mapping[str, Sequence[float]],
) -> None:
    """Emotion equations by level, the neurons left out, and the atlas: as JavaScript modules."""
    place = folder / "src" / "diagrams" / "emotions"
    (place / "semantic").mkdir(parents=True)
    (place / "atlas").mkdir()
    (place / "semantic" / "allSparse.js").write_text(f"export default {json.dumps(levels, indent=2)}\n")
    (place / "semantic" / "textNeurons.js").write_text(
        "export default [\n" + "".join(f"  {unit},\n" for unit in text_units) + "]\n"
    )
    cells = "".join(
        f"    {{\n      x: 2.0,\n      name: '{word}',\n      components: {list(map(float, parts))},\n    }},\n"
        for word, parts in atlas.items()
    )
    (place / "atlas" / "data.js").write_text(f"export default {{\n  grid: [\n{cells}  ],\n}}\n")


def write_attacks(folder: Path, rows: Sequence[tuple[str, str, float]], images: int, accuracy: float) -> None:
    """Success of attack texts by target class."""
    results = {
        target: {text: {"fraction_changed_to": success, "avg_img_l0_norm_diff": 0.07}} for target, text, success in rows
    }
    place = folder / "static" / "typographic"
    place.mkdir(parents=True, exist_ok=True)
    found = {"n": images, "linear_probes": {"results": results, "baseline_accuracy": accuracy}}
    (place / "small_attacks.json").write_text(json.dumps(found))


def write_stroop(folder: Path, answers: Mapping[tuple[str, str], str], inks: Sequence[str]) -> None:
    """The answer for each ink and word."""
    output: dict[str, dict] = {}
    for (ink, word), answer in answers.items():
        results = [[0.9 if name == answer else 0.01, name] for name in inks]
        output.setdefault(ink, {})[word] = {"url": "", "results": results}
    place = folder / "static" / "typographic"
    place.mkdir(parents=True, exist_ok=True)
    (place / "stroop_experiment.json").write_text(json.dumps({"setup": {}, "output": output}))


def write_diagrams(
    folder: Path,
    labels: Sequence[tuple[str, int, str]],
    neighbours: Mapping[str, Sequence[str]],
    submatrix: tuple[Sequence[int], Sequence[str], Sequence[tuple[int, int, float]]],
) -> None:
    """Labelled neurons, neighbours of rendered words, and weights of the sparse probe: inside page sources."""
    place = folder / "src" / "diagrams"
    place.mkdir(parents=True, exist_ok=True)
    rows = [
        f'            {{"model": "{model}", "unit": {unit}, title: {json.dumps(label)}, facet: "any"}},'
        for model, unit, label in labels
    ]
    rows.append('            // {"model": "4x", "unit": 5, title: "left out", facet: "any"},')
    (place / "NeuronFamilies.svelte").write_text(
        "<script>\nlet families = [{neurons: [\n" + "\n".join(rows) + "\n]}];\n"
    )
    spans = [
        f"<span>{word}</span> \n<span>A, B</span> \n<span>{', '.join(near)}</span>" for word, near in neighbours.items()
    ]
    (place / "ImageWordEmbeddingFootnote.svelte").write_text(
        "<span class='figcaption'>\n" + "\n".join(spans) + "\n</span>\n"
    )
    units, classes, weights = submatrix
    names = ",".join(f"'{name}'" for name in classes)
    (place / "HyperSet.svelte").write_text(
        f"<script>\nconst classnames = [{names}]\n\nconst nonzeros = {json.dumps([list(w) for w in weights])}\n\n"
        f'const neurons = {json.dumps(list(units))}\nconst neuron_names = {{1: "a"}}\n</script>\n'
    )
