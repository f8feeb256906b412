"""When each commit counts as made, where the clocks of those who committed disagree.

The order of commits is the ledger's, never a clock's; a date only says where in that order a time of day falls. Clocks
are wrong in both ways: one commit dated in 2036 must not hide what came after it, one dated 1970 must not show as old
what came before it. So a commit keeps its date where that fits the order, and counts as of the nearest time that fits
where it does not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

SKEW = timedelta(seconds=5)
"""Less than this is no news: runs that commit at the same time date their rows a moment before the ledger orders
them."""


def in_order(dates: Sequence[datetime], now: datetime) -> list[datetime]:
    """The time that each commit counts as of; it never falls from one commit to the next.

    Args:
        dates: what the commits are dated, in the ledger's order.
        now: this machine's clock. Nothing was committed later: what is dated after it counts as of the next commit that
        fits, or of
            now. Of no use, and not used, where all commits are dated after it: then it is this clock that is behind.

    Dates that fit are the most that are in order together (of two alternatives the earlier dates). Any other commit was
    made between the two that fit around it, and counts as of the one that its date is nearer to: dated ahead as of the
    later, dated back as of the earlier.
    """
    if not dates or (all(a <= b for a, b in pairwise(dates)) and dates[-1] <= now):
        return list(dates)
    known = [n for n, date in enumerate(dates) if date <= now]
    latest = now if known else max(dates)
    fits = _longest_rise(dates, known or range(len(dates)))
    after = [latest] * len(dates)
    for n in range(len(dates) - 1, -1, -1):
        after[n] = dates[n] if n in fits else (after[n + 1] if n + 1 < len(dates) else latest)
    counted: list[datetime] = []
    for n, date in enumerate(dates):
        time = min(date, after[n])
        counted.append(max(time, counted[-1]) if counted else time)
    return counted


def _longest_rise(dates: Sequence[datetime], places: Sequence[int]) -> set[int]:
    """The places of the longest run of dates that never fall, earlier dates preferred (patience sorting)."""
    ends: list[datetime] = []  # the earliest date that a rise of each length ends with, so far
    at: list[int] = []
    before: dict[int, int | None] = {}
    for n in places:
        length = bisect_right(ends, dates[n])
        before[n] = at[length - 1] if length else None
        ends[length : length + 1], at[length : length + 1] = [dates[n]], [n]
    found: set[int] = set()
    place: int | None = at[-1]
    while place is not None:
        found.add(place)
        place = before[place]
    return found
