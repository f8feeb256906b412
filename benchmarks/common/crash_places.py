"""Lakes to kill in: an undisturbed iteration, the state before each of its assets, clones of them, and forked children.

Everything happens in children forked from a process that has imported what they need and has started nothing: a second
of imports per child would be most of the time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlaw_assets.pipeline import code_identity

EXPERIMENT, PARTITION = "crash", "crash|01"
RECIPE = """name = "crash"
iterations = 1
tasks = ["stack"]
rollouts = { episodes_per_task = 2, num_steps = 8 }
world_model = { steps = 1, batch_size = 2 }
reward_model = { steps = 1, batch_size = 2 }
imagine = { episodes_per_task = 2, num_steps = 8, batch_size = 1 }
score = { alpha = 0.000001 }
policy = { steps = 1, batch_size = 2 }
evaluation = { episodes_per_task = 2, num_steps = 8 }
world_model_metrics = { clips_per_task = 1, num_steps = 8 }
"""
FOUNDATION = "demonstrations_per_task = 1\nco_training_per_task = 1\n"
PATIENCE_S = 300


@dataclass(frozen=True)
class Scene:
    """One asset and the state it starts from."""

    asset: str
    partition: str
    force: bool
    folder: str


def in_child(work: Callable[[], Any], result: Path, log: Path) -> int:
    """Forks; the child writes what `work` returns as JSON to `result` and ends. Returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        value = work()
        result.write_text(json.dumps(value))
        code = 0
    except BaseException:  # a forked child must never return into the parent's code
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(pid: int, seconds: float = PATIENCE_S) -> int | None:
    """Exit code (negative: the signal), or None for a child that hangs; it is killed then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def finished(work: Callable[[], Any], folder: Path, name: str) -> Any:
    """Runs `work` in a child and returns its value. Raises RuntimeError with its output if it fails."""
    result, log = folder / f"{name}.json", folder / f"{name}.log"
    code = wait(in_child(work, result, log), 1800)
    if code != 0:
        raise RuntimeError(f"{name} ended with {code}:\n{log.read_text()[-3000:]}")
    return json.loads(result.read_text())


def environment(place: Path) -> None:
    os.environ.update(
        VLAW_LAKE=str(place / "lake"), VLAW_RECIPES=str(place / "recipes"), DAGSTER_HOME=str(place / "dagster_home")
    )


def definitions(place: Path) -> Any:
    from vlaw_assets.definitions import build_defs

    environment(place)
    return build_defs(lake=place / "lake", recipes=place / "recipes")


def clone(source: Path, target: Path) -> None:
    """A copy of a place. Data files, which nothing ever changes, are shared."""

    def share(one: str, other: str) -> None:
        (os.link if one.endswith((".parquet", ".lance", ".safetensors")) else shutil.copyfile)(one, other)

    shutil.copytree(source, target, copy_function=share, ignore=shutil.ignore_patterns("locks", "tmp", "*.lock"))
    for name in ("locks", "tmp"):
        (target / "lake" / name).mkdir(parents=True, exist_ok=True)


def make(place: Path, asset: str, partition: str = PARTITION, *, force: bool = False) -> str:
    """Materializes one asset of the iteration; returns its content digest."""
    from vlaw_assets.lake import Lake
    from vlaw_assets.pipeline import driver, liveness

    defs = definitions(place)
    with driver.open_instance() as instance:
        liveness.close_dead_runs(instance)
        driver.run_job(defs, instance, "iteration", partition=partition, only=[asset], force=force)
    return Lake.open(place / "lake").ledger.require(asset, partition).content_digest


def prepare(work: Path) -> dict[str, Any]:
    """Runs the iteration undisturbed, asset by asset, and keeps the state before each. {"assets": [...], "digests":
    {...}}"""
    from vlaw_assets.pipeline import driver

    place = work / "place"
    (place / "recipes").mkdir(parents=True)
    (place / "recipes" / "foundation.toml").write_text(FOUNDATION)
    (place / "recipes" / f"{EXPERIMENT}.toml").write_text(RECIPE)
    defs = definitions(place)
    with driver.open_instance() as instance:
        driver.run_job(defs, instance, "foundation")
    graph = defs.resolve_asset_graph()
    ours = {key.to_user_string() for key in defs.resolve_job_def("iteration").asset_layer.executable_asset_keys}
    assets = [key.to_user_string() for key in graph.toposorted_asset_keys if key.to_user_string() in ours]
    digests, artifacts = {}, {}
    for asset in assets:
        artifacts[f"before-{asset}"] = ids(place)
        clone(place, work / f"before-{asset}")
        digests[asset] = make(place, asset)
    artifacts["after"] = ids(place)
    clone(place, work / "after")
    return {
        "assets": assets,
        "partition": PARTITION,
        "digests": digests,
        "artifacts": artifacts,
        "modules": sorted(sys.modules),
    }


def adopt(place: Path, work: Path, partition: str) -> dict[str, Any]:
    """Like `prepare`, of a place in which an iteration has run already: only the state after it."""
    from vlaw_assets.lake import Lake

    clone(place, work / "after")
    refs = [ref for ref in Lake.open(work / "after" / "lake").ledger.artifacts() if ref.partition == partition]
    digests = {ref.asset: ref.content_digest for ref in refs}
    clone(work / "after", work / "reused")
    make(work / "reused", "training_set", partition)  # imports what every run does
    return {
        "assets": list(digests),
        "partition": partition,
        "digests": digests,
        "artifacts": {"after": ids(work / "after")},
        "modules": sorted(sys.modules),
    }


def ids(place: Path) -> list[str]:
    from vlaw_assets.lake import Lake

    return [ref.artifact_id for ref in Lake.open(place / "lake").ledger.artifacts()]


def warm(modules: list[str]) -> None:
    """Imports what the undisturbed run needed, so that a child need not. Not Lance: it is not fork-safe."""
    code_identity.sources("vlaw_assets.assets.real_rollouts")
    known = set(
        Path("/proc/self/task").iterdir()
    )  # the reader of imports leaves threads; what it found is kept, so no child asks it again
    for name in modules:
        if not name.startswith(("lance", "pylance", "__")):
            with contextlib.suppress(ImportError, AttributeError):
                importlib.import_module(name)
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir() if task not in known]
    others = [name for name in names if name != "jemalloc_bg_thd"]  # jemalloc knows about fork
    if others:
        raise RuntimeError(f"threads after the imports: {others}; a forked child would inherit half of them")
