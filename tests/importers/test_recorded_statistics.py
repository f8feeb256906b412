"""Statistics of a recording's numbers: exact, whatever fits into memory at once, and bound to what scales by them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from factories import commit, episode
from recorded_dataset import ARM

from vlaw_assets.assets.foundation import usual_range
from vlaw_assets.importers import recorded_statistics
from vlaw_assets.importers.recorded_statistics import ASSET, commit_statistics, of_numbers
from vlaw_assets.lake import Lake
from vlaw_assets.lake.upkeep.verify import verify
from vlaw_assets.query import connect
from vlaw_models.robots.spec import Vector

TWO = Vector(("x", "y"), ("m", ""))


@pytest.fixture
def made(tmp_path):
    """Three episodes of a robot with two numbers of state and of action, the numbers of all rows, and the lake."""
    rng, lake = np.random.default_rng(3), Lake.open(tmp_path / "lake")
    found = []
    for steps in (5, 9, 30):
        plain = episode("stack", steps, steps=steps)
        states = rng.normal([1, -2], [3, 0.5], (steps + 1, 2)).astype(np.float32)
        found.append(dataclasses.replace(plain, states=states, actions=states[1:] * 2))
    ref = commit(
        lake,
        "recorded_episodes",
        "cups|00",
        write=lambda draft: draft.write_episodes(found, purpose="rollout", label_source="recorded"),
    )
    robot = dataclasses.replace(ARM, state=TWO, action=TWO)
    return lake, ref, robot, found


@pytest.mark.parametrize("at_once", [1 << 20, 1])
def test_every_number_of_states_and_actions(made, monkeypatch, at_once):
    lake, ref, robot, found = made
    monkeypatch.setattr(recorded_statistics, "AT_ONCE", at_once)
    stated = commit_statistics(lake, ref, robot, run_id="r")
    rows = lake.read(stated).table(ASSET).to_pylist()
    assert [(row["vector"], row["number"], row["name"], row["unit"]) for row in rows] == [
        ("state", 0, "x", "m"),
        ("state", 1, "y", ""),
        ("action", 0, "x", "m"),
        ("action", 1, "y", ""),
    ]
    for row in rows:
        values = np.concatenate([getattr(one, f"{row['vector']}s")[:, row["number"]] for one in found])
        assert row["count"] == len(values)
        np.testing.assert_allclose([row["mean"], row["std"]], [values.mean(), values.std()], rtol=1e-5)
        assert (row["min"], row["max"]) == (values.min(), values.max())
        np.testing.assert_allclose([row["q01"], row["q99"]], np.quantile(values, [0.01, 0.99]), rtol=1e-6)
    assert usual_range(rows) == (tuple(row["q01"] for row in rows[:2]), tuple(row["q99"] for row in rows[:2]))
    assert dict(lake.ledger.edges(stated.artifact_id)) == {"recorded_episodes": ref}
    assert commit_statistics(lake, ref, robot, run_id="again") == stated, "made once"
    assert verify(lake, [stated]) == []
    with connect(lake) as query:
        (row,) = query.table(
            "SELECT name, q99 FROM recorded_statistics WHERE vector = 'state' AND number = 1"
        ).to_pylist()
    assert (row["name"], row["q99"]) == ("y", rows[1]["q99"])


def test_one_value():
    assert of_numbers(np.array([0.5], np.float32)) == {"count": 1, "std": 0.0} | dict.fromkeys(
        ("mean", "min", "max", "q01", "q99"), 0.5
    )


def test_a_number_that_never_changes_has_a_range():
    row = {"vector": "state", "q01": 0.25, "q99": 0.25}
    (low,), (high,) = usual_range([row, {**row, "vector": "action"}])
    assert low < high
