"""What was changed for certain: episodes in quarantine, labels, weights, recipe keys, code. None of it has a size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import labels, quarantine
from vlaw_assets.lake.lookup import Lookup
from vlaw_assets.lineage.differences import code_rows, recipe_rows
from vlaw_assets.lineage.reading import name_of
from vlaw_assets.reports.shifts.base import Shift
from vlaw_assets.reports.shifts.data import Sets
from vlaw_assets.reports.shifts.sides import Item, Side, label, names
from vlaw_assets.reports.shifts.watching import watch_ids

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

OF_THE_ITERATION = ("seed", "noise_seed", "iteration")
"""Keys that are never the same in two iterations."""


def listed(a: Side, b: Side, pairs: Sequence[tuple[Item, Item]], sets: Sets) -> list[Shift]:
    """What quarantine took out of what the models learned from, and which labels and weights in it are others."""
    return [*_quarantine(a, b, pairs, sets), *_labels(a, b, sets), *weights(b.lake, pairs, sets)]


def _quarantine(a: Side, b: Side, pairs: Sequence[tuple[Item, Item]], sets: Sets) -> list[Shift]:
    """Episodes that one side's models learned from, and the other's quarantine kept from theirs."""
    found = []
    ids = [
        {one.episode_id for item in items for one in sets.get(item["owner"], ())}
        for items in ([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    ]
    lists = [_listed(side, quarantine.ASSET) for side in (a, b)]
    for mine, other, ref, what in (
        (ids[0], ids[1], lists[1], "episodes removed by quarantine"),
        (ids[1], ids[0], lists[0], "episodes released from quarantine"),
    ):
        if ref is None or not mine - other:
            continue
        of_side = a if mine is ids[0] else b
        out = set(quarantine.quarantined(of_side.lake, ref))
        gone = sorted(_goes_back(of_side, mine - other, out), key=lambda name: (name not in out, name))
        if gone:
            counts = [0, len(gone)] if mine is ids[0] else [len(gone), 0]
            found.append(
                Shift(what, "quarantine", ("quarantine",), a=counts[0], b=counts[1], watch=watch_ids(b.lake, gone))
            )
    return found


def _goes_back(side: Side, ids: set[str], out: set[str]) -> set[str]:
    """Those of `ids` that are `out`, or were imagined from one that is, as the closure's own rows say."""
    among = [side.lake.ledger.get(item["owner"]) for item in side.items if item["contents"].get("episodes")]
    found, at = ids & out, {name: {name} for name in ids - out}
    seen = set(at)
    with Lookup(side.lake) as lookup:
        while at:  # an episode here -> those of `ids` that go back to it
            rows = lookup.rows("episodes", at, among, ["episode_id", "start_episode_id"])
            further: dict[str, set[str]] = {}
            for name, start in rows:
                if start in out:
                    found |= at[name]
                elif start and start not in seen:
                    further.setdefault(start, set()).update(at[name])
            seen |= further.keys()
            at = further
    return found


def _labels(a: Side, b: Side, sets: Sets) -> list[Shift]:
    """Episodes learned from on either side of which other things were said when they were."""
    lists = [_listed(side, labels.ASSET) for side in (a, b)]
    said = [labels.words(b.lake, ref) if ref else {} for ref in lists]
    if not any(said):
        return []
    read = {one.episode_id for found in sets.values() for one in found}
    words = [{name: text for name, text in side.items() if name in read} for side in said]
    changed = sorted(name for name in words[0].keys() | words[1].keys() if words[0].get(name) != words[1].get(name))
    if not changed:
        return []
    counts = [sum(name in side for name in changed) for side in words]
    return [Shift("labels changed", "labels", ("labels",), a=counts[0], b=counts[1], watch=watch_ids(b.lake, changed))]


def weights(lake: Lake, pairs: Sequence[tuple[Item, Item]], sets: Sets) -> list[Shift]:
    """Episodes that both models of a pair learned from, with another weight."""
    found = []
    for pair in pairs:
        first, second = ({one.episode_id: one.weight for one in sets.get(item["owner"], ())} for item in pair)
        changed = sorted(name for name in first.keys() & second.keys() if first[name] != second[name])
        if changed:
            mean = [sum(side[name] for name in changed) / len(changed) for side in (first, second)]
            found.append(
                Shift(
                    f"mean weight of {len(changed)} episodes in data of {label(pair, list(pairs))}",
                    "weights",
                    ("training_set", pair[1]["asset"]),
                    of=names(pair),
                    a=mean[0],
                    b=mean[1],
                    counts_a=(len(changed),),
                    counts_b=(len(changed),),
                    watch=watch_ids(lake, changed),
                )
            )
    return found


def _listed(side: Side, asset: str) -> ArtifactRef | None:
    """The newest version of a list that something in the closure was made with."""
    refs = [side.lake.ledger.get(item["owner"]) for item in side.items if item["asset"] == asset]
    return max(refs, key=lambda ref: side.lake.ledger.sequence(ref.artifact_id), default=None)


def making(
    a: Side, b: Side, found: dict[str, Any], measured: Sequence[tuple[ArtifactRef, ArtifactRef]] = ()
) -> list[Shift]:
    """Recipe keys and code, from what `lineage.differences` says and of what was `measured` on either side; each change
    once, however many iterations show it.

    Keys that only one side's stage reads are one change: it was passed over there, or does its work another way. So are
    the keys that differ between any two iterations.
    """
    content = [{name_of(item): item["content_sha256"] for item in side.items} for side in (a, b)]
    also = [(_made(first), _made(second)) for first, second in measured]
    recipe = [*found["recipe"], *(row for pair in also for row in recipe_rows(*pair))]
    code = [*found["code"], *(row for pair in also for row in code_rows(*pair))]
    changed: dict[tuple[Any, ...], Shift] = {}
    one_sided: dict[str, list[dict[str, Any]]] = {}
    iteration: list[dict[str, Any]] = []

    def add(what: str, kind: str, row: dict[str, Any], before: Any, after: Any) -> None:
        first, second = (side.get(name) for side, name in zip(content, row["of"], strict=True))
        same = first is not None and first == second
        stages = () if same else (row["asset"],)
        shift = Shift(what, "without effect" if same else kind, stages, tuple(row["of"]), before, after)
        changed.setdefault((what, str(before), str(after)), shift)

    for row in recipe:
        if None in (row["a"], row["b"]):
            one_sided.setdefault(row["asset"], []).append(row)
        elif row["key"].rpartition(".")[2] in OF_THE_ITERATION:
            iteration.append(row)
        else:
            add(_key(row), "recipe", row, row["a"], row["b"])
    for asset, rows in one_sided.items():
        keys = [{row["key"] for row in rows if row[side] is not None} for side in ("a", "b")]
        passed = [f"{asset}.pass_on" in side for side in keys]
        if any(passed):
            add(f"{asset}: passed on unchanged", "recipe", rows[0], passed[0], passed[1])
        elif len(keys[0] | keys[1]) == 1:
            add(_key(rows[0]), "recipe", rows[0], rows[0]["a"], rows[0]["b"])
        else:
            add(f"recipe keys of one side ({asset})", "recipe", rows[0], len(keys[0]), len(keys[1]))
    for row in code:
        add(f"code of {row['asset']}", "code", row, row["a"], row["b"])
    return [*changed.values(), *_between_iterations(iteration)]


def _between_iterations(rows: Sequence[dict[str, Any]]) -> list[Shift]:
    """One change for the keys that tell iterations and repetitions apart."""
    if not rows:
        return []
    names = sorted({row["key"].rpartition(".")[2] for row in rows})
    values = {(row["a"], row["b"]) for row in rows}
    before, after = values.pop() if len(values) == 1 else (None, None)
    stages = sorted({row["asset"] for row in rows})
    what = f"recipe {', '.join(names)} ({stages[0] if len(stages) == 1 else f'{len(stages)} stages'})"
    return [Shift(what, "iteration", a=before, b=after)]


def _key(row: dict[str, Any]) -> str:
    """The key as it stands in the recipe, and the stage that reads it."""
    return f"recipe {row['key'].removeprefix(row['asset'] + '.')} ({row['asset']})"


def _made(ref: ArtifactRef) -> dict[str, Any]:
    """How an artifact was made, as closures have it."""
    return {
        "asset": ref.kind,
        "partition": ref.partition,
        "recipe": json.loads(ref.recipe_json or "{}"),
        "code_sha256": ref.code_digest,
        "code_revision": ref.code_revision,
    }
