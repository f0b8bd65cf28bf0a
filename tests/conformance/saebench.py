"""SAEBench's core statistics, computed by its own functions on an SAE that SAELens made.

Its functions ask a model for activations and a store for tokens; both are stand-ins that hand out
the same batch, so that what is compared is the statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from agreement import Row, agree
from formats import D_IN, D_SAE, filled
from sae_bench.evals.core import main as core
from sae_lens import SAE as Theirs
from sae_lens import JumpReLUSAEConfig, TopKSAEConfig

from srclib import metrics, report_card
from srclib.formats import read_sae

N_ROWS, N_TOKENS = 40, 25
KINDS = ("l2_norms", "sparsity_metrics", "variance_metrics", "featurewise_density_statistics")


class Store:
    """Hands out one batch of tokens, which stand for activations."""

    def get_batch_tokens(self, n: int) -> torch.Tensor:
        return torch.zeros(N_ROWS, N_TOKENS, dtype=torch.long)


class Model:
    """Has activations that are known beforehand."""

    def __init__(self, acts: torch.Tensor) -> None:
        self.acts = acts

    def run_with_cache(self, tokens: Any, names_filter: list[str], **rest: Any) -> Any:
        return None, {names_filter[0]: self.acts}


def rows() -> Iterator[Row]:
    size = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"}
    x = 2 + torch.randn(N_ROWS, N_TOKENS, D_IN, generator=torch.Generator().manual_seed(8))
    for name, config in (
        ("TopK", TopKSAEConfig(**size, k=5)),
        ("JumpReLU", JumpReLUSAEConfig(**size)),
    ):
        theirs = filled(Theirs.from_dict(config.to_dict()))
        with TemporaryDirectory() as folder:
            theirs.save_model(Path(folder) / "sae")
            ours = read_sae(Path(folder) / "sae")
        theirs.cfg.hook_name, theirs.cfg.hook_layer, theirs.cfg.hook_head_index = "site", 0, None
        given = {f"compute_{kind}": True for kind in KINDS}
        given |= {"eval_batch_size_prompts": N_ROWS, "model_kwargs": {}}
        ask = core.get_sparsity_and_variance_metrics
        found, by_latent = ask(theirs, Model(x), Store(), 1, **given)
        flat = x.flatten(0, 1)
        with torch.no_grad():
            out = ours(flat)
        shares = report_card.explained(ours, flat)
        told, against = f"{name}, an SAE of SAELens", "SAEBench"
        spread = (flat - flat.mean(0)).square().sum(1).mean()
        pairs = {
            "explained_variance_legacy": shares["mean over inputs"],
            "explained_variance": shares[report_card.UNIT],
            "l0": metrics.l0(out.acts),
            "l1": out.acts.sum(1).mean(),
        }
        for key, value in pairs.items():
            yield agree(key, told, against, found[key], value, 1e-5)
        # their mse divides every squared error by the number of inputs before it is averaged
        mse = metrics.fvu(flat, out.x_hat) * spread / len(flat)
        yield agree("mse", told, against, found["mse"], mse, 1e-5)
        rates = metrics.firing_rate(out.acts)
        density = torch.tensor(by_latent["feature_density"])
        yield agree("feature_density", told, against, density, rates, 1e-5)
