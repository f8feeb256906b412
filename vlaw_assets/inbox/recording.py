"""recording.toml: what a lab says of a finished recording.

    format = "lerobot"                          # as `vlaw import` knows it
    session = "20260301T120000Z-0a1b2c3d"       # of vlaw serve-policy: it sends its id to every client
    task = "stack"                              # and whatever else a description of a dataset says

`experiment`, `iteration` and `policy_content_sha256` may be given too: then they are compared with what follows from
the session.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlaw_assets.importers.description import Options
from vlaw_assets.importers.description_file import KEYS, options_of
from vlaw_assets.inbox.folder import NOTE, Dropped, read_note
from vlaw_models.errors import VlawError

OWN = {"format": str, "session": str, "experiment": str, "iteration": int, "policy_content_sha256": str}
"""The keys that no description of a dataset has."""
REMEDY = 'Give at least format = "..." and session = "...", see docs/recordings.md.'


@dataclass(frozen=True, kw_only=True)
class Note:
    """The values of a recording.toml."""

    format: str
    session: str
    experiment: str = ""
    iteration: int = 0
    policy_content_sha256: str = ""
    description: Mapping[str, Any]
    """The other keys: the description of the dataset."""


def note_of(dropped: Dropped) -> Note:
    """What the recording says of itself. Raises VlawError for what is no such note, OSError where it cannot be read."""
    where, text = str(dropped.path / NOTE), read_note(dropped)
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        said = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "too deep"
        raise VlawError(f"{NOTE} is no TOML: {said}", where=where, remedy=REMEDY) from error
    for key, kind in OWN.items():
        if key in values and type(values[key]) is not kind:
            raise VlawError(f"{key} is {values[key]!r:.80}", where=where, remedy=f"Give {key} as a {kind.__name__}.")
    missing = [key for key in ("format", "session") if not values.get(key)]
    if missing:
        raise VlawError(f"{NOTE} says no {' and no '.join(missing)}", where=where, remedy=REMEDY)
    own = {key: values.pop(key) for key in OWN if key in values}
    return Note(**own, description=values)


def description_of(note: Note, *, robot: str, where: str) -> Options:
    """The description of the dataset; of this robot. Raises VlawError for a key or value that is none."""
    if unknown := sorted(set(note.description) - set(KEYS)):
        raise VlawError(
            f"{unknown[0]!r:.80} is no key of {NOTE}", where=where, remedy=f"Use {', '.join([*OWN, *KEYS])}."
        )
    return options_of({"robot": robot, **note.description}, where=where)
