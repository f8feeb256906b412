"""The list of recordings that the inbox refused: an asset of its own, `refused_recordings`, and a table of that name.

Every version holds the whole list (lake/listed.py). It is kept after the folder is gone, and is written before the
folder is moved: a refusal that a kill cuts short is noted once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import listed
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

ASSET = "refused_recordings"
"""Name of the asset and of its table."""
COLUMNS = ("recording", "session", "what", "place", "remedy", "at")


def refusals(lake: Lake) -> list[dict[str, Any]]:
    """{recording, session, what, place, remedy, at} of every refusal, the oldest first."""
    return listed.rows(lake, listed.latest(lake, ASSET), COLUMNS)


def note_refusal(lake: Lake, recording: str, session: str, error: VlawError, *, run_id: str) -> ArtifactRef | None:
    """Adds a refusal to the list and returns the list; None where the recording's last refusal says the very same."""
    row = {
        "recording": recording,
        "session": session,
        "what": error.what,
        "place": error.where,
        "remedy": error.remedy,
    }
    row = {name: plain(text) for name, text in row.items()}
    before = listed.latest(lake, ASSET)
    rows = refusals(lake)
    last = next((known for known in reversed(rows) if known["recording"] == row["recording"]), None)
    if last is not None and all(last[name] == text for name, text in row.items()):
        return None
    rows.append(row | {"at": datetime.now(UTC)})
    return listed.commit(lake, ASSET, before, rows, metrics={"refused": len(rows)}, run_id=run_id)


def plain(text: str) -> str:
    """Text that UTF-8 can hold: names of files may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
