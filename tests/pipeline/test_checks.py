"""A table's rules are written once: the asset check names all rows that break one, and the write refuses the first."""

from __future__ import annotations

import pytest
from factories import episode

from vlaw_assets.lake.schemas import TABLES, validated
from vlaw_assets.pipeline.checks import episodes_fit_schema, rows_fit_schema
from vlaw_models.errors import VlawError

OWNER = {"artifact_id": "a", "asset": "x", "partition_key": "vlaw__01", "experiment": "vlaw", "iteration": 1}
SCORE = {"episode_id": "e", "judge": "j", "p_success": 0.5}
MEMBER = {"episode_id": "e", "owner": "a", "weight": 1.0, "source": "real"}
RATE = {"task": "stack", "metric": "success", "value": 0.5, "low": 0.2, "high": 0.8, "trials": 4, "detail_json": "{}"}


def written(name, rows):
    """The rows as they would be written."""
    known = {key: "" for key in TABLES[name].names if key in ("owner", "task", "policy", "world_model", "camera")}
    return validated(name, [{**known, **OWNER, "position": 0, **row} for row in rows], where="test")


@pytest.mark.parametrize(("name", "good"), [("reward_scores", SCORE), ("members", MEMBER), ("evaluations", RATE)])
def test_rows_that_keep_the_rules_pass_and_are_written(name, good):
    assert rows_fit_schema(name, [good]).passed
    assert rows_fit_schema(name, []).passed
    assert written(name, [good]).num_rows == 1


@pytest.mark.parametrize(
    ("name", "good", "change", "words"),
    [
        ("reward_scores", SCORE, {"p_success": 1.5}, "p_success: must be a probability in [0, 1] (e.g. 1.5)"),
        ("reward_scores", SCORE, {"p_success": float("nan")}, "p_success: must be a probability in [0, 1] (e.g. nan)"),
        ("reward_scores", SCORE, {"judge": ""}, "judge: must be not empty"),
        ("members", MEMBER, {"weight": -1.0}, "weight: must be at least 0 (e.g. -1.0)"),
        ("members", MEMBER, {"weight": float("inf")}, "weight: must be finite (e.g. inf)"),
        ("members", MEMBER, {"source": "dreamt"}, "source: must be one of real, imagined"),
        ("evaluations", RATE, {"value": float("-inf"), "low": None}, "value: must be finite (e.g. -inf)"),
        ("evaluations", RATE, {"value": 0.9}, "value: must be from low to high (e.g. 0.9)"),
        ("evaluations", RATE, {"value": 0.1}, "value: must be from low to high (e.g. 0.1)"),
        ("evaluations", RATE, {"trials": -1}, "trials: must be at least 0 (e.g. -1)"),
        ("evaluations", RATE, {"metric": ""}, "metric: must be not empty"),
    ],
)
def test_a_row_that_breaks_a_rule_fails_the_check_and_is_not_written(name, good, change, words):
    rows = [good, {**good, "episode_id": "f", **change}]
    finding = rows_fit_schema(name, rows)
    assert not finding.passed
    assert words in finding.text
    column, _, rule = words.partition(": ")
    with pytest.raises(VlawError) as caught:
        written(name, rows)
    assert caught.value.what.startswith(f"{name}.{column} = ")
    assert rule.partition(" (e.g.")[0] in caught.value.what


@pytest.mark.parametrize(("name", "good"), [("reward_scores", SCORE), ("members", MEMBER)])
def test_an_episode_is_scored_and_a_member_once(name, good):
    assert "episode_id: must be there once (e.g. e)" in rows_fit_schema(name, [good, good]).text
    with pytest.raises(VlawError, match="must be there once"):
        written(name, [good, good])


def test_all_that_is_wrong_is_listed():
    text = rows_fit_schema("members", [{**MEMBER, "weight": -1.0, "source": "dreamt", "owner": ""}]).text
    assert all(f"{column}: must be" in text for column in ("weight", "source", "owner"))


def test_episodes_are_held_to_what_the_stage_expects_of_them():
    good = episode("stack", instruction="stack the cups")
    assert episodes_fit_schema([good], tasks=["stack"], labelled=True).passed
    for tasks, labelled, wrong, words in (
        (["book"], True, good, "task: must be one of book (e.g. stack)"),
        (["stack"], False, good, "labelled: must be false"),
        (["stack"], True, episode("stack", success=None, instruction="x"), "labelled: must be true"),
        (["stack"], True, episode("stack", seed=-1, instruction="x"), "seed: must be at least 0 (e.g. -1)"),
    ):
        assert words in episodes_fit_schema([wrong], tasks=tasks, labelled=labelled).text
