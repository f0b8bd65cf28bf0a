"""Activations of a language model, for SAEs to learn from, and how well it predicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..engines import estimate
from ..errors import DataError, ParameterError, message, whole
from .sites import Site, hook_point, measuring, residual, residuals

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def harvest(
    model: PreTrainedModel,
    tokens: Any,
    layer: int,
    site: Site = "out",
    *,
    pad_id: int | None = None,
    bos: Literal["keep", "drop"] = "keep",
    bos_id: int | None = None,
    batch_tokens: int = 8192,
    max_bytes: int = 2**32,
) -> tuple[Tensor, Tensor]:
    """The residual stream of texts: `(acts [n_texts, seq, d_model], mask [n_texts, seq])`.

    tokens: ids, as an integer tensor [n_texts, seq], a list of lists of any lengths, or a
    dataset with a column `tokens`. `acts` is float32 on the CPU, in the order of `tokens`, and 0
    wherever `mask` is false: behind the end of a text, and at every `bos_id` with `bos="drop"`.
    The model stops at the site (see `sites`), without dropout and gradients.

    pad_id: fills the ends of texts in `tokens` and is not read there; None: every id is a token.
    bos_id: the id that `bos="drop"` masks, by default the one of the model's configuration.
        Nothing is ever masked because it comes first, or because it is 0.
    batch_tokens: positions per forward pass, padding included; moves values by rounding alone.
    max_bytes: a larger result is refused; `lm.streamed.Streamed` computes it batch by batch.

    Raises DataError naming the text: nothing left in it, an id outside the vocabulary, longer than
    the model's context, NaN; and when the result is too large.
    """
    name = hook_point(model, layer, site)
    bos_id = _bos_id(model, bos, bos_id)
    dropped = bos_id if bos == "drop" else None
    whole("batch_tokens", batch_tokens, 1)
    texts = [_ids(i, text, pad_id, bos_id) for i, text in enumerate(_listed(tokens))]
    _check(model, texts, dropped)
    shape = (len(texts), max(map(len, texts)), model.config.get_text_config().hidden_size)
    _check_size(shape, max_bytes)
    all_acts, all_kept = torch.zeros(shape), torch.zeros(shape[:2], dtype=torch.bool)
    with measuring(model):
        for batch in _batches([len(text) for text in texts], batch_tokens):
            ids, mask = _padded([texts[i] for i in batch])
            at = (ids.to(model.device), mask.to(model.device))
            acts = estimate.forward(residual, model, *at, layer, site).to("cpu", torch.float32)
            _check_finite(acts, mask, batch, name)
            kept = mask.bool() if dropped is None else mask.bool() & (ids != dropped)
            all_acts[batch, : ids.shape[1]] = torch.where(kept.unsqueeze(-1), acts, 0.0)
            all_kept[batch, : ids.shape[1]] = kept
    return all_acts, all_kept


def stream(
    model: PreTrainedModel,
    rows: Tensor,
    places: Sequence[tuple[int, Site]],
    batch_tokens: int = 8192,
) -> Iterator[tuple[tuple[int, Site], Tensor]]:
    """The residual stream of rows of one length at several places, from one pass over the model.

    rows: ids [n_rows, context] without padding. Yields (place, [n_rows, context, d_model]) in the
    model's dtype on its device. Raises DataError for ids that the model lacks and for NaN.
    """
    n_ids = model.get_input_embeddings().num_embeddings
    if not (int(rows.min()) >= 0 and int(rows.max()) < n_ids):
        seen, fix = f"{int(rows.min())} to {int(rows.max())}", "Use the tokeniser of this model."
        raise DataError(message("ids", seen, f"0 <= id < {n_ids}", fix))
    parts: dict[tuple[int, Site], list[Tensor]] = {place: [] for place in places}
    with measuring(model):
        for ids in rows.split(max(1, batch_tokens // rows.shape[1])):
            at = ids.long().to(model.device)
            for place, acts in estimate.forward(residuals, model, at, places).items():
                parts[place].append(acts)
    for place, found in parts.items():
        joined = torch.cat(found)
        if not bool(torch.isfinite(joined).all()):
            raise DataError(
                f"{hook_point(model, *place)}: NaN or infinity. Allowed are finite activations: "
                "load the model in float32 or bfloat16, or drop the text."
            )
        yield place, joined


def token_losses(model: PreTrainedModel, tokens: Tensor, batch_tokens: int = 2048) -> Tensor:
    """Cross entropy of each next token in nats, [n_rows, seq - 1] float32 on the CPU.

    tokens: ids [n_rows, seq] without padding; column i of the result is the loss of token i + 1.
    batch_tokens: positions per forward pass, of which a large vocabulary takes much memory.
    Inside `sites.edited` it is the loss of the edited model. No dropout, no gradients.
    """
    losses = []
    with measuring(model):
        for ids in tokens.split(max(1, batch_tokens // tokens.shape[1])):
            ids = ids.to(model.device)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]  # [batch, seq - 1, vocab]
            targets = ids[:, 1:].flatten().long()
            loss = F.cross_entropy(logits.float().flatten(0, 1), targets, reduction="none")
            losses.append(loss.view(len(ids), -1).cpu())
    return torch.cat(losses)


def unigram_loss(train: Tensor, test: Tensor) -> float:
    """Cross entropy of `test` in nats per token under the frequencies of tokens in `train`.

    Ids [n_rows, seq]; one is added to each count. A language model that does no better knows
    nothing of the order of words.
    """
    n = 1 + int(max(train.max(), test.max()))
    counts = torch.bincount(train.flatten(), minlength=n).double() + 1
    return float(-(counts / counts.sum()).log()[test[:, 1:].flatten()].mean())


def _bos_id(model: PreTrainedModel, bos: str, bos_id: int | None) -> int | None:
    if bos not in ("keep", "drop"):
        raise ParameterError(message("bos", bos, "'keep' or 'drop'", "Use 'keep'."))
    if bos_id is None:
        bos_id = model.config.get_text_config().bos_token_id
    if bos == "drop" and bos_id is None:
        fix = "Name the id that begins a text, or keep every token with bos='keep'."
        raise ParameterError(message("bos_id", None, "an id where bos='drop'", fix))
    return bos_id


def _listed(tokens: Any) -> Iterable[Any]:
    """One sequence of ids per text."""
    if isinstance(tokens, Tensor) and tokens.ndim != 2:
        fix = "A single text is a batch of one: tokens[None]."
        raise DataError(message("tokens.shape", tuple(tokens.shape), "[n_texts, seq]", fix))
    columns = getattr(tokens, "column_names", None)
    if columns is None:
        return tokens
    if "tokens" not in columns:
        fix = "Tokenise the texts into it."
        raise DataError(message("columns", columns, "a column 'tokens' of ids", fix))
    return tokens["tokens"]


def _ids(index: int, text: Any, pad_id: int | None, bos_id: int | None) -> Tensor:
    """The ids of one text, [length] int64, without the padding at its end."""
    try:
        ids = torch.as_tensor(text).cpu()
    except (TypeError, ValueError, RuntimeError):  # a string, lists in lists
        ids = torch.empty(0, 0)
    if ids.ndim != 1 or (len(ids) and (ids.is_floating_point() or ids.dtype == torch.bool)):
        fix = "Tokenise the texts first: one list of ids for each."
        raise DataError(message(f"text {index}", text, "a list of integers", fix))
    ids = ids.long()
    if pad_id is None or not len(ids):
        return ids
    real = (ids != pad_id).nonzero()
    if len(real) and ids[0] == pad_id and pad_id != bos_id:
        fix = "Pad on the right: positions count from the first id."
        raise DataError(message(f"text {index}: first id", pad_id, "no padding", fix))
    return ids[: int(real[-1]) + 1] if len(real) else ids[:0]


def _check(model: PreTrainedModel, texts: list[Tensor], dropped: int | None) -> None:
    """Texts that hold something, ids that the model has, no more than its context."""
    if not texts:
        raise DataError(message("tokens", 0, "at least one text", "Give some."))
    n_ids = model.get_input_embeddings().num_embeddings
    context = model.config.get_text_config().max_position_embeddings
    for index, ids in enumerate(texts):
        if not len(ids) or (dropped is not None and not (ids != dropped).any()):
            raise DataError(f"text {index} is empty, padding and dropped BOS aside. Leave it out.")
        strange = ids[(ids < 0) | (ids >= n_ids)]
        if len(strange):
            fix = "Use the tokeniser of this model."
            raise DataError(
                message(f"text {index}: id", int(strange[0]), f"0 <= id < {n_ids}", fix)
            )
        if len(ids) > context:
            fix = "Cut the text: beyond its context a model computes nonsense."
            raise DataError(
                message(f"text {index}: length", len(ids), f"at most {context} (context)", fix)
            )


def _check_size(shape: tuple[int, ...], max_bytes: int) -> None:
    needed = 4 * math.prod(shape)
    if needed > max_bytes:
        allowed = f"at least {needed} (activations {list(shape)} in float32)"
        fix = "Give fewer texts, raise max_bytes, or compute batch by batch: lm.streamed.Streamed."
        raise DataError(message("max_bytes", max_bytes, allowed, fix))


def _batches(lengths: list[int], batch_tokens: int) -> Iterator[list[int]]:
    """Texts of like length together; within a batch in the caller's order."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > batch_tokens:
            yield sorted(batch)
            batch = []
        batch.append(index)
    yield sorted(batch)


def _padded(texts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, [batch, longest]. Padding stands right: no token attends to it."""
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    lengths = torch.tensor([len(text) for text in texts])
    return ids, (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).long()


def _check_finite(acts: Tensor, mask: Tensor, batch: list[int], name: str) -> None:
    bad = (~torch.isfinite(acts).all(-1) & mask.bool()).nonzero()
    if len(bad):
        text, position = batch[int(bad[0, 0])], int(bad[0, 1])
        raise DataError(
            f"{name}: text {text} gives NaN or infinity at position {position}. Allowed are finite "
            "activations: load the model in float32 or bfloat16, or drop the text."
        )
