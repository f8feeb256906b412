"""Which artifacts today's code, recipes, inputs, quarantine and labels would make differently, and why.

Each stage is asked for its plan now; how that differs from what is there is the reason. The plan is the one that a run
would follow: so an artifact is stale exactly when running it again would make, or point at, another one. What stands on
a stale artifact is stale too, until that one is made again and turns out to be the same or not. Not seen: files of an
artifact that are damaged (`vlaw audit --verify`), and assets that no stage makes (imported datasets, the lists of what
is in quarantine and of labels): they are what they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.stage import CODE
from vlaw_assets.lake import labels, quarantine
from vlaw_assets.lake.artifact import CHOSEN_BY
from vlaw_assets.lineage.recipe_keys import by_key
from vlaw_assets.once import asking, once
from vlaw_assets.partitions import split_partition
from vlaw_assets.pipeline.plugins import STAGE
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Identity, Lake
    from vlaw_assets.pipeline.resources import Workplace

SHOWN = 3
"""How many episodes, recipe keys or inputs a reason names before it counts the rest."""


@dataclass(frozen=True)
class Stale:
    """One current artifact that would be made differently today."""

    ref: ArtifactRef
    reasons: tuple[str, ...]
    blocked: str = ""
    """Why it cannot be made again as things are; '' if it can."""

    @property
    def name(self) -> str:
        return self.ref.name


@dataclass(frozen=True)
class Answer:
    """What a stage says it would make."""

    identity: Identity
    parents: Mapping[str, ArtifactRef]
    code: Mapping[str, str]
    """Digests of the code by part: the stage's own, and what it uses of other packages."""
    required: tuple[ArtifactRef, ...]


def stale(
    lake: Lake, *, recipes: str | Path | None = None, experiment: str = "", foundation_only: bool = False
) -> list[Stale]:
    """The stale ones among the current artifacts, in commit order; of the foundation and all experiments, or of one, or
    of none.

    Args:
        recipes: folder of the user's own recipes, as for the stages; default the packaged ones only.
    """
    with asking():
        return _stale(lake.still(), recipes, experiment, foundation_only=foundation_only)


def _stale(lake: Lake, recipes: str | Path | None, experiment: str, *, foundation_only: bool) -> list[Stale]:
    from vlaw_assets import definitions  # noqa: F401 (defines the stages)
    from vlaw_assets.assets.making import STAGES

    refs = lake.ledger.artifacts()
    current = {(ref.asset, ref.partition): ref for ref in refs}
    order = {ref.artifact_id: number for number, ref in enumerate(refs)}
    occurring, corrections = quarantine.occurrences(lake), labels.corrections(lake)
    found: dict[str, Stale] = {}
    needs: dict[str, list[ArtifactRef]] = {}
    for ref in current.values():
        if ref.asset not in STAGES or (ref.partition and foundation_only):
            continue
        if ref.partition and experiment and not ref.partition.startswith(f"{experiment}|"):
            continue
        try:
            if ref.partition:
                _recipe_of(split_partition(ref.partition)[0], str(recipes or ""))
            answer = ask(lake, ref.asset, ref.partition, recipes=recipes, occurring=occurring, corrections=corrections)
        except VlawError as error:
            found[ref.artifact_id] = Stale(ref, ("it could not be made again as things are",), blocked=str(error))
            continue
        reasons = differences(lake, ref, answer)
        if reasons:
            found[ref.artifact_id] = Stale(ref, reasons)
        needs[ref.artifact_id] = [
            now
            for parent in (*answer.required, *answer.parents.values())
            if (now := current.get((parent.asset, parent.partition))) is not None
            and _nearby(parent.partition, ref.partition)
        ]
    _spread(found, needs, current.values())
    return sorted(found.values(), key=lambda item: order[item.ref.artifact_id])


def ask(
    lake: Lake,
    asset: str,
    partition: str,
    *,
    recipes: str | Path | None = None,
    occurring: Mapping[str, set[str]] | None = None,
    corrections: Mapping[str, Mapping[str, bool | None]] | None = None,
) -> Answer:
    """What the stage of an asset would make now of this lake. Raises VlawError where it would stop before that."""
    from vlaw_assets.assets.making import STAGES
    from vlaw_assets.assets.stage import Stage

    place = _place(str(lake.paths.root), str(recipes or ""))
    stage = Stage(lake, place, asset, partition, occurring=occurring, corrections=corrections)
    plan = STAGES[asset].plan(stage)
    identity, _ = stage.identity(plan)
    return Answer(identity, plan.parents, stage.code_parts(plan), tuple(stage.required))


@once
def _recipe_of(experiment: str, recipes: str) -> None:
    """Raises VlawError where no recipe or study has this experiment now: nothing of it can be made again, read or
    not."""
    from vlaw_assets.recipes import find_recipe

    find_recipe(experiment, Path(recipes) if recipes else None)


@once
def _place(lake: str, recipes: str) -> Workplace:
    from vlaw_assets.pipeline.resources import Workplace

    return Workplace(lake=lake, recipes=recipes)


def differences(lake: Lake, ref: ArtifactRef, answer: Answer) -> tuple[str, ...]:
    """How what is there differs from what would be made, in plain words; empty where it does not."""
    made, now = lake.ledger.get(ref.owner), answer.identity
    if made.identity_digest == now.digest:
        return ()
    reasons = []
    if made.code_digest != now.code:
        reasons.append(_other_code(made.metrics.get(CODE, {STAGE: made.code_digest}), answer.code))
    if (made.kind, made.recipe_digest) != (now.kind, now.recipe_digest):
        reasons.append(f"made with another recipe: {_few(_changed(made.recipe_json, now.recipe))}")
    if made.parents_digest != now.parents_digest:
        read = {role: parent.content_digest for role, parent in lake.ledger.edges(made.artifact_id)}
        replaced = [
            f"{role} is now {parent.name} {parent.content_digest[:12]}"
            for role, parent in answer.parents.items()
            if read.get(role, parent.content_digest) != parent.content_digest
        ]
        gone = sorted(read.keys() - answer.parents.keys() - {quarantine.ROLE, labels.ROLE, CHOSEN_BY})
        reasons.append(f"made from other inputs: {_few([*replaced, *(f'{role} is no input now' for role in gone)])}")
    listed = quarantine.list_of(lake, made)
    before = set(quarantine.quarantined(lake, listed)) if listed else set()
    today = set(quarantine.quarantined(lake))
    added, released = sorted(set(now.excluded) & (today - before)), sorted(before - today)
    if added or (now.excluded and not listed):
        reasons.append(f"it has used what is now in quarantine: {_few(added or now.excluded)}")
    if released:
        reasons.append(f"it was made without what is no longer in quarantine: {_few(released)}")
    reasons += _relabelled(lake, made, now)
    return tuple(reasons or ("made from other inputs than today's",))


def _relabelled(lake: Lake, made: ArtifactRef, now: Identity) -> list[str]:
    """What people say now of episodes of which they said nothing, or something else, when it was made."""
    listed, today = labels.list_of(lake, made), labels.words(lake)
    before = labels.words(lake, listed) if listed else {}
    held, corrected = labels.outcomes(lake, listed) if listed else {}, labels.outcomes(lake) | dict(now.labels)
    changed = [
        f"{name} {before.get(name, 'as recorded')} -> {today[name]}"
        for name in sorted((dict(now.labels).keys() | before.keys()) & today.keys())
        if name not in held or held[name] is not corrected[name]
    ]
    return [f"made with other labels: {_few(changed)}"] if changed else []


def _other_code(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which parts of the code are others, by name where they are of other packages."""
    named = [
        part if part in before and part in now else f"{part} (not {'used then' if part in now else 'found now'})"
        for part in sorted(before.keys() | now.keys())
        if before.get(part) != now.get(part)
    ]
    own = "made by other code than today's"
    return own if STAGE in named else f"{own}: {_few(named)}"


def rebuild_plan(found: list[Stale]) -> list[tuple[str, list[str]]]:
    """(partition, assets) to make again, in the order in which it works: foundation, then iterations as they follow."""
    plan: dict[str, list[str]] = {}
    for item in found:
        if not item.blocked:
            plan.setdefault(item.ref.partition, []).append(item.ref.asset)
    return sorted(plan.items())


def _spread(found: dict[str, Stale], needs: Mapping[str, list[ArtifactRef]], refs: Any) -> None:
    """Adds what stands on a stale artifact, until nothing more does. A blocked one spreads nothing: it stays as it
    is."""
    grew = True
    while grew:
        grew = False
        for ref in refs:
            if ref.artifact_id in found:
                continue
            above = [
                parent
                for parent in needs.get(ref.artifact_id, ())
                if parent.artifact_id in found and not found[parent.artifact_id].blocked
            ]
            if above:
                found[ref.artifact_id] = Stale(ref, (f"stands on {above[0].name}, which is stale",))
                grew = True


def _nearby(parent: str, own: str) -> bool:
    """Whether a parent is of the foundation or of the same experiment. A reused artifact may have been made by another
    experiment, whose recipe is no business of this one's."""
    return not parent or split_partition(parent)[0] == split_partition(own)[0]


def _changed(before: str, after: str) -> list[str]:
    """'score.alpha 0.8 -> 0.9' for every key of two recipes (canonical JSON) that differs."""
    old, new = (by_key(json.loads(text or "{}")) for text in (before, after))
    return [
        f"{key} {_said(old, key)} -> {_said(new, key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) or (key in old) != (key in new)
    ]


def _said(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key])[:40] if key in values else "(none)"


def _few(texts: Any) -> str:
    texts = list(texts)
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more
