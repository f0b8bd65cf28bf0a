"""The SAEs that the authors of the checkpoint study released (llm-jp/llm-jp-sae)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..activations import TopK
from ..errors import DataError, ParameterError, message
from ..sae import SAE
from .hub import expand, read_json

MODEL_TYPE = "topk_sae"


def load_released(folder: str | Path) -> SAE:
    """An SAE in the layout of the authors' code, as ours, float32, in `eval()` mode.

    folder: `config.json` (`model_type` topk_sae, `d_in`, `num_latents`, `k`) and
    `model.safetensors` with `encoder.weight` [d_sae, d_in], `encoder.bias` [d_sae],
    `decoder.weight` [d_in, d_sae] and `b_dec` [d_in], any float type. Their encoder applies a
    ReLU, then keeps the k largest; ours selects and lets only positive ones through: the same.
    It expects inputs of norm 1.

    Paper: nothing is said about files; here: the layout that `save_pretrained` of the released
    code writes (revision ebc03ef). The published weights could not be fetched to compare.

    Raises DataError naming the file for anything else; pickled weights are refused unread.
    """
    folder = Path(folder)
    config = _config(folder / "config.json")
    d_in, d_sae, k = config["d_in"], config["num_latents"], config["k"]
    tensors = _tensors(folder / "model.safetensors", d_in, d_sae)
    sae = SAE(d_in, d_sae, TopK(k), select_by="raw")
    with torch.no_grad():
        sae.W_enc.copy_(tensors["encoder.weight"].T)
        sae.b_enc.copy_(tensors["encoder.bias"])
        sae.W_dec.copy_(tensors["decoder.weight"].T)
        sae.b_dec.copy_(tensors["b_dec"])
    return sae.eval()


def load_series(
    template: str, steps: Sequence[int], d_in: int, d_sae: int, k: int
) -> dict[int, SAE]:
    """The released SAE of each checkpoint; template and steps as for `hub.expand`.

    d_in, d_sae, k: what the reader has set up for. Raises ParameterError naming the parameter to
    change where an SAE has other sizes, and what `expand` and `load_released` raise.
    """
    folders = expand(template, steps)
    for step, folder in folders.items():  # before any weights are read
        found = _config(folder / "config.json")
        if found["d_in"] != d_in:
            seen, allowed = f"d_in={found['d_in']} at step {step}", f"d_in={d_in}, as the model has"
            raise ParameterError(message("released", seen, allowed, "Name SAEs of this model."))
        sizes = (("d_sae", d_sae, found["num_latents"]), ("k", k, found["k"]))
        for name, wanted, there in sizes:
            if wanted != there:
                allowed = f"{there}, as the released SAE of step {step} has"
                raise ParameterError(message(name, wanted, allowed, f"Set {name}={there}."))
    return {step: load_released(folder) for step, folder in folders.items()}


def _config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        fix = "Name the folder of a released SAE."
        raise DataError(f"{file}: missing. Allowed is a folder with it. {fix}")
    config = read_json(file)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != MODEL_TYPE:
        fix = "For an SAE of this suite use load_sae."
        raise DataError(message(f"{file}: model_type", kind, repr(MODEL_TYPE), fix))
    for name in ("d_in", "num_latents", "k"):
        if type(config.get(name)) is not int or config[name] < 1:
            seen, fix = config.get(name), "Bring the file again."
            raise DataError(message(f"{file}: {name}", seen, "a whole number >= 1", fix))
    return config


def _tensors(file: Path, d_in: int, d_sae: int) -> dict[str, Tensor]:
    if not file.is_file():
        raise DataError(
            f"{file}: missing. Allowed are weights in safetensors; pickled ones (.bin, .pt, .pth) "
            "are refused unread. Convert them where you trust them: safetensors.torch.save_file."
        )
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise DataError(f"{file}: not a safetensors file ({error}). Bring it again.") from None
    shapes = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,)}
    shapes |= {"decoder.weight": (d_in, d_sae), "b_dec": (d_in,)}
    if tensors.keys() != shapes.keys():
        allowed = ", ".join(shapes)
        raise DataError(message(f"{file}: tensors", sorted(tensors), allowed, "Rename them."))
    for name, shape in shapes.items():
        found = tensors[name]
        if found.shape != shape or not found.is_floating_point() or not found.isfinite().all():
            seen = (tuple(found.shape), str(found.dtype))
            allowed = f"finite floats {shape}, as config.json says"
            raise DataError(message(f"{file}: {name}", seen, allowed, "Bring the files again."))
    return tensors
