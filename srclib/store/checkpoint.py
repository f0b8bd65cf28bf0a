"""Saving and loading: safetensors and JSON only, whole or absent, checked before use.

A folder holds NAME.safetensors and NAME.json; the JSON carries the checksum of the tensors and
of itself. Nothing else is ever read, so nothing in a folder can execute.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ..activations import Activation, BatchTopK, JumpReLU, ReLU, TopK
from ..errors import CheckpointError, ParameterError
from ..sae import SAE
from . import files

FORMAT = 1


def save_sae(sae: SAE, folder: str | Path, overwrite: bool = False) -> Path:
    """Write `sae.safetensors` and `sae.json` (threshold included). Returns the folder.

    Raises ParameterError when the folder exists and `overwrite` is false.
    """
    folder, own = Path(folder), {"sae.safetensors", "sae.json"}
    if folder.exists() and not overwrite:
        raise ParameterError(f"folder={folder}: exists. Pass overwrite=True or another folder.")
    if folder.exists() and not (folder.is_dir() and {p.name for p in folder.iterdir()} <= own):
        raise ParameterError(
            f"folder={folder}: holds other things than a saved SAE, and they would be lost. "
            "Allowed are a new folder, or one that save_sae wrote. Name another folder."
        )
    with files.folder_atomic(folder) as temporary:
        write_tensors(temporary, "sae", dict(sae.state_dict()), describe(sae))
    return folder


def load_sae(folder: str | Path) -> SAE:
    """The SAE that `save_sae` wrote, in `eval()` mode. Raises CheckpointError for anything else."""
    folder = Path(folder)
    tensors, meta = read_tensors(folder, "sae")
    try:
        sae = SAE(
            meta["d_in"],
            meta["d_sae"],
            build_activation(meta["activation"]),
            subtract_b_dec=meta["subtract_b_dec"],
            select_by=meta["select_by"],
        )
        sae.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        file = folder / "sae.json"
        raise CheckpointError(f"{file}: does not describe its tensors ({error}).") from None
    return sae.eval()


def describe(sae: SAE) -> dict[str, Any]:
    """The configuration of an SAE as JSON values."""
    return {
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "activation": {"name": type(sae.activation).__name__, **vars(sae.activation)},
        "subtract_b_dec": sae.subtract_b_dec,
        "select_by": sae.select_by,
    }


def build_activation(description: Mapping[str, Any]) -> Activation:
    """The inverse of `describe(sae)["activation"]`."""
    kinds: dict[str, Any] = {kind.__name__: kind for kind in (ReLU, TopK, BatchTopK, JumpReLU)}
    name = description.get("name")
    if name not in kinds:
        raise CheckpointError(f"activation {name!r}: allowed are {', '.join(kinds)}.")
    made: Activation = kinds[name](**{k: v for k, v in description.items() if k != "name"})
    return made


def write_tensors(
    folder: Path, name: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> None:
    """NAME.safetensors and NAME.json inside a folder that the caller makes atomic."""
    data = save_tensors({key: value.cpu().contiguous() for key, value in tensors.items()})
    (folder / f"{name}.safetensors").write_bytes(data)
    body = {"format": FORMAT, "tensors_sha256": files.sha256(data), **meta}
    text = files.pretty(files.seal(body, "sha256"))
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


def read_tensors(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote, or CheckpointError naming the file and what is wrong."""
    json_file, data_file = folder / f"{name}.json", folder / f"{name}.safetensors"
    for file in (json_file, data_file):
        if not file.is_file():
            raise CheckpointError(
                f"{file}: missing. Allowed is a folder with {name}.json and {name}.safetensors; "
                "pickles and other formats are refused unread."
            )
    try:
        meta: dict[str, Any] = json.loads(json_file.read_text(encoding="utf-8"))
        claimed, found = meta.pop("sha256"), files.sha256(files.canonical(meta))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{json_file}: not a checkpoint description ({error}).") from None
    if claimed != found:
        raise CheckpointError(f"{json_file}: altered since it was written. Restore or remake it.")
    if meta.get("format") != FORMAT:
        raise CheckpointError(f"{json_file}: format={meta.get('format')!r}, allowed is {FORMAT}.")
    data = data_file.read_bytes()
    if meta["tensors_sha256"] != files.sha256(data):
        raise CheckpointError(f"{data_file}: altered since it was written. Restore or remake it.")
    return load_tensors(data), meta
