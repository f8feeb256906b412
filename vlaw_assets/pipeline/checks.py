"""What must hold of data before it is committed: the rules of the tables (lake/rules.py) and what stages expect.

Pure functions from episodes or rows to a `Finding`. A stage evaluates them inside its draft, so that a blocking finding
stops the commit (`assets/stage_asset.py` turns findings into Dagster's asset checks). numpy, pyarrow and pandera are
imported inside functions: `vlaw_assets.definitions` stays quick to load.
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
    episodes: Sequence[Episode], *, tasks: Sequence[str], labelled: bool | None, robot: RobotSpec | None = None
) -> Finding:
    """Scalar columns of episodes: known task, instruction, seed, length; success known exactly where `labelled`, or
    anywhere where that is None. Of a robot also its cameras, dimensions and limits."""
    import pyarrow as pa
    from pandera.pyarrow import Check

    for index, episode in enumerate(episodes):
        try:
            if robot is not None:
                robot.check_episode(episode, where=f"episode {index}")
        except VlawError as error:
            return Finding(SCHEMA, passed=False, text=f"episode {index}: {error.what}", remedy=error.remedy)
    table = pa.table(
        {
            "task": pa.array([e.task for e in episodes], pa.string()),
            "instruction": pa.array([e.instruction for e in episodes], pa.string()),
            "seed": pa.array([e.seed for e in episodes], pa.int64()),
            "num_steps": pa.array([e.num_steps for e in episodes], pa.int64()),
            "labelled": pa.array([e.success is not None for e in episodes], pa.bool_()),
        }
    )
    return _fits(
        "episodes",
        table,
        {
            "task": [Check.isin(list(tasks), error=f"one of {', '.join(tasks)}")],
            "instruction": [Check.str_length(min_value=1, error="not empty")],
            "seed": [Check.ge(0, error="at least 0")],
            "num_steps": [Check.ge(1, error="at least 1")],
            **({} if labelled is None else {"labelled": [Check.isin([labelled], error=f"{labelled}".lower())]}),
        },
    )


def rows_fit_schema(name: str, rows: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether rows that are to be written to a table keep its rules (lake/rules.py)."""
    import pyarrow as pa

    from vlaw_assets.lake.schemas import TABLES

    given = [field for field in TABLES[name] if any(field.name in row for row in rows)]
    try:
        table = pa.table({field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in given})
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        return Finding(SCHEMA, passed=False, text=f"{name}: {error}")
    return _fits(name, table, {})


def _fits(name: str, table: Any, also: Mapping[str, Any]) -> Finding:
    """The finding of a table's rules: every one that is broken, with a value that breaks it."""
    from vlaw_assets.lake.rules import broken

    found = dict.fromkeys(
        f"{column}: must be {rule} (e.g. {value})" for column, rule, value in broken(name, table, also)
    )
    if found:
        listed = sorted(found)
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
