"""The commands for anybody's SAE: `report`, `doctor`, `convert`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import ParameterError
from .templates import macros

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1  # of the JSON that `report --json` prints: see `as_json`


def arguments(command: Any) -> None:
    """What `report` and `doctor` take besides the SAE."""
    command("--model", metavar="NAME", help="the language model: a folder, or a name in the cache")
    command("--text", metavar="FILE", help="text, JSONL or Parquet that the model reads")
    command("--context", type=int, default=128, help="tokens of each document (default: 128)")
    command("--documents", type=int, metavar="N", help="read so many documents, not all")
    command("--pickled", action="store_true", help="allow an SAE in a pickle (ae.pt)")


def report(options: argparse.Namespace) -> None:
    """Print a report card; write it as a page or print it as JSON where asked for."""
    from .. import report_card
    from ..formats import read_sae

    sae = read_sae(options.sae, pickled=options.pickled)
    second = read_sae(options.second, pickled=options.pickled) if options.second else None
    model, tokens = _read(options)
    acts = _acts(options.acts)
    if acts is None and model is not None:
        acts = report_card.rows_of(model, tokens, options.layer, options.site)
    rows = report_card.report(
        sae, acts, second=second, model=model, tokens=tokens, layer=options.layer, site=options.site
    )
    lacks = report_card.missing(acts, second, model)
    explained = {} if acts is None else report_card.explained(sae, acts)
    if options.json:
        print(files.pretty(as_json(sae, rows, explained, lacks)), end="")
        return
    for row in rows:
        print(f"{row.name:34} {_number(row)}   {row.says} Not: {row.silent}")
    for name, value in explained.items():
        print(f'"explained variance", {name}: {value:.4f}')
    print(*lacks, sep="\n")
    if options.out:
        page = macros("report.jinja", number=_number).page(
            Path(options.sae).name, repr(sae), rows, explained, lacks
        )
        files.write_atomic(Path(options.out), page)
        print(f"saved {options.out}")


def as_json(
    sae: Any, rows: Sequence[Any], explained: dict[str, float], lacks: Sequence[str]
) -> dict[str, Any]:
    """`{"schema": 1, "sae": ..., "numbers": [{group, name, value, low, high, ...}], ...}`"""
    return {
        "schema": SCHEMA,
        "sae": repr(sae),
        "numbers": [row._asdict() for row in rows],
        "explained_variance": explained,
        "missing": list(lacks),
    }


def doctor(options: argparse.Namespace) -> None:
    """Print where and how the SAE fits, and the best places of all that were tried."""
    from .. import report_card
    from ..formats import read_sae

    model, tokens = _read(options)
    if model is None:
        raise ParameterError("--model: missing. Allowed is a language model with --text. Add both.")
    table = report_card.doctor(read_sae(options.sae, pickled=options.pickled), model, tokens)
    print(report_card.diagnosis(table))
    print(table.head(options.rows).round(4).to_string())


def convert(options: argparse.Namespace) -> None:
    """Any SAE into SAELens' layout, or ours."""
    from ..checkpoint import save_sae
    from ..formats import read_sae, write_saelens

    sae = read_sae(options.sae, pickled=options.pickled)
    write = write_saelens if options.to == "saelens" else save_sae
    print(f"saved {write(sae, options.folder)} for {options.to}")


def _read(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model and the tokens that it reads, or None for both."""
    if not (options.model or options.text):
        return None, None
    if not (options.model and options.text):
        lacking = "--text" if options.model else "--model"
        raise ParameterError(f"{lacking}: missing. A model and a text go together. Add it.")
    from ..lm.corpora import read_rows
    from ..lm.hub import load_tokenizer
    from ..lm.models import load_model

    tokenizer = load_tokenizer(options.model)
    how = {"n_documents": options.documents, "bos": tokenizer.bos_token_id is not None}
    rows = read_rows(options.text, tokenizer, options.context, **how)
    return load_model(options.model), rows.rows.long()


def _acts(path: str | None) -> Tensor | None:
    if path is None:
        return None
    from ..sources import Rows

    rows = Rows(path, repeat=False)
    return rows.batch(0, rows.n_samples or 0)


def _number(row: Any) -> str:
    low, high = f"{row.low:.4g}", f"{row.high:.4g}"
    return f"{row.value:.4g}" if low == high else f"{row.value:.4g} [{low}, {high}]"
