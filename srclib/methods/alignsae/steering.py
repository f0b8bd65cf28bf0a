"""Reading and rewriting the last token of a prompt at one site of the residual stream.

Site l is the residual that enters block l (0: token plus position embedding), site n_layers what
the last block returns, before the final norm. Vectors are read and written at the same site. With
where = "attention" it is what the attention of block l adds, between attention and MLP.
"""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from ...errors import DataError, ParameterError, message, whole
from ...lm.layouts import blocks
from ...lm.sites import Site, edited, measuring, mlp_pass, residual
from .binding import class_scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ...sae import SAE
    from . import AlignSAE

AT_ONCE = 4096  # rows of a pass: more take more memory, and more time

Tokens = Sequence[Sequence[int]]
Where = Literal["resid", "attention"]
Place = tuple[int, Site | Literal["attention"]]


def hook(model: PreTrainedModel, site: int) -> tuple[int, Site]:
    """Block and side of a site."""
    n_layers = model.config.get_text_config().num_hidden_layers
    if whole("site", site) > n_layers:
        fix = "0 is the embedding, n_layers the last block's output."
        raise ParameterError(message("site", site, f"0 <= site <= {n_layers} (n_layers)", fix))
    return (site, "in") if site < n_layers else (n_layers - 1, "out")


def read(model: PreTrainedModel, prompts: Tokens, site: int, where: Where = "resid") -> Tensor:
    """What stands there at the last token of each prompt, [n, d_model] float32 on the CPU."""
    layer, side = hook(model, site)
    width = model.config.get_text_config().hidden_size
    prompts = list(prompts)  # a column of a data set looks each row up anew
    vectors = torch.zeros(len(prompts), width)
    with measuring(model):
        for rows in _by_length(prompts):
            ids = torch.tensor([list(prompts[i]) for i in rows], device=model.device)
            found = residual(model, ids, None, layer, side)
            if where == "attention":
                found = mlp_pass(model, layer, ids).stream - found
            vectors[rows] = found[:, -1].float().cpu()
    return vectors


def answer(model: PreTrainedModel, prompts: Tokens, n_new: int, eos: int) -> list[list[int]]:
    """Greedy continuations of at most `n_new` tokens, cut before `eos`, nothing rewritten."""
    return write(model, prompts, range(len(prompts)), None, 0, n_new, eos)


def write(
    model: PreTrainedModel,
    prompts: Tokens,
    which: Sequence[int],
    vectors: Tensor | None,
    site: int,
    n_new: int,
    eos: int,
    where: Where = "resid",
) -> list[list[int]]:
    """Greedy continuations after the last prompt token has been replaced at a site, once.

    which: [n] the prompt of each row; a prompt may occur many times and its beginning is computed
        once. vectors: [n, d_model], what stands at the site instead; None changes nothing.
    where: "resid" writes into the residual stream; "attention" replaces what the attention of block
        `site` adds to it.

    Returns at most `n_new` tokens for each row, cut before `eos`.
    """
    layer, side = hook(model, site)
    prompts = list(prompts)
    if where not in get_args(Where):
        allowed = "'resid' or 'attention'"
        raise ParameterError(message("where", where, allowed, "'resid' writes where one reads."))
    if vectors is not None:
        _check(vectors, len(which), model)
    place: Place = (layer, side if where == "resid" else "attention")
    found: list[list[int]] = [[] for _ in which]
    with measuring(model):
        for rows in _by_length([prompts[i] for i in which]):
            ids = [list(prompts[which[i]]) for i in rows]
            new = None if vectors is None else vectors[rows].to(model.device)
            for row, tokens in zip(rows, _decode(model, ids, new, place, n_new, eos), strict=True):
                found[row] = tokens[: tokens.index(eos)] if eos in tokens else tokens
    return found


def swap_slots(
    sae: AlignSAE, h: Tensor, source: Tensor, target: Tensor, alpha: Tensor | float
) -> Tensor:
    """AlignSAE's swap: z[source slot] = 0, z[target slot] = alpha, h' = decode(z).

    h: [n, d_in]; source, target: [n] relations; alpha: the raw value, one or one per row. h is
    replaced, so the reconstruction error is written too.
    """
    for name, relation in (("source", source), ("target", target)):
        if bool(((relation < 0) | (relation >= sae.n_slots)).any()):
            seen, allowed = relation.unique().tolist(), f"0 <= relation < {sae.n_slots}"
            raise DataError(message(name, seen, allowed, "Swap relations of the ontology."))
    off, on = sae.n_free + source[:, None], sae.n_free + target[:, None]
    return rewrite(sae, h, off, on, _each(alpha, source))


@torch.no_grad()
def rewrite(sae: SAE, h: Tensor, off: Tensor, on: Tensor, values: Tensor) -> Tensor:
    """A swap of any latents: decode(z) after `off` are set to 0, then `on` to `values`, all [n, k].

    h: [n, d_in].
    """
    acts = sae.eval().encode(h)
    acts = acts.scatter(1, off, 0.0).scatter(1, on, values.to(acts))
    return sae.decode(acts)


def swap_latents(
    sae: SAE, acts: Tensor, relation: Tensor, n: int, h: Tensor, source: Tensor, target: Tensor
) -> Callable[[float], Tensor]:
    """A plain SAE as a handle: vectors [swaps, d_in] as a function of the strength.

    The `n` latents most selective of the source relation go to 0, then those of the target to
    strength times their mean on it (a latent of both ends there). acts [rows, d_sae] and relation
    [rows], every relation among them: what selectivity and means are read from. h [swaps, d_in];
    source, target [swaps].
    """
    means, scores = class_scores(acts, relation, int(relation.max()) + 1)
    best = scores.topk(n, dim=1).indices  # [relations, n]
    value = means.to(h.dtype).gather(1, best)
    return lambda strength: rewrite(sae, h, best[source], best[target], strength * value[target])


def add(h: Tensor, directions: Tensor, alpha: Tensor | float) -> Tensor:
    """h + alpha * direction, row by row [n, d_in]."""
    return h + _each(alpha, h[:, 0]) * directions


def _each(alpha: Tensor | float, rows: Tensor) -> Tensor:
    """[n, 1] one finite alpha per row."""
    values = torch.as_tensor(alpha, dtype=torch.float32)
    if not bool(torch.isfinite(values).all()):
        fix = "It is the value the slot is set to."
        raise ParameterError(message("alpha", alpha, "finite numbers", fix))
    return values.expand(len(rows))[:, None]


def _decode(
    model: PreTrainedModel,
    ids: list[list[int]],
    vectors: Tensor | None,
    place: Place,
    n_new: int,
    eos: int,
) -> list[list[int]]:
    """Greedy tokens after prompts of one length; `vectors` [n, d_model] at their last token."""
    number = {row: i for i, row in enumerate(dict.fromkeys(map(tuple, ids)))}  # prompts, once
    index = torch.tensor([number[tuple(row)] for row in ids], device=model.device)
    begin = torch.tensor(list(number), device=model.device)
    before: Any = None
    if begin.shape[1] > 1:  # what precedes the last token is the same for every vector
        before = model(input_ids=begin[:, :-1], use_cache=True).past_key_values
    layer, side = place
    written = partial(_attention, model, layer)
    if side != "attention":
        written = partial(edited, model, layer, side)
    found: list[list[int]] = []
    for rows in torch.arange(len(ids), device=model.device).split(AT_ONCE):
        cache = copy.deepcopy(before)
        if cache is not None:
            cache.batch_select_indices(index[rows])
        new = None if vectors is None else vectors[rows, None, :]
        with written(partial(_instead, new)):
            out = model(input_ids=begin[index[rows], -1:], past_key_values=cache, use_cache=True)
        found += _greedy(model, out, n_new, eos).tolist()
    return found


def _greedy(model: PreTrainedModel, out: Any, n_new: int, eos: int) -> Tensor:
    """[rows, n_new] tokens that follow what `out` has read, each row until its first `eos`."""
    tokens = torch.full((len(out.logits), n_new), eos, device=model.device)
    going = torch.arange(len(tokens), device=model.device)  # rows that have not ended
    for i in range(n_new):
        tokens[going, i] = out.logits[:, -1].argmax(dim=-1)
        lasting = (tokens[going, i] != eos).nonzero().flatten()
        if i + 1 == n_new or not len(lasting):
            break
        if len(lasting) < len(going):
            going = going[lasting]
            out.past_key_values.batch_select_indices(lasting)
        out = model(input_ids=tokens[going, i, None], past_key_values=out.past_key_values)
    return tokens


def _instead(new: Tensor | None, old: Tensor) -> Tensor:
    return old if new is None else new


@contextlib.contextmanager
def _attention(
    model: PreTrainedModel, layer: int, edit: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Inside, what the attention of a GPT-2 block adds to the stream is replaced by `edit(it)`."""
    here = blocks(model)[layer].get_submodule("attn")
    handle = here.register_forward_hook(lambda _, __, out: (edit(out[0]), *out[1:]))
    try:
        yield
    finally:
        handle.remove()


def _by_length(prompts: Tokens) -> Iterator[list[int]]:
    """Rows whose prompts have the same length: no padding, so positions are those of training."""
    rows: dict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        rows[len(prompt)].append(i)
    if 0 in rows:
        name, fix = f"prompt {rows[0][0]}", "Drop it."
        raise DataError(message(name, [], "at least one token", fix))
    yield from rows.values()


def _check(vectors: Tensor, n: int, model: PreTrainedModel) -> None:
    shape = (n, model.config.get_text_config().hidden_size)
    if vectors.shape != shape:
        fix = "Give a vector per row."
        raise DataError(message("vectors.shape", tuple(vectors.shape), str(shape), fix))
    if not bool(torch.isfinite(vectors).all()):
        seen, fix = "NaN or infinity", "Check alpha and the SAE."
        raise DataError(message("vectors", seen, "finite numbers", fix))
