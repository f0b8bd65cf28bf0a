"""Sparse autoencoders, one trainer, one definition per metric, and verdicts.

Names load when they are first used, so `import srclib` is quick and `python -m srclib list`
never imports torch.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

_HOME = {
    "SAE": "sae",
    "SAEOutput": "sae",
    "ReLU": "activations",
    "TopK": "activations",
    "BatchTopK": "activations",
    "JumpReLU": "activations",
    "train": "training.trainer",
    "TrainConfig": "training.config",
    "TrainResult": "training.trainer",
    "Run": "runs.run",
    "Sweep": "runs.sweeps",
    "sweep": "runs.sweeps",
    "tidy": "runs.tables",
    "held_out": "runs.run",
    "save_sae": "store.checkpoint",
    "load_sae": "store.checkpoint",
    "read_sae": "formats",
    "harvest": "lm.harvest",
    "parameters": "suite.params",
    "ledger": "suite.ledger",
    "data_path": "store.files",
    "SuiteError": "errors",
}
_MODULES = (
    "activations",
    "formats",
    "metrics",
    "objectives",
    "rng",
    "sources",
)

# transformers loads tqdm's widget, whose absence is no concern of a reader.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__: str
__all__ = [*_HOME, *_MODULES]  # noqa: PLE0604 (strings, which ruff cannot see)

if TYPE_CHECKING:
    from . import activations as activations
    from . import formats as formats
    from . import metrics as metrics
    from . import objectives as objectives
    from . import rng as rng
    from . import sources as sources
    from .activations import BatchTopK as BatchTopK
    from .activations import JumpReLU as JumpReLU
    from .activations import ReLU as ReLU
    from .activations import TopK as TopK
    from .errors import SuiteError as SuiteError
    from .formats import read_sae as read_sae
    from .lm.harvest import harvest as harvest
    from .runs.run import Run as Run
    from .runs.run import held_out as held_out
    from .runs.sweeps import Sweep as Sweep
    from .runs.sweeps import sweep as sweep
    from .runs.tables import tidy as tidy
    from .sae import SAE as SAE
    from .sae import SAEOutput as SAEOutput
    from .store.checkpoint import load_sae as load_sae
    from .store.checkpoint import save_sae as save_sae
    from .store.files import data_path as data_path
    from .suite.ledger import ledger as ledger
    from .suite.params import parameters as parameters
    from .training.config import TrainConfig as TrainConfig
    from .training.trainer import TrainResult as TrainResult
    from .training.trainer import train as train


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module 'srclib' has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    """That of the installed package; in a checkout that is only on the path, of its pyproject."""
    import tomllib
    from importlib import metadata

    try:
        return metadata.version("sae-paper-suite")
    except metadata.PackageNotFoundError:
        from .store import files

        text = (files.root() / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["project"]["version"])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
