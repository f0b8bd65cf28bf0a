"""The chapter on paper scale: its commands are understood, its scripts are Python."""

from __future__ import annotations

import ast
import re
import shlex
import sys

import pytest

from srclib.store import files
from srclib.suite import cli

TEXT = (files.root() / "book" / "paper-scale.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_its_commands_are_understood() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    ours = [shlex.split(line)[3:] for line in lines if line.startswith("python -m srclib")]
    assert len(ours) >= 4
    for words in ours:
        assert cli._parser().parse_args(words).command is cli._run


def test_its_torchrun_commands_are_understood() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    (ours,) = [line.partition(" -m srclib ")[2] for line in lines if " -m srclib run sae_md" in line
               and line.startswith("torchrun")]  # fmt: skip
    assert cli._parser().parse_args(shlex.split(ours)).command is cli._run


def test_its_slurm_script_starts_workers_of_one_thread() -> None:
    reason = "dask-jobqueue, of the extra `cluster`, is not installed"
    jobqueue = pytest.importorskip("dask_jobqueue", reason=reason)
    (script,) = blocks("python")
    made = next(node for node in ast.parse(script).body if isinstance(node, ast.Assign))
    found = {"SLURMCluster": jobqueue.SLURMCluster}
    exec(compile(ast.Module([made], []), "paper-scale.md", "exec"), found)
    with found["cluster"] as cluster:
        lines, address = cluster.job_script().splitlines(), cluster.scheduler_address
    assert lines[0].startswith("#!")
    asked = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")}
    assert {"-t 12:00:00", "--gres=gpu:1", "--cpus-per-task=8", "-n 1"} <= asked
    assert any(each.startswith("--mem=") for each in asked)
    command = next(line for line in reversed(lines) if line)
    assert lines.index("export SRCLIB_BUILD=$SCRATCH/srclib") < lines.index(command)
    words = shlex.split(command)
    assert words[:4] == [sys.executable, "-m", "distributed.cli.dask_worker", address]
    assert words[words.index("--nthreads") + 1] == "1"
    assert "--nworkers" not in words, "one worker, on the accelerator of the job"


def test_its_slurm_script_hands_the_scheduler_to_a_run() -> None:
    (script,) = blocks("python")
    calls = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Call)]
    names = [ast.unparse(each.func) for each in calls]
    assert {"SLURMCluster", "cluster.scale", "subprocess.run"} <= set(names)
    study = next(node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.List)
                 and ast.unparse(node.elts[0]) == "'python'")  # fmt: skip
    options = cli._parser().parse_args([*ast.literal_eval(study)[3:], "--engine", "dask:tcp://a:1"])
    assert options.command is cli._run
    ran = ast.unparse(next(each for each in calls if ast.unparse(each.func) == "subprocess.run"))
    assert "'--engine', f'dask:{cluster.scheduler_address}'" in ran
