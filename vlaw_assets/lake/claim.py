"""Claiming what is about to be made: two runs that would make the same artifact at the same time make it once.

A lock on an identity, beside the lock of the asset partition that `Lake.commit` holds. The second run waits, then finds
the first one's artifact in the ledger and reuses it. Nobody who holds a claim waits for another, so there is no
deadlock, and the kernel frees the claim of a process that dies. Not in `Lake.commit` itself, which never waits for a
run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vlaw_assets.lake.durable import FileLock

if TYPE_CHECKING:
    from vlaw_assets.lake import Identity, Lake

LOOK_S = 2.0


@contextmanager
def claimed(
    lake: Lake, identity: Identity, *, holder: str, waiting: Callable[[str], None], force: bool = False
) -> Iterator[None]:
    """Within the block no other run makes an artifact of this identity.

    Args:
        holder: run id, for the message that a second comer gives.
        waiting: called once, with a text, if another run is at it.
        force: claim it although the ledger has the artifact already.
    """
    if not force and lake.ledger.find(identity) is not None:
        yield
        return
    lock = FileLock(lake.paths.claim(identity.digest))
    if not lock.acquire(holder=holder):
        waiting(f"waits for run {lock.holder().get('run_id', '?')}, which is making the same")
        while not lock.acquire(holder=holder, wait_s=LOOK_S):
            pass
    try:
        yield
    finally:
        lock.release()
