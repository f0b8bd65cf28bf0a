"""Whole studies at profile `paper` on tiny named models: here, on a cluster, under torchrun.

Sizes are those of smoke; the path is the paper's: a model and a text from folders, the driver, its
gate. Every engine gives the numbers of the local one to the last bit.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from named_model import save_tiny, save_tiny_people, save_tiny_series

from srclib.store import files
from srclib.suite import params

pytestmark = pytest.mark.scale
Given = dict[str, Any]


class Study(NamedTuple):
    name: str
    given: Given
    home: Path


def texts(home: Path, *sentences: str) -> tuple[list[str], list[str]]:
    """The files of one corpus per sentence, and what stands in all of them."""
    found, lines = [], list[str]()
    for i, sentence in enumerate(sentences):
        documents = [f"{sentence} {n}" * 9 for n in range(1500)]
        rows = "".join(json.dumps({"text": each}) + "\n" for each in documents)
        found.append(str(home / f"{i}.jsonl"))
        Path(found[-1]).write_text(rows, encoding="utf-8")
        lines += documents[:300]
    return found, lines


def decoder(family: str, **given: Any) -> Callable[[Path], Given]:
    def make(home: Path) -> Given:
        (corpus,), read = texts(home, "the function returns a list")
        save_tiny(home / f"tiny {family}", family, read)
        return {"model_name": home / f"tiny {family}", "corpus": corpus, **given}

    return make


def two_corpora(home: Path) -> Given:
    corpora, read = texts(home, "the function returns a list", "def f(x): return x")
    save_tiny(home / "tiny qwen2", "qwen2", read)
    return {"model_name": home / "tiny qwen2", "corpora": corpora, "world_seeds": []}


def people(home: Path) -> Given:
    return save_tiny_people(home) | {"lm_steps": 300}  # which answers its own questions


MADE: dict[str, Callable[[Path], Given]] = {
    "sae_md": decoder("gemma2"),
    "l0_lm": decoder("llama", other_layers=[0], n_probe=20),
    "gba_lm": two_corpora,
    "checkpoints": save_tiny_series,
    "align_sae": people,
}


@pytest.fixture(scope="module", params=MADE)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    home = tmp_path_factory.mktemp(request.param)
    spec = params.load_spec(request.param)
    paper, smoke = (spec.resolve({"profile": each}).values for each in ("paper", "smoke"))
    small = {name: value for name, value in smoke.items() if value != paper[name]}
    small.pop("profile", None)
    return Study(request.param, small | MADE[request.param](home), home)


def run(study: Study, engine: str, *launcher: str, **variables: str) -> dict[str, Any]:
    """The record of a run with a store of its own."""
    store = study.home / f"store of {engine}"
    command = [sys.executable, *launcher, "-m", "srclib", "run", study.name, "--profile", "paper"]
    for name, value in study.given.items():
        command += ["-p", name, str(value) if isinstance(value, Path | str) else json.dumps(value)]
    environment = {**os.environ, "SRCLIB_BUILD": str(store), **variables}
    environment["PYTHONPATH"] = str(files.root())
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    (result,) = store.glob(f"{study.name}/custom-*/result.json")
    record: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return record


@pytest.fixture(scope="module")
def alone(study: Study) -> dict[str, Any]:
    return run(study, "local", SRCLIB_ENGINE="local:2")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of two workers, and their own store: no common disk."""
    reason = "the extra `cluster` is not installed"
    distributed = pytest.importorskip("distributed", reason=reason)
    apart = tmp_path_factory.mktemp("workers")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(files.root()), *sys.path]))
        patch.setenv("SRCLIB_BUILD", str(apart))
        made = distributed.LocalCluster(processes=True, **options)
    with made:
        yield f"dask:{made.scheduler_address}", apart


def numbers(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("params", "evidence", "claims")}


def test_it_runs_here_on_the_named_model(study: Study, alone: dict[str, Any]) -> None:
    assert alone["profile"] == "paper"
    assert alone["evidence"]["lm"], "of the model that was named"
    measured = [claim["id"] for claim in alone["claims"] if claim["measured"]]
    assert len(measured) > len(alone["claims"]) / 4, measured


def test_a_cluster_without_a_common_disk_gives_the_same_numbers(
    study: Study, alone: dict[str, Any], cluster: tuple[str, Path]
) -> None:
    engine, apart = cluster
    before = len(list(apart.glob("cache/*/*/sae.json")))
    there = run(study, "dask", SRCLIB_ENGINE=engine)
    assert numbers(there) == numbers(alone)
    assert len(list(apart.glob("cache/*/*/sae.json"))) > before, "trained by the workers"


def test_two_ranks_of_torchrun_give_the_same_numbers(study: Study, alone: dict[str, Any]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port)
    assert numbers(run(study, "torchrun", *launcher)) == numbers(alone)
