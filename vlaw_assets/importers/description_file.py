"""The description of a dataset as a file: TOML whose keys are the fields of `Options`.

robot = "droid"
action_kind = "delta"
success_key = "verdict"

[cameras]
exterior_1 = "observation.images.left"
wrist = "observation.images.hand"

[components]
state = ["x", "y", "z", "roll", "pitch", "yaw", "width"]

[success_values]
done = true
failed = false
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vlaw_assets.importers.description import Options
from vlaw_models.errors import VlawError

KEYS = tuple(field.name for field in dataclasses.fields(Options))
TABLES = ("cameras", "components", "units", "extrinsics", "success_values")
MOST_BYTES = 1 << 20


def read_description(path: Path) -> dict[str, Any]:
    """The keys of a file, as `options_of` takes them. Raises VlawError for one that cannot be read."""
    remedy = f"Give a TOML file with keys of {', '.join(KEYS)}."
    try:
        with path.expanduser().open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise VlawError("the description is larger than any", where=str(path), remedy=remedy)
        found = tomllib.loads(text.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VlawError(f"the description cannot be read: {error}", where=str(path), remedy=remedy) from error
    options_of(found, where=str(path))
    return found


def described(path: Path | None, given: Mapping[str, Any]) -> Options:
    """The description of what was given with a command, and of a file below it."""
    found = merged(read_description(path), given) if path is not None else given
    return options_of(found, where="import")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two descriptions as one: what `above` says wins, in tables key by key."""
    tables = {key: {**below[key], **above[key]} for key in TABLES if key in below and key in above}
    return {**below, **above, **tables}


def options_of(given: Mapping[str, Any], *, where: str) -> Options:
    """The description that these keys and plain values make. Raises VlawError for an unknown key, listing those that
    there are, and for a value of another kind."""
    unknown = sorted(set(given) - set(KEYS))
    if unknown:
        raise VlawError(f"a description has no key {unknown[0][:80]!r}", where=where, remedy=f"Use {', '.join(KEYS)}.")
    found = {}
    for key, value in given.items():
        convert, kind = _KINDS.get(key, (_text, "a text"))
        try:
            found[key] = convert(value)
        except (TypeError, ValueError, AttributeError) as error:
            raise VlawError(f"{key} is {repr(value)[:80]}", where=where, remedy=f"Give {kind}.") from error
    return Options(**found)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _size(value: Any) -> tuple[int, int]:
    """64, "64", "192x320" or [192, 320]."""
    if isinstance(value, str):
        value = [int(side) for side in value.split("x")]
    sides = value if isinstance(value, list | tuple) else [value]
    if len(sides) not in (1, 2) or any(isinstance(side, bool) or not isinstance(side, int) for side in sides):
        raise TypeError
    return sides[0], sides[-1]


def _table(convert: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    return lambda table: {_text(key): convert(value) for key, value in table.items()}


def _texts(value: Any) -> tuple[str, ...]:
    """Names, or numbers from 0."""
    if not isinstance(value, list | tuple) or any(isinstance(part, bool) for part in value):
        raise TypeError
    return tuple(str(part) if isinstance(part, int) else _text(part) for part in value)


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(map(_rate, value))


_KINDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "image_size": (_size, "64 (square), or 192x320 (height, width)"),
    "require_success": (_switch, "true or false"),
    "skip_bad": (_switch, "true or false"),
    "rate": (_rate, "rows per second"),
    "cameras": (_table(_text), 'a table: wrist = "observation.images.hand"'),
    "components": (_table(_texts), 'a table: state = ["x", "y"], of names or numbers from 0'),
    "units": (_table(_texts), 'a table: state = ["mm", "deg"]'),
    "extrinsics": (_table(_numbers), "a table: wrist = [0.1, 0.0, 0.3]"),
    "success_values": (_table(_switch), "a table: done = true"),
}
