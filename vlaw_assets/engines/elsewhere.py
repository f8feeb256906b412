"""A stage's parts made by workers: a manifest and files go out, files come back, and nothing counts before its sha256.

    parts-<digest>/in/0003.safetensors         what part 3 needs
    parts-<digest>/done/0003.json, .safetensors    what came of it: kept until the stage commits
    parts-<digest>/staging-<random>/           of one worker: job.json, its files, lists of them, its log

The folder is that of the identity in the lake's `training`; whoever has claimed the identity may change it. Workers
write into their staging folder only, and know nothing of the ledger. A part is dealt to a worker by its number alone.
"""

from __future__ import annotations

import json
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vlaw_assets.engines import files
from vlaw_assets.engines.settings import ENGINES, IN_PROCESS, Settings, read_settings
from vlaw_models.errors import VlawError
from vlaw_models.spread import here

if TYPE_CHECKING:
    from vlaw_assets.assets.stage import Stage
    from vlaw_assets.assets.work import Work
    from vlaw_models.spread import Begin, Spread

JOB, BEGUN, ERROR, LOG = "job.json", "begun", "error.json", "worker.log"
"""Files of a staging folder: what to do; that the worker began; why it could not; what it printed."""
LOOK_S, ENDING_S = 0.1, 30.0
"""How often workers are looked at, and how long one may take to end once its parts are there."""
AGAIN = "Materialize the asset again: what was finished is kept."


@dataclass
class Call:
    """One worker: the folder that it works in, and whether it is to end."""

    folder: Path
    numbers: Sequence[int]
    """Of its parts."""
    worker: int | None = None
    """Which of those that work at a time, from 0; None: it works alone, and may take all of its machine."""
    stop: threading.Event = field(default_factory=threading.Event)
    seen: float = field(default_factory=time.monotonic)
    """When it last gave a sign of life."""
    signs: int = 0

    @property
    def log(self) -> Path:
        return self.folder / LOG


class Engine(Protocol):
    """Starts workers: `vlaw_assets.engines.worker` with a Dagster Pipes session (`pipes.session`)."""

    queues: bool
    """Whether a worker may wait for a place: then its limit counts from when it begins."""

    def __init__(self, settings: Settings): ...

    def check(self) -> None:
        """Raises VlawError where the engine is not installed or cannot be reached."""

    def run(self, context: Any, call: Call) -> None:
        """Runs one worker to its end, or until `call.stop` is set. Raises VlawError where it did not end well."""


def spread_of(stage: Stage, work: Work) -> Spread:
    """Where the parts of a stage are made, as VLAW_ENGINE or its file says. Raises VlawError as `Elsewhere` does."""
    return here if read_settings(stage.workplace.engine).engine == IN_PROCESS else Elsewhere(stage, work)


class Elsewhere:
    """A `Spread` for one stage. Raises VlawError where the engine is not there, or one of its workers fails: then
    nothing of the stage is committed. What was finished is kept until it is, so that the stage goes on there when it is
    materialized again."""

    def __init__(self, stage: Stage, work: Work):
        self._stage, self._work = stage, work
        self._chosen = read_settings(stage.workplace.engine)
        if stage.context is None:
            raise VlawError(
                f"engine {self._chosen.engine!r} works for runs of Dagster only",
                where=f"{stage.asset} [{stage.partition}]",
                remedy="Materialize the asset by vlaw run or in Dagster's pages, or unset VLAW_ENGINE.",
            )
        self._engine: Engine = ENGINES.load(self._chosen.engine, where=self._chosen.where)(self._chosen)
        self._engine.check()

    def __call__(
        self, begin: Begin, inputs: Mapping[str, Path], settings: Mapping[str, Any], parts: Iterable[Any]
    ) -> Iterator[Any]:
        stage, work = self._stage, self._work
        artifacts = {
            stage.lake.paths.root / ref.location: ref.artifact_id for ref in work.parents.values() if ref.location
        }
        manifest = manifest_of(
            begin,
            inputs,
            settings,
            threads=self._chosen.threads,
            artifacts=artifacts,
            stage=stage.asset,
            partition=stage.partition,
            identity=work.draft.identity.digest,
            recipe=json.loads(work.draft.identity.recipe),
        )
        place = Place(stage.lake.paths.training / work.draft.identity.digest, manifest)
        listed = parts if isinstance(parts, Sequence) else list(parts)
        yield from made(stage.context, self._engine, self._chosen, place, listed)
        work.metrics["engine"] = {"engine": self._chosen.engine, "kinds_of_workers": len(place.made_with)}
        work.made_with = place.made_with[0] if place.made_with else None


def manifest_of(
    begin: Begin,
    inputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    *,
    threads: int | None = None,
    artifacts: Mapping[Path, str] | None = None,
    **told: Any,
) -> dict[str, Any]:
    """What all workers are told: pinned inputs, settings, code; and for people what is `told` (stage, recipe)."""
    import torch

    from vlaw_assets.pipeline.code_identity import code_digest, code_revision

    return {
        **told,
        "function": f"{begin.__module__}:{getattr(begin, '__qualname__', begin)}",
        "settings": files.as_json(dict(settings)),
        "inputs": {
            name: {
                "artifact": (artifacts or {}).get(folder, ""),
                "folder": str(folder),
                "files": files.listing(folder),
            }
            for name, folder in inputs.items()
        },
        "code": code_digest(begin.__module__),
        "code_revision": code_revision(),
        "threads": threads or torch.get_num_threads(),
    }


COMPUTED_BY = ("function", "settings", "inputs", "code", "threads")
"""What of a manifest the results depend on."""


class Place:
    """The folder of some parts, inside that of what is made; parts of another manifest have another one."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]):
        digest = files.digest_of({key: manifest[key] for key in COMPUTED_BY})
        self.root, self.manifest = folder / f"parts-{digest[:16]}", manifest
        self.made_with: list[dict[str, Any]] = []
        """What workers noted of themselves, each kind once."""

    def tidy(self) -> None:
        """Removes what workers of an interrupted run left, and finished parts that are damaged."""
        for folder in self.root.glob("staging-*"):
            shutil.rmtree(folder, ignore_errors=True)
        (self.root / "done").mkdir(parents=True, exist_ok=True)
        (self.root / "in").mkdir(exist_ok=True)
        for path in (self.root / "done").glob("*.json"):
            if not _whole(path):
                path.unlink()

    def done(self, number: int) -> Path:
        return self.root / "done" / f"{number:04d}.json"

    def give(self, number: int, part: Any) -> dict[str, Any]:
        """Writes what a part needs; where it is, and its sha256."""
        path = self.root / "in" / f"{number:04d}.safetensors"
        return {**files.put(path, part), "folder": str(path.parent)}

    def has(self, number: int, given: Mapping[str, Any]) -> bool:
        """Whether a part is finished that was made of just this."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return bool(json.loads(self.done(number).read_text())["given"] == given["sha256"])
        return False

    def call(self, worker: int, given: Mapping[int, Mapping[str, Any]]) -> Call:
        """A worker's staging folder with the job in it: these parts, and where what they need is."""
        folder = self.root / f"staging-{secrets.token_hex(6)}"
        folder.mkdir()
        files.replace(folder / JOB, json.dumps({**self.manifest, "parts": given}, indent=1))
        return Call(folder, list(given), worker)

    def accept(self, call: Call, number: int) -> bool:
        """Moves a finished part out of a worker's folder; False where it is not finished. It is believed when it is
        read."""
        listed = call.folder / f"{number:04d}.json"
        if not listed.is_file():
            return False
        result = listed.with_suffix(".safetensors")
        with suppress(FileNotFoundError):  # listed and not there: reading it says so
            result.replace(self.done(number).with_suffix(".safetensors"))
        listed.replace(self.done(number))
        (self.root / "in" / result.name).unlink(missing_ok=True)
        return True

    def read(self, number: int) -> tuple[Any, dict[str, Any]]:
        """A finished part's result, and what it was made with. Raises VlawError where its bytes are not those that its
        worker listed: then it is made again the next time."""
        path = self.done(number)
        try:
            listed = json.loads(path.read_text())
            return files.get(path.with_suffix(".safetensors"), listed["sha256"]), listed["made_with"]
        except (ValueError, KeyError, TypeError) as error:
            path.unlink()
            raise VlawError(f"the list of part {number} is none: {error}", where=str(path), remedy=AGAIN) from error
        except VlawError:
            path.unlink()
            raise


def _whole(path: Path) -> bool:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return bool(files.sha256_of(path.with_suffix(".safetensors")) == json.loads(path.read_text())["sha256"])
    return False


def made(context: Any, engine: Engine, chosen: Settings, place: Place, parts: Sequence[Any]) -> Iterator[Any]:
    """The result of every part in order, as workers finish them; what is there already is not made again."""
    place.tidy()
    given = {number: place.give(number, parts[number]) for number in range(len(parts))}
    todo = [number for number in given if not place.has(number, given[number])]
    calls = [
        place.call(worker, {number: given[number] for number in numbers})
        for worker in range(chosen.workers)
        if (numbers := todo[worker :: chosen.workers])
    ]
    by_number = {number: call for call in calls for number in call.numbers}
    with ThreadPoolExecutor(max(1, len(calls))) as pool:
        running = {id(call): pool.submit(engine.run, context, call) for call in calls}
        try:
            for number in range(len(parts)):
                if call := by_number.get(number):
                    _wait(place, call, running[id(call)], number, chosen, queues=engine.queues)
                result, noted = place.read(number)
                if noted not in place.made_with:
                    place.made_with.append(noted)
                yield result
            wait(running.values(), timeout=ENDING_S)  # so that they end by themselves
        finally:
            for call in calls:
                call.stop.set()
            pool.shutdown(wait=True)
            for call in calls:  # what the others have finished is not lost with the one that failed
                for number in call.numbers:
                    place.accept(call, number)
    for call in calls:
        shutil.rmtree(call.folder, ignore_errors=True)


def _wait(place: Place, call: Call, ran: Future[None], number: int, chosen: Settings, *, queues: bool) -> None:
    """Until part `number` is finished. Raises VlawError where its worker ended without it, or gives no sign of life."""
    while not place.accept(call, number):
        if ran.done():
            if place.accept(call, number):  # between the two looks
                return
            raise failed(call, ran, f"part {number}")
        signs = sum(1 for _ in call.folder.glob("*.json")) + (call.folder / BEGUN).exists()
        if signs != call.signs or (queues and not (call.folder / BEGUN).exists()):
            call.signs, call.seen = signs, time.monotonic()
        if time.monotonic() - call.seen > chosen.limit_s:
            call.stop.set()
            raise VlawError(
                f"a worker of engine {chosen.engine!r} has hung: no part for {chosen.limit_s:g} s",
                where=f"part {number}{_last_words(call)}",
                remedy=f"{AGAIN} If it needs that long, raise limit_s in the file that VLAW_ENGINE names.",
            )
        time.sleep(LOOK_S)


def failed(call: Call, ran: Future[None], what: str) -> VlawError:
    """Why a worker ended without what it was to make: what it said itself, or how its engine found it."""
    with suppress(OSError, ValueError, KeyError):
        said = json.loads((call.folder / ERROR).read_text())
        return VlawError(said["what"], where=said["where"], remedy=said["remedy"])
    error = ran.exception()
    if isinstance(error, VlawError):
        return VlawError(error.what, where=f"{what}, {error.where}{_last_words(call)}", remedy=error.remedy)
    if error is not None:
        raise error
    return VlawError(f"a worker ended without {what}", where=f"{call.folder}{_last_words(call)}", remedy=AGAIN)


def _last_words(call: Call) -> str:
    with suppress(OSError):
        lines = call.log.read_text(errors="replace").strip().splitlines()
        return f"; it last printed: {lines[-1][:300]}" if lines else ""
    return ""
