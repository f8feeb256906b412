"""Whether the process of a Dagster run lives: it holds a lock from before its first step until it ends.

The lock is a `flock` on a file of DAGSTER_HOME, which the kernel frees however the process ends. A process number says
nothing of the kind: another container has numbers of its own, and a number is given again. Runs whose process is gone
are closed (Dagster does not watch a run in a plain process: without this it keeps its place in a pool for ever). Those
that are queued or starting Dagster's run monitoring ends by its time-out.

Where the lake is in a bucket, hosts with a DAGSTER_HOME each may share the runs. There a run keeps a lease in the
bucket too (lake/lease.py): by it another host tells that the run's host is gone.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import yaml

from vlaw_assets.lake import replica_of
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.lake.lease import Lease
from vlaw_assets.lake.objects import Bucket
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from collections.abc import Iterator

TAG = ".dagster/vlaw_lock"
"""Run tag: its process took the run's lock, and where (`place`). The prefix keeps it out of lists of runs."""
LEASE = ".dagster/vlaw_lease"
"""Run tag: its process keeps a lease for the run, and in which bucket (`s3://bucket/prefix`); empty where it has
none."""
LEASE_S = 300.0
"""How long a run of another host lives on without a sign: longer than a network or a store is usually away."""
FOLDER = "vlaw_runs"
"""Folder of DAGSTER_HOME with one file per run that was not seen to end."""
BEGUN = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
OF_ONE_KERNEL = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "tmpfs", "xfs", "zfs"}
"""File systems that one kernel at a time can mount: there a lock that is free was left by a process that is gone."""
WAIT_S = 5.0
"""How long a beginning run waits for its own lock, which whoever tidies up may hold for a moment."""
LOOK_S = 0.2
"""The same for whoever closes dead runs: `vlaw status` may be looking."""

_held: dict[str, FileLock] = {}
"""Locks of the runs of this process."""
_leases: dict[str, Lease] = {}
"""Leases of the runs of this process."""


def place() -> str:
    """Where this process runs: the boot of its kernel and its process namespace. (Host names are given twice.)"""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return platform.node()[:63]


def hold(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Takes a run's lock for as long as this process lives. False if it has it already or cannot get it."""
    lock = FileLock(_path(instance, run_id))
    if run_id in _held or not lock.acquire(holder=run_id, wait_s=WAIT_S):
        return False
    _held[run_id] = lock
    return True


def begin(instance: dg.DagsterInstance, run_id: str, lake: str = "") -> None:
    """To be called in the process of a run before its first step, however it was started.

    Raises VlawError for a lake in a bucket that cannot be reached.
    """
    # Always written: a run that was started again has the tags of the one before.
    tags = {TAG: place()} if hold(instance, run_id) else {}
    copy = replica_of(lake) if lake and run_id not in _leases else None
    if copy is not None:
        lease = _lease(copy.bucket.address, run_id)
        tags[LEASE] = ""  # of a run started again whose process before is gone: that one's lease says nothing of it
        if lease.acquire(holder=run_id, wait_s=WAIT_S):
            _leases[run_id], tags[LEASE] = lease, copy.bucket.address
    if tags:
        instance.add_run_tags(run_id, tags)


def let_go(instance: dg.DagsterInstance, run_id: str) -> None:
    """Frees the lock of a run that this process is done with; only after Dagster has recorded the run's end."""
    for held in (_held, _leases):
        lock = held.pop(run_id, None)
        if lock is not None:
            with suppress(VlawError):  # of a bucket that cannot be reached now: the lease runs out
                _free(instance, lock, run_id)


def cancel(instance: dg.DagsterInstance, run_id: str, why: str = "It is ended by a signal.") -> None:
    """Lets a run that is about to end end as canceled: of one that failed, Dagster shows every asset and check that it
    was to make as failed, until the next one."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status == dg.DagsterRunStatus.STARTED:
        instance.report_run_canceling(run, why)


def is_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run began and its process is gone. False where that cannot be told from here. Changes nothing."""
    with suppress(VlawError):
        lock = _lock(instance, run)
        return lock is not None and lock.held_since() is None and _begun(instance, run.run_id)
    return False


def none_has_begun() -> bool:
    """Whether DAGSTER_HOME has no lock of a run, and no other home has runs in the same storage: half a second sooner
    than Dagster says."""
    home = Path(os.environ.get("DAGSTER_HOME") or "dagster_home").expanduser()
    try:
        with os.scandir(home / FOLDER) as files:
            if any(file.name.endswith(".lock") for file in files):
                return False
    except FileNotFoundError:
        pass
    except OSError:
        return False
    own = yaml.safe_load((home / "dagster.yaml").read_text()) if (home / "dagster.yaml").exists() else {}
    return not {"storage", "run_storage"} & set(own or {})


def close_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks dead runs as failed (canceled, where that was asked for) and frees their places in the pools. Returns their
    ids."""
    closed = []
    for run in instance.get_runs(dg.RunsFilter(statuses=list(BEGUN))):
        with suppress(VlawError):  # of a bucket that cannot be reached: nobody can tell then
            lock = _lock(instance, run)
            if lock is None or not lock.acquire(holder="closing a dead run", wait_s=LOOK_S):
                continue
            if _begun(instance, run.run_id):
                ended = (
                    instance.report_run_failed
                    if run.status == dg.DagsterRunStatus.STARTED
                    else instance.report_run_canceled
                )
                ended(run, "its process is gone")
                closed.append(run.run_id)
            _free(instance, lock, run.run_id)
    _free_places(instance)
    _tidy(instance)
    return closed


def _free_places(instance: dg.DagsterInstance) -> None:
    """Frees the places in the pools that runs which are over have kept: those closed just now, and those whose closer
    died too.

    Dagster's daemon does this as well, a minute after a run's end; without a daemon nobody else does.
    """
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)


def _path(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory) / FOLDER / f"{run_id}.lock"


def _lease(address: str, run_id: str) -> Lease:
    return Lease(Bucket(address), f"locks/{run_id}.run", ttl_s=LEASE_S)


def _lock(instance: dg.DagsterInstance, run: dg.DagsterRun) -> FileLock | Lease | None:
    """What says whether a run lives: its lock, where that was taken, is there, and would be seen from here; else its
    lease; None where it has neither."""
    if run.status not in BEGUN:
        return None
    path = _path(instance, run.run_id)
    seen_here = run.tags.get(TAG) == place() or file_system(path.parent) in OF_ONE_KERNEL
    if TAG in run.tags and path.exists() and seen_here:
        return FileLock(path)
    return _lease(run.tags[LEASE], run.run_id) if run.tags.get(LEASE) else None


def _begun(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Asked after the lock was found free: a run frees it only once its end is recorded."""
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status in BEGUN


def _free(instance: dg.DagsterInstance, lock: FileLock | Lease, run_id: str) -> None:
    """Frees a lock that is held; without its file or object, if the run is over: nobody waits for the lock of such a
    run."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        lock.remove()
    else:
        lock.release()


def _tidy(instance: dg.DagsterInstance) -> None:
    """Removes what runs that are over have left: the process of a run started by Dagster ends without `let_go`."""
    with suppress(OSError):
        for path in (Path(instance.root_directory) / FOLDER).glob("*.lock"):
            lock = FileLock(path)
            if lock.acquire(holder="tidying up"):
                _free(instance, lock, path.stem)


def file_system(folder: Path) -> str:
    """Type of the file system that a folder lies on; '' where the system does not say."""
    folder, found = folder.resolve(), (-1, "")
    with suppress(OSError):
        for point, kind in _mounts():
            if folder.is_relative_to(point):
                found = max(found, (len(point.parts), kind), key=lambda item: item[0])
    return found[1]


def _mounts() -> Iterator[tuple[Path, str]]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        own, _, source = line.partition(" - ")
        yield Path(os.fsdecode(own.split()[4].encode().decode("unicode_escape").encode("latin-1"))), source.split()[0]
