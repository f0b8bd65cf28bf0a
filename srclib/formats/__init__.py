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

Layouts: SAELens 6.54, sparsify 1.3, google/gemma-scope, dictionary_learning 0.1 (their sources).
"""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import DataError, message
from ..sae import SAE
from ..store.checkpoint import load_sae
from . import others, saelens
from .saelens import write_saelens

__all__ = ["read_sae", "write_saelens"]


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
    for name, read in (("params.npz", others.gemma_scope), ("cfg.json", _from_cfg)):
        if (path.is_dir() and (path / name).is_file()) or path.name == name:
            return read(folder).eval()
    if (folder / "config.json").is_file():
        from ..lm.released import load_released

        return load_released(folder)
    pickle = path if path.suffix == ".pt" else path / "ae.pt"
    if pickle.is_file():
        return others.dictionary_learning(pickle, pickled).eval()
    allowed = "sae.json, cfg.json, config.json, params.npz or ae.pt"
    raise DataError(f"{path}: no SAE of a known layout. Expected is one of {allowed} there.")


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
        return others.sparsify(folder, cfg)
    return saelens.read(folder, cfg)
