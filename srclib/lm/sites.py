"""Where the residual stream of a language model is read and rewritten.

A site is the residual stream of one block: "in" is what enters the block, "out" what it returns.
Blocks count from 0. The last block's "out" is the state before the final norm, where Hugging
Face's `hidden_states[-1]` is the state after it.

Needs no transformers itself: whoever holds a model has imported it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import DataError, ParameterError, message
from .layouts import LAYOUTS as LAYOUTS
from .layouts import block as block
from .layouts import family

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel

Site = Literal["in", "out"]


def hook_point(model: PreTrainedModel, layer: int, site: Site = "out") -> str:
    """The site as module path and side, such as "model.layers.12.out"."""
    if site not in ("in", "out"):
        fix = "The residual that enters block l is 'in', what the block returns is 'out'."
        raise ParameterError(message("site", site, "'in' or 'out'", fix))
    here = block(model, layer)
    path = next(path for path, module in model.named_modules() if module is here)
    return f"{path}.{site}"


class _Reached(Exception):
    """Carries the residual out of a forward pass that need not go on."""

    def __init__(self, residual: Tensor) -> None:
        self.residual = residual


def residual(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    layer: int,
    site: Site = "out",
) -> Tensor:
    """The residual stream at a site, [batch, seq, d_model], in the model's dtype.

    The model stops there: later blocks and the head do not run. Bit for bit what a full pass
    computes. Gradients and train or eval mode are the caller's.
    """

    def stop(value: Tensor) -> Tensor:
        raise _Reached(value)

    try:
        with _hooked(model, layer, site, stop, first=False):
            model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    except _Reached as reached:
        return reached.residual
    raise DataError(f"{hook_point(model, layer, site)}: the forward pass did not come by here.")


def residuals(
    model: PreTrainedModel, input_ids: Tensor, places: Sequence[tuple[int, Site]]
) -> dict[tuple[int, Site], Tensor]:
    """`residual` at several sites from one pass, which stops at the deepest."""
    found: dict[tuple[int, Site], Tensor] = {}
    deepest = max(places, key=lambda place: (place[0], place[1] == "out"))

    def note(place: tuple[int, Site]) -> Callable[[Tensor], Tensor]:
        return lambda value: found.setdefault(place, value)

    with contextlib.ExitStack() as hooks:
        for place in places:
            hooks.enter_context(_hooked(model, *place, note(place), first=False))
        found[deepest] = residual(model, input_ids, None, *deepest)
    return found


@contextlib.contextmanager
def edited(
    model: PreTrainedModel, layer: int, site: Site, edit: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Inside the block, the residual at a site is replaced by `edit(residual)`.

    edit: [batch, seq, d_model] to the same shape, else DataError; cast back to the model's dtype.
    With a key-value cache it sees the new positions only. Of two edits at one site the inner
    acts first.
    """
    name = hook_point(model, layer, site)

    def replace(value: Tensor) -> Tensor:
        new = edit(value)
        if not isinstance(new, Tensor) or new.shape != value.shape:
            seen = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            fix = "Return the whole residual."
            raise DataError(message(f"edit at {name}", seen, str(tuple(value.shape)), fix))
        return new.to(value)

    # first of all hooks: else the model's own `output_hidden_states` would show the old value
    with _hooked(model, layer, site, replace, first=True):
        yield


class MLPPass(NamedTuple):
    """How the MLP of a block adds to the residual stream: out = stream + term."""

    neurons: Tensor  # [batch, seq, m], what its last map reads
    stream: Tensor  # [batch, seq, d_model]
    term: Tensor  # [batch, seq, d_model], behind the norm that some families put there
    out: Tensor  # [batch, seq, d_model]


def mlp_pass(model: PreTrainedModel, layer: int, input_ids: Tensor) -> MLPPass:
    """What the MLP of block `layer` computes on ids [batch, seq], in the model's dtype.

    For every family of `LAYOUTS`. Each part is read where the model computes it, none is derived
    from the others. No dropout, no gradients.
    """
    layout, here, seen = LAYOUTS[family(model)], block(model, layer), dict[str, Tensor]()
    # GPT-NeoX: attention and MLP read the same stream, so their sum is never there to read
    parallel = getattr(model.config, "use_parallel_residual", False)

    def reads(path: str, name: str) -> RemovableHandle:
        module = here.get_submodule(path)
        return module.register_forward_pre_hook(lambda _, args: seen.update({name: args[0]}))

    def gives(path: str, name: str) -> RemovableHandle:
        def note(_: Any, __: Any, out: Any) -> None:
            seen[name] = out[0] if isinstance(out, tuple) else out

        return here.get_submodule(path).register_forward_hook(note)

    with measuring(model), contextlib.ExitStack() as hooks:
        for handle in (
            reads(layout.mlp_output, "neurons"),
            gives(layout.post_norm or "mlp", "term"),
            gives("attention", "stream") if parallel else reads(layout.mlp_input, "stream"),
        ):
            hooks.callback(handle.remove)
        out = residual(model, input_ids, None, layer)
        if parallel:
            seen["stream"] = seen["stream"] + residual(model, input_ids, None, layer, "in")
    return MLPPass(seen["neurons"], seen["stream"], seen["term"], out)


@contextlib.contextmanager
def measuring(model: PreTrainedModel) -> Iterator[None]:
    """No dropout and no gradients inside; each module's training flag as before afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training


@contextlib.contextmanager
def _hooked(
    model: PreTrainedModel,
    layer: int,
    site: Site,
    change: Callable[[Tensor], Tensor],
    first: bool,
) -> Iterator[None]:
    """`change` stands between a block and its input or output; removed on every way out."""

    # a block takes the residual by position or by name, and returns it bare or (before
    # transformers 5) as the first of a tuple
    def entering(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def leaving(_: Any, args: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    hook_point(model, layer, site)  # refuses what does not exist
    here = block(model, layer)
    if site == "in":
        handle = here.register_forward_pre_hook(entering, prepend=first, with_kwargs=True)
    else:
        handle = here.register_forward_hook(leaving, prepend=first)
    try:
        yield
    finally:
        handle.remove()
