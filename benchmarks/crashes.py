"""SIGKILL at numbered write boundaries of a smoke iteration: afterwards every invariant must hold. Limit: 0 violations.

    python benchmarks/crashes.py --kills 500                 # prints kills and violations by boundary and by invariant
    python benchmarks/crashes.py --seed 1 --only 17          # the kills of chain 17 again

A scene is one asset of the iteration in a clone of the lake as it was before that asset (or after the whole iteration,
made again with force: then the old version must survive). A child process forked from this warm one makes the asset
through Dagster and is killed at one boundary: before or after a write, an fsync, a rename (`python`), or, where strace
can attach, inside the system calls of Lance, SQLite and everything else (`strace`); up to five times, one kill on top
of the other. A reader polls the lake all the while. A second child then recovers the way `vlaw run` and `vlaw
reconcile` do and holds the outcome against the invariants.

What a power cut loses is shown by tests/lake/test_durability.py, kills by the clock by tests/cli/test_kills.py.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LANCE_LOG", "error")
sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

from common.crash_checks import examine, files_of, glance, reader  # noqa: E402  (after the settings above)
from common.crash_places import (  # noqa: E402
    Scene,
    adopt,
    clone,
    definitions,
    finished,
    in_child,
    make,
    prepare,
    wait,
    warm,
)
from common.crash_points import SYSCALLS, Boundaries, attach, last_call, most_calls  # noqa: E402
from common.crash_table import Kill, table  # noqa: E402
from common.limits import options  # noqa: E402

LONGEST = 5
"""Kills on top of each other in one chain, at most: what a killed run left must not trouble the next one."""


@dataclass(frozen=True)
class Point:
    """Where to kill: at the call numbered `when`."""

    label: str
    when: int
    syscall: str = ""
    """Counted by strace; empty: by `Boundaries`."""


# ---- kills


def record(place: Path, scene: Scene) -> list[str]:
    """The boundaries of a scene, by running it to its end."""
    boundaries = Boundaries(place, -1)
    definitions(place)
    boundaries.install()
    make(place, scene.asset, scene.partition, force=scene.force)
    return boundaries.seen


def victim(place: Path, scene: Scene, stop: int, gate: int | None, note: Path | None = None) -> str:
    """Makes the asset; killed at boundary `stop`, whose name goes to `note`, or by strace once it has attached (`gate`
    is the pipe it waits at)."""
    if gate is not None:
        os.read(gate, 1)
    else:
        boundaries = Boundaries(place, stop, note)
        definitions(place)
        boundaries.install()
    return make(place, scene.asset, scene.partition, force=scene.force)


def chain(number: int, work: Path, scene: Scene, points: list[Point], before: list[str], digest: str) -> list[Kill]:
    """Kills one after the other in one clone, as long as the artifact is not there; then one recovery, and all
    invariants.

    A point that the run does not come by again (strace counts calls per thread: not the same twice) is no kill.
    """
    place, notes = work / f"kill-{number}", work / f"notes-{number}"
    for folder in (place, notes):
        shutil.rmtree(folder, ignore_errors=True)
    notes.mkdir()
    clone(Path(scene.folder), place)
    state = {"files": sorted(files_of(place / "lake")), "artifacts": before}
    log = notes / "log"
    kills: list[Kill] = []
    with watched(place, scene, notes) as polled:
        for point in points:
            begun = time.monotonic()
            (notes / "strace").unlink(missing_ok=True)
            if point.syscall:
                spec = f"-e trace={point.syscall} -e inject={point.syscall}:signal=KILL:when={point.when}"
                code = traced(place, scene, notes, spec)
                point = dataclasses.replace(point, label=last_call(notes / "strace", place, point.syscall))  # noqa: PLW2901
            else:
                note = notes / "boundary"
                note.write_text("")
                made = functools.partial(victim, place, scene, point.when, None, note)
                code = wait(in_child(made, notes / "victim.json", log))
                point = dataclasses.replace(point, label=note.read_text() or point.label)  # noqa: PLW2901
            if code == 0:
                break
            kills.append(Kill(number, scene.asset, scene.force, "strace" if point.syscall else "python", point.label))
            if code != -signal.SIGKILL:
                kills[-1].violations["I8" if code is None else "I9"] = [
                    f"the victim ended with {code}: {log.read_text()[-1500:]}"
                ]
            _note(kills[-1], lambda: glance(place, state, scene.asset), notes, "glance")
            kills[-1].seconds = round(time.monotonic() - begun, 1)
            if kills[-1].visible or kills[-1].violations:
                break
    if kills:
        kills[-1].polls = polled.get("polls", 0)
        if polled.get("found", ["the reader failed"]):
            kills[-1].violations["I2"] = polled.get("found", [f"the reader failed: {log.read_text()[-1500:]}"])
        begun = time.monotonic()
        _note(kills[-1], lambda: recovered(place, scene, state, digest), notes, "recovery")
        kills[-1].seconds = round(kills[-1].seconds + time.monotonic() - begun, 1)
    if not any(item.violations for item in kills):
        shutil.rmtree(place)
        shutil.rmtree(notes)
    return kills


def _note(item: Kill, work: Callable[[], dict[str, Any]], notes: Path, name: str) -> None:
    """Runs a check in a child and keeps what it found with the kill."""
    try:
        outcome = finished(work, notes, name)
    except RuntimeError as error:
        outcome = {"violations": {"I8": [str(error)]}}
    for invariant, lines in outcome.pop("violations").items():
        item.violations.setdefault(invariant, []).extend(lines)
    for key, value in outcome.items():
        setattr(item, key, value)


def recovered(place: Path, scene: Scene, state: dict[str, Any], digest: str) -> dict[str, Any]:
    defs = definitions(place)
    return examine(
        place,
        defs,
        lambda force: make(place, scene.asset, scene.partition, force=force),
        state,
        scene.asset,
        digest,
        force=scene.force,
    )


@contextlib.contextmanager
def watched(place: Path, scene: Scene, notes: Path) -> Iterator[dict[str, Any]]:
    """A reader that polls the lake while the block runs; what it found is in the dictionary afterwards."""
    found: dict[str, Any] = {}
    stop, ready = os.pipe(), os.pipe()

    def read() -> dict[str, Any]:
        os.close(stop[1])  # else it would never see the end of the pipe
        os.close(ready[0])
        return reader(place, scene.asset, scene.partition, stop[0], ready[1])

    pid = in_child(read, notes / "reader.json", notes / "log")
    os.close(stop[0])
    os.close(ready[1])
    os.read(ready[0], 1)  # it has looked once, or it has failed
    try:
        yield found
    finally:
        os.close(stop[1])
        os.close(ready[0])
        if wait(pid) == 0:
            found |= json.loads((notes / "reader.json").read_text())


def traced(place: Path, scene: Scene, notes: Path, spec: str) -> int | None:
    """Exit code of a victim under strace. Raises RuntimeError where strace may not attach."""
    gate = os.pipe()
    pid = in_child(lambda: victim(place, scene, -1, gate[0]), notes / "victim.json", notes / "log")
    tracer = attach(pid, spec, notes / "strace")
    os.write(gate[1], b"x")
    code = wait(pid)
    os.close(gate[0])
    os.close(gate[1])
    if tracer is None:
        raise RuntimeError("strace cannot attach here")
    tracer.wait()
    tracer.stderr.close()
    return code


# ---- which kills


class Plan:
    """The scenes of a work folder and their boundaries, which are recorded when first needed."""

    def __init__(self, work: Path, seed: int, share: float):
        self.work, self.seed = work, seed
        self.share = share if shutil.which("strace") else 0.0
        """Part of the kills that strace does."""
        made = json.loads((work / "prepared.json").read_text())
        self.assets, self.digests = made["assets"], made["digests"]
        self.artifacts, self.modules = made["artifacts"], made["modules"]
        states = [
            (asset, force, "after" if force else f"before-{asset}") for asset in self.assets for force in (False, True)
        ]
        self.scenes = [
            Scene(asset, made["partition"], force, str(work / state))
            for asset, force, state in states
            if state in self.artifacts
        ]
        self._points: dict[tuple[Scene, bool], list[Point]] = {}

    def draw(self, number: int) -> tuple[Scene, list[Point]]:
        """The scene and the boundaries of a chain of kills: drawn from the seed and the number alone."""
        chance = random.Random(f"{self.seed}:{number}")
        scene = self.scenes[number % len(self.scenes)]
        return scene, [self._point(scene, chance) for _ in range(chance.randint(1, LONGEST))]

    def _point(self, scene: Scene, chance: random.Random) -> Point:
        if chance.random() < self.share:
            point = chance.choice(self.points(scene, traced=True))
            return dataclasses.replace(point, when=chance.randint(1, point.when))
        points = self.points(scene, traced=False)
        label = chance.choice(sorted({point.label for point in points}))  # else fsyncs would have most of them
        return chance.choice([point for point in points if point.label == label])

    def points(self, scene: Scene, *, traced: bool) -> list[Point]:
        if (scene, traced) not in self._points:
            place, notes = self.work / "record", self.work / "record-notes"
            for folder in (place, notes):
                shutil.rmtree(folder, ignore_errors=True)
            notes.mkdir()
            clone(Path(scene.folder), place)
            self._points[scene, traced] = (
                _traced_points(place, scene, notes) if traced else _python_points(place, scene, notes)
            )
            shutil.rmtree(place)
        return self._points[scene, traced]


def _python_points(place: Path, scene: Scene, notes: Path) -> list[Point]:
    return [Point(label, when) for when, label in enumerate(finished(lambda: record(place, scene), notes, "record"))]


def _traced_points(place: Path, scene: Scene, notes: Path) -> list[Point]:
    """One per system call; `when` is how often it is made."""
    code = traced(place, scene, notes, f"-e trace={','.join(SYSCALLS)}")
    if code != 0:
        raise RuntimeError(f"{scene.asset} under strace ended with {code}: {(notes / 'log').read_text()[-2000:]}")
    return [Point(name, count, syscall=name) for name, count in sorted(most_calls(notes / "strace").items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="repeat one chain of that seed")
    parser.add_argument(
        "--strace", type=float, default=0.4, help="part of the kills that strace does; 0 without strace"
    )
    parser.add_argument("--assets", default="", help="only these, comma-separated")
    parser.add_argument(
        "--work", type=Path, help="folder; its undisturbed run is used again (default: a temporary one)"
    )
    parser.add_argument(
        "--place", type=Path, help="folder with lake, recipes and dagster_home, instead of an undisturbed run"
    )
    parser.add_argument("--partition", help="the partition that has run there")
    parser.add_argument("--json", type=Path, help="every kill, for programs")
    args = options(parser, kills=4)
    work = (args.work or Path(tempfile.mkdtemp(prefix="crashes-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    if args.place and not (work / "prepared.json").exists():
        finished(lambda: adopt(args.place.resolve(), work, args.partition), work, "prepared")
    if not (work / "prepared.json").exists():
        print(f"one undisturbed iteration, asset by asset, in {work}", flush=True)
        finished(lambda: prepare(work), work, "prepared")
    plan = Plan(work, args.seed, args.strace)
    warm(plan.modules)
    if args.assets:
        plan.scenes = [scene for scene in plan.scenes if scene.asset in args.assets.split(",")]
    if args.strace and not plan.share:
        print("strace is not installed: no kills inside system calls", flush=True)
    done: list[Kill] = []
    number, begun = args.only or 0, time.monotonic()
    while len(done) < args.kills:
        scene, points = plan.draw(number)
        found = chain(number, work, scene, points, plan.artifacts[Path(scene.folder).name], plan.digests[scene.asset])
        done += found
        for item in found:
            state = "; ".join(f"{name}: {lines[0][:300]}" for name, lines in item.violations.items()) or "ok"
            print(
                f"{time.monotonic() - begun:7.0f} s  {len(done)} kills  chain {number}: "
                f"{item.asset}{' (again)' * item.force}, "
                f"{item.how}: {item.boundary}, {item.seconds} s: {state}",
                flush=True,
            )
        if args.json:
            args.json.write_text(json.dumps([dataclasses.asdict(item) for item in done]))
        number += 1
        if args.only is not None:
            break
    print(f"\n{table(done)}\nseed {args.seed}, {time.monotonic() - begun:.0f} s", flush=True)
    if any(item.violations for item in done):
        raise SystemExit(1)
    if not args.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
