"""The record of a served policy: which one it was, for how long, how often it was asked.

`<lake>/sessions/<id>/session.json`, one JSON object, replaced whole each time: before anybody can connect, some seconds
after counts change, at the end. Its keys are the fields of `Session`; unknown keys are refused. `ended_at` stays null
where the server was killed: `is_served` says whether one is still at work. Beside it lie a lock, held by the server as
long as it lives, and with `vlaw serve-policy --record` the file messages.rec (recorder.py).

Clients get the id with the metadata that they are sent first, so that a recording can say which session made it.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlaw_assets.lake.durable import FileLock, replace_file
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
FILE, LOCK, MESSAGES = "session.json", "session.lock", "messages.rec"


class Counts(BaseModel):
    """How often what happened."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    connections: int = 0
    requests: int = 0
    """Messages that came whole; each was answered, refused or late, or its client had gone."""
    answered: int = 0
    refused: int = 0
    """Requests that were answered with an error."""
    late: int = 0
    """Requests that were not answered within the time limit."""


class Session(BaseModel):
    """One run of `vlaw serve-policy`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    id: str = Field(pattern=f"^{ID.pattern}$")
    """The time it started at (UTC) and eight random digits."""
    experiment: str
    iteration: int
    """Whose policy is served; 0: the one that the experiment starts from."""
    robot: str
    """Name of its RobotSpec."""
    policy: str
    """Artifact id, as the ledger has it."""
    policy_name: str
    """Asset and partition: 'policy[vlaw|01]'."""
    policy_content_sha256: str
    """Content digest of that artifact: equal for every artifact that is the same policy."""
    policy_class: str
    execute_steps: int
    """Steps of a chunk that the policy expects to be executed before it is asked again."""
    noise_scale: float
    noise_seed: int
    """Requests that bring no seed of their own get one that follows from it, the connection and the request."""
    image_size: tuple[int, int]
    """(height, width) that pictures are resized to."""
    code_revision: str
    address: str = ""
    """Where it listens: ws://127.0.0.1:8000."""
    recorded: bool
    """Whether messages.rec holds every request and answer."""
    started_at: datetime
    ended_at: datetime | None = None
    end: str = ""
    """What ended it: 'interrupted', 'terminated', or an error."""
    counts: Counts = Counts()
    latency_ms: dict[str, float] = {}
    """p50, p95 and max over the answered requests, from the whole message received to the answer handed over."""


def new_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def folder_of(lake: Lake, session_id: str) -> Path:
    """Where a session's files lie. Raises VlawError for what is no id of one (a path, say)."""
    if not ID.fullmatch(session_id):
        raise VlawError(
            f"{session_id!r} is no id of a session",
            where=str(lake.paths.sessions),
            remedy="Give the id that the server sends with its metadata, such as 20260301T120000Z-0a1b2c3d.",
        )
    return lake.paths.sessions / session_id


def write_session(lake: Lake, session: Session) -> None:
    """Replaces session.json. Raises OSError."""
    folder = folder_of(lake, session.id)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / FILE, session.model_dump_json(indent=1) + "\n")


def read_session(lake: Lake, session_id: str) -> Session:
    """The session of that id. Raises VlawError where there is none, and where session.json is not what was written."""
    path = folder_of(lake, session_id) / FILE
    remedy = "Serve policies with `vlaw serve-policy` on this lake; a copied recording belongs to the lake it names."
    try:
        session = Session.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise VlawError(f"this lake served no session {session_id}", where=str(path), remedy=remedy) from error
    except (OSError, ValidationError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise VlawError(
            f"session.json cannot be read: {said}", where=str(path), remedy="Restore the file from a backup."
        ) from error
    if session.id != session_id:
        raise VlawError(
            f"session.json is that of session {session.id}", where=str(path), remedy="Restore the file from a backup."
        )
    return session


def session_ids(lake: Lake) -> list[str]:
    """Of all sessions of a lake, oldest first."""
    folder = lake.paths.sessions
    return sorted(path.parent.name for path in folder.glob(f"*/{FILE}") if ID.fullmatch(path.parent.name))


def is_served(lake: Lake, session_id: str) -> bool:
    """Whether a server is at work on this session now."""
    return FileLock(folder_of(lake, session_id) / LOCK).held_since() is not None
