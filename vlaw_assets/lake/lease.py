"""A lease on a name in a bucket: the lock of a lake that several hosts share.

An object says who holds it and for how long it counts without a sign of life; the holder renews it. Nobody asks whether
a process is alive, on this host or another, and no clock but the store's is read: a lease has run out when the store's
time is further on than its last renewal by what it counts for. It is taken, taken over and given back by puts on a
condition, so of all who try one gets it. Who was stopped for longer than that has lost it, and finds out before the
commit (`confirm`).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from datetime import datetime
from typing import Any

from vlaw_assets.lake.objects import About, Bucket
from vlaw_models.errors import VlawError

TTL_S = 30.0
"""How long one counts after its last renewal: what a killed holder keeps others waiting."""
POLL_S = 0.5
MOST_S = 600.0
"""No lease counts for longer, whatever it says."""


class Lease:
    """One name; see `FileLock`, whose calls these are."""

    def __init__(self, bucket: Bucket, name: str, *, ttl_s: float = 0.0):
        """`ttl_s`: how long it counts after its last renewal, at most MOST_S; 0: TTL_S."""
        self.name, self._bucket, self._ttl_s = name, bucket, ttl_s or TTL_S
        self._tag = ""
        """Of the object as this holder wrote it last; '' while it does not hold it."""
        self._said: dict[str, Any] = {}
        self._end = threading.Event()
        self._changing = threading.Lock()

    def acquire(self, *, holder: str = "", wait_s: float = 0.0) -> bool:
        """Try for up to `wait_s` seconds. False when somebody else holds it."""
        until = time.monotonic() + wait_s
        while not self._try(holder):
            if time.monotonic() >= until:
                return False
            time.sleep(min(POLL_S, max(0.0, until - time.monotonic())))
        return True

    def confirm(self) -> None:
        """Raises VlawError if somebody has taken it over: this process stood still for too long."""
        if not self._renew():
            raise VlawError(
                "the lease on this was lost: nothing of this process was heard for longer than it counts",
                where=f"{self._bucket.address}/{self.name}",
                remedy="run it again; another run may have made the same meanwhile",
            )

    def holder(self) -> dict[str, Any]:
        """What the holder wrote about itself; empty where nobody holds it."""
        found = self._read()
        return found[0] if found and self._counts(*found) else {}

    def held_since(self) -> float | None:
        """When its holder took it (seconds since the epoch, by the store's clock); None while nobody holds it."""
        found = self._read()
        if found is None or not self._counts(*found):
            return None
        return float(found[0].get("since") or found[1].changed.timestamp())

    def abandon(self) -> None:
        """Give no more signs of life, and give nothing back: as a process that was killed."""
        self._end.set()

    def release(self) -> None:
        self.abandon()
        with self._changing:
            if self._tag:
                self._bucket.swap(self.name, json.dumps({"token": "", "was": uuid.uuid4().hex}).encode(), self._tag)
                self._tag = ""

    def remove(self) -> None:
        """Gives it back, and its object goes: for a name that nobody will want again."""
        self.release()
        self._bucket.delete([self.name])

    def _try(self, holder: str) -> bool:
        said = {
            "token": uuid.uuid4().hex,
            "run_id": holder,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "ttl": self._ttl_s,
            "beat": 0,
        }
        data = json.dumps(said).encode()
        found = self._read()
        if found is not None and self._counts(*found):
            return False
        tag = self._bucket.swap(self.name, data, found[1].tag) if found else self._bucket.put_new(self.name, data)
        about = self._bucket.about(self.name) if tag else None
        if about is None or about.tag != tag:
            return False
        self._tag, self._said = tag, said | {"since": about.changed.timestamp()}
        self._end = threading.Event()
        threading.Thread(target=self._keep, args=(self._end,), name=f"lease {self.name}", daemon=True).start()
        return True

    def _keep(self, end: threading.Event) -> None:
        while not end.wait(self._ttl_s / 3):
            try:
                if not self._renew():
                    return
            except VlawError:
                continue  # a store that is away for a moment

    def _renew(self) -> bool:
        with self._changing:
            if not self._tag:
                return False
            said = self._said | {"beat": self._said["beat"] + 1}
            # Where this raises it may have been written: the next try says the same, so that it is known for its own.
            self._tag = self._bucket.swap(self.name, json.dumps(said).encode(), self._tag)
            self._said = said
            return bool(self._tag)

    def _read(self) -> tuple[dict[str, Any], About] | None:
        found = self._bucket.get(self.name, most=1 << 16)
        if found is None:
            return None
        try:
            said = json.loads(found[0])
            return (said if isinstance(said, dict) else {}), found[1]
        except ValueError:
            return {}, found[1]

    def _counts(self, said: dict[str, Any], about: About) -> bool:
        if not said.get("token"):
            return False
        try:
            ttl = min(float(said.get("ttl", TTL_S)), MOST_S)
        except (TypeError, ValueError):
            ttl = TTL_S
        now: datetime = self._bucket.now()
        return (now - about.changed).total_seconds() <= ttl
