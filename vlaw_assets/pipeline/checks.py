"""What must hold of data before it is committed: pandera schemas and the checks that the assets share.

Here: pure functions from episodes or rows to a `Finding`. Not here: when they run. A stage evaluates them inside its
draft, so that a blocking finding stops the commit (`assets/stage_asset.py` turns findings into Dagster's asset checks).
numpy, pyarrow and pandera are imported inside functions: `vlaw_assets.definitions` stays quick to load.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.episodes import Episode
    from vlaw_models.robots.spec import RobotSpec

SCHEMA, FINITE, COUNTS, STARTS, VARIES = "schema", "finite", "counts", "starts_equal_real", "success_varies"
HELD_OUT, KNOWABLE, PROMOTED = "starts_held_out", "simulator_knows", "promoted"
EPISODES = (SCHEMA, FINITE, COUNTS)
"""What must hold of every artifact that writes episodes."""
SHOWN = 5
"""How many offending rows a finding names."""


@dataclass(frozen=True)
class Finding:
    """The verdict of one check on one artifact."""

    name: str
    passed: bool
    text: str
    blocking: bool = True
    """False: a person should look, but the artifact is sound."""
    metadata: dict[str, Any] = field(default_factory=dict)
    remedy: str = "Look at the inputs of this asset; the ledger still has the version before."


def episodes_fit_schema(
    episodes: Sequence[Episode], *, tasks: Sequence[str], judged: bool, robot: RobotSpec | None = None
) -> Finding:
    """Scalar columns of episodes: known task, instruction, seed, length; success known exactly where `judged`. Of a
    robot also its cameras, dimensions and limits."""
    import pandera.pyarrow as pandera
    import pyarrow as pa

    for index, episode in enumerate(episodes):
        try:
            if robot is not None:
                robot.check_episode(episode, where=f"episode {index}")
        except VlawError as error:
            return Finding(SCHEMA, passed=False, text=f"episode {index}: {error.what}", remedy=error.remedy)
    table = pa.table(
        {
            "task": pa.array([e.task for e in episodes], pa.string()),
            "instruction_length": pa.array([len(e.instruction) for e in episodes], pa.int64()),
            "seed": pa.array([e.seed for e in episodes], pa.int64()),
            "num_steps": pa.array([e.num_steps for e in episodes], pa.int64()),
            "judged": pa.array([e.success is not None for e in episodes], pa.bool_()),
        }
    )
    return fits(
        "episodes",
        table,
        pandera.DataFrameSchema(
            {
                "task": pandera.Column(str, pandera.Check.isin(list(tasks))),
                "instruction_length": pandera.Column(int, pandera.Check.ge(1)),
                "seed": pandera.Column(int, pandera.Check.ge(0)),
                "num_steps": pandera.Column(int, pandera.Check.ge(1)),
                "judged": pandera.Column(bool, pandera.Check.eq(judged)),
            }
        ),
    )


def scores_fit_schema(rows: Sequence[dict]) -> Finding:
    """reward_scores: an episode and a judge each, p_success in [0, 1]."""
    import pandera.pyarrow as pandera
    import pyarrow as pa

    table = pa.table(
        {
            "episode_id": pa.array([r["episode_id"] for r in rows], pa.string()),
            "judge": pa.array([r["judge"] for r in rows], pa.string()),
            "p_success": pa.array([r["p_success"] for r in rows], pa.float64()),
        }
    )
    return fits(
        "reward_scores",
        table,
        pandera.DataFrameSchema(
            {
                "episode_id": pandera.Column(str, pandera.Check.str_length(min_value=1), unique=True),
                "judge": pandera.Column(str, pandera.Check.str_length(min_value=1)),
                "p_success": pandera.Column(float, [pandera.Check.ge(0.0), pandera.Check.le(1.0)]),
            }
        ),
    )


def members_fit_schema(rows: Sequence[dict]) -> Finding:
    """members: every episode once, a weight of at least 0, a source the policy update knows."""
    import pandera.pyarrow as pandera
    import pyarrow as pa

    table = pa.table(
        {
            "episode_id": pa.array([r["episode_id"] for r in rows], pa.string()),
            "owner": pa.array([r["owner"] for r in rows], pa.string()),
            "weight": pa.array([r["weight"] for r in rows], pa.float64()),
            "source": pa.array([r["source"] for r in rows], pa.string()),
        }
    )
    return fits(
        "members",
        table,
        pandera.DataFrameSchema(
            {
                "episode_id": pandera.Column(str, pandera.Check.str_length(min_value=1), unique=True),
                "owner": pandera.Column(str, pandera.Check.str_length(min_value=1)),
                "weight": pandera.Column(float, pandera.Check.ge(0.0)),
                "source": pandera.Column(
                    str, pandera.Check.isin(["real", "imagined", "real_negative", "imagined_negative"])
                ),
            }
        ),
    )


def evaluations_fit_schema(rows: Sequence[dict]) -> Finding:
    """evaluations: a task and a metric each; a finite value between its interval's ends where it has one."""
    import pandera.pyarrow as pandera
    import pyarrow as pa

    table = pa.table(
        {
            "task": pa.array([r["task"] for r in rows], pa.string()),
            "metric": pa.array([r["metric"] for r in rows], pa.string()),
            "value": pa.array([r["value"] for r in rows], pa.float64()),
            "trials": pa.array([r.get("trials", 0) for r in rows], pa.int64()),
            "ordered": pa.array(
                [r.get("low", r["value"]) <= r["value"] <= r.get("high", r["value"]) for r in rows], pa.bool_()
            ),
        }
    )
    return fits(
        "evaluations",
        table,
        pandera.DataFrameSchema(
            {
                "task": pandera.Column(str, pandera.Check.str_length(min_value=1)),
                "metric": pandera.Column(str, pandera.Check.str_length(min_value=1)),
                "value": pandera.Column(float, pandera.Check.lt(float("inf"))),
                "trials": pandera.Column(int, pandera.Check.ge(0)),
                "ordered": pandera.Column(bool, pandera.Check.eq(True)),  # noqa: FBT003 (pandera's signature)
            }
        ),
    )


def fits(name: str, table: Any, schema: Any) -> Finding:
    """The finding of a pandera schema on an Arrow table: every failed check with a value that fails it."""
    from pandera.errors import SchemaErrors

    if table.num_rows == 0:
        return Finding(SCHEMA, passed=True, text=f"{name}: no rows")
    try:
        schema.validate(table, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases.to_pylist()
        listed = sorted({f"{case['column']}: {case['check']} (e.g. {case['failure_case']})" for case in cases})
        return Finding(SCHEMA, passed=False, text=f"{name}: {'; '.join(listed[:SHOWN])}", metadata={"failures": listed})
    return Finding(SCHEMA, passed=True, text=f"{name}: {table.num_rows} rows fit the schema")


def all_finite(episodes: Iterable[Episode]) -> Finding:
    """No NaN or infinity in any action or state; lengths that agree (a T-step episode has T+1 states)."""
    import numpy as np

    bad, count = [], 0
    for index, episode in enumerate(episodes):
        count += 1
        if not (np.isfinite(episode.actions).all() and np.isfinite(episode.states).all()):
            bad.append(f"episode {index} ({episode.task}, seed {episode.seed}): a value is not finite")
        if len(episode.states) != len(episode.actions) + 1:
            bad.append(
                f"episode {index} ({episode.task}, seed {episode.seed}): {len(episode.states)} states "
                f"for {len(episode.actions)} actions"
            )
    text = "; ".join(bad[:SHOWN]) if bad else f"{count} episodes hold finite numbers only"
    return Finding(FINITE, passed=not bad, text=text)


def numbers_finite(values: Any, *, what: str) -> Finding:
    """No NaN or infinity among some numbers (losses, scores)."""
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    bad = int((~np.isfinite(array)).sum())
    return Finding(
        FINITE,
        passed=not bad,
        text=f"{bad} of {array.size} {what} are not finite" if bad else f"{array.size} {what}, all finite",
    )


def counts_as_asked(found: Iterable[str], expected: Mapping[str, int]) -> Finding:
    """As many episodes per task as the recipe says: `found` is the task of every episode."""
    counts = Counter(found)
    wrong = [
        f"{task}: {counts.get(task, 0)} instead of {expected.get(task, 0)}"
        for task in sorted({*counts, *expected})
        if counts.get(task, 0) != expected.get(task, 0)
    ]
    text = "; ".join(wrong) if wrong else f"{sum(counts.values())} episodes as the recipe says"
    return Finding(COUNTS, passed=not wrong, text=text, metadata={"per_task": dict(sorted(counts.items()))})


def success_varies(outcomes: Iterable[bool]) -> Finding:
    """Success over all tasks is neither 0 nor 1: then there is something to learn from, and something to learn."""
    outcomes = list(outcomes)
    rate = sum(outcomes) / len(outcomes) if outcomes else 0.0
    return Finding(
        VARIES,
        passed=0 < rate < 1,
        blocking=False,
        text=f"success rate over all tasks {rate:.3f} ({sum(outcomes)} of {len(outcomes)})",
    )
