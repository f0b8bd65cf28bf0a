"""Everything a training run is, between two steps; saved and restored bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..compute.fast import Adam
from ..errors import CheckpointError
from ..objectives import Objective
from ..sae import SAE
from ..sources import Source
from ..steps.gradients import Pass
from ..steps.sparse import Room
from ..store import checkpoint, files
from .config import TrainConfig

if TYPE_CHECKING:
    from .control import Control

WATCHING = ("log_every", "eval_every", "eval_batches", "checkpoint_every", "checkpoint_dir")


@dataclass
class Member:
    """One SAE in training, with what the trainer keeps about it."""

    sae: SAE
    objective: Objective
    control: Control | None
    room: Room | None  # where its active latents alone are computed with
    silent: Tensor = field(init=False)  # [d_sae] steps since each latent last fired
    ema: Any = 0.0  # moving average of the smallest kept score, with its start at zero
    ema_steps: Any = 0  # on an accelerator both are tensors there
    any_dead: bool = False  # at the last look
    newest: Pass = field(init=False)  # what the newest step left behind

    def __post_init__(self) -> None:
        self.silent = torch.zeros(self.sae.d_sae, device=self.sae.W_dec.device)


class Flat:
    """All parameters of all SAEs as views of one vector, and all gradients of another.

    Adam and clipping are then one call each instead of one per parameter, and strides are equal
    by construction (fused Adam on CPU silently updates wrong elements where they differ). Every
    SAE starts at a multiple of 64 numbers, so that its neighbours do not change how its own are
    cut into vector registers: training in a list gives the bytes of training alone.

    by_rows: per SAE, whether W_enc stands there latent by latent, as W_dec does.
    """

    def __init__(self, saes: list[SAE], by_rows: Sequence[bool]) -> None:
        self.parameters = [p for sae in saes for p in sae.parameters()]
        spans = [-(-sum(p.numel() for p in sae.parameters()) // 64) * 64 for sae in saes]
        self.vector = torch.zeros(sum(spans), device=saes[0].W_dec.device)
        self.gradient = torch.zeros_like(self.vector)
        self.gradients = self.gradient.split(spans)  # per SAE, one vector
        for sae, values, gradients, turned in zip(
            saes, self.vector.split(spans), self.gradients, by_rows, strict=True
        ):
            start = 0
            for p in sae.parameters():
                place = slice(start, start + p.numel())
                turn = turned and p is sae.W_enc
                p.data = _view(values[place], p.shape, turn).copy_(p.data)
                p.grad = _view(gradients[place], p.shape, turn)
                start = place.stop

    def release(self) -> None:
        """Give every parameter memory of its own again."""
        for p in self.parameters:
            p.data = p.data.clone(memory_format=torch.contiguous_format)
            p.grad = None


def _view(vector: Tensor, shape: torch.Size, turn: bool) -> Tensor:
    return vector.view(shape[::-1]).T if turn else vector.view(shape)


@dataclass
class TrainState:
    """All members, their common Adam, the number of updates made, the history so far."""

    members: list[Member]
    flat: Flat
    adam: Adam
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def frozen(sae: SAE) -> list[str]:
    """Names of the parameters that training leaves alone."""
    return [name for name, p in sae.named_parameters() if not p.requires_grad]


def run_identity(members: list[Member], source: Source, cfg: TrainConfig) -> dict[str, Any]:
    """What two runs must share to be the same run, by name. Watching does not count."""
    identity: dict[str, Any] = {k: repr(v) for k, v in vars(cfg).items() if k not in WATCHING}
    identity["source"] = source.identity
    for index, member in enumerate(members):
        sae = member.sae
        kind = type(sae.activation).__name__ if member.control else repr(sae.activation)
        form = f"{type(sae).__name__} {sae.d_in}x{sae.d_sae} {kind} {sae.select_by}"
        identity[f"sae {index}"] = form + ("" if sae.subtract_b_dec else " without b_dec")
        identity[f"frozen {index}"] = frozen(sae)
        if member.room is not None:  # moments are stored in the order of the weights
            identity[f"W_enc {index}"] = "by rows"
        identity[f"objective {index}"] = repr(member.objective)
        identity[f"control {index}"] = repr(member.control)
    return identity


def save_state(state: TrainState, source: Source, cfg: TrainConfig, fresh: bool) -> None:
    """Write `checkpoint_dir/step-NNN`, atomically; the two newest are kept.

    fresh: the first checkpoint of a run that does not resume here; older ones are another run's.
    """
    folder = Path(str(cfg.checkpoint_dir))
    if fresh:
        for old in folder.glob("step-*"):
            shutil.rmtree(old)
    tensors: dict[str, Tensor] = {}
    members = []
    for index, member in enumerate(state.members):
        for name, tensor in member.sae.state_dict().items():
            tensors[f"{index}.{name}"] = tensor
        tensors[f"{index}.silent"] = member.silent
        kept: dict[str, Any] = {"ema": float(member.ema), "ema_steps": int(member.ema_steps)}
        kept["control"] = member.control.state() if member.control else None
        members.append({"sae": checkpoint.describe(member.sae), **kept})
    tensors |= {f"adam.{name}": tensor for name, tensor in state.adam.moments.items()}
    meta = {"step": state.step, "members": members, "history": state.history}
    meta["run"] = run_identity(state.members, source, cfg)
    with files.folder_atomic(folder / f"step-{state.step:09d}") as temporary:
        checkpoint.write_tensors(temporary, "state", tensors, meta)
    for old in sorted(folder.glob("step-*"))[:-2]:
        shutil.rmtree(old)


def latest(folder: Path) -> Path:
    """The newest complete `step-*` checkpoint in a folder. Raises CheckpointError without one."""
    complete = sorted(p for p in folder.glob("step-*") if (p / "state.json").is_file())
    if not complete:
        raise CheckpointError(f"{folder}: holds no step-* checkpoint. Train with checkpoint_every.")
    return complete[-1]


def load_state(state: TrainState, folder: Path, source: Source, cfg: TrainConfig) -> None:
    """Fill `state` from a checkpoint of the same run.

    Raises CheckpointError naming every field in which the two runs differ.
    """
    folder = folder if (folder / "state.json").exists() else latest(folder)
    tensors, meta = checkpoint.read_tensors(folder, "state")
    here, there = run_identity(state.members, source, cfg), meta["run"]
    different = [name for name in sorted(here | there) if here.get(name) != there.get(name)]
    if different:
        seen = "; ".join(f"{n}: {there.get(n)} then, {here.get(n)} now" for n in different)
        raise CheckpointError(
            f"{folder.name} belongs to another run ({seen}). Resume with the same settings, or "
            "train without resume_from."
        )
    for index, (member, saved) in enumerate(zip(state.members, meta["members"], strict=True)):
        names = {*member.sae.state_dict(), "silent"}
        own = {name: tensors[f"{index}.{name}"] for name in names}
        member.silent = own.pop("silent").to(member.silent.device)
        member.sae.load_state_dict(own)
        member.sae.activation = checkpoint.build_activation(saved["sae"]["activation"])
        member.ema, member.ema_steps = saved["ema"], saved["ema_steps"]
        if member.control is not None:
            member.control.load(saved["control"])
    for name, tensor in state.adam.moments.items():
        tensor.copy_(tensors[f"adam.{name}"])
    state.step, state.history[:] = meta["step"], meta["history"]
