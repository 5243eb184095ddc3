"""Text embeddings that are kept on disk: found again, by weights, within bounds, and never needed."""

from pathlib import Path

import numpy as np
import pytest

from atlas.model import kept_texts
from atlas.model.clip import Clip
from atlas.model.kept_texts import KeptTexts, cache_file, forget_texts, kept_models
from decompose.cli import main

TEXTS = [f"a {what} {n}" for n in range(40) for what in ("cat", "dog")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(kept_texts.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def numbers(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), hash(text) % 97] for text in texts], np.float32)


def test_a_model_embeds_a_list_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip("mini", device="cpu")
    fresh = clip.encode_texts(TEXTS)
    assert not cache_file().exists()  # a library writes nothing unless it is asked to
    clip.keep_texts()
    np.testing.assert_allclose(clip.encode_texts(TEXTS), fresh, atol=1e-6)
    with monkeypatch.context() as patch:
        patch.setattr(clip.model, "encode_text", None)  # a call would fail
        np.testing.assert_allclose(clip.encode_texts([*TEXTS[::-1], TEXTS[3]]), [*fresh[::-1], fresh[3]], atol=1e-6)
    clip.model.text_projection.mul_(-1)  # other weights
    np.testing.assert_allclose(clip.encode_texts(TEXTS), -fresh, atol=1e-6)
    assert [(row["model"], row["texts"]) for row in kept_models()] == [("mini", 80), ("mini", 80)]


def test_what_is_kept_is_bounded_and_what_was_asked_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "a", "c"):
        KeptTexts(name, name).embed(TEXTS, numbers)
    assert [row["model"] for row in kept_models()] == ["c", "a", "b"]
    monkeypatch.setattr(kept_texts, "MOST_MEGABYTES", 2.5 * 80 * 16 / 1e6)
    KeptTexts("c", "c").embed([*TEXTS, "one more"], numbers)
    assert [row["model"] for row in kept_models()] == ["c", "a"]
    forget_texts()
    assert kept_models() == []


@pytest.mark.parametrize("content", [b"no database at all" * 200, None])
def test_a_file_that_cannot_be_used_costs_time_alone(cache: Path, content: bytes | None) -> None:
    cache.mkdir()
    if content is None:
        (cache / "texts.sqlite").mkdir()  # a folder in its place
    else:
        (cache / "texts.sqlite").write_bytes(content)
    for _ in range(2):
        np.testing.assert_array_equal(KeptTexts("a", "a").embed(TEXTS, numbers), numbers(TEXTS))
    assert content is None or [row["texts"] for row in kept_models()] == [80]  # a new file


def test_the_command_lists_and_deletes(capsys: pytest.CaptureFixture[str]) -> None:
    KeptTexts("a", "a model").embed(TEXTS, numbers)
    assert main(["kept"]) == 0
    out, err = capsys.readouterr()
    assert "a model" in out
    assert str(cache_file()) in err
    assert main(["kept", "--delete", "--json"]) == 0
    assert capsys.readouterr().out.strip() == "[]"
    assert not cache_file().exists()
