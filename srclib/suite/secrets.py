"""Secrets in a text: tokens by their shape, values of variables in all their spellings.

The shapes are those of detect-secrets, and of what it does not know. What a finding says never
holds the secret itself.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

_NAME = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|_PWD$|KEY|CREDENTIAL|_PAT$|AUTH", re.IGNORECASE)
_SHORTEST = 8  # of a value that is looked for: shorter ones are words
_ALSO = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "a GitHub token": r"\bgithub_pat_\w{30,}",
    "an API key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a Weights & Biases key": r"(?i)wandb\S{0,20}[^0-9a-f][0-9a-f]{40}\b",
    "a private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY",
}
# They guess: at words beside a value, at the entropy of any text (every hash), at addresses.
_GUESSING = ("KeywordDetector", "Base64HighEntropyString", "HexHighEntropyString",
             "IPPublicDetector")  # fmt: skip


def found(text: str) -> str | None:
    """What kind of secret a text holds, None where it holds none."""
    for name, value in os.environ.items():
        secret = _NAME.search(name) and len(value) >= _SHORTEST
        if secret and any(each in text for each in _spellings(value)):
            return f"the value of the environment variable {name}"
    for what, shape in _ALSO.items():
        if re.search(shape, text):
            return what
    for line in filter(None, text.splitlines()):
        for detector in _detectors():
            if any(detector.analyze_string(line)):
                return f"what looks like a secret ({detector.secret_type})"
    return None


def _spellings(value: str) -> Iterator[str]:
    """A value as it is, and as JSON, addresses and headers carry it."""
    data = value.encode()
    yield value
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="")
    yield data.hex()
    for before in range(3):  # bytes in front of it, such as a user's name in a header
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded = encode(b"-" * before + data).decode().rstrip("=")
            # the first and last characters also tell of what stands beside it
            yield coded[2 * before :][: -1 if (before + len(data)) % 3 else None]


@functools.cache
def _detectors() -> list[Any]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds = get_mapping_from_secret_type_to_class().values()
    return [kind() for kind in kinds if kind.__name__ not in _GUESSING]
