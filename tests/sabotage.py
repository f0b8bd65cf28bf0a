# ruff: noqa: E501
"""Named faults, planted one at a time: `nox -s sabotage`. Each must be caught by a test.

Every row is a fault that would give a wrong number without a word: the file, what stands there, what
a careless hand would write, and the tests that should notice. A row whose text is no longer in the
file is an error too: the table follows the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Fault(NamedTuple):
    """One planted fault."""

    name: str
    file: str
    old: str
    new: str
    tests: str


FAULTS = [
    Fault("BatchTopK selects per input", "activations.py",
          "return keep_largest(scores, self.n_kept(scores.numel() // scores.shape[-1]))",
          "return TopK(max(1, round(self.k))).support(scores), 0.0", "test_activations.py"),
    Fault("TopK lets negative scores through", "activations.py",
          "scatter_(-1, latents, F.relu(values).sign())",
          "scatter_(-1, latents, torch.ones_like(values))", "test_activations.py"),
    Fault("selection ignores decoder norms", "sae.py",
          "return pre_acts * torch.linalg.vector_norm(self.W_dec, dim=1)", "return pre_acts",
          "test_sae.py"),
    Fault("the encoder forgets b_dec", "sae.py", "return x - self.b_dec if self.subtract_b_dec else x",
          "return x", "test_sae.py"),
    Fault("thresholds are not scaled back", "sae.py",
          "for tensor in (self.b_enc, self.b_dec, self.threshold):",
          "for tensor in (self.b_enc, self.b_dec):", "test_sae.py"),
    Fault("FVU is not centred", "metrics/batches.py", "(x - x.mean(dim=0)).square().sum()",
          "x.square().sum()", "test_metrics.py"),
    Fault("the error is averaged over dimensions", "metrics/batches.py",
          "return float((x - x_hat).double().square().sum(dim=1).mean())",
          "return float((x - x_hat).double().square().mean())", "test_metrics.py"),
    Fault("L0 counts latents over the batch", "metrics/batches.py",
          "(acts != 0).sum(dim=1).double().mean()", "(acts != 0).any(dim=0).double().sum()",
          "test_metrics.py"),
    Fault("c_dec without the absolute value", "metrics/dictionary.py", "(unit @ unit.T).abs()",
          "(unit @ unit.T)", "test_metrics.py"),
    Fault("s_n takes a mean", "metrics/dictionary.py", "return kth_largest(Z, n * len(x) + 1)",
          "return float(Z.mean())", "test_metrics.py"),
    Fault("s_n is off by one", "metrics/dictionary.py", "n * len(x) + 1)", "n * len(x))",
          "test_metrics.py"),
    Fault("matching takes the absolute cosine", "metrics/dictionary.py",
          "linear_sum_assignment(cosines.numpy(), maximize=True)",
          "linear_sum_assignment(abs(cosines.numpy()), maximize=True)", "test_metrics.py"),
    Fault("stability matches by the decoder alone", "metrics/stability.py",
          "equal = (match_enc == match_dec) & (match_enc >= 0)", "equal = match_dec >= 0",
          "test_stability.py"),
    Fault("Wilson's interval without its centre", "metrics/intervals.py",
          "share, zz = successes / n, Z * Z / n", "share, zz = successes / n, 0 * Z",
          "test_intervals.py"),
    Fault("clamps of GBA swapped", "methods/gba.py", "lowered = (b - gamma * r).clamp(min=-1)",
          "lowered = (b - gamma * r).clamp(max=0)", "test_bias_adaptation.py"),
    Fault("GBA raises what fires too often", "methods/gba.py", "torch.where(p > TAF[group], lowered",
          "torch.where(p < TAF[group], lowered", "test_bias_adaptation.py"),
    Fault("the mean of a group over all latents", "methods/gba.py", "total / n_positive.clamp(min=1)",
          "total / len(r)", "test_bias_adaptation.py"),
    Fault("correlations are removed", "sources/toy.py",
          "z = z + cut if self._mix is None else torch.addmm(cut, z, self._mix)", "z = z + cut",
          "test_sources.py"),
    Fault("superposed features start long", "sources/toy.py",
          "_spread((rows / rows.norm(dim=1, keepdim=True)).float(), steps)",
          "_spread(rows.float(), steps)", "test_sources.py"),
    Fault("the seed of a toy is ignored", "sources/toy.py",
          'generator = rng.stream(seed, "toy", "features")',
          'generator = rng.stream(0, "toy", "features")', "test_sources.py"),
    Fault("evaluation reads training data", "sources/toy.py",
          'z, eps = rng.normals(self.seed, "toy", "batch", step, shape=shape)',
          'z, eps = rng.normals(self.seed, "toy", "batch", abs(step), shape=shape)',
          "test_sources.py"),
    Fault("the mirror forgets one side", "methods/mirror.py", "return torch.cat([rows, -rows])",
          "return torch.cat([rows, rows])", "test_saemd.py test_init.py"),
    Fault("MLP weights transposed", "methods/mirror.py", "rows = U.T.double()",
          "rows = U.double()", "test_saemd.py test_init.py"),
    Fault("paired units compared unpaired", "suite/points.py", "def minus(a: Point, b: Point, factor: float = 1.0) -> Point:",
          "def minus(a: Point, b: Point, factor: float = 1.0) -> Point:\n    a, b = a._replace(units=()), b._replace(units=())",
          "test_rules.py test_claims.py"),
    Fault("a tie counts as better", "suite/rules.py", "ahead.low > self.margin + slack",
          "ahead.low > self.margin - 2 * slack - 1e-6", "test_rules.py test_claims.py"),
    Fault("a gated SAE without its gate", "formats.py", "w[\"b_mag\"] - scale * w[\"b_gate\"]",
          "0 * w[\"b_mag\"]", "test_formats.py"),
    Fault("rescaled selection of SAELens is lost", "formats.py", '"rescaled" if rescaled else "raw"',
          '"raw"', "test_formats.py"),
]  # fmt: skip


def planted(fault: Fault, folder: Path) -> str:
    """Plant a fault in a copy and run its tests: `caught`, `SURVIVED` or what stands in the way."""
    file = folder / "srclib" / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        return f"NOT PLANTED: its text stands {text.count(fault.old)} times in {fault.file}"
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    tests = [f"tests/{name}" for name in fault.tests.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    env = os.environ | {
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, check=False)
    file.write_text(text, encoding="utf-8")
    return {0: "SURVIVED", 1: "caught"}.get(done.returncode, f"NOT RUN: exit {done.returncode}")


def main(wanted: list[str]) -> int:
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "copy"
        ignored = shutil.ignore_patterns(
            ".git", ".nox", "build", "_build", "_executed", "__pycache__"
        )
        shutil.copytree(ROOT, folder, ignore=ignored)
        for fault in FAULTS:
            if not wanted or any(word in fault.name for word in wanted):
                found[fault.name] = planted(fault, folder)
                print(f"{found[fault.name]:10} {fault.name}", flush=True)
    caught = sum(result == "caught" for result in found.values())
    print(f"{caught} of {len(found)} planted faults were caught")
    return 0 if caught == len(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
