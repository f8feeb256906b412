"""Recordings as the source of real data: which episodes an iteration gets, what is refused, and what they reach."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from factories import write_toml
from one_stage import Bench
from small_loop import TASKS, checkpoint, commit, episodes, foundation

from vlaw_assets.assets.recordings import check_sources, frames_of_corpora
from vlaw_assets.lake.quarantine import add
from vlaw_assets.lineage.impact import impact
from vlaw_assets.recipes import find_recipe, load_foundation
from vlaw_models.errors import VlawError

SOURCE = {"source": "recorded:lab", "episodes_per_task": 10}
COUNT = 7
"""Recorded episodes of every task."""


def record(bench: Bench, name: str, count: int = COUNT, *, seed: int = 5, judged: bool = True):
    """An imported dataset; returns its episodes as they are in the lake, by index."""

    def write(draft) -> None:
        draft.write_episodes(
            episodes(count, seed=seed, judged=judged), purpose="rollout", world="arm", label_source="recorded"
        )

    ref = commit(bench.lake, "recorded_episodes", f"{name}|00", "recorded_episodes", {}, write, recipe={"of": name})
    return bench.lake.read(ref).episodes()


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    root = tmp_path_factory.mktemp("founded")
    foundation(Bench(root).lake)
    return root


@pytest.fixture
def bench(founded, tmp_path):
    return Bench(shutil.copytree(founded, tmp_path, dirs_exist_ok=True))


def rolled_out(bench: Bench, iteration: int = 1):
    if iteration == 1:
        bench.make("loop_state", f"lab|{iteration:02d}")
    else:
        state = {"policy": bench.lake.ledger.require("base_policy", "")}
        commit(bench.lake, "loop_state", f"lab|{iteration:02d}", "loop_state", state, checkpoint(f"state {iteration}"))
    return bench.lake.read(bench.make("real_rollouts", f"lab|{iteration:02d}")).episodes()


def test_the_episodes_of_a_recording_are_dealt_out_between_iterations(bench):
    recorded = record(bench, "lab")
    bench.recipe("lab", rollouts=SOURCE)  # three iterations
    for_first = rolled_out(bench)
    expected = [e for task in TASKS for e in [r for r in recorded if r.task == task][0::3]]
    assert {e.start_episode_id for e in for_first} == {e.episode_id for e in expected}
    by_id = {e.episode_id: e for e in recorded}
    for copy in for_first:
        original = by_id[copy.start_episode_id]
        np.testing.assert_array_equal(copy.images, original.images)
        np.testing.assert_array_equal(copy.states, original.states)
        np.testing.assert_array_equal(copy.actions, original.actions)
        assert (copy.success, copy.task, copy.instruction) == (original.success, original.task, original.instruction)
    rows = bench.lake.read(bench.lake.ledger.require("real_rollouts", "lab|01")).table("episodes").to_pylist()
    assert {(row["purpose"], row["world"], row["label_source"], row["policy"]) for row in rows} == {
        ("rollout", "arm", "recorded", "")
    }


def test_a_recording_of_each_iteration_is_taken_whole_and_no_more_than_asked_for(bench):
    first, _ = record(bench, "lab_01", seed=1), record(bench, "lab_02", seed=2)
    bench.recipe("lab", rollouts={"episodes_per_task": 2, "source": "recorded:lab_{iteration}"})
    assert {e.start_episode_id for e in rolled_out(bench)} == {
        e.episode_id for task in TASKS for e in [r for r in first if r.task == task][:2]
    }


def test_what_a_recording_reached_is_told_row_by_row(bench):
    recorded = record(bench, "lab")
    bench.recipe("lab", rollouts=SOURCE)
    copies = rolled_out(bench)
    used = copies[0].start_episode_id
    unused = next(e.episode_id for e in recorded if e.episode_id not in {c.start_episode_id for c in copies})
    reached = {episode: {found.ref.asset for found in impact(bench.lake, episode)} for episode in (used, unused)}
    assert "real_rollouts" in reached[used]
    assert "real_rollouts" not in reached[unused]


def test_a_recording_in_quarantine_is_left_out(bench):
    recorded = record(bench, "lab")
    bench.recipe("lab", rollouts=SOURCE)
    add(bench.lake, [recorded[0].episode_id], why="the camera fell", by="me")
    assert recorded[0].episode_id not in {e.start_episode_id for e in rolled_out(bench)}


def test_evaluations_are_taken_from_recordings_and_never_from_those_trained_on(bench):
    record(bench, "lab"), record(bench, "eval_00", seed=9)
    bench.recipe("lab", rollouts=SOURCE, evaluation={"episodes_per_task": 10, "source": "recorded:eval_{iteration}"})
    rolled_out(bench)
    ref = bench.make("start_evaluation", "lab|01")
    found = bench.lake.read(ref)
    assert len(found.episodes()) == COUNT * len(TASKS)
    assert all(len(e.images) == 1 for e in found.episodes()), "the last picture of each"
    rates = {row["task"]: (row["successes"], row["trials"]) for row in found.table("evaluations").to_pylist()}
    assert rates["stack"] == (COUNT // 2, COUNT)
    base = bench.lake.ledger.require("base_policy", "")
    trained = {"policy": base, "real_rollouts_01": bench.lake.ledger.require("real_rollouts", "lab|01")}
    commit(bench.lake, "policy", "lab|01", "policy", trained, checkpoint("new"))
    bench.recipe("lab", rollouts=SOURCE, evaluation=SOURCE)
    with pytest.raises(VlawError, match="recordings that it was trained on") as caught:
        bench.make("policy_evaluation", "lab|01")
    assert "source" in caught.value.remedy


def test_what_cannot_be_taken_is_refused_and_nothing_is_written(bench):
    bench.recipe("lab", rollouts=SOURCE)
    with pytest.raises(VlawError, match="no recording 'lab'; there are: none yet") as caught:
        rolled_out(bench)
    assert "Import the dataset by that name: vlaw import FORMAT PATH --name lab (" in caught.value.remedy
    record(bench, "other")
    with pytest.raises(VlawError, match="there are: other") as caught:
        rolled_out(bench)
    assert "Name one of these, or import" in caught.value.remedy
    record(bench, "lab", judged=False)
    with pytest.raises(VlawError, match="no success label"):
        rolled_out(bench)
    record(bench, "lab")
    bench.recipe("lab", rollouts=SOURCE, tasks=["stack", "draw"])
    with pytest.raises(VlawError, match="no episode of draw") as caught:
        rolled_out(bench)
    assert "book, stack" in caught.value.remedy
    assert bench.lake.ledger.current("real_rollouts", "lab|01") is None


def ask(bench: Bench, **values) -> bool:
    """What is asked of the recordings before all iterations run; True where nothing is refused."""
    bench.recipe("lab", **values)
    recipe, foundation = find_recipe("lab", bench.recipes), load_foundation(bench.recipes)
    check_sources(recipe, foundation, bench.lake, iterations=recipe.iterations)
    return True


def test_recordings_that_have_what_a_run_takes_are_accepted(bench):
    record(bench, "lab")
    assert ask(bench, rollouts=SOURCE, evaluation=SOURCE, world_model_metrics={"source": "recorded:lab"})
    later = {"source": "recorded:lab_{iteration}"}  # may be recorded while it runs
    assert ask(bench, rollouts=later, evaluation=later)
    assert ask(bench, rollouts=SOURCE, iterations=COUNT)


@pytest.mark.parametrize(
    ("key", "values", "what"),
    [
        ("evaluation.source", {"evaluation": {"source": "recorded:eval"}}, "no recording 'eval'; there are: lab, mute"),
        ("world_model_metrics.source", {"world_model_metrics": {"source": "recorded:mute"}}, "no success label"),
        ("rollouts.source", {"rollouts": SOURCE, "tasks": ["stack", "draw"]}, "no episode of draw"),
        ("rollouts.source", {"rollouts": SOURCE, "iterations": COUNT + 1}, "no episode of stack, book"),
    ],
)
def test_recordings_that_lack_what_a_run_takes_are_refused_before_it(bench, key, values, what):
    record(bench, "lab"), record(bench, "mute", judged=False)
    with pytest.raises(VlawError, match=what) as caught:
        ask(bench, **values)
    assert caught.value.where == f"{bench.recipes / 'lab.toml'}, key '{key}'"


def test_recordings_of_a_foundation_are_asked_for_until_it_is_made(bench):
    write_toml(bench.recipes / "foundation.toml", {"co_training": "recorded:demos"})
    ask(bench)
    write_toml(bench.recipes / "foundation.toml", {"demonstrations": "recorded:demos"})
    with pytest.raises(VlawError, match="no recording 'demos'") as caught:
        ask(bench)
    assert caught.value.where == f"{bench.recipes / 'foundation.toml'}, key 'demonstrations'"


@pytest.mark.parametrize("source", ["lab", "recorded:", "recorded:../x", "recorded:lab_{n}", "simulator"])
def test_a_source_that_is_none_is_refused(bench, source):
    bench.recipe("lab", rollouts=SOURCE | {"source": source})
    with pytest.raises(VlawError, match=r"rollouts\.source") as caught:
        rolled_out(bench)
    assert "recorded:NAME" in caught.value.remedy


def test_the_frames_of_a_corpus_are_known_once_its_recording_or_itself_is_in_the_lake(tmp_path):
    bench = Bench(tmp_path)
    bench.recipe("lab", rollouts=SOURCE)
    write_toml(bench.recipes / "foundation.toml", {"demonstrations": "recorded:lab", "demonstrations_per_task": 2})
    recipe, settings = find_recipe("lab", bench.recipes), load_foundation(bench.recipes)
    unknown = {"expert_demonstrations": None, "co_training_data": None}
    assert frames_of_corpora(recipe, settings, None) == unknown
    assert frames_of_corpora(recipe, settings, bench.lake) == unknown
    recorded = record(bench, "lab")
    each = len(recorded[0].images)
    assert all(len(episode.images) == each for episode in recorded)
    taken = {"expert_demonstrations": 2 * len(TASKS) * each, "co_training_data": None}
    assert frames_of_corpora(recipe, settings, bench.lake) == taken, "two of each task, and nobody knows of experts"
    made = record(bench, "other", count=3)
    parent = {"recorded_episodes": bench.lake.ledger.require("recorded_episodes", "other|00")}
    commit(
        bench.lake,
        "co_training_data",
        "",
        "co_training_data",
        parent,
        lambda draft: draft.write_episodes(made, purpose="co_training", world="arm"),
    )
    found = frames_of_corpora(recipe, settings, bench.lake)
    assert found == taken | {"co_training_data": len(made) * each}, "scripted, and made"
