# ruff: noqa: E501
"""Named faults for `nox -s sabotage`: each would give a wrong number without a word.

A row is the fault, its file, what stands there, what a careless hand would write, and the tests that
should notice. A row whose text is no longer in the file is an error too: the table follows the code.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One planted fault."""

    name: str
    file: str
    old: str
    new: str
    tests: str


FAULTS = [
    Fault("BatchTopK selects per input", "activations.py",
          "return keep_largest(scores, n)",
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
          "return float((x.double() - x_hat.double()).square().sum(dim=1).mean())",
          "return float((x.double() - x_hat.double()).square().mean())", "test_metrics.py"),
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
    Fault("a tie counts as better", "suite/rules.py", "ahead.low > self.margin + more",
          "ahead.low > self.margin - 2 * more - 1e-6", "test_rules.py test_claims.py"),
    Fault("a gated SAE without its gate", "formats/saelens.py", "w[\"b_mag\"] - scale * w[\"b_gate\"]",
          "0 * w[\"b_mag\"]", "test_formats.py"),
    Fault("rescaled selection of SAELens is lost", "formats/saelens.py", '"rescaled" if rescaled else "raw"',
          '"raw"', "test_formats.py"),
    # --- what a model is taught, and what it is judged on
    Fault("AlignSAE's rivals are chosen on the questions that judge them", "methods/alignsae/readings.py",
          "binding.most_selective(sae.encode(x[train]), relation[train], n_relations)",
          "binding.most_selective(sae.encode(x), relation, n_relations)", "test_alignsae_tables.py test_align.py"),
    Fault("labels leak: latents of a probe are chosen on the test set", "evals/probes.py",
          "best = most_telling(acts, labels, k)", "best = most_telling(test_acts, test_labels, k)",
          "test_evals_core.py"),
    Fault("a language is voted for by all tokens", "methods/latents/__init__.py",
          "count[winner] / max(count.total(), 1)", "count[winner] / max(len(votes), 1)",
          "test_granularity.py"),
    Fault("a text's mean counts its padding", "evals/probes.py",
          "return total / mask.sum(dim=1, keepdim=True)", "return total / mask.shape[1]",
          "test_evals_core.py"),
    # --- averages over the wrong axis
    Fault("the variance is taken around each input's own mean", "metrics/batches.py",
          "variance = (x - x.mean(dim=0)).square().sum()",
          "variance = (x - x.mean(dim=1, keepdim=True)).square().sum()", "test_metrics.py"),
    Fault("firing rates per input", "metrics/batches.py",
          "return acts.count_nonzero(dim=0).double() / len(acts)",
          "return acts.count_nonzero(dim=1).double() / len(acts)", "test_metrics.py"),
    Fault("effective features: the mean over latents", "metrics/batches.py",
          "p = means / means.sum(dim=1, keepdim=True)", "p = means / means.sum(dim=0, keepdim=True)",
          "test_stability.py test_metrics.py"),
    Fault("covariances centred over latents", "methods/alignsae/terms.py",
          "covariance = (slots - slots.mean(dim=0)).T", "covariance = (slots - slots.mean(dim=1, keepdim=True)).T",
          "test_align_losses.py"),
    Fault("consistency takes the best run", "metrics/dictionary.py",
          "for other in others]).mean(dim=0)", "for other in others]).amax(dim=0)", "test_metrics.py"),
    Fault("recovery takes the unsigned cosine", "metrics/dictionary.py",
          "cosines = a_unit @ b_part.T  # [block, block]", "cosines = (a_unit @ b_part.T).abs()",
          "test_metrics.py"),
    # --- verdicts
    Fault("undecided counts as held", "suite/judging.py",
          'verdict = "replicated" if levels == {"holds"} else verdict',
          'verdict = "replicated" if "fails" not in levels else verdict', "test_claims.py"),
    Fault("a smoke run decides", "suite/judging.py", "if below(profile, claim.decides):",
          "if False and below(profile, claim.decides):", "test_claims.py"),
    Fault("one seed is as good as many", "suite/judging.py", 'if row["n_seeds"] < claim.seeds:',
          'if row["n_seeds"] < 1:', "test_claims.py"),
    Fault("an instrument that does not work is believed", "suite/judging.py",
          'for o in works if o.level != "holds"]', 'for o in works if o.level == "none"]',
          "test_claims.py"),
    Fault("units without a finite value are left out", "suite/judging.py",
          "if not own or len(numbers) < len(own):", "if not numbers:", "test_claims.py"),
    Fault("units are paired by position", "suite/labels.py",
          "[out.values[label][own.index(each)] for each in everyone]",
          "list(out.values[label])", "test_record_labels.py test_claims.py"),
    Fault("an interval is that of the middle half", "suite/points.py",
          "j = max(1, sum(tail <= 0.05 for tail in tails))",
          "j = max(1, sum(tail <= 0.5 for tail in tails))", "test_rules.py"),
    Fault("a median of the lower half", "suite/points.py",
          "return Point(statistics.median(units), low, high, tuple(units))",
          "return Point(statistics.median_low(units), low, high, tuple(units))",
          "test_rules.py test_claims.py"),
    Fault("what is the paper's scale is typed in", "suite/claims.py",
          'return "reduced" if lacks else "paper"', 'return "paper"', "test_claims.py"),
    # --- parameters
    Fault("values out of range are taken", "suite/schema.py",
          "if checked and not self._in_range(accepted[i], values):", "if False:", "test_params.py"),
    Fault("true is a number", "suite/schema.py",
          "return type(value) in (int, float) and abs(value) <= sys.float_info.max",
          "return isinstance(value, int | float) and abs(value) <= sys.float_info.max",
          "test_params.py test_claims.py"),
    Fault("a profile wins over what was asked for", "suite/params.py",
          "each.accept((left | given)[name])",
          'each.accept(profile if name == "profile" else each.value_at(profile))',
          "test_params.py"),
    # --- what is stored
    Fault("the source is not in the key of a run", "runs/keys.py", "        run.source.identity,",
          "        run.source.d_in,", "test_memo.py"),
    Fault("the starting weights are not in the key of a run", "runs/keys.py",
          "files.tensors_sha256(run.sae.state_dict().values())", "files.tensors_sha256([])",
          "test_memo.py"),
    Fault("the code is not in the key of a run", "runs/keys.py",
          "_code(frozenset(type(part) for part in parts if part is not None)),", '"",',
          "test_memo.py"),
    Fault("a checksum of tensors is not compared", "store/checkpoint.py",
          'if meta["tensors_sha256"] != files.sha256(data):', "if False:", "test_checkpoint.py"),
    Fault("a checksum of a description is not compared", "store/checkpoint.py", "if claimed != found:",
          "if False:", "test_checkpoint.py"),
    Fault("a record edited by hand is believed", "suite/records.py",
          "return seal(record) == record", "return True", "test_records.py test_verify.py"),
    Fault("a seal leaves out what it covers", "store/files.py", "inner[name] = digest(copy)",
          'inner[name] = digest(sorted(copy))', "test_records.py test_checkpoint.py"),
    Fault("another module's edit is not seen", "suite/verify.py",
          'modules = list(filter(fingerprint.counts, differing["modules"]))', "modules = []",
          "test_verify.py"),
    Fault("a secret in the output passes", "suite/gate.py",
          "if what := secrets.found(text) or secrets.found(_text(source)):",
          "if what := secrets.found(_text(source)):", "test_gate.py"),
]  # fmt: skip

# Module: the tests that should notice a random mutant of it.
MODULES = {
    "metrics/batches.py": "test_metrics.py",
    "metrics/dictionary.py": "test_metrics.py test_stability.py",
    "metrics/intervals.py": "test_intervals.py",
    "metrics/stability.py": "test_stability.py",
    "methods/gba.py": "test_bias_adaptation.py",
    "methods/gba_theory.py": "test_bias_adaptation.py",
    "methods/auto_l0.py": "test_auto_l0.py",
    "methods/mirror.py": "test_init.py test_saemd.py",
    "methods/saemd.py": "test_saemd.py",
    "methods/alignsae/terms.py": "test_align_losses.py test_align.py",
    "methods/alignsae/swaps.py": "test_steering.py test_alignsae_tables.py",
    "methods/latents/__init__.py": "test_granularity.py",
    "suite/claims.py": "test_claims.py test_branches.py",
    "suite/judging.py": "test_claims.py test_records.py test_verify.py",
    "suite/labels.py": "test_record_labels.py test_claims.py",
    "suite/points.py": "test_rules.py test_claims.py",
    "suite/rules.py": "test_rules.py test_claims.py",
    "suite/curves.py": "test_rules.py test_claims.py",
    "suite/outcomes.py": "test_rules.py test_claims.py",
    "suite/records.py": "test_records.py test_branches.py test_verify.py",
    "suite/schema.py": "test_params.py test_claims.py",
    "suite/params.py": "test_params.py",
    "suite/gate.py": "test_gate.py test_branches.py",
    "runs/keys.py": "test_memo.py",
    "runs/memo.py": "test_memo.py test_memo_refusals.py",
    "store/checkpoint.py": "test_checkpoint.py",
    "store/files.py": "test_files.py test_checkpoint.py test_records.py test_hostile.py",
}

# Survivors that were looked at: (file, old, new) and why no test can or need notice.
EQUAL = "equal: the lengths were compared before"
ROUNDING = "equal: the bound stands a rounding above the tolerance, and any such rounding does"
THREADS = "threads of a small run: they change its time, and no number"
WHY: dict[tuple[str, str, str], str] = {
    ("suite/points.py", "True", "False"): EQUAL,  # zip(strict=) of units
    ("suite/curves.py", "behind.high <= bound", "behind.high < bound"): ROUNDING,
    ("suite/outcomes.py", "1.0", "1.6"): ROUNDING,
    ("runs/memo.py", "1", "2"): THREADS,
    (
        "runs/memo.py",
        "threads if largest > WORTH_A_THREAD else 1",
        "threads if not largest > WORTH_A_THREAD else 1",
    ): THREADS,
    (
        "runs/memo.py",
        "n_done * cfg.n_batch",
        "n_done / cfg.n_batch",
    ): "whose turn it is: it decides how often a block is computed, and no number",
}


def why(row: dict[str, object]) -> str:
    return WHY.get((str(row["file"]), str(row["old"]), str(row["new"])), "not looked at yet")


# Study: the named faults that its verdicts are tried with (`nox -s sabotage -- --only turned l0`).
TURNS = {
    "l0": (
        "BatchTopK selects per input",
        "selection ignores decoder norms",
        "correlations are removed",
        "s_n takes a mean",
        "c_dec without the absolute value",
        "units without a finite value are left out",
    ),
}
