"""What a person may call a moment of the lake's past, and the place in commit order that it means.

A moment is always a commit: the lake as it was right after it. Times only pick the commit; the order is the ledger's,
and a commit whose date does not fit it counts as of the nearest time that does (clocks.py). A partition, or an asset of
it, that was committed to again later means the lake after the last time. Both are said in a note, since a person may
have meant otherwise.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from vlaw_assets.lake.artifact import ArtifactRef
from vlaw_assets.lake.clocks import SKEW, in_order
from vlaw_assets.lake.ledger import Ledger
from vlaw_models.errors import VlawError

SHORTEST_PREFIX = 8
"""Characters of an artifact id that are enough to name it, if only one begins like that."""

_PARTITION = re.compile(r"([A-Za-z0-9_-]+)[|/]([0-9]+)")
_NAMED = re.compile(r"([A-Za-z0-9_]+)\[(.+)\]")
_NUMBER = re.compile(r"#?([0-9]{1,9})")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?")
_FORMS = "an artifact id, vlaw|02, policy[vlaw|02], a time like 2026-03-01T12:00, or #12 (sequence in `artifacts`)"


NOTED = 3
"""Commits with odd dates that are named one by one."""


@dataclass(frozen=True)
class Moment:
    """A place in commit order."""

    sequence: int
    """Of the last commit that it sees."""
    notes: tuple[str, ...] = ()
    """What the person who named it should know: that it moved, or that clocks disagree. One line each."""


def resolve(ledger: Ledger, moment: str | int) -> int:
    """The sequence number of the last commit that the moment sees. Arguments and errors as `find`."""
    return find(ledger, moment).sequence


def find(ledger: Ledger, moment: str | int, *, now: datetime | None = None) -> Moment:
    """The last commit that the moment sees, and what to say about it.

    Args:
        moment: an artifact id or a prefix of 8 characters or more that only it has; 'vlaw|02' or 'vlaw/02' (after the
            last artifact of that partition); 'policy[vlaw|02]' (after its last version); an ISO 8601 time, UTC unless
            it says otherwise (the last commit by then, see `clocks.in_order`); a sequence number, as int or '#12'.
        now: this machine's clock, if it is not to be asked.

    Raises VlawError: not understood, unknown, ambiguous, or before the first commit.
    """
    refs = ledger.artifacts()
    if not refs:
        raise _error(moment, "the lake holds no artifact yet", "materialize something first")
    text = str(moment).strip()
    if number := _NUMBER.fullmatch(text):
        return Moment(_at(refs, int(number[1]), moment))
    if _TIME.fullmatch(text):
        return _by(refs, text, moment, now or datetime.now(UTC))
    if named := _NAMED.fullmatch(text):
        asset, partition = named[1], _partition(named[2])
        found = [n for n, ref in enumerate(refs) if (ref.asset, ref.partition) == (asset, partition)]
        return _version(found, text, _last(found, moment, f"no {text} has been materialized", refs))
    if _PARTITION.fullmatch(text):
        found = [n for n, ref in enumerate(refs) if ref.partition == _partition(text)]
        last = _last(found, moment, f"nothing of partition {_partition(text)} has been materialized", refs)
        return _made(refs, found, text, last)
    exact = [n for n, ref in enumerate(refs) if ref.artifact_id == text]
    if exact:
        return Moment(exact[0])
    alike = (
        [n for n, ref in enumerate(refs) if ref.artifact_id.startswith(text)] if len(text) >= SHORTEST_PREFIX else []
    )
    if len(alike) == 1:
        return Moment(alike[0])
    if alike:
        raise _error(
            moment, f"{len(alike)} artifacts begin with {text}", f"use more of the id: {refs[alike[0]].artifact_id}"
        )
    unpartitioned = [n for n, ref in enumerate(refs) if ref.asset == text and not ref.partition]
    last = _last(unpartitioned, moment, f"{text!r} is no artifact, partition or time of this lake", refs)
    return _version(unpartitioned, text, last)


def dated_ahead(refs: list[ArtifactRef], now: datetime | None = None) -> str | None:
    """A warning if the newest commit is dated later than this machine's clock says it is."""
    now = now or datetime.now(UTC)
    if not refs or refs[-1].created_at <= now + SKEW:
        return None
    return (
        f"the newest commit, #{len(refs) - 1} ({refs[-1].name}), is dated {_stamp(refs[-1].created_at)}, in the "
        f"future of this "
        f"machine's clock ({_stamp(now)}): set the clock here, or of the machine that made it"
    )


def _at(refs: list[ArtifactRef], number: int, moment: str | int) -> int:
    if number >= len(refs):
        raise _error(
            moment, f"there is no artifact #{number}: the last is #{len(refs) - 1}", "see `sequence` in `artifacts`"
        )
    return number


def _by(refs: list[ArtifactRef], text: str, moment: str | int, now: datetime) -> Moment:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise _error(moment, f"{text!r} is not a time", f"give {_FORMS}") from error
    if time.tzinfo is None and ":" not in text:
        time = time.replace(hour=23, minute=59, second=59, microsecond=999999)  # a day means all of it
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    times = in_order([ref.created_at for ref in refs], now)
    found = bisect_right(times, time)
    if not found:
        first = times[0].isoformat(timespec="seconds")
        raise _error(moment, f"{text} is before the first commit, {first}", f"give a time from {first} on")
    return Moment(found - 1, _clock_notes(refs, times, now))


def _clock_notes(refs: list[ArtifactRef], times: list[datetime], now: datetime) -> tuple[str, ...]:
    odd = [n for n, ref in enumerate(refs) if abs(ref.created_at - times[n]) > SKEW]
    notes = []
    for n in odd[:NOTED]:
        why = (
            "in the future"
            if times[n] == now
            else "after later ones"
            if refs[n].created_at > times[n]
            else "before earlier ones"
        )
        notes.append(
            f"commit #{n} ({refs[n].name}) is dated {_stamp(refs[n].created_at)}, {why}: it counts as of "
            f"{'now' if times[n] == now else _stamp(times[n])}"
        )
    if len(odd) > NOTED:
        notes.append(f"{len(odd) - NOTED} more commits are dated out of order, the last of them #{odd[-1]}")
    return tuple(notes)


def _version(found: list[int], text: str, last: int) -> Moment:
    """The last version, with a note if it is not the only one."""
    if len(found) == 1:
        return Moment(last)
    return Moment(
        last, (f"{text} was committed {len(found)} times: this is the last, #{last}; the first is #{found[0]}",)
    )


def _made(refs: list[ArtifactRef], found: list[int], text: str, last: int) -> Moment:
    """After the last artifact of a partition, with a note if it is not where the partition was first complete.

    It was committed to again where an asset has a second version, or where another run added to it after other
    partitions.
    """
    seen = {refs[found[0]].asset}
    for before, n in pairwise(found):
        apart = n > before + 1 and refs[n].run_id != refs[before].run_id
        if refs[n].asset in seen or apart:
            what = "made again" if refs[n].asset in seen else "added to later"
            return Moment(
                last,
                (f"{text} was {what}: this is the lake after its last commit, #{last}; as first made it is #{before}",),
            )
        seen.add(refs[n].asset)
    return Moment(last)


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _partition(text: str) -> str:
    return text.replace("/", "|")


def _last(found: list[int], moment: str | int, message: str, refs: list[ArtifactRef]) -> int:
    if not found:
        known = sorted({ref.partition for ref in refs if ref.partition})
        raise _error(moment, message, f"give {_FORMS}" + (f"; partitions: {', '.join(known[:20])}" if known else ""))
    return found[-1]


def _error(moment: str | int, message: str, remedy: str) -> VlawError:
    return VlawError(message, where=f"as of {moment}", remedy=remedy)
