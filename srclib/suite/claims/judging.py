"""From a measurement to a verdict, and to the row of a record."""

from __future__ import annotations

from typing import Any

from ..params import PROFILES
from .ledgerfile import Claim
from .measurement import Interval, Measured, as_table
from .rules import Unmeasured

Record = dict[str, Any]

PAPER_SIDE = ("says", "says_ja", "where", "paper_value")


def judge(
    claim: Claim, measured: Measured, interval: Interval, n_seeds: int, profile: str
) -> tuple[str, str]:
    """The verdict (one of VERDICTS) on a measurement and the reason in words.

    All conditions hold: replicated. All fail: not replicated. Otherwise: partly. Smoke
    runs, smaller profiles, too few seeds and missing numbers are not assessed.
    """
    table = as_table(measured, interval)
    outcomes, doubts = [], _too_small(claim, n_seeds, profile)
    for condition in claim.rule:
        try:
            outcomes.append(condition.judge(table))
        except Unmeasured as lack:
            doubts.append(str(lack))
    if not claim.rule:
        doubts.append(claim.unless_run)
    if doubts:
        return "not assessed", "; ".join(doubts)
    levels = {outcome.level for outcome in outcomes}
    words = {"holds": "Holds", "centre": "Holds at the median only", "fails": "Fails"}
    texts = {level: "; ".join(o.text for o in outcomes if o.level == level) for level in words}
    parts = [f"{words[level]}: {text}." for level, text in texts.items() if text]
    if levels == {"holds"}:
        return "replicated", " ".join(parts)
    return "not replicated" if levels == {"fails"} else "partly", " ".join(parts)


def row_of(
    claim: Claim,
    measured: Measured,
    interval: Interval,
    n_seeds: int,
    scale: str,
    verdict: str,
    reason: str,
    note: str,
) -> Record:
    paper_side = {"id": claim.id, **{key: getattr(claim, key) for key in PAPER_SIDE}}
    numbers = {"measured": measured, "interval": interval, "n_seeds": n_seeds, "scale": scale}
    return {**paper_side, **numbers, "verdict": verdict, "reason": reason, "note": note}


def unmeasured(claim: Claim, scale: str, reason: str, note: str = "") -> Record:
    # A claim about a named model stays visible at the paper's scale until that model is run.
    scale = "paper" if claim.test == "c" else scale
    return row_of(claim, None, None, 0, scale, "not assessed", reason, note)


def below(profile: str, other: str) -> bool:
    return PROFILES.index(profile) < PROFILES.index(other)


def _too_small(claim: Claim, n_seeds: int, profile: str) -> list[str]:
    doubts = []
    if below(profile, claim.decides):
        doubts.append(f"profile {profile} decides nothing here; {claim.decides} or larger does")
    if n_seeds < claim.seeds:
        doubts.append(f"{n_seeds} seed(s) measured, {claim.seeds} needed")
    return doubts
