"""Named tensors of any layout, checked, and the SAE that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..activations import BatchTopK, JumpReLU, TopK
from ..errors import DataError, message
from ..sae import SAE

Tensors = dict[str, Tensor]
Select = Literal["rescaled", "raw"]


def load(file: Path) -> Tensors:
    if not file.is_file():
        raise DataError(f"{file}: missing. Expected beside the configuration; pickles are refused.")
    try:
        return dict(load_file(file))
    except SafetensorError as error:
        raise DataError(f"{file}: not a safetensors file ({error}). Bring it again.") from None


def check(file: Path, w: Tensors, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse weights that lack a tensor, have another shape, or a value that is not finite."""
    for name, shape in shapes.items():
        if name not in w:
            raise DataError(message(f"{file}: tensors", sorted(w), f"one named {name}", "Convert."))
        found = w[name]
        seen = (tuple(found.shape), str(found.dtype))
        if tuple(found.shape) != shape or not found.is_floating_point():
            turned = " It is transposed." if tuple(found.shape) == shape[::-1] else ""
            raise DataError(
                message(f"{file}: {name}", seen, f"floats {shape}", f"Convert.{turned}")
            )
        if not found.isfinite().all():
            raise DataError(f"{file}: {name} holds values that are not finite. Bring it again.")
        w[name] = found.float()


def size(where: Path, cfg: dict[str, Any], name: str) -> int:
    value = cfg.get(name)
    if type(value) is not int or value < 1:
        raise DataError(message(f"{where}: {name}", value, "a whole number >= 1", "Correct it."))
    return value


def made(w: Tensors, activation: Any, select: Select, subtract_b_dec: bool) -> SAE:
    d_in, d_sae = w["W_enc"].shape
    sae = SAE(d_in, d_sae, activation, subtract_b_dec=subtract_b_dec, select_by=select)
    with torch.no_grad():
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            getattr(sae, name).copy_(w[name])
        if sae.theta is not None:
            sae.theta.copy_(w["threshold"].clamp(min=0))  # their ReLU lets no negative one through
    return sae


def top(where: Path, w: Tensors, k: Any, select: Select, centred: bool, kind: str) -> SAE:
    if not isinstance(k, int | float) or isinstance(k, bool) or not 0 < k <= len(w["b_enc"]):
        raise DataError(message(f"{where}: k", k, f"0 < k <= {len(w['b_enc'])}", "Correct it."))
    if kind == "topk":
        return made(w, TopK(int(k)), select, centred)
    sae = made({**w, "threshold": None}, BatchTopK(float(k)), select, centred)  # type: ignore[dict-item]
    if "threshold" not in w:  # without one every positive score would be active
        seen, fix = sorted(w), "Save it for inference first."
        raise DataError(message(f"{where}: tensors", seen, "a threshold for BatchTopK", fix))
    sae.threshold.fill_(float(w["threshold"].double().mean()))
    return sae


def jumprelu(file: Path, w: Tensors) -> SAE:
    """W_enc [d_in, d_sae], W_dec, b_enc, b_dec and threshold, b_dec not subtracted first."""
    d_in, d_sae = w["W_enc"].shape
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in)}
    check(file, w, shapes | {"b_enc": (d_sae,), "b_dec": (d_in,), "threshold": (d_sae,)})
    return made(w, JumpReLU(), "raw", subtract_b_dec=False)
