"""The commands for anybody's SAE: `report`, `doctor`, `convert`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..errors import ParameterError, message
from ..store import files
from .templates import macros

if TYPE_CHECKING:
    from torch import Tensor

    from ..sae import SAE
    from .interactive import Latent

DENSITIES = ((0.1, "dense, over 10 %"), (0.01, "common, 1 to 10 %"), (0.0, "rare, under 1 %"))
SCHEMA = 1  # of the JSON that `report --json` prints: report.schema.json


def commands(add: Callable[..., Any], positive: Callable[[str], int]) -> None:
    """Declare the commands; `add(name, command, help)` returns what takes the arguments."""
    card = add("report", report, "what can be said about one SAE, of any library")
    card("sae", metavar="SAE", help="a folder or file: ours, SAELens, sparsify, Gemma Scope, ...")
    card("--acts", metavar="FILE", help="activations [n, d_in], .npy or .safetensors")
    card("--second", metavar="SAE", help="another seed of it: do they agree?")
    card("--siblings", metavar="SAE", nargs="+", default=[], help="it at other sparsities")
    card("--labels", metavar="FILE", help="one label a line, as many as documents in --text")
    card("--out", metavar="FILE.html", help="write one self-contained page")
    card("--json", action="store_true", help="print the numbers as JSON")
    look = add("doctor", doctor, "is an SAE used as it was trained? layer, site, scale")
    look("sae", metavar="SAE")
    look("--rows", type=positive, default=8, help="how many places to show (default: 8)")
    browse = add("explore", explore, "a page of the texts that activate each latent of an SAE")
    browse("sae", metavar="SAE")
    browse("--latents", type=positive, default=200, help="the most active so many (default: 200)")
    browse("--out", metavar="FILE.html", default="explorer.html", help="the page to write")
    for command in (card, browse):
        command("--layer", type=int, default=0, help="block that the SAE reads (default: 0)")
        command("--site", choices=("in", "out"), default="out", help="before or after that block")
    for command in (card, look, browse):
        command("--model", metavar="NAME", help="the language model: a folder, or a cached name")
        command("--text", metavar="FILE", help="text, JSONL or Parquet that the model reads")
        command("--context", type=positive, default=128, help="tokens of a document (default: 128)")
        command("--documents", type=positive, metavar="N", help="read so many documents, not all")
    change = add("convert", convert, "an SAE of any library into another layout")
    change("sae", metavar="SAE")
    change("folder", metavar="FOLDER")
    change("--to", choices=("saelens", "srclib"), default="srclib")
    for command in (card, look, browse, change):
        command("--pickled", action="store_true", help="allow an SAE in a pickle (ae.pt)")


def report(options: argparse.Namespace) -> None:
    """Print a report card; write it as a page or print it as JSON where asked for."""
    from .. import report_card
    from ..formats import read_sae
    from ..lm.hub import load_tokenizer

    sae = read_sae(options.sae, pickled=options.pickled)
    second = read_sae(options.second, pickled=options.pickled) if options.second else None
    model, tokens = _read(options)
    acts = _acts(options.acts)
    if acts is None and model is not None:
        acts = report_card.texts_of(model, tokens, options.layer, options.site)
    siblings = [read_sae(each, pickled=options.pickled) for each in options.siblings]
    labels = _labels(options)
    decode = load_tokenizer(options.model).decode if options.model else None
    rows = report_card.report(
        sae, acts, second=second, siblings=siblings, model=model, tokens=tokens, decode=decode,
        labels=labels, layer=options.layer, site=options.site,
    )  # fmt: skip
    lacks = report_card.missing(acts, second, model, siblings, labels)
    explained = {} if acts is None else report_card.explained(sae, acts.flatten(0, -2))
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
    """What report.schema.json describes; a number that could not be measured is null."""
    numbers = [
        {key: None if value != value else value for key, value in row._asdict().items()}
        for row in rows
    ]
    return {
        "schema": SCHEMA,
        "sae": repr(sae),
        "numbers": numbers,
        "explained_variance": explained,
        "missing": list(lacks),
    }


def doctor(options: argparse.Namespace) -> None:
    """Print where and how the SAE fits, and the best places of all that were tried."""
    from ..formats import read_sae
    from ..report_card import diagnosis

    model, tokens = _needed(options)
    table = diagnosis.doctor(read_sae(options.sae, pickled=options.pickled), model, tokens)
    print(diagnosis.diagnosis(table))
    print(table.head(options.rows).round(4).to_string())


def explore(options: argparse.Namespace) -> None:
    """Write one offline page: examples, histogram, promoted tokens of each latent."""
    from ..formats import read_sae
    from ..lm.hub import load_tokenizer
    from .interactive import feature_explorer

    sae = read_sae(options.sae, pickled=options.pickled)
    model, tokens = _needed(options)
    tokenizer = load_tokenizer(options.model)
    name = Path(options.sae).name
    latents = list(_latents(name, sae, model, tokens, tokenizer.decode, options))
    body = Markup(feature_explorer(latents))
    page = macros("report.jinja", number=_number).bare(f"Latents of {name}", body)
    files.write_atomic(Path(options.out), page)
    print(f"saved {options.out}: {len(latents)} of {sae.d_sae} latents")


def _latents(
    name: str, sae: SAE, model: Any, tokens: Tensor, decode: Any, options: argparse.Namespace
) -> Iterator[Latent]:
    """The latents that fire most, each with its strongest texts and what it promotes."""
    import torch

    from .. import metrics
    from ..lm.harvest import harvest
    from ..methods.latents.examples import collect, heat
    from .interactive import Example, Latent

    acts, _ = harvest(model, tokens, options.layer, options.site)  # [n_texts, seq, d_model]
    found = collect(sae, lambda: acts.split(64), rule="top", n_texts=6)
    with torch.no_grad():
        fired = torch.cat([sae.encode(part) for part in acts.flatten(0, 1).split(4096)])
        logits = sae.W_dec @ model.get_output_embeddings().weight.float().T  # [d_sae, vocab]
    rates = metrics.firing_rate(fired)
    for i in rates.argsort(descending=True).tolist()[: options.latents]:
        texts = found.documents[i, : int(found.count[i])]
        shades = heat(sae, acts[texts], i).tolist() if len(texts) else []
        words = ([decode([token]) for token in tokens[text].tolist()] for text in texts.tolist())
        examples = [Example(word, shade) for word, shade in zip(words, shades, strict=True)]
        density = next(text for bound, text in DENSITIES if rates[i] >= bound)
        values, order = fired[fired[:, i] > 0, i], logits[i].argsort(descending=True)
        top = float(values.max()) if len(values) else 0.0
        bins = torch.histc(values, 20, 0, top or 1).long().tolist()
        most, least = (
            " ".join(repr(decode([token])) for token in part.tolist())
            for part in (order[:6], order[-6:])
        )
        note, site = (
            f"Promotes {most}; suppresses {least}.",
            f"layer {options.layer} {options.site}",
        )
        yield Latent(name, i, density, site, examples, bins, top, note=note)


def convert(options: argparse.Namespace) -> None:
    """Any SAE into SAELens' layout, or ours."""
    from ..formats import read_sae, write_saelens
    from ..store.checkpoint import save_sae

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
    from ..compute.place import place
    from ..lm.hub import load_tokenizer
    from ..lm.models import load_model
    from ..lm.packing import read_rows

    tokenizer = load_tokenizer(options.model)
    how = {"n_documents": options.documents, "bos": tokenizer.bos_token_id is not None}
    rows = read_rows(options.text, tokenizer, options.context, **how)
    if getattr(options, "labels", None) and rows.n_short:
        lack = f"{rows.n_short} documents have fewer tokens"
        fix = "Lower --context: labels would go to the wrong documents."
        raise ParameterError(message("--context", options.context, f"no more; {lack}", fix))
    return load_model(options.model, dtype=place().dtype), rows.rows.long()


def _needed(options: argparse.Namespace) -> tuple[Any, Any]:
    model, tokens = _read(options)
    if model is None:
        raise ParameterError("--model: missing. Allowed is a language model with --text. Add both.")
    return model, tokens


def _labels(options: argparse.Namespace) -> list[str] | None:
    """One label a document, in their order."""
    if options.labels is None:
        return None
    if not options.model:
        fix = "Add --model and --text."
        raise ParameterError(message("--labels", options.labels, "labels of documents", fix))
    return Path(options.labels).read_text(encoding="utf-8").splitlines()


def _acts(path: str | None) -> Tensor | None:
    if path is None:
        return None
    from ..sources import Rows

    rows = Rows(path, repeat=False)
    return rows.batch(0, rows.n_samples or 0)


def _number(row: Any) -> str:
    low, high = f"{row.low:.4g}", f"{row.high:.4g}"
    return f"{row.value:.4g}" if low == high else f"{row.value:.4g} [{low}, {high}]"


COMMANDS = (report, doctor, explore, convert)
