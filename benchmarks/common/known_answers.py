"""Whether audit, impact and SQL say of a synthetic ledger what it was made of."""

from __future__ import annotations

from collections import Counter
from typing import Any

from common.synthetic_answers import ALPHA, TASKS, Known, Size, key
from common.synthetic_rows import episode_id
from vlaw_assets.lake import Lake


def check_audit(found: dict[str, Any], size: Size) -> None:
    """The audit of the last policy says what the lake was made of."""
    known, last = Known(size), size.iterations
    assert len(found["artifacts"]) == 5 + 7 * last, len(found["artifacts"])
    real = Counter(
        {
            (row["dataset"], row["task"], row["outcome"]): row["count"]
            for row in found["episodes"]
            if row["purpose"] == "rollout"
        }
    )
    for iteration in range(1, last + 1):
        for task, name in enumerate(TASKS):
            won = real[f"real_rollouts[{key(iteration)}]", name, "success"]
            lost = real[f"real_rollouts[{key(iteration)}]", name, "failure"]
            assert won == known.successes(iteration, size.real, task), (iteration, name, won)
            assert won + lost == size.real // len(TASKS), (iteration, name, won, lost)
    for iteration in range(1, last + 1):
        members = [row for row in found["members"] if row["training_set"] == f"training_set[{key(iteration)}]"]
        by_weight = Counter[tuple[str, float]]()
        for row in members:
            by_weight[row["source"], row["weight"]] += row["count"]
        assert by_weight == {
            ("real", 1.0): known.real_members(iteration),
            ("real", 0.0): known.weightless(),
            ("imagined", 1.0): known.imagined_members(),
        }, (iteration, by_weight)
    assert [(row["alpha"], row["scored"], row["accepted"]) for row in found["judges"]] == [
        (ALPHA, size.imagined, known.imagined_members())
    ] * last, found["judges"]


def check_success(rows: list[dict[str, Any]], size: Size) -> None:
    """Trials and successes of the policy that each iteration starts with and of the one it ends with."""
    found = {(row["iteration"], row["asset"], row["task"]): (row["trials"], row["successes"]) for row in rows}
    known, trials = Known(size), size.evaluation // len(TASKS)
    assert found == {
        (iteration, asset, name): (trials, known.successes(iteration + later, size.evaluation, task))
        for iteration in range(1, size.iterations + 1)
        for task, name in enumerate(TASKS)
        for later, asset in enumerate(("start_evaluation", "policy_evaluation"))
    }, found


def check_impact(found: Any, size: Size, asset: str, iteration: int, *, accepted: bool = True) -> None:
    """Exactly the artifacts that the episode reaches by construction; of its own iteration only the rows that name
    it."""
    got = {(item.ref.asset, item.ref.partition): (item.how, item.rows) for item in found}
    wanted = Known(size).reached(asset, iteration, accepted=accepted)
    assert got.keys() == wanted, (asset, got.keys() ^ wanted)
    assert len({item.ref.artifact_id for item in found}) == len(found)
    if asset == "imagined_rollouts":
        naming = [
            got[name, key(iteration)] for name in ("reward_scores", "training_set") if (name, key(iteration)) in got
        ]
        assert naming == [("rows", 1)] * (2 if accepted else 1), naming
    elif asset == "real_rollouts":
        assert got["training_set", key(size.iterations)] == ("whole", Known(size).members(size.iterations))


def subjects(lake: Lake, size: Size) -> dict[str, tuple[str, str, int, bool]]:
    """Name -> (episode id, asset, iteration, accepted) of episodes whose impact is known."""
    known, middle = Known(size), (size.iterations + 1) // 2
    real, imagined = (
        lake.ledger.require(asset, key(1 if asset == "real_rollouts" else middle))
        for asset in ("real_rollouts", "imagined_rollouts")
    )
    clips = lake.ledger.require("validation_rollouts", key(middle))
    return {
        "a real success of iteration 01": (
            episode_id(real, "rollout", known.real_index(success=True)),
            "real_rollouts",
            1,
            True,
        ),
        "a real failure of iteration 01": (
            episode_id(real, "rollout", known.real_index(success=False)),
            "real_rollouts",
            1,
            True,
        ),
        "an accepted imagined one": (
            episode_id(imagined, "imagined", known.imagined_index(accepted=True)),
            "imagined_rollouts",
            middle,
            True,
        ),
        "a rejected imagined one": (
            episode_id(imagined, "imagined", known.imagined_index(accepted=False)),
            "imagined_rollouts",
            middle,
            False,
        ),
        "a validation clip": (episode_id(clips, "validation", 0), "validation_rollouts", middle, True),
    }
