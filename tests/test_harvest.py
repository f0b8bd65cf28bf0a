"""Harvested activations: the values of a plain pass, whatever the batching, padding masked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_lm import CONTEXT, N_IDS, D, ids, n_hooks, tiny_lm

from srclib.errors import DataError, ParameterError
from srclib.lm.harvest import _batches, harvest, unigram_loss
from srclib.sources import Rows

MODEL = tiny_lm("gemma2")
TEXTS = [ids(i, n).tolist() for i, n in enumerate((5, 12, 1, 7, 5, 3))]


PASSES = [(name, "eager") for name in ("gpt2", "gpt_neox", "llama", "gemma2")]
PASSES += [("gpt2", "sdpa"), ("llama", "sdpa")]


@pytest.mark.parametrize(("family", "attention"), PASSES)
def test_the_values_are_those_of_a_plain_pass(family: str, attention: str) -> None:
    model, tokens = tiny_lm(family, attn_implementation=attention), ids(0, 4, 9)
    with torch.no_grad():
        # a cache lays keys out otherwise, which moves the last bit on some processors
        states = model(tokens, output_hidden_states=True, use_cache=False).hidden_states
    for layer, site, index in ((0, "in", 0), (0, "out", 1), (1, "in", 1)):
        acts, mask = harvest(model, tokens, layer, site)
        assert acts.equal(states[index]) and mask.all() and mask.shape == (4, 9)
        assert acts.dtype == torch.float32 and not acts.requires_grad


def test_padded_texts_are_those_of_a_plain_padded_pass() -> None:
    """One batch keeps the caller's order, so even the last bit is the same."""
    padded = torch.zeros(len(TEXTS), 12, dtype=torch.long)
    mask = torch.zeros_like(padded)
    for i, text in enumerate(TEXTS):
        padded[i, : len(text)], mask[i, : len(text)] = torch.tensor(text), 1
    with torch.no_grad():
        plain = MODEL(padded, attention_mask=mask, output_hidden_states=True).hidden_states[1]
    acts, kept = harvest(MODEL, TEXTS, 0)
    assert kept.equal(mask.bool()) and acts[kept].equal(plain[kept])
    assert acts[~kept].eq(0).all()


LENGTHS = st.lists(st.integers(1, CONTEXT), min_size=1, max_size=7)


@settings(deadline=None, max_examples=8)
@given(LENGTHS, st.integers(1, 40), st.sampled_from(["in", "out"]))
def test_batching_changes_rounding_only(lengths: list[int], batch_tokens: int, site: Any) -> None:
    texts = [ids(i, n).tolist() for i, n in enumerate(lengths)]
    acts, mask = harvest(MODEL, texts, 1, site, batch_tokens=batch_tokens)
    assert mask.sum(1).tolist() == lengths and acts.shape == (len(texts), max(lengths), D)
    for text, row, kept in zip(texts, acts, mask, strict=True):
        alone, _ = harvest(MODEL, [text], 1, site)
        torch.testing.assert_close(row[kept], alone[0], rtol=1e-5, atol=1e-5)
        assert row[~kept].eq(0).all()


@settings(max_examples=40)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 200))
def test_batches_cut_the_texts_by_length(lengths: list[int], batch_tokens: int) -> None:
    batches = list(_batches(lengths, batch_tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch, after in zip(batches, [*batches[1:], None], strict=True):
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= batch_tokens
        assert batch == sorted(batch)
        assert after is None or longest <= min(lengths[i] for i in after)


def test_a_bos_of_id_zero_is_a_token_like_others() -> None:
    texts = [[0, 5, 6], [7, 0, 8], [9, 3]]
    kept_acts, kept = harvest(MODEL, texts, 0)
    assert kept.sum() == 8
    acts, mask = harvest(MODEL, texts, 0, bos="drop", bos_id=0)
    assert mask.tolist() == [[False, True, True], [True, False, True], [True, True, False]]
    assert acts[mask].equal(kept_acts[mask])  # still attended to
    assert acts[~mask].eq(0).all()
    mask = harvest(MODEL, texts, 0, bos="drop", bos_id=3)[1]  # the filler of short texts is not it
    assert mask.tolist() == [[True] * 3, [True] * 3, [True, False, False]]


def test_the_models_own_bos_is_the_default() -> None:
    model = tiny_lm("llama")
    with pytest.raises(ParameterError, match="bos_id=None: allowed is an id where bos='drop'"):
        harvest(model, TEXTS, 0, bos="drop")
    model.config.bos_token_id = 4
    _, mask = harvest(model, [[4, 5], [5, 4]], 0, bos="drop")
    assert mask.tolist() == [[False, True], [True, False]]
    with pytest.raises(DataError, match=r"text 1 is empty, padding and dropped BOS aside"):
        harvest(model, [[4, 5], [4, 4]], 0, bos="drop")
    assert harvest(model, [[4, 5], [4, 4]], 0)[1].all()


def test_padding_at_the_end_of_rows_is_not_read() -> None:
    texts = [[5, 2, 2, 6], [2, 7], [2]]
    padded = torch.tensor([[5, 2, 2, 6, 2], [2, 7, 2, 2, 2], [2, 2, 2, 2, 2]])
    expected, mask = harvest(MODEL, texts[:2], 0)
    acts, found = harvest(MODEL, padded[:2], 0, pad_id=2, bos_id=2)  # as GPT-2: one id for both
    assert acts.equal(expected) and found.equal(mask)
    with pytest.raises(DataError, match="text 1: first id=2: allowed is no padding"):
        harvest(MODEL, padded[:2], 0, pad_id=2)
    with pytest.raises(DataError, match="text 2 is empty"):
        harvest(MODEL, padded, 0, pad_id=2, bos_id=2)
    assert harvest(MODEL, padded, 0)[1].all()  # nobody said that 2 is padding


def test_nothing_of_the_callers_changes() -> None:
    model, tokens = tiny_lm("gpt2", resid_pdrop=0.5), ids(0, 3, 5)
    expected, copy = harvest(model, tokens, 1)[0], tokens.clone()
    model.train()
    before = n_hooks(model)
    assert harvest(model, tokens, 1)[0].equal(expected), "without dropout"
    assert all(m.training for m in model.modules()) and n_hooks(model) == before
    assert tokens.equal(copy) and torch.is_grad_enabled()
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ParameterError, match="layer=2"):
        harvest(model, tokens, 2)
    assert all(m.training for m in model.modules()) and n_hooks(model) == before


def test_other_forms_of_tokens() -> None:
    datasets = pytest.importorskip("datasets")
    expected = harvest(MODEL, TEXTS, 0)
    arrays = [np.array(text, dtype=np.uint16) for text in TEXTS]
    table = datasets.Dataset.from_dict({"tokens": TEXTS, "topic": list("abcabc")})
    for tokens in (arrays, table, tuple(TEXTS)):
        assert all(a.equal(b) for a, b in zip(harvest(MODEL, tokens, 0), expected, strict=True))
    with pytest.raises(DataError, match=r"columns=\['topic'\]: allowed is a column 'tokens'"):
        harvest(MODEL, table.remove_columns("tokens"), 0)


def test_a_bfloat16_model_gives_float32() -> None:
    model, tokens = tiny_lm("llama").bfloat16(), ids(0, 2, 4)
    acts, _ = harvest(model, tokens, 0)
    with torch.no_grad():
        expected = model(tokens, output_hidden_states=True).hidden_states[1]
    assert acts.dtype == torch.float32 and acts.equal(expected.float())


def test_nan_is_refused_with_its_text_and_site() -> None:
    model = tiny_lm("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[29] = float("nan")
    texts = [[1, 2, 3], [4, 5, 6, 7, 8], [1, 29], [3]]
    with pytest.raises(DataError, match=r"model.layers.0.in: text 2 gives NaN .* position 1"):
        harvest(model, texts, 0, "in", batch_tokens=4)
    assert n_hooks(model) == 0
    with torch.no_grad():
        model.model.embed_tokens.weight[0] = float("nan")  # what fills short texts is not looked at
    assert harvest(model, [[1, 2, 3], [4]], 0, "in")[0].isfinite().all()


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([[1], []], "text 1 is empty"),
        ([], "tokens=0: allowed is at least one text"),
        ([[1], [2, N_IDS]], "text 1: id=30: allowed is 0 <= id < 30"),
        ([[-1]], "text 0: id=-1"),
        ([[1], [1] * (CONTEXT + 1)], "text 1: length=13: allowed is at most 12"),
        (["a text"], "text 0='a text': allowed is a list of integers. Tokenise"),
        ([[1], [1.0]], "text 1=.*a list of integers"),
        ([[True]], "text 0=.*a list of integers"),
        ([[[1], [2]]], "text 0=.*a list of integers"),
        (torch.tensor([1, 2]), r"tokens.shape=\(2,\): allowed is \[n_texts, seq\]"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tokens: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        harvest(MODEL, tokens, 0)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ParameterError, match="bos='skip': allowed is 'keep' or 'drop'"):
        harvest(MODEL, TEXTS, 0, bos="skip")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="batch_tokens=0"):
        harvest(MODEL, TEXTS, 0, batch_tokens=0)


def test_what_is_too_large_is_refused() -> None:
    needed = 4 * len(TEXTS) * 12 * D
    with pytest.raises(DataError, match=rf"max_bytes={needed - 1}: .* {needed} .*Streamed"):
        harvest(MODEL, TEXTS, 1, max_bytes=needed - 1)
    assert harvest(MODEL, TEXTS, 1, max_bytes=needed)[0].numel() * 4 == needed


def test_rows_feed_an_sae() -> None:
    acts, mask = harvest(MODEL, TEXTS, 0)
    assert acts[mask].equal(torch.cat([acts[i, : len(text)] for i, text in enumerate(TEXTS)]))
    assert Rows(acts[mask]).batch(0, 4).shape == (4, D)


def test_the_unigrams_loss_is_the_entropy_of_its_own_text() -> None:
    """Of a long text on itself it is the entropy of the frequencies; of a uniform one, log n."""
    text = torch.randint(0, 7, (400, 100), generator=torch.Generator().manual_seed(0))
    assert unigram_loss(text, text) == pytest.approx(np.log(7), abs=1e-3)
    p = torch.tensor([0.7, 0.2, 0.1])
    skewed = torch.multinomial(p, 40_000, replacement=True).view(400, 100)
    assert unigram_loss(skewed, skewed) == pytest.approx(-(p * p.log()).sum().item(), abs=0.02)
    assert unigram_loss(skewed, torch.full((1, 9), 8)) < 12  # a token never seen costs, finitely
