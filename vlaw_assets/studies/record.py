"""What the ledger has of a study: its definition, which partitions are done, and how each one went.

Two kinds of artifacts that no Dagster asset makes. `study` (partition `NAME|00`: the lake's partitions are pairs)
holds study.json, what the study was when it was first run; a run with another definition is refused. `study_progress`
(one per finished partition) holds progress.json: pooled success, real rollouts so far, and whether the arm it runs
against is reached; its metrics have the wall and CPU seconds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lineage.recipe_keys import by_key
from vlaw_assets.partitions import partition_of, single_partition
from vlaw_assets.pipeline.code_identity import code_digest, code_revision
from vlaw_assets.recipes.study import Member
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

STUDY, STUDY_FILE = "study", "study.json"
PROGRESS, PROGRESS_FILE = "study_progress", "progress.json"
ABSENT = "(none)"
WORDS_ONLY = "description"
"""Key whose value is for people: it may change under a study."""
SHOWN = 20


@dataclass(frozen=True)
class Outcome:
    """How a finished partition went."""

    success: float
    """Pooled over all tasks."""
    trials: int
    until: str
    target: float | None
    """Pooled success of the experiment that it runs against, after its last iteration."""
    reached: bool | None
    real_rollouts: int
    """Of this and all iterations before."""
    wall_s: float


@dataclass(frozen=True)
class State:
    """One partition as the ledger has it."""

    missing: tuple[str, ...]
    """Wanted assets without an artifact; `study_progress` where only the record is missing."""
    stale: tuple[str, ...]
    """Wanted assets that today's code, recipe or inputs would make differently."""
    made: int
    reused: int
    seconds: float
    """Of the artifacts that this partition made itself."""
    outcome: Outcome | None
    """As recorded of what is current; None while there is no such record."""

    @property
    def done(self) -> bool:
        return not self.missing and not self.stale

    @property
    def reached(self) -> bool:
        """Whether it matches the arm that it runs against."""
        return self.outcome is not None and bool(self.outcome.reached)


def committed_definition(lake: Lake, study: str) -> dict[str, Any] | None:
    """The definition that the study was last run with; None if it never was."""
    ref = lake.ledger.current(STUDY, single_partition(study))
    if ref is None:
        return None
    return json.loads((lake.read(ref).checkpoint() / STUDY_FILE).read_text(encoding="utf-8"))


def hold_to_definition(lake: Lake, definition: Mapping[str, Any], *, restart: bool = False) -> bool:
    """Commits the definition if there is none, or if it is another one and `restart` says so. Returns whether it did.

    Raises VlawError with the differences where the study was begun with another definition.
    """
    name = definition["name"]
    before = committed_definition(lake, name)
    if before is not None:
        changed = changes(before, definition)
        if not changed:
            return False
        if not restart:
            lines = [f"\n  {key}: was {was}, is {now}" for key, was, now in changed[:SHOWN]]
            more = f"\n  and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            raise VlawError(
                f"study {name} is not what it was when it was begun:{''.join(lines)}{more}",
                where=f"{lake.paths.root}, {STUDY}[{single_partition(name)}]",
                remedy="Put the study and its recipes back, give the changed study another name, or go on with "
                "--restart (what is still the same is reused).",
            )
    from vlaw_assets.lake import Identity, canonical_json

    identity = Identity(kind=STUDY, code=_code(), recipe=canonical_json(definition), parents=())
    with lake.commit(
        asset=STUDY, partition=single_partition(name), identity=identity, run_id="study", code_revision=code_revision()
    ) as draft:
        if draft.reused is None:
            _write(draft.checkpoint_dir() / STUDY_FILE, definition)
    return True


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(key, was, is) of every value that differs, as text; descriptions are passed over."""
    was, now = (by_key(_keyed(value)) for value in (before, after))
    texts = {
        key: tuple(json.dumps(side[key], sort_keys=True) if key in side else ABSENT for side in (was, now))
        for key in sorted(was.keys() | now.keys())
        if key.rpartition(".")[2] != WORDS_ONLY
    }
    return [(key, old, new) for key, (old, new) in texts.items() if old != new]


def _keyed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Arms by their recipe, so that one more arm is one difference and not one of every arm behind it."""
    order = [arm["recipe"] for arm in value["arms"]]
    return {**value, "arms": {arm["recipe"]: arm for arm in value["arms"]}, "order of arms": order}


def state_of(
    lake: Lake,
    member: Member,
    iteration: int,
    assets: Sequence[str],
    *,
    recipes: str | Path | None,
    occurring: Mapping[str, set[str]] | None = None,
    corrections: Mapping[str, Mapping[str, bool | None]] | None = None,
) -> State:
    """How far one partition is, asked of every wanted asset: present, and the same as would be made now?"""
    from vlaw_assets.rebuild.staleness import ask

    key = partition_of(member.experiment, iteration)
    refs = {asset: lake.ledger.current(asset, key) for asset in assets}
    missing = [asset for asset, ref in refs.items() if ref is None]
    stale = []
    for asset, ref in refs.items():
        if ref is not None:
            try:
                answer = ask(lake, asset, key, recipes=recipes, occurring=occurring, corrections=corrections)
            except VlawError:
                stale.append(asset)  # what it stands on is missing or cannot be read: running it will say what
                continue
            if answer.identity.digest != lake.ledger.get(ref.owner).identity_digest:
                stale.append(asset)
    outcome = None if missing or stale else _valid_outcome(lake, member, iteration)
    own = [ref for ref in refs.values() if ref is not None and not ref.source_artifact_id]
    return State(
        tuple(missing or ([PROGRESS] if outcome is None and not stale else [])),
        tuple(stale),
        len(own),
        sum(ref is not None for ref in refs.values()) - len(own),
        sum(float(ref.metrics.get("seconds") or 0) for ref in own),
        outcome,
    )


def record_outcome(lake: Lake, member: Member, iteration: int, run: Mapping[str, float], run_id: str) -> Outcome:
    """Commits how a finished partition went, and returns it; `run` is kept with it and has at least `wall_s`. The same
    outcome again is reused, as it was measured first."""
    from vlaw_assets.lake import Identity, canonical_json

    parents = _parents(lake, member, iteration)
    recipe = {
        "study": member.study.name,
        "experiment": member.experiment,
        "arm": member.arm.recipe,
        "seed": member.seed,
        "iteration": iteration,
        "until": member.arm.until,
    }
    identity = Identity(
        kind=PROGRESS,
        code=_code(),
        recipe=canonical_json(recipe),
        parents=tuple((role, ref.content_digest) for role, ref in parents.items()),
    )
    with lake.commit(
        asset=PROGRESS,
        partition=partition_of(member.experiment, iteration),
        identity=identity,
        run_id=run_id,
        code_revision=code_revision(),
    ) as draft:
        if draft.reused is None:
            handles = {role: draft.read(ref, role) for role, ref in parents.items()}
            success = pooled(handles["policy_evaluation"].table("evaluations").to_pylist())
            target = pooled(handles["target"].table("evaluations").to_pylist()) if "target" in handles else None
            found = {
                **recipe,
                **success,
                "target": target and target["success"],
                "reached": target and success["success"] >= target["success"],
                "real_rollouts": sum(ref.num_rows for role, ref in parents.items() if role.startswith("real_rollouts")),
            }
            _write(draft.checkpoint_dir() / PROGRESS_FILE, found)
            draft.set_metrics({**found, **run})
    outcome = _valid_outcome(lake, member, iteration)
    if outcome is None:
        raise VlawError(
            f"{PROGRESS} does not stand on what is current",
            where=partition_of(member.experiment, iteration),
            remedy="Something else writes this partition; run the study again.",
        )
    return outcome


def pooled(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """{"success", "successes", "trials"} over all tasks, of the rows of an evaluation. Raises VlawError without such a
    row."""
    row = next((row for row in rows if row["metric"] == "success_rate" and row["task"] == "all"), None)
    if row is None:
        raise VlawError(
            "the evaluation has no pooled success rate",
            where="study",
            remedy="Set [evaluation] episodes_per_task to 1 or more.",
        )
    return {"success": float(row["value"]), "successes": int(row["successes"]), "trials": int(row["trials"])}


def _parents(lake: Lake, member: Member, iteration: int) -> dict[str, ArtifactRef]:
    """What an outcome stands on: the evaluation, the real rollouts of every iteration so far, and the target's
    evaluation."""
    real = {
        f"real_rollouts_{number:02d}": lake.ledger.require("real_rollouts", partition_of(member.experiment, number))
        for number in range(1, iteration + 1)
    }
    parents = {
        "policy_evaluation": lake.ledger.require("policy_evaluation", partition_of(member.experiment, iteration)),
        **real,
    }
    target = member.target
    if target is not None:
        key = partition_of(target.experiment, target.arm.iterations)
        parents["target"] = lake.ledger.require("policy_evaluation", key)
    return parents


def _valid_outcome(lake: Lake, member: Member, iteration: int) -> Outcome | None:
    """What was recorded, if it was recorded of what is current now."""
    ref = lake.ledger.current(PROGRESS, partition_of(member.experiment, iteration))
    if ref is None:
        return None
    try:
        today = _parents(lake, member, iteration)
    except VlawError:  # its target is gone
        return None
    before = {role: parent.content_digest for role, parent in lake.ledger.edges(ref.owner)}
    if before != {role: parent.content_digest for role, parent in today.items()}:
        return None
    return Outcome(**{part.name: ref.metrics[part.name] for part in dataclasses.fields(Outcome)})


def _code() -> str:
    return code_digest(__name__)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
