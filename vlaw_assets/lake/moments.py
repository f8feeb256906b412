"""What a person may call a moment of the lake's past, and the place in commit order that it means.

A moment is always a commit: the lake as it was right after it. Times only pick the commit; the order is the ledger's.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, datetime

from vlaw_assets.lake.ledger import ArtifactRef, Ledger
from vlaw_models.errors import VlawError

SHORTEST_PREFIX = 8
"""Characters of an artifact id that are enough to name it, if only one begins like that."""

_PARTITION = re.compile(r"([A-Za-z0-9_-]+)[|/]([0-9]+)")
_NAMED = re.compile(r"([A-Za-z0-9_]+)\[(.+)\]")
_NUMBER = re.compile(r"#?([0-9]{1,9})")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?")
_FORMS = "an artifact id, vlaw|02, policy[vlaw|02], a time like 2026-03-01T12:00, or #12 (sequence in `artifacts`)"


def resolve(ledger: Ledger, moment: str | int) -> int:
    """The sequence number of the last commit that the moment sees.

    Args:
        moment: an artifact id or a prefix of 8 characters or more that only it has; 'vlaw|02' or 'vlaw/02' (after the
            last artifact of that partition); 'policy[vlaw|02]' (after its last version); an ISO 8601 time, UTC unless
            it says otherwise (the last commit by then); a sequence number, as int or '#12'.

    Raises VlawError: not understood, unknown, ambiguous, or before the first commit.
    """
    refs = ledger.artifacts()
    if not refs:
        raise _error(moment, "the lake holds no artifact yet", "materialize something first")
    text = str(moment).strip()
    if number := _NUMBER.fullmatch(text):
        return _at(refs, int(number[1]), moment)
    if _TIME.fullmatch(text):
        return _by(refs, text, moment)
    if named := _NAMED.fullmatch(text):
        asset, partition = named[1], _partition(named[2])
        found = [n for n, ref in enumerate(refs) if (ref.asset, ref.partition) == (asset, partition)]
        return _last(found, moment, f"no {text} has been materialized", refs)
    if _PARTITION.fullmatch(text):
        found = [n for n, ref in enumerate(refs) if ref.partition == _partition(text)]
        return _last(found, moment, f"nothing of partition {_partition(text)} has been materialized", refs)
    exact = [n for n, ref in enumerate(refs) if ref.artifact_id == text]
    if exact:
        return exact[0]
    alike = [n for n, ref in enumerate(refs) if ref.artifact_id.startswith(text)] if len(text) >= SHORTEST_PREFIX else []
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise _error(moment, f"{len(alike)} artifacts begin with {text}", f"use more of the id: {refs[alike[0]].artifact_id}")
    unpartitioned = [n for n, ref in enumerate(refs) if ref.asset == text and not ref.partition]
    return _last(unpartitioned, moment, f"{text!r} is no artifact, partition or time of this lake", refs)


def _at(refs: list[ArtifactRef], number: int, moment: str | int) -> int:
    if number >= len(refs):
        raise _error(moment, f"there is no artifact #{number}: the last is #{len(refs) - 1}", "see `sequence` in `artifacts`")
    return number


def _by(refs: list[ArtifactRef], text: str, moment: str | int) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise _error(moment, f"{text!r} is not a time", f"give {_FORMS}") from error
    if time.tzinfo is None and ":" not in text:
        time = time.replace(hour=23, minute=59, second=59, microsecond=999999)  # a day means all of it
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    # Clocks may disagree between machines; a commit is never earlier than the one before it.
    reached, times = refs[0].created_at, []
    for ref in refs:
        reached = max(reached, ref.created_at)
        times.append(reached)
    found = bisect_right(times, time)
    if not found:
        first = refs[0].created_at.isoformat(timespec="seconds")
        raise _error(moment, f"{text} is before the first commit, {first}", f"give a time from {first} on")
    return found - 1


def _partition(text: str) -> str:
    return text.replace("/", "|")


def _last(found: list[int], moment: str | int, message: str, refs: list[ArtifactRef]) -> int:
    if not found:
        known = sorted({ref.partition for ref in refs if ref.partition})
        raise _error(moment, message, f"give {_FORMS}" + (f"; partitions: {', '.join(known[:20])}" if known else ""))
    return found[-1]


def _error(moment: str | int, message: str, remedy: str) -> VlawError:
    return VlawError(message, where=f"as of {moment}", remedy=remedy)
