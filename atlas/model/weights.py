"""open_clip's models by name, and the checkpoints their weights come from: a tag, a file, the embedded one, or none.

Checkpoints are safetensors, or are read by torch.load(weights_only=True): nothing here runs code found in a file.
"""

import hashlib
import logging
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from torch import nn

from atlas.errors import Refused

_EMBEDDED = Path(__file__).parents[1] / "mini"


def load_model(name: str, pretrained: str | Path | None) -> tuple[nn.Module, str]:
    """Build a model on the CPU; returns it and one line that says where its weights come from.

    `pretrained` is one of open_clip's tags, a checkpoint file, or None: the embedded weights for "mini", random ones
    (the same each time) for every other name. Raises Refused for what cannot be had or does not fit.
    """
    register_mini()
    if name.startswith(("hf-hub:", "local-dir:")):
        if pretrained is not None:
            raise Refused(f"{name} brings its own weights: leave pretrained out (got {str(pretrained)!r})")
        return _create(name, None), f"the weights in {name.split(':', 1)[0]}"
    name = name.replace("/", "-")
    if name not in open_clip.list_models():
        raise Refused(
            f"no model is called {name!r}{similar_names(name, open_clip.list_models())}; open_clip.list_models() has all"
        )
    if pretrained is None and name != "mini":
        return _create(name, None), "random weights"
    if pretrained is None:
        return _create(name, _checked(_EMBEDDED / "mini.safetensors", name)), "the embedded weights"
    if origin := _tag(name, str(pretrained)):
        return _create(name, str(pretrained)), origin
    path = _checked(Path(pretrained), name)
    return _create(
        name, path
    ), "a checkpoint file: whether it was trained with this config's QuickGELU cannot be checked"


def is_missing_file(name: str, pretrained: str | None) -> bool:
    """Whether this names a checkpoint file, and there is none at that place."""
    return bool(pretrained) and not _tag(name.replace("/", "-"), pretrained) and not Path(pretrained).is_file()


def weights_sha256(model: nn.Module) -> str:
    """Checksum of every parameter and buffer as it is now, the same on every device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def similar_names(name: str, known: Iterable[str]) -> str:
    """A clause that names up to three known names like `name`, to end an error line with; empty if none is like it."""
    spelled = {each.lower(): each for each in known}
    matches = [spelled[each] for each in get_close_matches(name.lower(), spelled, n=3, cutoff=0.5)]
    return f" (near: {', '.join(matches)})" if matches else ""


def register_mini() -> None:
    """Make "mini" a name open_clip knows."""
    if "mini" not in open_clip.list_models():
        open_clip.add_model_config(_EMBEDDED / "mini.json")


def _tag(name: str, tag: str) -> str:
    """One line on a pretrained tag, empty if it is none of this model's.

    Weights trained with QuickGELU need the config that has it, and others the one without: the wrong one is refused,
    by the name of the right one. A config and its twin differ in nothing else.
    """
    twin = name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"
    config = get_pretrained_cfg(name, tag) or get_pretrained_cfg(twin, tag)
    if not config:
        return ""
    trained = config.get("quick_gelu", False)
    if trained == _has_quickgelu(name):
        return f"tag {tag}"
    if twin in open_clip.list_models() and trained == _has_quickgelu(twin):
        activation = "QuickGELU" if trained else "GELU"
        raise Refused(f"{name} does not fit the weights {tag!r}, trained with {activation}: ask for {twin!r} instead")
    return f"tag {tag}: open_clip has no config that fits the activation it is said to be trained with"


def _has_quickgelu(name: str) -> bool:
    return (open_clip.get_model_config(name) or {}).get("quick_gelu", False)


def _checked(path: Path, name: str) -> str:
    """The path of a file that may be a checkpoint; what is none is refused before open_clip reads it."""
    tags = list_pretrained_tags_by_model(name)
    if not path.is_file():
        if path.parent == _EMBEDDED:
            raise Refused(f"the embedded weights {path.name} are missing: install multimodal-atlas again")
        known = f"; its tags: {', '.join(tags)}" if tags else ""
        raise Refused(f"{str(path)!r} is neither a file nor a tag of {name}{similar_names(str(path), tags)}{known}")
    if _is_torchscript(path):
        hub = get_pretrained_cfg(name, "openai").get("hf_hub", "").rstrip("/")
        raise Refused(
            f"{path} is a TorchScript archive (OpenAI's own format), which holds code: take the safetensors of "
            + (f"https://huggingface.co/{hub} instead" if hub else "the model's repository on huggingface.co instead")
        )
    return str(path)


def _is_torchscript(path: Path) -> bool:
    """A TorchScript archive is a zip that holds code; a checkpoint written by torch.save is a zip that holds none."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in entry for entry in archive.namelist())


def _create(name: str, pretrained: str | None) -> nn.Module:
    try:
        # Weights that no checkpoint fills are drawn from one seed, so that a run on random weights can be repeated.
        with _quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return open_clip.create_model(name, pretrained=pretrained)
    except Exception as error:  # a file or a download can fail in any way; the cause stays chained
        reason = " ".join(str(error).split())[:300]
        what = f"{name} from {pretrained}" if pretrained else name
        raise Refused(f"cannot load {what}: {type(error).__name__}: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's log lines: random weights were asked for, and errors are raised as well as logged."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
