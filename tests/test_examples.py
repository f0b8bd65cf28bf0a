"""Examples per latent: the definition written out plainly, order, ties, refusals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from srclib import SAE, TopK, rng
from srclib.errors import DataError, ParameterError
from srclib.methods.latents import examples
from srclib.methods.latents.examples import Collector, collect, heat

N_DOCS, SEQ, D_IN, D_SAE, K = 40, 6, 5, 12, 3


def texts(seed: int = 0) -> Tensor:
    return rng.normals(seed, "texts", shape=(N_DOCS, SEQ, D_IN))


def sae() -> SAE:
    return SAE(D_IN, D_SAE, TopK(K), seed=3, decoder_norm=1.0)


def stream(x: Tensor, size: int) -> examples.Batches:
    return lambda: iter(x.split(size))


def plain(model: SAE, x: Tensor, rule: str, share: float, n_texts: int) -> list[list[int]]:
    """The texts of each latent, by the sentence that defines them."""
    with torch.no_grad():
        pre = model.pre_acts(x.flatten(0, 1)).view(N_DOCS, SEQ, D_SAE)
        acts = model.encode(x.flatten(0, 1)).view(N_DOCS, SEQ, D_SAE)
    found = []
    for f in range(D_SAE):
        bar = share * max(float(pre[..., f].max()), 0.0) if rule == "threshold" else 0.0
        peaks = acts[..., f].amax(1)
        chosen = [d for d in range(N_DOCS) if peaks[d] > bar]
        if rule == "top":
            chosen = sorted(chosen, key=lambda d, peaks=peaks: -float(peaks[d]))
        found.append(chosen[:n_texts])
    return found


@pytest.mark.parametrize("rule", ["threshold", "top"])
@pytest.mark.parametrize("n_texts", [2, 5, 50])
@pytest.mark.parametrize("size", [1, 7, N_DOCS])
def test_the_definition(rule: examples.Rule, n_texts: int, size: int) -> None:
    x, model = texts(), sae()
    found = collect(model, stream(x, size), rule=rule, n_texts=n_texts)
    expected = plain(model, x, rule, 0.7, n_texts)
    assert [
        row[:n].tolist() for row, n in zip(found.documents, found.count, strict=True)
    ] == expected
    acts = model.encode(x.flatten(0, 1)).detach().view(N_DOCS, SEQ, D_SAE)
    for f, n in enumerate(found.count.tolist()):
        d, p = found.documents[f, :n], found.positions[f, :n]
        assert torch.equal(acts[d, p, f], found.values[f, :n])
        assert torch.equal(acts[d, :, f].amax(1), found.values[f, :n])
        assert (found.documents[f, n:] == -1).all()


def test_pieces_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, model = texts(), sae()
    whole = collect(model, stream(x, N_DOCS))
    monkeypatch.setattr(examples, "MAX_ENTRIES", 2 * SEQ * D_SAE)
    assert max(len(piece) for piece in examples._pieces(model, stream(x, N_DOCS))) == 2
    cut = collect(model, stream(x, N_DOCS))
    for a, b in zip(vars(whole).values(), vars(cut).values(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_first_of_equal_tokens_and_the_earlier_of_equal_texts() -> None:
    for rule in ("threshold", "top"):
        collector = Collector(2, 2, rule)
        for document in range(4):
            entries = torch.tensor([[1, 1], [document, document], [3, 1]])
            collector.add(*entries, torch.tensor([2.0, 2.0]))
        found = collector.result(torch.zeros(2))
        assert found.documents.tolist() == [[-1, -1], [0, 1]]
        assert found.positions.tolist() == [[-1, -1], [1, 1]]
        assert found.count.tolist() == [0, 2]


def test_a_planted_latent_finds_its_texts() -> None:
    x = torch.zeros(30, 4, D_IN)
    x[[4, 9, 21], 2, 0] = torch.tensor([1.0, 0.5, 0.8])
    model = SAE(D_IN, 2, TopK(1), seed=0, decoder_norm=1.0)
    with torch.no_grad():
        model.W_enc.zero_()[0, 1] = 1.0
    found = collect(model, stream(x, 8))
    assert found.documents[1, : found.count[1]].tolist() == [4, 21]  # 0.5 is not above 0.7
    assert found.positions[1, :2].tolist() == [2, 2]
    assert found.count[0] == 0
    assert collect(model, stream(x, 8), share=0.0).count[1] == 3
    assert collect(model, stream(x, 8), rule="top").documents[1, :3].tolist() == [4, 21, 9]


def test_heat_is_the_shading_of_the_figure() -> None:
    x = torch.zeros(2, 3, D_IN)
    x[0, :, 0] = torch.tensor([-1.0, 0.0, 0.01])
    x[1, :, 0] = torch.tensor([1.0, 0.5, 0.11])
    model = SAE(D_IN, 2, TopK(1), seed=0, decoder_norm=1.0)
    with torch.no_grad():
        model.W_enc.zero_()[0, 1] = 1.0
    assert heat(model, x, 1).tolist() == [[0, 0, 1], [10, 5, 2]]
    assert heat(model, x, 0).tolist() == [[0, 0, 0], [0, 0, 0]]
    for seed in range(200):  # 10 a / max a is above 10 by rounding now and then
        assert heat(sae(), texts(seed)[:2], 4).max() in (0, 10)


def test_refusals_name_what_is_wrong() -> None:
    x, model = texts(), sae()
    with pytest.raises(ParameterError, match="rule"):
        collect(model, stream(x, 8), rule="first")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="share"):
        collect(model, stream(x, 8), share=1.0)
    with pytest.raises(ParameterError, match="n_texts"):
        collect(model, stream(x, 8), n_texts=0)
    with pytest.raises(DataError, match="no document"):
        collect(model, lambda: [])
    with pytest.raises(DataError, match="n_docs, seq"):
        collect(model, stream(x.flatten(0, 1), 8))
    once = iter(x.split(8))

    def spent() -> Iterator[Tensor]:
        return once

    with pytest.raises(DataError, match="pass 2"):
        collect(model, spent)
