"""A series of checkpoints that exists already: folders on disk, or revisions of a hub model.

    folders = expand("run/iter_{step:07d}", [10, 100, 1000])
    folders = expand("EleutherAI/pythia-160m@step{step}", [0, 512, 143000])
    models = {step: load_model(folder) for step, folder in folders.items()}

The same form as `train.checkpoints`, so whoever reads checkpoints need not know where they come
from. Nothing is downloaded and nothing in a folder is executed.
"""

from __future__ import annotations

import contextlib
import glob
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
from huggingface_hub import constants

from ..errors import DataError, ParameterError, message, whole
from .models import load_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIELD = re.compile(r"\{step(?::0(\d+)d)?\}")
HUB = re.compile(r"(?P<name>[\w.{}:-]+(?:/[\w.{}:-]+)?)@(?P<revision>[^@\s]+)")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def expand(template: str, steps: Sequence[int]) -> dict[int, Path]:
    """The local folder of each checkpoint of a series.

    template: with `{step}` or, filled with zeros, `{step:07d}`. `owner/model@revision` is a hub
        model in the local cache, anything else a folder; a folder whose name looks like the former
        begins with `./`. One step alone needs no `{step}`: `owner/model@main`.
    steps: increasing.

    Raises ParameterError for another template or other steps; DataError naming every checkpoint
    that is missing, those of the series that exist, and for a hub model how to fetch one.
    """
    _check(template, steps)
    names = {step: _filled(template, step) for step in steps}
    hub = HUB.fullmatch(template)
    find = _cached if hub else _on_disk
    found = {step: find(name) for step, name in names.items()}
    missing = [names[step] for step, folder in found.items() if folder is None]
    if missing:
        there = _listed(_others_cached(template) if hub else _others_on_disk(template))
        fix = "Mend the template or the steps, or bring the folder."
        if hub:
            name, _, revision = missing[0].partition("@")
            fix = f"With a network: `hf download {name} --revision {revision}`. "
            fix += "If it is a folder, begin it with ./"
        raise DataError(
            f"checkpoint_template={template!r}: {_listed(missing)} missing (a checkpoint is a "
            f"folder with a config.json). Allowed is what exists: {there}. {fix}"
        )
    return {step: folder for step, folder in found.items() if folder is not None}


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """The tokeniser of a local model. Raises DataError when it is not there or brings code."""
    return shared_tokenizer({0: local_folder(name_or_path)})


def local_folder(name_or_path: str | Path) -> Path:
    """Where a model lies on this machine. Raises what `models.load_config` raises."""
    load_config(name_or_path)
    folder = Path(name_or_path)
    return folder if folder.is_dir() else _cached(f"{name_or_path}@main") or folder


def shared_tokenizer(folders: Mapping[int, Path]) -> PreTrainedTokenizerBase:
    """The one tokeniser of all checkpoints; a folder that brings none takes that of the others.

    folders: as `expand` gives them. Raises DataError when two differ (naming both and the first
    difference: a latent of one would be read with the words of the other), when there is none at
    all, and when one does not load or brings code.
    """
    with_one = [f for f in folders.values() if any((f / name).is_file() for name in TOKENIZER)]
    loaded = [(folder, _load_tokenizer(folder)) for folder in with_one]
    if not loaded:
        where = _listed([str(folder) for folder in folders.values()])
        fix = "Save the tokeniser into one of them with save_pretrained."
        raise DataError(f"{where}: no tokeniser. Allowed is one for the whole series. {fix}")
    first, tokenizer = loaded[0]
    for folder, other in loaded[1:]:
        if difference := _difference(tokenizer, other):
            raise DataError(
                f"tokenisers of {first} and {folder} differ: {difference}. Allowed is one "
                "tokeniser for the whole series. Copy the right one into both, or leave one out."
            )
    return tokenizer


def _check(template: str, steps: Sequence[int]) -> None:
    fields = re.findall(r"\{[^{}]*\}?|\}", template)
    if not template or not all(FIELD.fullmatch(field) for field in fields):
        allowed = "a folder or model@revision with {step} or {step:07d}"
        fix = "Example: run/iter_{step:07d}."
        raise ParameterError(message("checkpoint_template", template, allowed, fix))
    for step in steps:
        whole("steps", step)
    if not steps or list(steps) != sorted(set(steps)):
        allowed = "increasing whole numbers >= 0"
        raise ParameterError(message("steps", list(steps), allowed, "Sort them."))
    if len(steps) > 1 and not fields:
        fix = "Without it all steps would be the same model."
        allowed = "a {step} where there are several steps"
        raise ParameterError(message("checkpoint_template", template, allowed, fix))


def _filled(template: str, step: int) -> str:
    return FIELD.sub(lambda field: str(step).zfill(int(field[1] or 0)), template)


def _pattern(template: str) -> re.Pattern[str]:
    """What every member of the series matches, whatever its step."""
    fixed = FIELD.sub("\0", template).split("\0")
    return re.compile(r"\d+".join(map(re.escape, fixed)))


def _on_disk(name: str) -> Path | None:
    folder = Path(name).expanduser()
    return folder if (folder / "config.json").is_file() else None


def _others_on_disk(template: str) -> list[str]:
    """Checkpoints that match the template at any step. The first {step} ends the fixed part."""
    parts = Path(template).expanduser().parts
    varying = next((i for i, part in enumerate(parts) if FIELD.search(part)), len(parts) - 1)
    pattern = _pattern(str(Path(*parts)))
    below = "/".join(FIELD.sub("*", glob.escape(part)) for part in parts[varying:])
    found = (str(path.parent) for path in Path(*parts[:varying]).glob(f"{below}/config.json"))
    return sorted(filter(pattern.fullmatch, found), key=_by_number)


def _cached(name: str) -> Path | None:
    """The snapshot folder of `owner/model@revision` in the local cache of the hub."""
    model, _, revision = name.partition("@")
    cache = constants.HF_HUB_CACHE
    try:
        file = huggingface_hub.try_to_load_from_cache(model, "config.json", cache, revision)
    except ValueError:  # no possible name of a model
        return None
    return Path(file).parent if isinstance(file, str) else None


def _others_cached(template: str) -> list[str]:
    """Of the series, else of the same model, what the cache holds as `owner/model@revision`."""
    cached = sorted(_cache_contents(), key=_by_number)
    series = [name for name in cached if _pattern(template).fullmatch(name)]
    model = template.partition("@")[0]
    return series or [name for name in cached if name.partition("@")[0] == model]


def _cache_contents() -> Iterator[str]:
    """Branches and tags, and commits that have neither."""
    with contextlib.suppress(huggingface_hub.errors.CacheNotFound):
        for repo in huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).repos:
            for each in repo.revisions:
                for revision in each.refs or [each.commit_hash]:
                    if _cached(name := f"{repo.repo_id}@{revision}"):
                        yield name


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorting key in which step 9 goes before step 10."""
    return [(int(digits or 0), text) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _listed(names: Sequence[str], at_most: int = 20) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more or "none"


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    for file in (folder / "tokenizer_config.json", folder / "config.json"):
        if file.is_file() and "auto_map" in read_json(file):
            fix = "Take a tokeniser that transformers itself has."
            raise DataError(f"{file}: brings code of its own, which never runs here. {fix}")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises nothing narrower
        reason = str(error).strip().partition("\n")[0]
        fix = "Save it again with save_pretrained."
        raise DataError(f"{folder}: tokeniser does not load ({reason}). {fix}") from error


def read_json(file: Path) -> Any:
    """Raises DataError for a file that is no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file}: no JSON ({error}). Bring the file again.") from None


def _difference(a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase) -> str | None:
    """The first thing in which two tokenisers differ, None where there is none."""
    ids_a, ids_b = a.get_vocab(), b.get_vocab()
    tokens = ids_a.keys() | ids_b.keys()
    changed = [token for token in sorted(tokens) if ids_a.get(token) != ids_b.get(token)]
    if changed:
        token = changed[0]
        return f"{token!r} is id {ids_a.get(token)} and {ids_b.get(token)} ({len(changed)} tokens)"
    if a.special_tokens_map != b.special_tokens_map:
        return f"special tokens {a.special_tokens_map} and {b.special_tokens_map}"
    same = rules(a) == rules(b)
    return None if same else "equal vocabularies, other rules of splitting (tokenizer.json)"


def rules(tokenizer: PreTrainedTokenizerBase) -> Any:
    """How text is cut, without the padding and truncation that a call sets."""
    backend = getattr(tokenizer, "backend_tokenizer", None)  # a few are written in Python
    rules = json.loads(backend.to_str()) if backend else {}
    return {key: value for key, value in rules.items() if key not in ("padding", "truncation")}
