"""Names of open_clip: the table of what works agrees with README and with what is listed; what cannot be is refused."""

import json
import re
from pathlib import Path

import open_clip
import pytest

from atlas import cli
from atlas.errors import Refused
from atlas.model import weights
from atlas.model.clip import Clip
from atlas.model.names import TABLE, name_results, names_summary

README = (Path(__file__).parents[1] / "README.md").read_text()
NAMES = {path.stem for path in (Path(open_clip.__file__).parent / "model_configs").glob("*.json")}
SECTION = " ".join(README.split("## Real CLIP weights")[1].split("\n## ")[0].split())


def test_each_result_says_what_it_gave() -> None:
    for row in json.loads(TABLE.read_text())["names"]:
        assert set(row) >= ({"layer", "shape", "parameters"} if row["result"] == "works" else {"lacks"})
        assert len(row.get("shape", "123")) == 3


def test_readme_names_the_exceptions_of_the_table() -> None:
    table = json.loads(TABLE.read_text())
    assert f"version {table['open_clip']}" in SECTION
    results = dict.fromkeys(NAMES, "not tried") if open_clip.__version__ == table["open_clip"] else {}
    results |= {row["name"]: row["result"] for row in table["names"]}
    works = [name for name, result in results.items() if result == "works"]
    assert f"Of its {len(results)} names, {len(works)} " in SECTION
    begins = {"memory": "need more than", "text tower": "need the files of a text tower", "not tried": "were not tried"}
    for result in set(results.values()) - {"works"}:
        names = re.search(rf"{begins[result]}[^(]*\(([^)]*)\)", SECTION)[1]  # pyright: ignore
        assert sorted(re.findall(r"`([^`]*)`", names)) == sorted(name for name in results if results[name] == result)


def test_a_name_that_the_table_lacks_was_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    known = open_clip.list_models()
    monkeypatch.setattr(open_clip, "list_models", lambda: [*known, "ViT-Z-7", "mini"])
    assert name_results()[-1] == {"name": "ViT-Z-7", "result": "not tried"}
    assert re.search(r"\d were not tried:\n.*ViT-Z-7\n", names_summary(), re.DOTALL)


def test_layers_without_a_model_lists_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["layers"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for row in name_results():
        assert len(re.findall(rf"(?<![\w-]){row['name']}(?![\w-])", text)) == 1
    assert cli.main(["layers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == name_results()
    assert cli.main(["layers", "--pretrained", "openai"]) == 2


def test_what_the_memory_cannot_hold_is_refused_before_any_weights_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "free_memory", lambda: 10**8)
    create, made = open_clip.create_model, []
    monkeypatch.setattr(open_clip, "create_model", lambda *a, **k: made.append(k.get("device")) or create(*a, **k))
    with pytest.raises(Refused, match=r"cannot load ViT-S-32: it takes 0\.3 GB of memory, and 0\.1 GB are free"):
        Clip("ViT-S-32", device="cpu")
    assert made == ["meta"]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("we couldn't connect to 'https://huggingface.co'", "from the files of roberta-base, which are not in the hub"),
        ("Please `pip install transformers` to use it", r'pip install "multimodal-atlas\[hf\]"'),
    ],
)
def test_a_text_tower_is_asked_for_before_any_weights_are_made(monkeypatch, said: str, line: str) -> None:
    def create(*_: object, device: str = "cpu", **__: object) -> None:
        assert device == "meta"
        raise OSError(said)

    monkeypatch.setattr(open_clip, "create_model", create)
    with pytest.raises(Refused, match=line):
        Clip("roberta-ViT-B-32", device="cpu")
