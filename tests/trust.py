"""What `nox -s sabotage`, `faults` and `seeds` measured, written to data/trust/ for the book."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def commit() -> str | None:
    """The commit of this checkout, with "+" where it held changes outside of data/."""
    command = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*command, "rev-parse", "HEAD"], **_TOLD).stdout.strip()
        status = [*command, "status", "--porcelain", "--", ".", ":(exclude)data"]
        return head + "+" * bool(subprocess.run(status, **_TOLD).stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        return None


_TOLD: Any = {"capture_output": True, "text": True, "check": True}


def keep(name: str, command: str, part: str, content: dict[str, Any], at: str | None) -> Path:
    """Write one part of data/trust/NAME.json under its command, commit and day; others stay."""
    from srclib.suite import trust

    found = trust.load(name) if trust.path(name).exists() else {}
    found.pop(trust.SEAL, None)
    origin = {
        "command": command,
        "commit": at,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    return trust.write(name, {**found, part: {"provenance": origin, **content}})
