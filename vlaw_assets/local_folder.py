"""Telling a folder from an address: a lake is a folder on a local disk of one host, because it stands on locks and hard
links; or objects below s3://, which stand on puts on a condition (lake/replica.py).

A file of its own, without imports of the lake: the definitions and every command ask before anything else is loaded.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from vlaw_models.errors import VlawError

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)(.*)", re.DOTALL)
"""One slash is enough: that is what pathlib leaves of 's3://bucket/lake'. A single letter is a drive."""


def is_address(path: str | Path) -> bool:
    """Whether this is the address of something elsewhere, such as s3://bucket/lake, and not a path."""
    return _ADDRESS.fullmatch(str(path).strip()) is not None


def is_bucket(path: str | Path) -> bool:
    """Whether this is the address of a lake on an object store."""
    return isinstance(path, str) and path.startswith("s3://")


def check_local(path: str | Path, *, bucket: bool = False) -> None:
    """Raises VlawError for an address, with what is supported. `bucket`: one of a bucket is."""
    found = _ADDRESS.fullmatch(str(path).strip())
    if found is None or (bucket and is_bucket(path)):
        return
    scheme, slashes, rest = found.groups()
    local = scheme.lower() == "file" and len(slashes) != 2
    raise VlawError(
        "a lake is a local folder, on a disk of one host: "
        + ("this is an address" if local else f"{scheme}:// (an object store or another host) is not supported"),
        where=f"{scheme}:{slashes if len(slashes) > 1 else '//'}{rest}",
        remedy=f"set VLAW_LAKE to the path itself: /{unquote(rest)}"
        if local
        else "set VLAW_LAKE to a folder on a local disk; a copy of it can be kept elsewhere, made while nothing runs",
    )
