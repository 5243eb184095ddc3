"""What the configuration of a published autoencoder says of its encoder; an entry that is not understood is refused."""

import re
from pathlib import Path

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.latents import Standard

KINDS_OF_SAE = ("standard", "topk", "batchtopk", "jumprelu", "gated")
_ARCHITECTURES = {
    **{name: name for name in KINDS_OF_SAE},
    "matryoshka_batchtopk": "batchtopk",
    "relu": "standard",
    "vanilla": "standard",
    "autoencoder": "standard",
    "autoencodernew": "standard",
    "autoencodertopk": "topk",
    "batchtopksae": "batchtopk",
    "matryoshkabatchtopksae": "batchtopk",
    "gatedautoencoder": "gated",
    "jumpreluautoencoder": "jumprelu",
}
# Entries that do not change what the encoder computes.
_DESCRIBING = frozenset((
    "d_in", "d_sae", "d_vit", "d_model", "activation_dim", "dict_size", "num_latents", "expansion_factor", "exp_factor",
    "dtype", "device", "metadata", "model_name", "hook_name", "hook_point", "hook_layer", "hook_point_layer",
    "hook_head_index", "context_size", "dataset_path", "dataset_trust_remote_code", "prepend_bos", "neuronpedia_id",
    "model_from_pretrained_kwargs", "sae_lens_training_version", "sae_lens_version", "seqpos_slice", "seed",
    "normalize_decoder", "normalize_w_dec", "remove_parallel_grads", "n_reinit_samples", "ghost_grads",
    "sparsity_coeff", "step", "epoch", "iteration", "loss", "n_training_tokens", "training_tokens", "model_class",
    "layer", "lm_name", "submodule_name", "wandb_name", "steps", "lr", "warmup_steps", "l1_penalty", "trainer_class",
    "auxk_alpha", "threshold_beta", "threshold_start_step", "top_k_aux", "decay_start", "group_sizes",
    "group_weights", "group_fractions", "n_forward_passes_since_fired", "buffer", "trainer", "dict_class", "name",
    "multi_topk", "init_b_dec", "topk_threshold_lr", "use_error_term", "schema", "commit", "lib", "optimizer",
    "optimizer_state_dict", "scheduler", "scheduler_state_dict", "type", "version",
    "class_token", "module_name", "block_layer", "custom_clip_ckpt_path", "label_key", "use_cached_activations",
    "use_ghost_grads", "from_pretrained_path", "feature_sampling_window", "feature_sampling_method",
    "feature_reinit_scale", "create_dataloader", "mse_cls_coefficient", "run_name", "lp_norm", "tokens_per_buffer",
    "vit_batch_size", "ghost_grad_exp_clamp_max", "norm_eps", "debug_numerics",
))  # fmt: skip
_UNSUPPORTED = frozenset(("reshape_activations", "finetuning_scaling_factor", "skip_connection", "transcode",
                          "normalize", "is_transcoder", "gated_sae"))  # fmt: skip  # unless they are off
_OF_A_RUN = re.compile(
    "(l1|lr|n_|num_|min_|max_|train|wandb|log_|checkpoint|dataset|batch|store|dead|adam|b_dec_init|init|image|"
    "cached|eval|resume|verbose|sparsity_|resample|decoder_|bandwidth|target_l0|hook_|model_|total_)"
)


def stated_encoder(configuration: Record, path: Path) -> Record:
    """What a configuration says of the encoder: kind, k, centred, standard, rescaled. Refuses what it cannot place."""
    told: Record = {}
    for name, value in configuration.items():
        match name:
            case "architecture" | "dict_class" | "activation" | "activation_fn" | "activation_fn_str":
                told |= _stated_kind(name, value, path)
            case "k" | "top_k":
                told["k"] = value
            case "activation_fn_kwargs" | "activation_state_dict" | "activation_params":
                told |= {"k": value["k"]} if isinstance(value, dict) and "k" in value else {}
            case "apply_b_dec_to_input":
                told["centred"] = bool(value)
            case "normalize_activations":
                told["standard"] = _standard(value, path)
            case "rescale_acts_by_decoder_norm":
                told["rescaled"] = bool(value)
            case _ if name in _UNSUPPORTED:
                if value not in (None, False, "none"):
                    raise Refused(f"{path}: {name} = {value!r} of its configuration is not supported")
            case _ if name not in _DESCRIBING and not _OF_A_RUN.match(name):
                raise Refused(f"{path}: the entry {name} = {str(value)[:40]} of its configuration is not understood")
    return told


def _stated_kind(name: str, value: object, path: Path) -> Record:
    if isinstance(value, dict):  # saev: {"cls": "TopK", "params": {"top_k": 32}}
        inside = value.get("params") or value.get("key") or {}
        k = inside.get("top_k", inside.get("k")) if isinstance(inside, dict) else None
        return _stated_kind(name, value.get("cls", value.get("name")), path) | ({} if k is None else {"k": k})
    kind = _ARCHITECTURES.get(str(value).lower().rpartition(".")[2])
    if kind is None:
        raise Refused(f"{path}: {name} = {value!r} is not supported; these are: {', '.join(KINDS_OF_SAE)}")
    if name.startswith("activation") and kind == "standard":  # a ReLU ends other architectures too
        return {}
    return (
        {"kind": kind, "centred": False} if str(value) in ("AutoEncoderNew", "JumpReluAutoEncoder") else {"kind": kind}
    )


def _standard(value: object, path: Path) -> Standard:
    match value:
        case None | False | "none" | "expected_average_only_in" | "covariance_whitening":  # folded into the weights
            return "none"
        case "layer_norm":
            return "layer_norm"
        case "constant_norm_rescale":
            return "constant_norm_rescale"
    raise Refused(f"{path}: normalize_activations = {value!r} is not supported")
