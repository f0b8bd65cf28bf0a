"""SAEs of other libraries, as ours; nothing in a file is ever executed.

    sae = srclib.read_sae("gemma-scope/.../params.npz")     # or a folder of SAELens, sparsify, ...
    srclib.formats.write_saelens(sae, "folder")

| layout | recognised by | becomes |
|---|---|---|
| this suite | `sae.json` | itself |
| SAELens | `cfg.json` with `architecture` | ReLU, TopK, BatchTopK or JumpReLU (also gated) |
| sparsify | `cfg.json` with `num_latents` | TopK |
| LLM-jp | `config.json` | TopK |
| Gemma Scope | `params.npz` | JumpReLU |
| dictionary_learning | `ae.pt`, a pickle: only with `pickled=True`, in a process of its own | any |

A gated SAE is a JumpReLU one: its gate x W + b_gate > 0 holds where the magnitude
m = x W exp(r) + b_mag exceeds theta = b_mag - exp(r) b_gate, and the ReLU where m > 0.
Layouts: SAELens 6.54, sparsify 1.3, google/gemma-scope, dictionary_learning 0.1 (their sources).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .activations import BatchTopK, JumpReLU, ReLU, TopK
from .checkpoint import load_sae
from .errors import DataError, ParameterError, message
from .sae import SAE

Tensors = dict[str, Tensor]
MAX_EXPANSION = 20  # float weights hardly compress: more is no archive of weights

_UNPICKLE = """
import sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
save_file({k: torch.as_tensor(v).contiguous() for k, v in state.items()}, sys.argv[2])
"""


def read_sae(path: str | Path, *, pickled: bool = False) -> SAE:
    """The SAE in a file or folder of any layout above, float32, in `eval()` mode.

    Inputs are those of the model's site: a constant input scale is folded into the weights.
    pickled: allow `ae.pt`, which is a pickle; it is opened with `weights_only` in a process of
    its own. Raises DataError naming file, field, what was seen and what is expected, for
    anything else: shapes that disagree, values that are not finite, an unknown architecture.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and (path / "sae.json").is_file():
        return load_sae(path)
    for name, read in (("params.npz", _gemma_scope), ("cfg.json", _from_cfg)):
        if (path.is_dir() and (path / name).is_file()) or path.name == name:
            return read(folder).eval()
    if (folder / "config.json").is_file():
        from .lm.released import load_released

        return load_released(folder)
    pickle = path if path.suffix == ".pt" else path / "ae.pt"
    if pickle.is_file():
        return _dictionary_learning(pickle, pickled).eval()
    allowed = "sae.json, cfg.json, config.json, params.npz or ae.pt"
    raise DataError(f"{path}: no SAE of a known layout. Expected is one of {allowed} there.")


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


def _from_cfg(folder: Path) -> SAE:
    """SAELens or sparsify, which both write a `cfg.json`."""
    file = folder / "cfg.json"
    try:
        cfg = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file}: not JSON ({error}). Bring the file again.") from None
    if not isinstance(cfg, dict):
        raise DataError(message(str(file), type(cfg).__name__, "a table", "Bring it again."))
    if "architecture" not in cfg and "num_latents" in cfg:
        return _sparsify(folder, cfg)
    return _saelens(folder, cfg)


def _saelens(folder: Path, cfg: dict[str, Any]) -> SAE:
    where = folder / "cfg.json"
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
    kind = "topk" if kind == "standard" and selects == "topk" else kind
    d_in, d_sae = _size(where, cfg, "d_in"), _size(where, cfg, "d_sae")
    w = _load(folder / "sae_weights.safetensors")
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    own = {"gated": ("b_gate", "r_mag", "b_mag"), "jumprelu": ("b_enc", "threshold")}
    shapes |= dict.fromkeys(own.get(kind, ("b_enc",)), (d_sae,))
    if "log_threshold" in w:
        w["threshold"] = w.pop("log_threshold").exp()
    if "topk_threshold" in w:
        w["threshold"] = w.pop("topk_threshold")
    _check(folder / "sae_weights.safetensors", w, shapes)
    centred = bool(cfg.get("apply_b_dec_to_input", True))
    if kind == "gated":
        w["W_enc"], scale = w["W_enc"] * w["r_mag"].exp(), w["r_mag"].exp()
        w["b_enc"], w["threshold"] = w["b_mag"], w["b_mag"] - scale * w["b_gate"]
    if kind in ("jumprelu", "gated"):
        sae = _made(w, JumpReLU(), "raw", centred)
    elif kind == "standard":
        sae = _made(w, ReLU(), "raw", centred)
    else:
        k = cfg.get("k", cfg.get("activation_fn_kwargs", {}).get("k"))
        rescaled = cfg.get("rescale_acts_by_decoder_norm", False)
        sae = _top(where, w, k, "rescaled" if rescaled else "raw", centred, kind)
    return _unscaled(folder, cfg, sae)


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


def _sparsify(folder: Path, cfg: dict[str, Any]) -> SAE:
    where, weights = folder / "cfg.json", folder / "sae.safetensors"
    kind = cfg.get("activation", "topk")
    if kind != "topk" or cfg.get("skip_connection") or cfg.get("transcode"):
        seen = kind if kind != "topk" else "a transcoder"
        raise DataError(message(f"{where}: activation", seen, "topk, no transcoder", "Convert it."))
    d_in, w = _size(where, cfg, "d_in"), _load(weights)
    d_sae = cfg["num_latents"] or d_in * _size(where, cfg, "expansion_factor")
    shapes: dict[str, tuple[int, ...]] = {"encoder.weight": (d_sae, d_in), "W_dec": (d_sae, d_in)}
    _check(weights, w, shapes | {"encoder.bias": (d_sae,), "b_dec": (d_in,)})
    w |= {"W_enc": w["encoder.weight"].T, "b_enc": w["encoder.bias"]}
    return _top(where, w, cfg.get("k"), "raw", True, "topk")


def _gemma_scope(folder: Path) -> SAE:
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
    d_in, d_sae = w["W_enc"].shape
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in)}
    _check(file, w, shapes | {"b_enc": (d_sae,), "b_dec": (d_in,), "threshold": (d_sae,)})
    return _made(w, JumpReLU(), "raw", subtract_b_dec=False)


def _dictionary_learning(file: Path, pickled: bool) -> SAE:
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
        w = _load(target)
    if "W_enc" in w:  # JumpReLU of that library
        d_in, d_sae = w["W_enc"].shape
        shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in)}
        _check(file, w, shapes | {"b_enc": (d_sae,), "b_dec": (d_in,), "threshold": (d_sae,)})
        return _made(w, JumpReLU(), "raw", subtract_b_dec=False)
    if "encoder.weight" not in w or w["encoder.weight"].ndim != 2:
        raise DataError(message(f"{file}: weights", sorted(w), "encoder.weight", "Convert it."))
    d_sae, d_in = w["encoder.weight"].shape
    bias = "bias" if "bias" in w else "b_dec"
    shapes = {"encoder.weight": (d_sae, d_in), "decoder.weight": (d_in, d_sae)}
    _check(file, w, shapes | {"encoder.bias": (d_sae,), bias: (d_in,)})
    w |= {"W_enc": w["encoder.weight"].T, "W_dec": w["decoder.weight"].T}
    w |= {"b_enc": w["encoder.bias"], "b_dec": w[bias]}
    if "k" not in w:
        return _made(w, ReLU(), "raw", subtract_b_dec=True)
    kind = "batchtopk" if "threshold" in w and float(w["threshold"]) >= 0 else "topk"
    return _top(file, w, float(w["k"]), "raw", True, kind)


Select = Literal["rescaled", "raw"]


def _top(where: Path, w: Tensors, k: Any, select: Select, centred: bool, kind: str) -> SAE:
    if not isinstance(k, int | float) or isinstance(k, bool) or not 0 < k <= len(w["b_enc"]):
        raise DataError(message(f"{where}: k", k, f"0 < k <= {len(w['b_enc'])}", "Correct it."))
    if kind == "topk":
        return _made(w, TopK(int(k)), select, centred)
    sae = _made({**w, "threshold": None}, BatchTopK(float(k)), select, centred)  # type: ignore[dict-item]
    if "threshold" not in w:  # without one every positive score would be active
        seen, fix = sorted(w), "Save it for inference first."
        raise DataError(message(f"{where}: tensors", seen, "a threshold for BatchTopK", fix))
    sae.threshold.fill_(float(w["threshold"].double().mean()))
    return sae


def _made(w: Tensors, activation: Any, select: Select, subtract_b_dec: bool) -> SAE:
    d_in, d_sae = w["W_enc"].shape
    sae = SAE(d_in, d_sae, activation, subtract_b_dec=subtract_b_dec, select_by=select)
    with torch.no_grad():
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            getattr(sae, name).copy_(w[name])
        if sae.theta is not None:
            sae.theta.copy_(w["threshold"].clamp(min=0))  # their ReLU lets no negative one through
    return sae


def _size(where: Path, cfg: dict[str, Any], name: str) -> int:
    value = cfg.get(name)
    if type(value) is not int or value < 1:
        raise DataError(message(f"{where}: {name}", value, "a whole number >= 1", "Correct it."))
    return value


def _load(file: Path) -> Tensors:
    if not file.is_file():
        raise DataError(f"{file}: missing. Expected beside the configuration; pickles are refused.")
    try:
        return dict(load_file(file))
    except SafetensorError as error:
        raise DataError(f"{file}: not a safetensors file ({error}). Bring it again.") from None


def _check(file: Path, w: Tensors, shapes: dict[str, tuple[int, ...]]) -> None:
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
