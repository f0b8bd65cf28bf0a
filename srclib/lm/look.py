"""Inputs are looked at before anything is computed: named models and corpora, no weights loaded."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, ParameterError, message
from .corpora import check
from .hub import TOKENIZER, expand, local_folder, read_json
from .layouts import check_layer, family
from .models import load_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SAMPLES, SAMPLE_BYTES = 8, 2**16


def look(
    model_name: str,
    corpus: str | Sequence[str] = "",
    *,
    layers: Sequence[int] = (),
    context: int = 1,
    steps: Sequence[int] = (),
    needs_corpus: bool = False,
    corpus_alone: bool = False,
    families: Collection[str] = (),
) -> None:
    """Refuses a model or a corpus that a study could not use, in seconds.

        look(P.model_name, P.corpus, layers=[P.layer], context=P.context)

    model_name: a folder or the name of a model in the local cache of the hub; with `steps` a
        template of checkpoints (`hub.expand`). Empty: none is named.
    corpus: what `corpora.read` takes, or several of them.
    layers: blocks that will be read, counted from 0. context: tokens per row.
    families: allowed ones, where a study is about few.
    needs_corpus: a named model has no text of ours. corpus_alone: a corpus needs no named model.

    Looked at: that the model is there with its configuration, safetensors and a tokeniser; that
    its family is one of those allowed; its blocks and its context; that every checkpoint has
    weights of its own; that each corpus is there in a known form with a document.
    Raises DataError or ParameterError.
    """
    corpora = [corpus] * bool(corpus) if isinstance(corpus, str) else list(corpus)
    if corpora and not model_name and not corpus_alone:
        fix = "Name the model that reads it as well, or leave the corpus out."
        raise ParameterError(message("corpus", corpus, "empty where no model is named", fix))
    if model_name and needs_corpus and not corpora:
        fix = "Name its text: corpus=FOLDER."
        allowed = f"a corpus where a model is named ({model_name})"
        raise ParameterError(message("corpus", corpus, allowed, fix))
    for each in corpora:
        check(each)
    _refuse_equal_names(corpora)
    if model_name:
        _look_at_model(model_name, layers, context, steps, families)


def _refuse_equal_names(corpora: Sequence[str]) -> None:
    """A study tells several corpora apart by the last part of their paths."""
    for a, b in itertools.combinations(corpora, 2):
        if Path(a).name == Path(b).name:
            fix = "Rename one of them, or link to it under another name."
            allowed = "files or folders of different names"
            raise ParameterError(message("corpora", f"{a}, {b}", allowed, fix))


def _look_at_model(
    model_name: str,
    layers: Sequence[int],
    context: int,
    steps: Sequence[int],
    families: Collection[str],
) -> None:
    folders = expand(model_name, steps) if steps else {0: local_folder(model_name)}
    for folder in folders.values():
        config = load_config(folder).get_text_config()
        _refuse_both_ways(str(folder), config)
        _look_at_config(str(folder), config, layers, context)
        if families and family(config) not in families:
            seen, fix = family(config), "Name another model."
            raise ParameterError(message("model_name", seen, " or ".join(families), fix))
        if missing := [file.name for file in _weight_files(folder) if not file.is_file()]:
            raise DataError(
                f"{folder}: {', '.join(missing)} missing. Allowed are all weights in safetensors; "
                "pickled ones are refused unread. Bring them, or save again with save_pretrained."
            )
        if cut := [file.name for file in _weight_files(folder) if not _is_whole(file)]:
            raise DataError(f"{folder}: {', '.join(cut)} is cut off or damaged. Bring it again.")
    if not any((folder / name).is_file() for folder in folders.values() for name in TOKENIZER):
        fix = "Save its tokeniser into the folder with save_pretrained."
        raise DataError(f"{model_name}: no tokeniser. Allowed is one beside the weights. {fix}")
    _refuse_equal_weights(folders)


def _look_at_config(
    name: str, config: PretrainedConfig, layers: Sequence[int], context: int
) -> None:
    for layer in layers:
        check_layer(layer, config.num_hidden_layers)
    longest = getattr(config, "max_position_embeddings", context)  # some have no limit
    if context > longest:
        allowed = f"at most {longest}, the context of {name}"
        raise ParameterError(message("context", context, allowed, "Shorten the rows."))


def _refuse_both_ways(name: str, config: PretrainedConfig) -> None:
    """Of a model that fills gaps each token sees the next one, whose loss then means nothing."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    kind, quantized = config.model_type, getattr(config, "quantization_config", None)
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        fix = "Name a model that predicts the next token."
        raise ParameterError(message("model_name", f"{name} ({kind})", "a decoder", fix))
    if quantized is not None:
        fix = "Save it without: a quantised model is another model, and needs packages of its own."
        told = f"{name} (quantization_config)"
        raise ParameterError(message("model_name", told, "weights in a float dtype", fix))


def _is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    try:
        with open(file, "rb") as data:
            length = int.from_bytes(data.read(8), "little")
            header = json.loads(data.read(min(length, 100_000_000)))
        ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return file.stat().st_size == 8 + length + max(ends, default=0)


def _weight_files(folder: Path) -> list[Path]:
    """One file, or the shards that an index names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise DataError(f"{index}: no weight_map. Save the model again with save_pretrained.")
    return [folder / str(name) for name in sorted({*map(str, shards.values())})]


def _refuse_equal_weights(folders: Mapping[int, Path]) -> None:
    """A sample of each file tells most apart; only where samples agree are all bytes read."""
    sampled = {step: _digest(folder, _sample) for step, folder in folders.items()}
    for a, b in itertools.combinations(folders, 2):
        if sampled[a] == sampled[b] and _digest(folders[a], _whole) == _digest(folders[b], _whole):
            fix = "Copy the right weights into one of them, or leave a step out."
            allowed = "weights of its own at each checkpoint"
            raise DataError(
                message(f"steps {a} and {b}", f"{folders[a]}, {folders[b]}", allowed, fix)
            )


def _digest(folder: Path, read: Callable[[Path], Iterator[bytes]]) -> str:
    digest = hashlib.sha256()
    for file in _weight_files(folder):
        for piece in read(file):
            digest.update(piece)
    return digest.hexdigest()


def _sample(file: Path) -> Iterator[bytes]:
    """Some pieces of the tensors; not of the header, which may hold a date."""
    size = file.stat().st_size
    with open(file, "rb") as data:
        start = 8 + int.from_bytes(data.read(8), "little")
        for i in range(SAMPLES):
            data.seek(start + (size - start) * i // SAMPLES)
            yield data.read(SAMPLE_BYTES)


def _whole(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as data:
        data.seek(8 + int.from_bytes(data.read(8), "little"))
        yield from iter(lambda: data.read(2**24), b"")
