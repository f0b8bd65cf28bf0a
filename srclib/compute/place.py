"""Where numbers are computed: on one device, in two rooms.

Language models and the training loop run on the device. What they give back (activations that are
measured, losses, trained SAEs) is on the CPU, so a measure or a notebook needs to know no device.

    SRCLIB_DEVICE   auto (an accelerator where there is one), cpu, cuda, cuda:1, mps
    SRCLIB_DTYPE    of named language models: auto (as stored; on an accelerator bfloat16),
                    float32, bfloat16

Every study has the parameters `device` and `dtype`, which set these variables, so that processes
and workers that it starts compute in the same place. SAEs are float32 everywhere, moments too;
matrix products of them stay float32 ("highest") unless SRCLIB_MATMUL says "high" (TF32).
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from ..errors import ParameterError, message

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LOOK_EVERY = 64  # steps between two looks at an accelerator: reading a number from it makes it wait


class Place(NamedTuple):
    """A device and the dtype of named language models on it, None: as they are stored."""

    device: torch.device
    dtype: torch.dtype | None

    @property
    def workers(self) -> int:
        """Workers of one machine: one per accelerator, or per core."""
        cuda = self.device.type == "cuda"
        return torch.cuda.device_count() if cuda else os.cpu_count() or 1

    @property
    def training(self) -> torch.device:
        """Where SAEs train: on the CPU beside mps, which lacks the float64 of their thresholds."""
        return torch.device("cpu") if self.device.type == "mps" else self.device

    @property
    def identity(self) -> dict[str, str]:
        """What of it can move a number: part of every key, and of the provenance."""
        dtype = "as stored" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        found = {"device": self.device.type, "dtype": dtype}
        return found if self.device.type == "cpu" else found | {"matmul": _matmul()}


def place() -> Place:
    """The place that this process computes at.

    Raises ParameterError for a device that is not there or a dtype of another name.
    """
    wanted = os.environ.get("SRCLIB_DEVICE") or "auto"
    here = available()
    name = here[-1] if wanted == "auto" else wanted
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in (*here, "meta") or (index and not (index.isdigit() and int(index) < count)):
        allowed = f"auto, {', '.join(here)} on this machine ({count} of the kind)"
        raise ParameterError(message("device", wanted, allowed, "Use auto, or another machine."))
    if name == "cuda":  # a worker of several takes one of them
        name = f"cuda:{int(os.environ.get('SRCLIB_WORKER', 0)) % count}"
    dtype = os.environ.get("SRCLIB_DTYPE") or "auto"
    if dtype not in ("auto", *DTYPES):
        fix = "Use auto."
        raise ParameterError(message("dtype", dtype, f"auto, {', '.join(DTYPES)}", fix))
    chosen = {"auto": "" if kind == "cpu" else "bfloat16"}.get(dtype, dtype)
    if kind == "cuda":
        torch.set_float32_matmul_precision(_matmul())
    return Place(torch.device(name), DTYPES.get(chosen))


def available() -> list[str]:
    """Kinds of device on this machine, the fastest last."""
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.append("mps")
    if torch.cuda.is_available():
        found.append("cuda")
    return found


def use(device: str, dtype: str) -> Place:
    """Compute there from now on, in this process and in those that it starts."""
    before = os.environ.get("SRCLIB_DEVICE"), os.environ.get("SRCLIB_DTYPE")
    os.environ["SRCLIB_DEVICE"], os.environ["SRCLIB_DTYPE"] = device, dtype
    try:
        return place()
    except ParameterError:
        for name, value in zip(("SRCLIB_DEVICE", "SRCLIB_DTYPE"), before, strict=True):
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        raise


def on_cpu(tensor: torch.Tensor) -> bool:
    """Whether reading a number of this tensor costs nothing."""
    return tensor.device.type == "cpu"


def _matmul() -> str:
    wanted = os.environ.get("SRCLIB_MATMUL") or "highest"
    if wanted not in ("highest", "high"):
        allowed = "highest (float32) or high (TF32)"
        raise ParameterError(message("SRCLIB_MATMUL", wanted, allowed, "Leave it out."))
    return wanted
