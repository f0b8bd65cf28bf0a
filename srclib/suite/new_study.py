"""`srclib new STUDY`: the three files of a study that runs, to be filled with a paper's claims."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ..errors import ParameterError, message
from ..store import files

PROFILE = """# Sizes of the study "{study}": types, bounds and values of its parameters.

study = "{study}"
title = "{study}: what is asked"
title_ja = "{study}：何を問うか"
paper = "arXiv:0000.00000"

[profiles]
smoke = {{seconds = 20, disk_mb = 1}}
laptop = {{seconds = 60, disk_mb = 10}}

[parameters.seeds]
type = "list[int]"
help = "seeds of data and start, the outer unit"
min = 0
default = [0, 1, 2]
smoke = [0]

[parameters.n_steps]
type = "int"
help = "updates of an SAE"
min = 1
default = 500
smoke = 20
"""
CLAIMS = """# What the paper says, in our words, and the rule that judges it, written beforehand.

# recovered: share of the features with a latent at a cosine above 0.9, one number per seed.
[[claim]]
id = "{study}.recovers"
says = "A TopK autoencoder with the right k recovers most features."
says_ja = "正しい k の TopK 自己符号化器は大部分の特徴を回復する。"
where = "section 1"
paper_value = "not given"
kind = "value"
test = "b"
decides = "laptop"
seeds = 3
stand_in = "a toy"
rule = [{{op = ">", left = "recovered", right = 0.5}}]
"""
CELLS: list[tuple[str, list[str], str]] = [
    ("markdown", [], "# {study}: what is asked\n\nWhat the paper claims, and what this page does."),
    (
        "code",
        ["parameters", "hide-input"],
        'profile: str = "laptop"  # size of the run: smoke or laptop\n'
        "seed: int = 0  # added to every seed\n"
        'device: str = "auto"  # where to compute: auto, cpu, cuda, mps\n'
        'dtype: str = "auto"  # of language models: auto, float32, bfloat16\n'
        "seeds: list = None  # seeds of data and start, the outer unit\n"
        "n_steps: int = None  # updates of an SAE",
    ),
    (
        "code",
        ["hide-cell"],
        "import srclib\n"
        "from srclib import SAE, Run, TopK, TrainConfig, metrics, sweep\n"
        "from srclib.sources import ToyFeatures\n\n"
        'P = srclib.parameters("{study}", In, globals())\nP',
    ),
    ("code", [], 'ledger = srclib.ledger("{study}", P)'),
    (
        "code",
        [],
        "config = TrainConfig(P.n_steps, 256, 3e-3)\n"
        "toys = {{s: ToyFeatures(20, 40, 0.1, seed=P.seed + s) for s in P.seeds}}\n"
        "saes = {{s: SAE(40, 20, TopK(2), seed=s) for s in P.seeds}}\n"
        'runs = sweep({{s: Run(saes[s], toys[s], config) for s in P.seeds}}, "seed")\n'
        "\n\ndef recovery(run):\n"
        "    match = metrics.match_to_features(run.sae.W_dec, run.source.features)\n"
        '    return {{"recovered": (match.cosines > 0.9).double().mean().item()}}\n'
        "\n\ntable = runs.table(recovery)\n"
        'ledger.record("{study}.recovers", table)\ntable',
    ),
    ("code", [], "ledger.verdicts()"),
]


def create(study: str) -> list[Path]:
    """Write notebook, profile and claims of a study and its line in the table of contents.

    Raises ParameterError for a name that is no word, or that a file of this checkout has.
    """
    root = files.checkout()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", study):
        allowed = "lower-case letters, digits and underscores, a letter first"
        raise ParameterError(message("study", study, allowed, "Like the others: sae_md."))
    folder = root / "data"
    profile, claims = folder / "profiles" / f"{study}.toml", folder / "claims" / f"{study}.toml"
    notebook, contents = root / "notebooks" / f"{study}.ipynb", root / "book" / "_toc.yml"
    for path in (profile, claims, notebook):
        if path.exists():
            raise ParameterError(
                f"{files.short(path)}: exists. Allowed is a new name. Take another."
            )
    profile.write_text(PROFILE.format(study=study), encoding="utf-8")
    claims.write_text(CLAIMS.format(study=study), encoding="utf-8")
    made = {"markdown": new_markdown_cell, "code": new_code_cell}
    cells = [
        made[kind](text.format(study=study), metadata={"tags": tags} if tags else {}, id=f"cell{i}")
        for i, (kind, tags, text) in enumerate(CELLS)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), notebook)
    written = [notebook, profile, claims]
    if contents.is_file():
        head, mark, tail = contents.read_text(encoding="utf-8").partition("  - caption: Background")
        contents.write_text(f"{head}      - file: {study}\n{mark}{tail}", encoding="utf-8")
        written.append(contents)
    return written
