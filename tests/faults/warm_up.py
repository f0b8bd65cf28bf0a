"""Imported once by the fork server: a first run loads much of torch, its children need not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from small_run import run

torch.set_num_threads(1)  # a process with threads must not fork
with tempfile.TemporaryDirectory() as folder:
    run(Path(folder), resume=False)
