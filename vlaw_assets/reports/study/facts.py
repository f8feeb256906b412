"""What is known of a study: the answers of `sql/study_*.sql`, asked once, and which runs are missing.

Without a definition (asset `study`) there is nothing to be missing: what is there is all that was asked
for.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.success import ALL, Rate, rate
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from vlaw_assets.lake import Lake

Row = dict[str, Any]
BASE, FILTERED_BC, VLAW, DSRL, MORE_REAL = "base", "filtered_bc", "vlaw", "dsrl", "real_only_more"
EXPERT_ONLY, HALF, NO_REAL = "vlaw_expert_only_world_model", "vlaw_half_synthetic", "vlaw_no_real_in_policy"
CONTROL = "vlaw_expert_control_world_model"
TRUE_LABELS, ORACLE = "imagined_true_labels", "oracle"
REPORTED, LOW = "reported", "low"
NOISES = (REPORTED, LOW)
QUESTIONS = (
    "definition",
    "runs",
    "time",
    "machine",
    "arms",
    "start_sets",
    "success",
    "trials",
    "video_metrics",
    "events",
    "judges",
    "judge_scores",
    "judge_figures",
    "coverage",
    "labels",
    "base_inside",
    "stops",
    "real_rollouts",
    "policy_ranks",
    "promotions",
    "alignment",
    "costs",
    "optimism",
)


@dataclass
class Facts:
    """All rows of one study; `rows["runs"]` are those of sql/study_runs.sql."""

    study: str
    rows: dict[str, list[Row]]
    definition: dict[str, Any] | None = None
    """The study as it was begun, where its definition is there."""
    wanted: dict[tuple[str, int], int] = field(default_factory=dict)
    """(recipe, seed) -> iterations that the definition asks for."""
    source: str = "the lake"
    """Where the rows are from, in the report's words."""

    def seeds(self, recipe: str) -> list[int]:
        """Seeds of an arm that have an evaluation; of 'base' those whose start was evaluated."""
        return sorted(
            {
                row["seed"]
                for row in self.rows["success"]
                if row["recipe"] == recipe and row["seed"] is not None and row["noise"] == REPORTED
            }
        )

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks that were evaluated, in the paper's order."""
        found = {row["task"] for row in self.rows["success"]} - {ALL}
        order = list(paper()["table_2"]["tasks"])
        return sorted(found, key=lambda task: (order.index(task) if task in order else len(order), task))

    def rate(
        self, recipe: str, iteration: int, task: str = ALL, *, noise: str = REPORTED, seed: int | None = None
    ) -> Rate | None:
        """Success; `seed` None: of all seeds together. None where it was not evaluated."""
        for row in self._success.get((recipe, iteration, noise), ()):
            if row["task"] == task and row["seed"] == seed:
                return rate(row["successes"], row["trials"])
        return None

    def seed_rates(self, recipe: str, iteration: int, *, noise: str = REPORTED) -> dict[int, float]:
        """Seed -> success over all tasks."""
        return {
            row["seed"]: row["rate"]
            for row in self._success.get((recipe, iteration, noise), ())
            if row["task"] == ALL and row["seed"] is not None and row["rate"] is not None
        }

    @cached_property
    def _success(self) -> dict[tuple[str, int, str], list[Row]]:
        found: dict[tuple[str, int, str], list[Row]] = {}
        for row in self.rows["success"]:
            found.setdefault((row["recipe"], row["iteration"], row["noise"]), []).append(row)
        return found

    def outcomes(self, recipe: str, iteration: int, noise: str = REPORTED) -> dict[tuple[int, int, str], bool]:
        """(seed, start, task) -> success."""
        return self._outcomes.get((recipe, iteration, noise), {})

    @cached_property
    def _outcomes(self) -> dict[tuple[str, int, str], dict[tuple[int, int, str], bool]]:
        found: dict[tuple[str, int, str], dict[tuple[int, int, str], bool]] = {}
        for row in self.rows["trials"]:
            own = found.setdefault((row["recipe"], row["iteration"], row["noise"]), {})
            own[row["seed"], row["start"], row["task"]] = row["success"]
        return found

    def policies(self, noise: str = REPORTED) -> list[tuple[str, int]]:
        """(recipe, iteration) of every policy that was evaluated, base first, then as the definition lists the arms."""
        order = list(dict.fromkeys([BASE, FILTERED_BC, VLAW, *(recipe for recipe, _ in self.wanted)]))
        return sorted(
            {(recipe, iteration) for recipe, iteration, found in self._success if found == noise},
            key=lambda key: (order.index(key[0]) if key[0] in order else len(order), *key),
        )

    def noise_scale(self, noise: str) -> float | None:
        """The evaluations' noise; None where it was not recorded, or differs."""
        found = {row["noise_scale"] for row in self.rows["success"] if row["noise"] == noise}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def privileged(self) -> set[str]:
        """Arms that use the simulator where a robot would have nothing: by their artifacts' settings, or the
        definition."""
        said = {arm["recipe"] for arm in (self.definition or {}).get("arms", []) if arm.get("privileged")}
        return said | {row["recipe"] for row in self.rows["arms"] if row["privileged"]} | {TRUE_LABELS, ORACLE}

    def last(self, recipe: str) -> int:
        """The last iteration of an arm that was evaluated; 0 for none."""
        return max((iteration for found, iteration in self.policies() if found == recipe), default=0)

    def recipe(self, name: str) -> dict[str, Any] | None:
        """An arm's recipe, resolved, as the study was begun with it; None without a definition that has it."""
        runs = (self.definition or {}).get("experiments", {}).values()
        return next((run["recipe"] for run in runs if run["arm"] == name), None)

    def select(self, question: str, **wanted: Any) -> list[Row]:
        """Rows of a question whose columns have these values."""
        return [row for row in self.rows[question] if all(row[name] == value for name, value in wanted.items())]

    @cached_property
    def missing(self) -> list[tuple[str, int, int]]:
        """(recipe, seed, iteration) that the definition asks for and that have no evaluation.

        An arm that runs until it matches another one lacks nothing after that.
        """
        there = {(row["recipe"], row["seed"], row["iteration"]) for row in self.rows["runs"] if row["evaluated"]}
        return [
            (recipe, seed, iteration)
            for (recipe, seed), last in self.wanted.items()
            for iteration in range(1, last + 1)
            if (recipe, seed, iteration) not in there and iteration <= (self.matched(recipe, seed) or last)
        ]

    def target(self, recipe: str) -> str:
        """The arm that `recipe` runs until it matches; '' for none."""
        arms = (self.definition or {}).get("arms", [])
        said = next((arm.get("until", "") for arm in arms if arm["recipe"] == recipe), "")
        return said or (VLAW if recipe == MORE_REAL else "")

    def goal(self, recipe: str, seed: int) -> Rate | None:
        """What `recipe` is to match at a seed: pooled success of its target's last iteration. None while there is
        none."""
        target = self.target(recipe)
        last = self.wanted.get((target, seed), self.last(target)) if target else 0
        return self.rate(target, last, seed=seed) if last else None

    def matched(self, recipe: str, seed: int) -> int | None:
        """The first iteration at which `recipe` reaches its goal at a seed; None where it does not, or has none."""
        goal = self.goal(recipe, seed)
        if goal is None:
            return None
        for iteration in range(1, self.last(recipe) + 1):
            found = self.rate(recipe, iteration, seed=seed)
            if found is not None and found.value >= goal.value:
                return iteration
        return None

    def lacks(self, recipes: Sequence[str], iteration: int | None = None) -> list[str]:
        """What is missing of some arms, as texts: 'vlaw, iteration 2, seed 2: not run'."""
        texts = []
        for recipe in recipes:
            gone = [(i, seed) for found, seed, i in self.missing if found == recipe and iteration in (None, i)]
            texts += [
                f"{recipe}, iteration {i}, seed {', '.join(str(s) for at, s in gone if at == i)}: not run"
                for i in sorted({i for i, _ in gone})
            ]
            known = any(row["recipe"] == recipe for row in self.rows["runs"])
            if not gone and not known and recipe != BASE:
                texts.append(f"{recipe}: not part of the study")
        return texts


class Asked(Protocol):
    """Who answers: a lake's SQL connection, or the files of a study."""

    def table(self, sql: str, parameters: dict[str, Any]) -> pa.Table: ...


def facts_of(lake: Lake, study: str) -> Facts:
    """Asks a lake all questions. Raises VlawError for a study of which the lake has nothing."""
    from vlaw_assets.query import connect

    with connect(lake) as query:
        return facts_from(query, study, where=str(lake.paths.root))


def facts_of_files(files: Sequence[Path], study: str) -> Facts:
    """Asks the files of a study (query/study_file.py) all questions. Raises VlawError as these do."""
    from vlaw_assets.query.study_file import StudyFiles

    with closing(StudyFiles(files, study)) as rows:
        found = facts_from(rows, study, where=", ".join(str(file) for file in files))
        differing = rows.differing
    source = f"the rows in {', '.join(f'`{file.name}`' for file in files)}"
    if differing:
        source += (
            f" ({differing} artifacts were made in several of them, and differ as on machines of two kinds: the first "
            "file's count)"
        )
    return replace(found, source=source)


def facts_from(query: Asked, study: str, where: str) -> Facts:
    """Asks all questions; `where` the answers are from. Raises VlawError where nothing of the study is there."""
    from vlaw_assets.query.questions import FOLDER, read_question

    def ask(name: str) -> list[Row]:
        return query.table(read_question(FOLDER / f"study_{name}.sql")[1], {"study": study}).to_pylist()

    rows = {name: ask(name) for name in ("definition", "runs")}
    if not any(rows.values()):
        raise VlawError(
            f"there is nothing of a study {study!r}",
            where=where,
            remedy=_others(query) or f"Run it first: vlaw study {study}",
        )
    rows |= {name: ask(name) for name in QUESTIONS if name not in rows}
    current = [row for row in rows["definition"] if row["is_current"]]
    definition = json.loads(current[-1]["definition"]) if current else None
    wanted = wanted_runs(definition or {})
    if wanted:  # the definition that this one replaced may have had other arms
        arms = {recipe for recipe, _ in wanted} | {BASE}
        rows = {
            name: [row for row in found if row.get("recipe") is None or row["recipe"] in arms]
            for name, found in rows.items()
        }
    return Facts(study, rows, definition, wanted)


def wanted_runs(definition: dict[str, Any]) -> dict[tuple[str, int], int]:
    """(recipe, seed) -> iterations, of a definition with [[arms]]."""
    return {
        (arm["recipe"], int(seed)): int(arm.get("iterations", 1))
        for arm in definition.get("arms", [])
        for seed in arm.get("seeds", [])
    }


def _others(query: Asked) -> str:
    """Which studies there are instead."""
    found = [
        row["study"] for row in query.table("SELECT DISTINCT study FROM study_artifacts ORDER BY 1", {}).to_pylist()
    ]
    return f"There are runs of {', '.join(found)}." if found else ""
