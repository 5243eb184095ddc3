"""Load open_clip models by name, with weights from a tag, a file, the embedded checkpoint, or random ones.

Checkpoints are safetensors or are read by torch.load(weights_only=True), so no code in a file is ever run.
"""

import hashlib
import logging
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from torch import nn

from atlas.errors import Refused
from atlas.model.statedicts import fitting_weights, refuse_broken, refuse_other_numbers, weights_in_folder
from atlas.model.tensorfiles import tensor_file
from atlas.sources.decoding import free_memory

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "tokenizer.model")
_EMBEDDED = Path(__file__).parents[1] / "mini"


def load_model(name: str, pretrained: str | Path | None) -> tuple[nn.Module, str]:
    """Build a model on the CPU; returns the model and one line on the origin of its weights.

    `pretrained`: one of open_clip's tags, a checkpoint file, or None, which means the embedded weights for "mini" and
    random weights (the same each time) for other names. Raises `Refused` for an unknown name, tag or file, and for
    weights that do not fit the model.
    """
    register_mini()
    _refuse_unsupported(name)
    if name.startswith(("hf-hub:", "local-dir:")):
        if pretrained is not None:
            raise Refused(f"{name} brings its own weights: leave pretrained out (got {str(pretrained)!r})")
        return _create(name, None), f"the weights in {name.split(':', 1)[0]}"
    name = name.replace("/", "-")
    if name not in open_clip.list_models():
        near = similar_names(name, open_clip.list_models())
        raise Refused(f"no model is called {name!r}{near}; open_clip.list_models() has all")
    if pretrained is None and name != "mini":
        return _create(name, None), "random weights"
    if pretrained is None:
        return _create(name, str(_checked(_EMBEDDED / "mini.safetensors", name))), "the embedded weights"
    if origin := _tag(name, str(pretrained)):
        return _create(name, str(pretrained)), origin
    model, left = _from_file(name, _checked(Path(pretrained), name))
    origin = "a checkpoint file: whether it was trained with this config's QuickGELU cannot be checked"
    return model, f"{origin}; {left}" if left else origin


def _from_file(name: str, path: Path) -> tuple[nn.Module, str]:
    """A model with the weights of a file, and what of it was left out. What open_clip converts by itself, it does."""
    if path.suffix == ".npz":  # of big_vision
        return _create(name, str(path)), ""
    model, left = None, ""
    try:
        content = tensor_file(path)
        model = _create(name, None)
        fitting, left = fitting_weights(content, model, str(path))
    except Refused as refused:
        cause = Refused(f"cannot load {name}: {refused}")
        if model is None:
            raise cause from None
        try:
            model = _create(name, str(path))
        except Refused:
            raise cause from None
    else:
        try:
            refuse_other_numbers(fitting, model, str(path))
        except Refused as refused:
            raise Refused(f"cannot load {name}: {refused}") from None
        model.load_state_dict(fitting)
    refuse_broken(model, str(path))
    if left:
        print(f"{path} holds several sets of weights: {left}, are used", file=sys.stderr)
    return model, left


def _refuse_unsupported(name: str) -> None:
    """Raise Refused for towers of other kinds than those that are tested: sound, and pictures of any shape."""
    plain = name.replace("/", "-")
    config = (open_clip.get_model_config(plain) or {}) if plain in open_clip.list_models() else {}
    if "audio_cfg" in config or name.upper().startswith(("CLAP", "HTSAT")):
        raise Refused(f"{name} is a model of sound: only models of images and texts are read")
    if "naflex" in name.lower() or "naflex" in str(config.get("vision_cfg", "")).lower():
        raise Refused(f"{name} reads patches of any shape (NaFlex), which has no map of activations: take another name")


def find_tokenizer(name: str, pretrained: str | Path | None) -> Callable[[list[str]], torch.Tensor]:
    """open_clip's tokenizer of a model; its files may lie beside the checkpoint. Raises Refused, with what it needs."""
    text = (open_clip.get_model_config(name.replace("/", "-")) or {}).get("text_cfg", {})
    home = Path(pretrained or "")
    home = home if home.is_dir() else home.parent
    try:
        if text.get("hf_tokenizer_name") and pretrained and any((home / file).is_file() for file in _TOKENIZER_FILES):
            context = {"context_length": text["context_length"]} if "context_length" in text else {}
            own = {**text.get("tokenizer_kwargs", {}), "tokenizer_mode": text.get("tokenizer_mode")}
            return open_clip.tokenizer.HFTokenizer(str(home), **context, **own)
        return open_clip.get_tokenizer(name)
    except ImportError as error:
        package = error.name or "transformers"
        raise Refused(f'the tokenizer of {name} needs {package}: pip install "multimodal-atlas[hf]"') from None
    except Exception as error:  # without a network, tokenizers from the hub fail with many types of error
        hub, reason = text.get("hf_tokenizer_name") or name, " ".join(str(error).split())
        offline = any(sign in reason for sign in ("huggingface.co", "connect", "Hub"))
        raise Refused(
            f"no tokenizer for {name}: the files of {hub} are needed (tokenizer.json, tokenizer_config.json), in the "
            "folder of the checkpoint or in the hub's cache" + ("" if offline else f": {reason[:120]}")
        ) from error


def is_missing_file(name: str, pretrained: str | None) -> bool:
    """Whether `pretrained` is the path of a checkpoint file, not a tag, and no such file exists."""
    return bool(pretrained) and not _tag(name.replace("/", "-"), pretrained) and not Path(pretrained).is_file()


def weights_sha256(model: nn.Module) -> str:
    """Sha256 of all current parameters and buffers; the same on every device."""
    return _sha256(sorted(model.state_dict().items()))


def text_sha256(model: nn.Module) -> str:
    """Sha256 of all current parameters and buffers outside the image tower, which text embeddings depend on."""
    return _sha256(item for item in sorted(model.state_dict().items()) if not item[0].startswith("visual."))


def _sha256(parts: Iterable[tuple[str, torch.Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in parts:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def similar_names(name: str, known: Iterable[str]) -> str:
    """Up to three known names similar to `name`, as the end of an error line: " (near: a, b)"; "" if there are none."""
    spelled = {each.lower(): each for each in known}
    matches = [spelled[each] for each in get_close_matches(name.lower(), spelled, n=3, cutoff=0.5)]
    return f" (near: {', '.join(matches)})" if matches else ""


def register_mini() -> None:
    """Register the name "mini" with open_clip."""
    if "mini" not in open_clip.list_models():
        open_clip.add_model_config(_EMBEDDED / "mini.json")


def _tag(name: str, tag: str) -> str:
    """The origin of a tag's weights as one line; "" if the model has no such tag.

    A model and its -quickgelu twin differ in the activation only. Weights run wrongly, without any error, under the
    activation that they were not trained with; that is refused, and the message names the right twin.
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


def _checked(path: Path, name: str) -> Path:
    """The path of a checkpoint file, or of the one in a folder. Raises `Refused` for none, and for one with code."""
    tags = list_pretrained_tags_by_model(name)
    if path.is_dir():
        path = weights_in_folder(path)
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
    return path


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with code in it (the zip that torch.save writes has none)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in entry for entry in archive.namelist())


def untrained_weights(name: str, seed: int) -> dict[str, torch.Tensor]:
    """The weights that open_clip begins training a model with; torch's random numbers stay as they are."""
    register_mini()
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return open_clip.create_model(name, load_weights=False).state_dict()


def parameter_count(name: str) -> int:
    """The number of parameters of a model, counted without making any. Fails as building the model would."""
    with _quiet(), torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = open_clip.create_model(name, device="meta", load_weights=False, pretrained_text=False)
    return sum(parameter.numel() for parameter in model.parameters())


def _create(name: str, pretrained: str | None) -> nn.Module:
    """Build a model with weights. What the memory cannot hold, or lacks files, is refused before any are made."""
    try:
        size = 0 if name == "mini" or ":" in name else 4 * parameter_count(name)
    except Exception as error:  # kinds of towers that cannot be counted are built as they are
        if "huggingface.co" in str(error) or "transformers" in str(error):
            raise _cannot_load(name, pretrained, error) from error
        size = 0
    if size > (free := free_memory()):
        raise Refused(f"cannot load {name}: it takes {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free")
    try:
        # A fixed seed for weights that no checkpoint fills, so that runs on random weights can be repeated.
        with _quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return open_clip.create_model(name, pretrained=pretrained)
    except Exception as error:  # files and downloads fail with many types of error
        raise _cannot_load(name, pretrained, error) from error


def _cannot_load(name: str, pretrained: str | None, error: Exception) -> Refused:
    """Why open_clip could not build a model, as one line."""
    reason = " ".join(re.sub("\x1b\\[[0-9;]*m", "", str(error)).split())[:300]
    what = f"{name} from {pretrained}" if pretrained else name
    hub = (open_clip.get_model_config(name) or {}).get("text_cfg", {}).get("hf_model_name")
    if hub and "pip install transformers" in reason:
        return Refused(f'cannot load {what}: its text tower needs transformers: pip install "multimodal-atlas[hf]"')
    if hub and "huggingface.co" in reason:
        reason = f"its text tower is made by transformers from the files of {hub}, which are not in the hub's cache"
        return Refused(f"cannot load {what}: {reason}")
    if isinstance(error, MemoryError) or "allocate memory" in reason:
        return Refused(f"cannot load {what}: there is not enough memory for it")
    if pretrained and pretrained.endswith(".npz"):
        reason = "of .npz, big_vision's SigLIP alone is read: give safetensors or a torch file"
        return Refused(f"cannot load {what}: {reason}")
    return Refused(f"cannot load {what}: {type(error).__name__}: {reason}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip's log, which warns of random weights (intended here) and repeats errors that are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
