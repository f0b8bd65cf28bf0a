"""Sites of the residual stream: the right tensor, no work behind it, nothing left behind."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
import transformers
from tiny import draw
from tiny_lm import CONTEXT, FAMILIES, N_LAYERS, D, ids, n_hooks, tiny_lm
from torch import Tensor

from srclib.errors import DataError, ParameterError
from srclib.lm import layouts
from srclib.lm.layouts import block, blocks, family
from srclib.lm.sites import edited, hook_point, measuring, mlp_pass, residual

SITES = [(layer, side) for layer in range(N_LAYERS) for side in ("in", "out")]
IDS = ids(0, 3, 7)
MASK = torch.ones(3, 7, dtype=torch.long)
MASK[1, 5:] = 0
FINAL_NORM = {"gpt2": "transformer.ln_f", "gpt_neox": "gpt_neox.final_layer_norm"}


def full(model: Any, tokens: Tensor = IDS, mask: Tensor | None = MASK) -> Any:
    with torch.no_grad():
        return model(input_ids=tokens, attention_mask=mask, output_hidden_states=True)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_lm(request.param)


@pytest.fixture(scope="module", params=["gpt2", "gpt_neox", "gemma2"])
def one(request: pytest.FixtureRequest) -> Any:
    """Where the architecture is known to be read right, three of them are enough."""
    return tiny_lm(request.param)


@torch.no_grad()
def test_a_site_is_the_hidden_state_of_a_full_pass(model: Any) -> None:
    """Bit for bit; the last block's output is the state that the final norm has yet to see."""
    states = full(model).hidden_states
    norm = model.get_submodule(FINAL_NORM.get(family(model), "model.norm"))
    for layer in range(N_LAYERS):
        assert residual(model, IDS, MASK, layer, "in").equal(states[layer])
    for layer in range(N_LAYERS - 1):
        assert residual(model, IDS, MASK, layer).equal(states[layer + 1])
    last = residual(model, IDS, MASK, N_LAYERS - 1, "out")
    assert norm(last).equal(states[-1]) and not torch.allclose(last, states[-1], atol=0.1)


def test_a_hook_point_is_a_module_path(model: Any) -> None:
    assert len(blocks(model)) == N_LAYERS
    for layer, side in SITES:
        path, _, end = hook_point(model, layer, side).rpartition(".")
        assert model.get_submodule(path) is block(model, layer) and end == side
        assert path.rpartition(".")[2] == str(layer)


@pytest.mark.parametrize(("layer", "side"), SITES)
def test_the_model_stops_at_the_site(
    one: Any, layer: int, side: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies behind it would raise."""
    monkeypatch.setattr(one.get_output_embeddings(), "forward", None)
    for later in list(blocks(one))[layer + (side == "out") :]:
        monkeypatch.setattr(later, "forward", None)
    assert residual(one, IDS, MASK, layer, side).shape == (3, 7, D)
    with pytest.raises(TypeError, match="NoneType"):
        full(one)


def test_hooks_are_gone_on_every_way_out(one: Any) -> None:
    full(one)  # transformers leaves hooks of its own when it is first asked for states
    before = n_hooks(one)
    for layer, side in SITES:
        residual(one, IDS, MASK, layer, side)
        with suppress(ZeroDivisionError), edited(one, layer, side, lambda x: x * (1 // 0)):
            full(one)
        with suppress(KeyError), edited(one, layer, side, lambda x: x):
            raise KeyError
    with suppress(IndexError, ValueError):
        residual(one, ids(0, 1, 3) + 10_000, None, 1, "out")
    assert n_hooks(one) == before


def test_editing_with_what_is_there_changes_nothing(one: Any) -> None:
    expected = full(one).logits
    for layer, side in SITES:
        with edited(one, layer, side, lambda x: x.clone()):
            assert full(one).logits.equal(expected)


@torch.no_grad()
def test_an_interchange_gives_the_other_texts_answer(model: Any) -> None:
    """The residual of other texts, put in at any site, is followed by their logits."""
    other = ids(1, 3, 7)
    expected = full(model, other).logits
    assert not torch.allclose(expected, full(model).logits, atol=0.1)
    for layer, side in SITES:
        theirs = residual(model, other, MASK, layer, side)
        with edited(model, layer, side, lambda _, theirs=theirs: theirs):
            assert full(model).logits.equal(expected)


@torch.no_grad()
def test_everyone_sees_the_edited_residual(one: Any) -> None:
    """The model's own hidden states, and a `residual` read inside."""
    new = draw(1, 3, 7, D)
    full(one)
    for layer, side in SITES:
        with edited(one, layer, side, lambda _: new):
            assert residual(one, IDS, MASK, layer, side).equal(new)
    for layer in range(N_LAYERS - 1):
        with edited(one, layer, "out", lambda _: new):
            assert full(one).hidden_states[layer + 1].equal(new)


@torch.no_grad()
def test_an_edit_of_one_position_leaves_earlier_ones(one: Any) -> None:
    def ablate(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 4] = 0
        return x

    with edited(one, 0, "out", ablate):
        now = full(one).logits
    same = (now == full(one).logits).all(-1)  # [batch, seq]
    assert same[:, :4].all() and not same[0, 4:].any()


def test_of_two_edits_the_inner_acts_first() -> None:
    model, seen = tiny_lm("gpt2"), []

    def note(name: str) -> Any:
        return lambda x: (seen.append(name), x)[1]

    with edited(model, 0, "out", note("outer")), edited(model, 0, "out", note("inner")):
        full(model)
    assert seen == ["inner", "outer"]


@torch.no_grad()
def test_blocks_that_return_a_tuple(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before transformers 5: the residual is the first, the rest goes through."""
    model, rest = tiny_lm("llama"), []
    last = block(model, 1)
    expected = residual(model, IDS, MASK, 1)
    with edited(model, 1, "out", lambda x: x.square()):
        squared = full(model).logits

    def unpack(_: Any, args: Any) -> Any:
        rest.append(args[0][1])
        return args[0][0]

    bare = last.forward
    monkeypatch.setattr(last, "forward", lambda *args, **kwargs: (bare(*args, **kwargs), "cache"))
    model.model.norm.register_forward_pre_hook(unpack)
    assert residual(model, IDS, MASK, 1).equal(expected)
    with edited(model, 1, "out", lambda x: x.square()):
        assert full(model).logits.equal(squared)
    assert rest == ["cache"]


@torch.no_grad()
def test_the_residual_may_come_by_name() -> None:
    model = tiny_lm("gpt2")
    h = draw(0, 2, 5, D)
    expected = block(model, 1)(2 * h)
    with edited(model, 1, "in", lambda x: 2 * x):
        assert block(model, 1)(hidden_states=h).equal(expected)


@torch.no_grad()
def test_a_model_without_a_head_has_the_same_sites() -> None:
    for name in ("gpt2", "gemma2"):
        model = tiny_lm(name)
        bare = model.base_model
        assert hook_point(bare, 1, "in") == hook_point(model, 1, "in").partition(".")[2]
        assert residual(bare, IDS, MASK, 1).equal(residual(model, IDS, MASK, 1))


@torch.no_grad()
def test_gradients_flow_when_the_caller_wants_them() -> None:
    model = tiny_lm("gpt2")
    with torch.enable_grad():
        residual(model, IDS, MASK, 0).sum().backward()
    assert model.transformer.wte.weight.grad.abs().sum() > 0
    assert model.transformer.h[1].mlp.c_proj.weight.grad is None


@pytest.mark.parametrize("layer", [-1, N_LAYERS, True, 0.0, "0"])
def test_a_block_that_is_not_there_is_refused(layer: Any) -> None:
    with pytest.raises(ParameterError, match=rf"layer={layer!r}: allowed is 0 <= layer < 2"):
        residual(tiny_lm("gpt2"), IDS, MASK, layer, "out")


def test_other_sites_are_refused_and_what_needs_a_known_family() -> None:
    with pytest.raises(ParameterError, match="site='mid': allowed is 'in' or 'out'"):
        residual(tiny_lm("gpt2"), IDS, MASK, 0, "mid")  # type: ignore[arg-type]
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "ffn_dim": 8}
    opt = transformers.OPTForCausalLM(
        transformers.OPTConfig(vocab_size=9, word_embed_proj_dim=8, **small)
    )
    assert len(blocks(opt)) == 1
    with pytest.raises(DataError, match="model_type='opt': allowed is one of gpt2, gpt_neox"):
        mlp_pass(opt, 0, ids(0, 1, 3) % 9)


@pytest.mark.parametrize(
    ("edit", "seen"), [(lambda x: x[:, 1:], r"\(3, 6, 16\)"), (lambda x: None, "'NoneType'")]
)
def test_an_edit_that_returns_something_else_is_refused(edit: Any, seen: str) -> None:
    with (
        edited(model := tiny_lm("gpt2"), 1, "out", edit),
        pytest.raises(DataError, match=rf"edit at transformer.h.1.out={seen}: allowed"),
    ):
        full(model)


def test_an_edit_is_cast_to_the_models_dtype() -> None:
    model = tiny_lm("llama").bfloat16()
    with edited(model, 0, "out", lambda x: x.double()):
        assert full(model).logits.dtype == torch.bfloat16


def test_measuring_restores_each_flag() -> None:
    model = tiny_lm("gpt2", resid_pdrop=0.5).train()
    block(model, 1).eval()
    before = [module.training for module in model.modules()]
    with suppress(KeyError), measuring(model):
        assert not any(module.training for module in model.modules())
        assert not model(input_ids=IDS).logits.requires_grad
        raise KeyError
    assert [module.training for module in model.modules()] == before and len(set(before)) == 2


def test_gemma3_with_eyes_has_the_sites_of_its_text_model() -> None:
    small = {"hidden_size": D, "intermediate_size": 24, "num_hidden_layers": 1}
    text = {**small, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    text |= {"vocab_size": 30, "max_position_embeddings": CONTEXT}
    eyes = {**small, "num_attention_heads": 1, "image_size": 8, "patch_size": 4}
    config = transformers.Gemma3Config(text_config=text, vision_config=eyes, mm_tokens_per_image=1)
    model = transformers.Gemma3ForConditionalGeneration(config)
    assert family(model) == "gemma3_text"
    assert hook_point(model, 0, "out") == "model.language_model.layers.0.out"


def test_the_mlp_adds_its_term_to_the_stream(model: Any) -> None:
    """In every family, from parts that are read where they arise."""
    before = n_hooks(model)
    for layer in range(N_LAYERS):
        seen = mlp_pass(model, layer, IDS)
        torch.testing.assert_close(seen.stream + seen.term, seen.out, rtol=1e-5, atol=1e-5)
        assert seen.out.equal(residual(model, IDS, None, layer))
        assert seen.neurons.shape == (3, 7, 24) and seen.term.abs().max() > 0.1
        assert not torch.allclose(seen.stream, residual(model, IDS, None, layer, "in"), atol=0.01)
    assert n_hooks(model) == before
    with pytest.raises(ParameterError, match="layer=2"):
        mlp_pass(model, 2, IDS)


def test_gpt_neox_may_add_one_after_the_other() -> None:
    model = tiny_lm("gpt_neox", use_parallel_residual=False)
    seen = mlp_pass(model, 0, IDS)
    torch.testing.assert_close(seen.stream + seen.term, seen.out, rtol=1e-5, atol=1e-5)


def test_the_blocks_of_an_unlisted_family_are_found_by_structure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = tiny_lm("llama")
    expected = blocks(made)
    monkeypatch.delitem(layouts.LAYOUTS, "llama")
    assert blocks(made) is expected
    assert torch.equal(residual(made, IDS, MASK, 0), full(made).hidden_states[1])
    made.model.twin = torch.nn.ModuleList(torch.nn.Identity() for _ in range(N_LAYERS))
    with pytest.raises(DataError, match=r"llama: blocks=\['layers', 'twin'\]"):
        blocks(made)
