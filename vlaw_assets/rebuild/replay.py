"""Doing it again: the artifacts of a closure, materialized in a scratch lake from their recorded inputs, and compared.

Each artifact is replayed on its own, with the lake as it was just before that artifact was committed, through the
Dagster job that makes it, with the code and the recipes of today. So a difference is named where it begins: what stands
on an artifact that differs is still made from the recorded one. The lake itself is only read.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lineage.recipe_keys import by_key
from vlaw_assets.pipeline.code_identity import OF_TORCH
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_assets.lake.paths import Paths

SAME, DIFFERENT, FAILED, RECORDED = "same", "different", "failed", "recorded, not replayable"
NOT_DETERMINISTIC = "same code, recipe, parents and environment: not deterministic"
ENVIRONMENT = "made in another environment: "
UNKNOWN = "same code, recipe and parents: another environment, or not deterministic"
"""Where the ledger does not say what it was made with (of an older version): then nobody can tell the two apart."""
MISSING = "(none)"


@dataclass(frozen=True)
class Replayed:
    """One artifact made again."""

    artifact: str
    name: str
    status: str
    """SAME, DIFFERENT, FAILED (it could not be made again) or RECORDED (no Dagster job makes it)."""
    content_sha256: str
    """As the ledger has it."""
    replayed_sha256: str
    """Of what was made now; '' if nothing was."""
    differences: tuple[str, ...]
    """What was not the same about its making, one line each. May be non-empty although the content is the same."""
    seconds: float


def replay(
    lake: Lake, ref: ArtifactRef, *, recipes: str | Path | None, only: bool = False, keep: Path | None = None
) -> list[Replayed]:
    """Makes the closure of `ref` again and compares content digests, parents first.

    Args:
        recipes: folder of the user's own recipes, as for a run.
        only: this one artifact only; its inputs are the recorded ones either way.
        keep: a new folder for the scratch lake, which then stays; otherwise it is removed.
    Raises VlawError if the scratch lake cannot be made. What fails inside a stage is a result.
    """
    from vlaw_assets.definitions import build_defs
    from vlaw_assets.lake.upkeep.clone import clone
    from vlaw_assets.pipeline import driver

    closure = lake.ledger.closure(ref)
    todo = closure[-1:] if only else closure
    with _scratch(lake, keep) as folder, _dagster_home(folder / "dagster_home"), driver.open_instance() as instance:
        paths = clone(lake, folder / "lake", closure[:-1])
        defs = build_defs(lake=paths.root, recipes=recipes)
        jobs = {
            (key.to_user_string(), job == "foundation"): job
            for job in ("foundation", "iteration")
            for key in defs.resolve_job_def(job).asset_layer.executable_asset_keys
        }

        def run(item: ArtifactRef) -> None:
            job = jobs[item.asset, not item.partition]
            driver.run_job(defs, instance, job, partition=item.partition, only=[item.asset], force=True)

        return [
            _replayed(lake, paths, item, run if (item.asset, not item.partition) in jobs else None) for item in todo
        ]


def _replayed(lake: Lake, paths: Paths, item: ArtifactRef, run: Any) -> Replayed:
    from vlaw_assets.lake import Lake as Opened
    from vlaw_assets.lake.upkeep.clone import rewind
    from vlaw_assets.pipeline.driver import StageError

    begun, status, digest = time.monotonic(), RECORDED, ""
    differences: tuple[str, ...] = ()
    if run is not None:
        rewind(lake, paths, item.artifact_id)
        try:
            with _threads_of(item):
                run(item)
            scratch = Opened.open(paths.root, create=False)
            again = scratch.ledger.require(item.asset, item.partition)
            digest, differences = again.content_digest, tuple(_differences(lake, item, scratch, again))
            status = SAME if digest == item.content_digest else DIFFERENT
            if status == DIFFERENT:
                differences += tuple(_environment(item, again, alone=not differences))
        except (VlawError, StageError) as error:
            status, differences = FAILED, (str(error),)
    return Replayed(
        item.artifact_id, item.name, status, item.content_digest, digest, differences, time.monotonic() - begun
    )


def _differences(lake: Lake, item: ArtifactRef, scratch: Lake, again: ArtifactRef) -> Iterator[str]:
    """How the making of an artifact differed from the recorded one: code, recipe keys, parents, excluded episodes or
    labels."""
    if again.code_digest != item.code_digest:
        yield (
            f"other code: {item.code_digest[:12]} ({item.code_revision[:8] or 'no revision'}) -> "
            f"{again.code_digest[:12]}"
        )
    if again.recipe_json != item.recipe_json:
        yield from (f"other recipe: {line}" for line in recipe_differences(item.recipe_json, again.recipe_json))
    before = {role: parent.content_digest for role, parent in lake.ledger.edges(item.artifact_id)}
    after = {role: parent.content_digest for role, parent in scratch.ledger.edges(again.artifact_id)}
    for role in sorted(set(before) | set(after)):
        if before.get(role) != after.get(role):
            yield f"other parent {role}: {before.get(role, MISSING)[:12]} -> {after.get(role, MISSING)[:12]}"
    if again.parents_digest != item.parents_digest and before == after:
        yield "other parents (one that was not read)"
    rest = ("code_digest", "recipe_json", "parents_digest", "kind")
    if again.identity_digest != item.identity_digest and all(getattr(again, key) == getattr(item, key) for key in rest):
        yield "other excluded episodes or labels"


def recipe_differences(before: str, after: str) -> list[str]:
    """'policy.steps: 2 -> 3' for every key that differs between two recipes given as JSON."""
    a, b = (by_key(json.loads(text or "{}")) for text in (before, after))
    both = [(key, _value(a, key), _value(b, key)) for key in sorted(a.keys() | b.keys())]
    return [f"{key}: {old} -> {new}" for key, old, new in both if old != new]


def _value(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key], sort_keys=True) if key in values else MISSING


def _threads_of(item: ArtifactRef) -> AbstractContextManager[None]:
    """As many CPU threads as it was made on: sums are split between them, so another number makes other last digits."""
    from vlaw_models.threads import on_threads

    threads = (item.metrics.get("made_with") or {}).get("threads")
    return on_threads(int(threads)) if threads else nullcontext()


def _environment(item: ArtifactRef, again: ArtifactRef, *, alone: bool) -> Iterator[str]:
    """What else it was made with; and, if that is all (`alone`) and nothing differs, that it is not deterministic.

    What is noted only now counts as not known. Of torch only what both noted counts: what did without it does not
    depend on it.
    """
    before, after = (ref.metrics.get("made_with") or {} for ref in (item, again))
    without_torch = set(OF_TORCH) - (before.keys() & after.keys())
    changed = [
        f"{name} {value} -> {after.get(name, MISSING)}"
        for name, value in sorted(before.items())
        if name not in without_torch and value != after.get(name)
    ]
    unknown = sorted(after.keys() - before.keys() - without_torch)
    if changed:
        yield ENVIRONMENT + ", ".join(changed)
    if unknown and (alone or changed):
        yield f"not noted when it was made: {', '.join(unknown)}"
    if alone and not changed:
        yield UNKNOWN if unknown else NOT_DETERMINISTIC


@contextmanager
def _scratch(lake: Lake, keep: Path | None) -> Iterator[Path]:
    """A new folder, on the lake's own disk if one can be written there (then files are linked); removed afterwards."""
    if keep is not None:
        if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
            raise VlawError(
                "the folder for the scratch lake is not empty", where=str(keep), remedy="Name a new folder with --keep."
            )
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="vlaw-replay-", dir=_place_for(lake.paths.root)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _place_for(root: Path) -> str | None:
    temporary = Path(tempfile.gettempdir())
    if temporary.stat().st_dev == root.stat().st_dev or not os.access(root.parent, os.W_OK):
        return None
    return str(root.parent)


@contextmanager
def _dagster_home(folder: Path) -> Iterator[None]:
    """A Dagster instance of its own: a replay is no materialization, so the real one shall not hear of it."""
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("DAGSTER_HOME", None)
        if before is not None:
            os.environ["DAGSTER_HOME"] = before
