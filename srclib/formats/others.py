"""sparsify, Gemma Scope and dictionary_learning."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..activations import ReLU
from ..errors import DataError, message
from ..sae import SAE
from .weights import check, jumprelu, load, made, size, top

MAX_EXPANSION = 20  # float weights hardly compress: more is no archive of weights

_UNPICKLE = """
import sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
save_file({k: torch.as_tensor(v).contiguous() for k, v in state.items()}, sys.argv[2])
"""


def sparsify(folder: Path, cfg: dict[str, Any]) -> SAE:
    where, weights = folder / "cfg.json", folder / "sae.safetensors"
    kind = cfg.get("activation", "topk")
    if kind != "topk" or cfg.get("skip_connection") or cfg.get("transcode"):
        seen = kind if kind != "topk" else "a transcoder"
        raise DataError(message(f"{where}: activation", seen, "topk, no transcoder", "Convert it."))
    d_in, w = size(where, cfg, "d_in"), load(weights)
    d_sae = cfg["num_latents"] or d_in * size(where, cfg, "expansion_factor")
    shapes: dict[str, tuple[int, ...]] = {"encoder.weight": (d_sae, d_in), "W_dec": (d_sae, d_in)}
    check(weights, w, shapes | {"encoder.bias": (d_sae,), "b_dec": (d_in,)})
    w |= {"W_enc": w["encoder.weight"].T, "b_enc": w["encoder.bias"]}
    return top(where, w, cfg.get("k"), "raw", True, "topk")


def gemma_scope(folder: Path) -> SAE:
    file = folder / "params.npz"
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = archive.infolist()
        if sum(e.file_size for e in sizes) > MAX_EXPANSION * max(1, file.stat().st_size):
            raise DataError(
                f"{file}: unpacks to more than {MAX_EXPANSION} times its size. Refused."
            )
        with np.load(file, allow_pickle=False) as data:
            w = {name: torch.from_numpy(data[name]).float() for name in data.files}
    except (ValueError, OSError, zipfile.BadZipFile, TypeError) as error:
        raise DataError(f"{file}: not an archive of arrays ({error}). Bring it again.") from None
    if "W_enc" not in w or w["W_enc"].ndim != 2:
        raise DataError(message(f"{file}: arrays", sorted(w), "W_enc [d_in, d_sae]", "Convert it."))
    return jumprelu(file, w)


def dictionary_learning(file: Path, pickled: bool) -> SAE:
    if not pickled:
        raise DataError(
            f"{file}: a pickle, which could run code when opened: refused unread. Pass "
            "pickled=True (--pickled) if you trust it, or convert it to safetensors."
        )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "weights.safetensors"
        command = [sys.executable, "-c", _UNPICKLE, str(file), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise DataError(f"{file}: holds other things than weights ({last}). Refused.")
        w = load(target)
    if "W_enc" in w:  # JumpReLU of that library
        return jumprelu(file, w)
    if "encoder.weight" not in w or w["encoder.weight"].ndim != 2:
        raise DataError(message(f"{file}: weights", sorted(w), "encoder.weight", "Convert it."))
    d_sae, d_in = w["encoder.weight"].shape
    bias = "bias" if "bias" in w else "b_dec"
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.weight": (d_sae, d_in),
        "decoder.weight": (d_in, d_sae),
    }
    check(file, w, shapes | {"encoder.bias": (d_sae,), bias: (d_in,)})
    w |= {"W_enc": w["encoder.weight"].T, "W_dec": w["decoder.weight"].T}
    w |= {"b_enc": w["encoder.bias"], "b_dec": w[bias]}
    if "k" not in w:
        return made(w, ReLU(), "raw", subtract_b_dec=True)
    kind = "batchtopk" if "threshold" in w and float(w["threshold"]) >= 0 else "topk"
    return top(file, w, float(w["k"]), "raw", True, kind)
