"""Checkpoints of others: wrappers and prefixes undone, Hugging Face's CLIP and SigLIP renamed, else the cause.

A checkpoint is taken for what it holds, not for its wrapping. It is used only if its tensors then fit the named model
exactly, in name and in shape.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from atlas.errors import Refused

Tensors = dict[str, Tensor]
WEIGHT_FILES = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors"),
    *("open_clip_pytorch_model.bin", "pytorch_model.bin", "model.pt"),
)
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_FIRST = (  # of several sets of weights in one checkpoint, these before averages of them
    *("state_dict", "model", "model_state_dict", "module", "net", "params", "weights"),
    *("clip", "student", "model_ema", "ema", "ema_state_dict", "state_dict_ema", "shadow"),
)
_DEEPEST = 4  # entries inside entries that are looked through for weights
_WRAPPING = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # what torch puts inside names
_ANCHORS = ("logit_scale", "visual.proj", "visual.conv1.weight", "ln_final.weight", "text.ln_final.weight")
_BUFFERS = re.compile(r"(^|\.)(position_ids|attn_mask|n_averaged|num_batches_tracked)$")
_BLOCK = (  # of Hugging Face's encoders: (theirs, open_clip's, timm's)
    ("layer_norm1", "ln_1", "norm1"),
    ("layer_norm2", "ln_2", "norm2"),
    ("self_attn.out_proj", "attn.out_proj", "attn.proj"),
    ("mlp.fc1", "mlp.c_fc", "mlp.fc1"),
    ("mlp.fc2", "mlp.c_proj", "mlp.fc2"),
)


def weights_in_folder(folder: Path) -> Path:
    """The file of weights in a folder as the hub lays it out. Raises Refused if there is none, or in parts."""
    there = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()][:1]
    there = there or sorted(each for each in folder.iterdir() if each.suffix in _SUFFIXES and each.is_file())
    if any(folder.glob("*.index.json")) and (not there or there[0].name not in WEIGHT_FILES):
        raise Refused(f"{folder} holds no checkpoint that can be read: its weights are in several files; join them")
    if not there:
        raise Refused(f"{folder} holds no checkpoint that can be read: none of {', '.join(WEIGHT_FILES)}")
    if len(there) > 1:
        raise Refused(f"{folder} holds several checkpoints, {', '.join(each.name for each in there[:3])}: name one")
    return there[0]


def fitting_weights(content: Mapping[str, object], model: nn.Module, where: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of a checkpoint by the names of the model's, and what was left out, as a line; "" if nothing was.

    Wrappers are undone whatever their names: the entry is taken whose tensors bear the model's names. Raises Refused
    with the cause if they do not fit.
    """
    expected = model.state_dict()
    entries = _sets_of_tensors({str(key): each for key, each in content.items()})
    found = dict(each for name, tensors in entries for each in _side_by_side(name, tensors, expected))
    if not found:
        lists = [name for name, each in content.items() if _is_list(each)]
        held = (
            f"tensors without their names, in the list {lists[0]}: save the model's state dict"
            if lists
            else (f"no tensors: its entries are {', '.join(list(map(str, content))[:6]) or 'none'}")
        )
        raise Refused(f"{where} holds {held}")
    named = {name: _named(tensors, expected) for name, tensors in found.items()}
    counts = {name: len(tensors.keys() & expected.keys()) for name, tensors in named.items()}
    best = max(counts, key=lambda name: (counts[name], -_rank(name), len(found[name])))
    if not counts[best] and best:
        few = f"{_few(found[best])}, none of which is named as in this model"
        raise Refused(f"{where} holds tensors in its entry {best}: {few}")
    tensors = {key: _shaped(each, expected.get(key)) for key, each in named[best].items()}
    for key, each in expected.items():
        if _BUFFERS.search(key):
            tensors.setdefault(key, each)
    if cause := _misfit(tensors, expected):
        raise Refused(f"{where} does not fit this model: {cause}")
    others = [name for name, count in counts.items() if name != best and count > len(expected) / 2]
    left = f"the weights in {best or 'the checkpoint itself'}, not those in {', '.join(others)}" if others else ""
    return {key: tensors[key] for key in expected}, left


def _sets_of_tensors(content: Mapping[str, object], name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensors]]:
    """Each mapping that holds tensors by name, with the path of entries that leads to it; "": the checkpoint itself."""
    tensors = {key: each for key, each in content.items() if isinstance(each, Tensor)}
    if tensors:
        yield name, tensors
    for key, each in content.items():
        if isinstance(each, Mapping) and depth < _DEEPEST:
            inside = {str(inner): value for inner, value in each.items()}
            yield from _sets_of_tensors(inside, f"{name}.{key}" if name else key, depth + 1)


def _side_by_side(name: str, tensors: Tensors, expected: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensors]]:
    """Sets of weights that lie in one mapping under prefixes, such as student. and teacher.; else the mapping."""
    plain = {_WRAPPING.sub("", key): each for key, each in tensors.items()}
    starts = {key.removesuffix(anchor) for key in plain for anchor in _ANCHORS if key.endswith(anchor)}
    starts = [start for start in starts if sum(start + key in plain for key in expected) > len(expected) / 2]
    if len(starts) < 2:
        yield name, tensors
        return
    for start in sorted(starts):
        longer = tuple(other for other in starts if other != start and other.startswith(start))
        inside = {key: each for key, each in plain.items() if key.startswith(start) and not key.startswith(longer)}
        yield f"{name}.{start}".strip("."), {key.removeprefix(start): each for key, each in inside.items()}


def _rank(name: str) -> int:
    """Where an entry stands among several with the same weights."""
    last = name.removesuffix(".module").rpartition(".")[2]
    if not name:
        return -1
    return _FIRST.index(last) if last in _FIRST else len(_FIRST)


def _named(tensors: Tensors, expected: Mapping[str, Tensor]) -> Tensors:
    """The tensors by the names of the model's, as far as they can be known."""
    tensors = _without_prefix(tensors, expected)
    if any(key.startswith("vision_model.") for key in tensors):
        tensors = _renamed(tensors, expected)
    elif "text.positional_embedding" in tensors and "positional_embedding" in expected:
        tensors = {key.removeprefix("text."): each for key, each in tensors.items()}
    elif "positional_embedding" in tensors and "text.positional_embedding" in expected:
        tensors = {key if key.startswith(("visual.", "logit_")) else f"text.{key}": t for key, t in tensors.items()}
    return {key: each for key, each in tensors.items() if key in expected or not _BUFFERS.search(key)}


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(each, Tensor) for each in value)


def refuse_other_numbers(tensors: Tensors, model: nn.Module, where: str) -> None:
    """Raise Refused if tensors hold no values, or whole numbers where the model's are fractions."""
    for key, each in model.state_dict().items():
        if tensors[key].is_meta:
            raise Refused(f"{where}: {key} holds no values, only a shape: save the tensors from a processor")
        if each.is_floating_point() and not tensors[key].is_floating_point():
            held = str(tensors[key].dtype).removeprefix("torch.")
            raise Refused(
                f"{where}: {key} holds {held} where fractions are needed: give weights that are not quantised"
            )


def refuse_broken(model: nn.Module, where: str) -> None:
    """Raise Refused if a parameter or buffer holds numbers that are not finite."""
    for name, each in model.state_dict().items():
        if each.is_floating_point() and not torch.isfinite(each).all():
            if name.endswith("attn_mask"):
                continue
            raise Refused(f"{where}: {name} holds numbers that are not finite; the checkpoint is broken")


def _without_prefix(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without what torch.compile and wrappers put before their names, or inside them."""
    plain = {_WRAPPING.sub("", key): each for key, each in tensors.items()}
    theirs = ("vision_model.", "text_model.", "visual_projection.")
    for key in plain:
        for anchor in (*_ANCHORS, *theirs):
            place = key.find(anchor)
            starts = place >= 0 and (key.endswith(anchor) if anchor in _ANCHORS else True)
            if starts and (place == 0 or key[place - 1] == "."):
                prefix = key[:place]
                inside = {k.removeprefix(prefix): each for k, each in plain.items() if k.startswith(prefix)}
                if (prefix and len(inside) * 2 > len(plain)) or len(set(inside) & set(expected)) > len(expected) / 2:
                    return inside
    return plain


def _shaped(tensor: Tensor, like: Tensor | None) -> Tensor:
    """A tensor in the expected shape, where only axes of length one differ."""
    if like is None or tensor.shape == like.shape or tensor.numel() != like.numel():
        return tensor
    same = [n for n in tensor.shape if n != 1] == [n for n in like.shape if n != 1]
    return tensor.reshape(like.shape) if same else tensor


def _misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Why tensors do not fit, in words; "" if they do."""
    other = [key for key in expected if key in tensors and tensors[key].shape != expected[key].shape]
    if other:
        shown = ", ".join(f"{key} {tuple(tensors[key].shape)} for {tuple(expected[key].shape)}" for key in other[:3])
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        return f"the architecture differs, {shown}{more}"
    missing = [key for key in expected if key not in tensors]
    if missing:
        return f"{len(missing)} of {len(expected)} tensors are missing, such as {missing[0]}; it has {_few(tensors)}"
    unknown = [key for key in tensors if key not in expected]
    return f"{len(unknown)} of its {len(tensors)} tensors are not the model's, such as {unknown[0]}" if unknown else ""


def _few(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(list(tensors)[:2]) + (" and others" if len(tensors) > 2 else "")


def _renamed(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's names and layouts of CLIP and SigLIP as those of open_clip."""
    timm = any(key.startswith("visual.trunk.") for key in expected)
    text = "text." if any(key.startswith("text.") for key in expected) else ""
    found: dict[str, Tensor] = {}
    for key, each in tensors.items():
        if key.startswith("vision_model."):
            found |= _vision(key.removeprefix("vision_model."), each, timm)
        elif key.startswith("text_model."):
            found |= _text(key.removeprefix("text_model."), each, text)
        else:
            own = {"visual_projection.weight": "visual.proj", "text_projection.weight": f"{text}text_projection"}
            found[own.get(key, key)] = each.T.contiguous() if key in own else each
    return _joined(found)


def _vision(key: str, each: Tensor, timm: bool) -> dict[str, Tensor]:
    if key.startswith("encoder.layers."):
        number, _, rest = key.removeprefix("encoder.layers.").partition(".")
        block = f"visual.trunk.blocks.{number}." if timm else f"visual.transformer.resblocks.{number}."
        return {block + _in_block(rest, timm): each}
    if key.startswith("head.attention.in_proj_"):  # SigLIP's pooling head: one query, and keys and values for it
        part, d = key.rpartition("_")[2], len(each) // 3
        return {f"visual.trunk.attn_pool.q.{part}": each[:d], f"visual.trunk.attn_pool.kv.{part}": each[d:]}
    for theirs, ours in (
        ("embeddings.class_embedding", "visual.class_embedding"),
        ("embeddings.patch_embedding.", "visual.trunk.patch_embed.proj." if timm else "visual.conv1."),
        ("embeddings.position_embedding.weight", "visual.trunk.pos_embed" if timm else "visual.positional_embedding"),
        ("pre_layrnorm.", "visual.ln_pre."),
        ("post_layernorm.", "visual.trunk.norm." if timm else "visual.ln_post."),
        ("head.probe", "visual.trunk.attn_pool.latent"),
        ("head.attention.out_proj.", "visual.trunk.attn_pool.proj."),
        ("head.layernorm.", "visual.trunk.attn_pool.norm."),
        ("head.mlp.", "visual.trunk.attn_pool.mlp."),
    ):
        if key.startswith(theirs):
            return {ours + key.removeprefix(theirs): each}
    return {f"vision_model.{key}": each}


def _text(key: str, each: Tensor, text: str) -> dict[str, Tensor]:
    if key.startswith("encoder.layers."):
        number, _, rest = key.removeprefix("encoder.layers.").partition(".")
        return {f"{text}transformer.resblocks.{number}.{_in_block(rest, False)}": each}
    for theirs, ours in (
        ("embeddings.token_embedding.", "token_embedding."),
        ("embeddings.position_embedding.weight", "positional_embedding"),
        ("final_layer_norm.", "ln_final."),
        ("head.", "text_projection."),
    ):
        if key.startswith(theirs):
            return {text + ours + key.removeprefix(theirs): each}
    return {f"text_model.{key}": each}


def _in_block(rest: str, timm: bool) -> str:
    for theirs, ours, of_timm in _BLOCK:
        if rest.startswith(f"{theirs}."):
            return (of_timm if timm else ours) + rest.removeprefix(theirs)
    return ("attn.qkv." if timm else "attn.in_proj_") + rest.removeprefix("self_attn.").replace("_proj", "")


def _joined(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values as one tensor: attn.in_proj_weight, or timm's attn.qkv.weight."""
    parts: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for key, each in found.items():
        split = re.fullmatch(r"(.*attn\.(?:in_proj_|qkv\.))([qkv])\.(weight|bias)", key)
        if split:
            parts.setdefault(f"{split[1]}{split[3]}", {})[split[2]] = each
        else:
            rest[key] = each
    for key, three in parts.items():
        if set(three) == set("qkv"):
            rest[key] = torch.cat([three[name] for name in "qkv"])
    return rest
