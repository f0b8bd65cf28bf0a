"""SAEs that SAELens saves are read by `srclib.read_sae`, those that `write_saelens` writes are
loaded by SAELens; both compute the same support and reconstruction.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from agreement import Row, agree
from sae_lens import SAE as Theirs
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedSAEConfig,
    JumpReLUSAEConfig,
    StandardSAEConfig,
    TopKSAEConfig,
)  # fmt: skip

import srclib
from srclib.formats import read_sae, write_saelens

D_IN, D_SAE = 16, 64
X = torch.randn(2_000, D_IN, generator=torch.Generator().manual_seed(1))


def filled(sae: Any) -> Any:
    """Weights drawn anew, so that no bias or threshold is zero."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, value in sae.named_parameters():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(drawn.abs() * 0.3 if name == "threshold" else 0.3 * drawn)
    return sae


def theirs() -> dict[str, Any]:
    size = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"}
    configs = {
        "standard": StandardSAEConfig(**size),
        "standard, no b_dec at the input": StandardSAEConfig(**size, apply_b_dec_to_input=False),
        "topk": TopKSAEConfig(**size, k=5),
        "topk rescaled": TopKSAEConfig(**size, k=5, rescale_acts_by_decoder_norm=True),
        "jumprelu": JumpReLUSAEConfig(**size),
        "gated": GatedSAEConfig(**size),
    }
    made = {name: filled(Theirs.from_dict(config.to_dict())) for name, config in configs.items()}
    trainer = filled(BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**size, k=5.0)))
    trainer.topk_threshold.fill_(0.4)
    made["batchtopk, saved for inference"] = trainer
    return made


def ours() -> dict[str, srclib.SAE]:
    kinds = (srclib.ReLU(), srclib.TopK(5), srclib.BatchTopK(5), srclib.JumpReLU(threshold=0.2))
    made = {}
    for kind in kinds:
        sae = srclib.SAE(D_IN, D_SAE, kind, decoder_norm=0.7)
        with torch.no_grad():
            sae.b_enc += 0.1 * torch.randn(D_SAE, generator=torch.Generator().manual_seed(3))
        sae.threshold.fill_(0.5)
        made[type(kind).__name__] = sae.eval()
    return made


def compare(name: str, a: tuple[Any, Any], b: tuple[Any, Any]) -> Iterator[Row]:
    """(acts, x_hat) of both: same support, same x_hat."""
    l0 = float((a[0] != 0).float().sum(1).mean())
    assert 0 < l0 < D_SAE, f"{name}: L0 of {l0} proves nothing"
    yield agree("support", name, "SAELens", a[0] != 0, b[0] != 0, 0)
    yield agree("reconstruction", name, "SAELens", a[1], b[1])


@torch.no_grad()
def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, sae) in enumerate(theirs().items()):
            path = Path(folder) / f"theirs-{i}"
            save = getattr(sae, "save_inference_model", sae.save_model)
            save(path)
            loaded, read = Theirs.load_from_disk(path), read_sae(path)
            acts = loaded.encode(X)
            pair = (acts, loaded.decode(acts)), (read.encode(X), read(X).x_hat)
            yield from compare(f"{name}, read by srclib", *pair)
        for i, (name, sae) in enumerate(ours().items()):
            path = write_saelens(sae, Path(folder) / f"ours-{i}")
            loaded = Theirs.load_from_disk(path)
            acts = loaded.encode(X)
            pair = (acts, loaded.decode(acts)), (sae.encode(X), sae(X).x_hat)
            yield from compare(f"{name}, read by SAELens", *pair)
