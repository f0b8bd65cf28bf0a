"""The chapter on paper scale: its commands are understood, its scripts are Python."""

from __future__ import annotations

import ast
import re
import shlex

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


def test_its_scripts_are_python() -> None:
    (script,) = blocks("python")
    called = [n.func for n in ast.walk(ast.parse(script)) if isinstance(n, ast.Call)]
    assert {ast.unparse(each) for each in called} >= {"SLURMCluster", "cluster.scale", "print"}
    assert "scheduler_address" in script, "what --engine dask: takes"
