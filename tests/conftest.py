"""How the suite is spread over processes (`pytest -n 2`, pytest-xdist). Without `-n` only the surroundings below apply.

One file runs in one process, since the tests of a file share what its fixtures made. The files that take longest come
first, so that no process is left with one of them at the end; files that are not named here come after them. The smoke
iteration, which many files look at, is made once for all processes (smoke_place.py).
"""

from __future__ import annotations

import gc
import os
import sqlite3
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from object_store import place, s3  # noqa: F401  (fixtures)
from once import kept_folder, remove_others
from typer.main import get_command

import vlaw_models  # noqa: F401  (how threads wait, before anything imports torch)

# Before anything imports torch, and for the processes that tests start: two workers of two threads each would only wait
# for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where nothing may be written beside sources, every process that tests start would compile both packages again; in this
# one that holds once all is imported, since tests write modules and change them within a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
_writes_nothing, sys.dont_write_bytecode = sys.dont_write_bytecode, False
# What tests compare was computed on a CPU; set it to another device to run them there.
os.environ.setdefault("VLAW_DEVICE", "cpu")

LONGEST = (
    "loop",
    "ui",
    "world_model",
    "sql_verified",
    "study_report",
    "gc",
    "delta_checkpoints",
    "tamper",
    "policies",
    "learners",
    "query",
    "promotion",
    "rollback",
    "false_checkpoints",
    "sql_limits",
    "stale",
    "replay",
    "reconcile",
    "world_vla_loop",
    "recordings",
    "code_mutations",
    "shifts",
    "sql_lazy",
    "sql_questions",
    "lerobot_import",
    "lerobot_export",
    "ctrl_world_import",
    "plugins",
    "liveness",
    "cli",
    "answers",
    "quarantine",
    "arms",
    "bad_input",
    "full_disk",
    "rewards",
    "decisions",
    "definitions",
    "lake_crashes",
    "time_travel",
    "documented_commands",
)
"""The first one makes the smoke iteration; those after it, up to `stale`, take longer than that together and do not
need it, so that neither of two processes waits."""
SHORTEST = (
    "metrics",
    "recipes",
    "sql_questions",
    "sql_security",
    "study_statistics",
    "task_book",
    "task_draw",
    "task_erase",
    "task_scoop",
)
"""Many quick tests each: they fill what the others leave."""
OWN_PROCESSES = ("test_sql_limits", "test_sql_security")
"""Their workers for SQL are started as a command starts them."""

_files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.rglob("test_*.py")}
if _gone := {*LONGEST, *SHORTEST} - _files:
    raise AssertionError(f"conftest.py names no file of tests: {', '.join(sorted(_gone))}")


def _turn(item: pytest.Item) -> int:
    name = item.path.stem.removeprefix("test_")
    if name in LONGEST:
        return LONGEST.index(name) - len(LONGEST)
    return int(name in SHORTEST)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one process alone keeps the order it was asked for
        items.sort(key=_turn)


def pytest_collection_finish() -> None:
    sys.dont_write_bytecode = _writes_nothing
    # What was imported stays: looking through it again at every collection took a tenth of the suite's time.
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or libraries complain at exit of what is left of theirs


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # it would start with the files of most tests, which are the quick ones
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory):
    """No test sees the lake, the Dagster home and the cache of whoever runs the suite, and no two processes share
    one."""
    root = kept_folder(tmp_path_factory, "surroundings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLAW_LAKE", str(root / "lake"))
        patch.setenv("DAGSTER_HOME", str(root / "dagster_home"))
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.delenv("VLAW_RECIPES", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _unflushed():
    """The processes of the suite do not wait for the disk, of lakes and of Dagster's SQLite alike: no power cut comes,
    and the page cache outlives them.

    What is flushed, and when, tests see in processes of their own, under strace, or by calls that they watch: these are
    made all the same.
    """
    connect = sqlite3.dbapi2.connect

    def connected(*args, **options):
        connection = connect(*args, **options)
        with suppress(sqlite3.Error):  # of a damaged file: whoever reads it shall be told
            connection.execute("PRAGMA synchronous = OFF")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        patch.setattr(sqlite3.dbapi2, "connect", connected)
        yield


@pytest.fixture(scope="session", autouse=True)
def _command_lines():
    """typer makes all commands of an app, with their options, whenever one is run: 50 ms for the same ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", cache(get_command))
        yield


@pytest.fixture(scope="session")
def _forks():
    from sql_workers import Forks

    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="module", autouse=True)
def _sql_workers(request):
    """Where SQL is not what is tested first of all, its workers are forks (see sql_workers.py)."""
    if request.path.stem in OWN_PROCESSES or sys.platform != "linux":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlaw_assets.query.worker_process._spawn", request.getfixturevalue("_forks").spawn)
        yield


@pytest.fixture(scope="module", autouse=True)
def _as_if_alone(request, tmp_path_factory):
    """A file finds what it would find if it were run by itself, whichever files its process had before, and leaves
    nothing, unless something failed."""
    if "torch" in sys.modules:
        # For tests that draw without a generator: torch begins each process with another seed.
        sys.modules["torch"].manual_seed(0)
    failed = request.session.testsfailed
    yield
    if "smoke_place" in sys.modules:
        sys.modules["smoke_place"].forget()
    if request.session.testsfailed == failed:
        remove_others(tmp_path_factory)
