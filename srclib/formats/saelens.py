"""SAELens: `cfg.json` with an architecture, and `sae_weights.safetensors`.

A gated SAE is a JumpReLU one: its gate x W + b_gate > 0 holds where the magnitude
m = x W exp(r) + b_mag exceeds theta = b_mag - exp(r) b_gate, and the ReLU where m > 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..activations import BatchTopK, JumpReLU, ReLU, TopK
from ..errors import DataError, ParameterError, message
from ..sae import SAE
from .weights import check, load, made, size, top


def read(folder: Path, cfg: dict[str, Any]) -> SAE:
    """An SAE of SAELens, for the inputs of its site."""
    where, kind = folder / "cfg.json", _kind(folder / "cfg.json", cfg)
    d_in, d_sae = size(where, cfg, "d_in"), size(where, cfg, "d_sae")
    w = load(folder / "sae_weights.safetensors")
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    own = {"gated": ("b_gate", "r_mag", "b_mag"), "jumprelu": ("b_enc", "threshold")}
    shapes |= dict.fromkeys(own.get(kind, ("b_enc",)), (d_sae,))
    if "log_threshold" in w:
        w["threshold"] = w.pop("log_threshold").exp()
    if "topk_threshold" in w:
        w["threshold"] = w.pop("topk_threshold")
    check(folder / "sae_weights.safetensors", w, shapes)
    centred = bool(cfg.get("apply_b_dec_to_input", True))
    if kind == "gated":
        w["W_enc"], scale = w["W_enc"] * w["r_mag"].exp(), w["r_mag"].exp()
        w["b_enc"], w["threshold"] = w["b_mag"], w["b_mag"] - scale * w["b_gate"]
    if kind in ("jumprelu", "gated"):
        sae = made(w, JumpReLU(), "raw", centred)
    elif kind == "standard":
        sae = made(w, ReLU(), "raw", centred)
    else:
        k = cfg.get("k", cfg.get("activation_fn_kwargs", {}).get("k"))
        rescaled = cfg.get("rescale_acts_by_decoder_norm", False)
        sae = top(where, w, k, "rescaled" if rescaled else "raw", centred, kind)
    return _unscaled(folder, cfg, sae)


def _kind(where: Path, cfg: dict[str, Any]) -> str:
    """Its architecture. Raises DataError for one that this suite has no SAE for."""
    kind = cfg.get("architecture", "standard")
    kinds = ("standard", "topk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated")
    if kind not in kinds:
        raise DataError(message(f"{where}: architecture", kind, ", ".join(kinds), "Convert it."))
    if cfg.get("reshape_activations", "none") not in ("none", "hook_z"):
        seen = cfg["reshape_activations"]
        raise DataError(message(f"{where}: reshape_activations", seen, "none, hook_z", "Convert."))
    selects = cfg.get("activation_fn") or cfg.get("activation_fn_str") or "relu"  # before 6.0
    if selects not in ("relu", "topk") or cfg.get("finetuning_scaling_factor"):
        seen = "a scaling factor" if selects in ("relu", "topk") else selects
        raise DataError(message(f"{where}: activation_fn", seen, "relu, topk", "Convert it."))
    return "topk" if kind == "standard" and selects == "topk" else str(kind)


def _unscaled(folder: Path, cfg: dict[str, Any], sae: SAE) -> SAE:
    """The SAE for raw inputs, where it was trained on inputs times a constant."""
    how, where = cfg.get("normalize_activations", "none"), folder / "cfg.json"
    if how == "none":
        return sae
    scaler = folder / "activation_scaler.json"
    if how == "expected_average_only_in" and scaler.is_file():
        factor = json.loads(scaler.read_text(encoding="utf-8")).get("scaling_factor")
        if not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise DataError(message(f"{scaler}: scaling_factor", factor, "> 0", "Bring it again."))
        return sae.fold_input_scale(float(factor))
    allowed = "none, or expected_average_only_in beside an activation_scaler.json"
    fix = "It scales each input by itself or by an unknown factor: give the SAE scaled inputs."
    raise DataError(message(f"{where}: normalize_activations", how, allowed, fix))


def write_saelens(sae: SAE, folder: str | Path, metadata: dict[str, Any] | None = None) -> Path:
    """Write `cfg.json` and `sae_weights.safetensors` as SAELens reads them; a new folder.

    BatchTopK is written as JumpReLU, as SAELens does: its one threshold, over the decoder norms.
    """
    folder = Path(folder)
    if folder.exists():
        raise ParameterError(f"folder={folder}: exists. Allowed is a new one. Name another.")
    weights = {name: getattr(sae, name).detach() for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    cfg: dict[str, Any] = {
        "d_in": sae.d_in, "d_sae": sae.d_sae, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": sae.subtract_b_dec, "normalize_activations": "none",
        "reshape_activations": "none", "metadata": metadata or {}, "architecture": "standard",
    }  # fmt: skip
    rescaled = sae.select_by == "rescaled"
    if isinstance(sae.activation, TopK):
        cfg |= {"architecture": "topk", "k": int(sae.activation.k)}
        cfg |= {"rescale_acts_by_decoder_norm": rescaled}
    elif isinstance(sae.activation, JumpReLU):
        cfg["architecture"], weights["threshold"] = "jumprelu", sae.jump_threshold().detach()
    elif isinstance(sae.activation, BatchTopK):
        norms = sae.W_dec.detach().norm(dim=1) if rescaled else torch.ones(sae.d_sae)
        cfg["architecture"] = "jumprelu"
        weights["threshold"] = (sae.threshold.float() / norms).clamp(min=0)
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(cfg, indent=2), encoding="utf-8")
    return folder
