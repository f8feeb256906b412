"""Staleness: what other code, recipes and inputs would make differently, why, and that making it again ends it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from asking import at, vlaw
from factories import edit_toml, write_recipe
from smoke_place import UP_TO_POLICY, Place, smoke_copy, smoke_place

from vlaw_assets.assets.making import STAGES
from vlaw_assets.pipeline import driver
from vlaw_assets.rebuild.staleness import ask, rebuild_plan, stale
from vlaw_models.errors import VlawError

KEY = "smoke|01"
APPLY_ALPHA = (
    "training_set",
    "world_model_metrics",
    "start_world_model_metrics",
    "reward_model_metrics",
    "imagined_outcomes",
)
"""What reads the judge's threshold."""
EVALUATIONS = ("policy_evaluation", "policy_evaluation_low_noise")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A copy of the smoke place with the state of a second iteration, and an experiment that agrees with the first."""
    smoke_place(tmp_path_factory)
    copy = smoke_copy(tmp_path_factory.mktemp("stale") / "place")
    write_recipe(copy.recipes, "same")
    copy.run("iteration", "smoke|02", only=["loop_state"])
    copy.run("iteration", "same|01", only=UP_TO_POLICY)
    return copy


@pytest.fixture
def place(original, monkeypatch, tmp_path):
    """The original with recipes of its own; the lake is shared by the tests that only look."""
    place = Place(tmp_path / "place")
    shutil.copytree(original.recipes, place.recipes)
    (place.root / "lake").symlink_to(original.root / "lake")
    at(monkeypatch, tmp_path, place.environment())
    return place


def found(place, experiment=""):
    """{name: reasons} of what is stale of one experiment and the foundation, or of everything."""
    return {
        item.name: "; ".join(item.reasons) for item in stale(place.lake, recipes=place.recipes, experiment=experiment)
    }


def test_nothing_is_stale_after_a_run(place):
    assert found(place) == {}
    rows = json.loads(vlaw("status", "--json").output)
    assert next(row for row in rows if row["partition"] == KEY)["outdated_because"] == {}
    state = place.lake.ledger.require("loop_state", KEY)
    rows = json.loads(vlaw("status", "--json", "--as-of", state.artifact_id).output)
    assert [(row["partition"], row["materialized"]) for row in rows] == [("", 7), (KEY, 1)]


def test_another_threshold_makes_what_applies_it_stale_and_names_the_key(place):
    write_recipe(place.recipes, "smoke", score={"alpha": 0.5})
    reasons = found(place)
    changed = "made with another recipe: score.alpha 1e-06 -> 0.5"
    applied = {*(f"{asset}[{KEY}]" for asset in APPLY_ALPHA), "loop_state[smoke|02]"}
    assert {name for name, why in reasons.items() if why == changed} == applied, "the promotion gate reads alpha too"
    assert reasons[f"policy[{KEY}]"] == f"stands on training_set[{KEY}], which is stale"
    assert set(reasons) == applied | {f"{asset}[{KEY}]" for asset in ("policy", *EVALUATIONS, "iteration_report")}, (
        "not what came before, and not the experiment that shares the artifacts"
    )
    assert found(place, "same") == {}
    shown = vlaw("status").output
    assert f"stale: training_set[{KEY}]: {changed}" in shown


def test_other_code_is_named(place, monkeypatch):
    monkeypatch.setitem(STAGES, "reward_scores", replace(STAGES["reward_scores"], code="0" * 64))
    reasons = found(place)
    assert reasons[f"reward_scores[{KEY}]"] == reasons["reward_scores[same|01]"] == "made by other code than today's"
    assert f"policy[{KEY}]" in reasons
    assert f"imagined_rollouts[{KEY}]" not in reasons


def test_another_renderer_makes_all_that_renders_stale_and_nothing_else(place, monkeypatch):
    monkeypatch.setenv("VLAW_RENDERER", "gl")
    reasons = found(place)
    changed = {name for name, why in reasons.items() if 'renderer "ray" -> "gl"' in why}
    rendered = (
        "real_rollouts",
        "validation_rollouts",
        "start_evaluation",
        "start_evaluation_low_noise",
        *EVALUATIONS,
    )
    shared = ("real_rollouts[same|01]", "policy[same|01]")
    assert changed == {
        "expert_demonstrations",
        "co_training_data",
        f"policy[{KEY}]",
        *shared,
        *(f"{asset}[{KEY}]" for asset in rendered),
    }
    assert f"imagined_rollouts[{KEY}]" in reasons, "it stands on what was rendered"
    assert not {"base_policy", "autoencoder", "pretrained_world_model", f"loop_state[{KEY}]"} & reasons.keys()
    monkeypatch.setenv("VLAW_RENDERER", "ray")
    assert found(place) == {}


def test_the_simulator_in_the_world_models_place_renders_and_the_world_model_does_not(place, monkeypatch):
    def identity(world, renderer):
        monkeypatch.setenv("VLAW_RENDERER", renderer)
        write_recipe(place.recipes, "smoke", imagine={"world": world})
        return ask(place.lake, "imagined_rollouts", KEY, recipes=place.recipes).identity.digest

    assert identity("world_model", "ray") == identity("world_model", "gl")
    assert identity("simulator", "ray") != identity("simulator", "gl")


def test_an_unknown_renderer_is_refused_before_anything_is_made(place, monkeypatch):
    monkeypatch.setenv("VLAW_RENDERER", "gpu")
    with pytest.raises(VlawError, match="unknown renderer 'gpu'"):
        ask(place.lake, "real_rollouts", KEY, recipes=place.recipes)


def test_another_foundation_spreads_to_what_reads_it_only(place):
    edit_toml(place.recipes / "foundation.toml", co_training_per_task=2)
    reasons = found(place)
    assert reasons["co_training_data"] == "made with another recipe: count_per_task 1 -> 2"
    assert reasons[f"world_model[{KEY}]"] == "stands on co_training_data, which is stale"
    assert "expert_demonstrations" not in reasons
    assert f"start_evaluation[{KEY}]" not in reasons
    assert [partition for partition, _ in rebuild_plan(stale(place.lake, recipes=place.recipes, experiment="smoke"))][
        :2
    ] == ["", KEY]
    assert [item.name for item in stale(place.lake, recipes=place.recipes, foundation_only=True)] == [
        "co_training_data",
        "corpus_latents",
    ]


@pytest.mark.slow
def test_a_run_says_that_it_goes_on_with_a_stale_foundation(place):
    edit_toml(place.recipes / "foundation.toml", co_training_per_task=2)
    said = vlaw("run", "--experiment", "smoke", "--iterations", "1")
    assert said.exit_code == 0
    assert (
        "co_training_data is stale (made with another recipe: count_per_task 1 -> 2) and is used as it is"
        in said.output
    )


def test_a_replaced_input_is_named(place, original, tmp_path):
    mine = smoke_copy(tmp_path / "mine", original)
    write_recipe(mine.recipes, "smoke", policy={"steps": 1})
    mine.run("iteration", KEY, only=["policy"])
    reasons = found(mine, "smoke")
    assert f"made from other inputs: policy is now policy[{KEY}]" in reasons["loop_state[smoke|02]"]
    assert f"policy[{KEY}]" not in reasons
    policy = mine.lake.ledger.require("policy", KEY)
    past = mine.lake.as_of(mine.lake.ledger.artifacts()[-2].artifact_id)
    assert past.ledger.require("policy", KEY).artifact_id != policy.artifact_id
    then = {item.name: item.reasons for item in stale(past, recipes=mine.recipes, experiment="smoke")}
    assert "policy.steps 2 -> 1" in then[f"policy[{KEY}]"][0], "as of before the run, it was to be made"


def test_an_experiment_without_a_recipe_cannot_be_rebuilt_and_is_said_so(place, original, tmp_path, monkeypatch):
    mine = smoke_copy(tmp_path / "mine", original)
    write_recipe(mine.recipes, "gone")
    mine.run("iteration", "gone|01", only=["loop_state"])
    (mine.recipes / "gone.toml").unlink()
    (item,) = (item for item in stale(mine.lake, recipes=mine.recipes) if item.ref.partition == "gone|01")
    assert "there is no experiment 'gone'" in item.blocked
    assert all(partition != "gone|01" for partition, _ in rebuild_plan([item]))
    at(monkeypatch, tmp_path, mine.environment())
    result = vlaw("run", "--rebuild-stale")
    assert result.exit_code == 0, result.output
    assert "cannot be made again: loop_state[gone|01]: there is no experiment 'gone'" in result.output


@pytest.mark.slow
def test_rebuilding_makes_exactly_what_differs_and_ends_it(place, original, tmp_path, monkeypatch):
    mine = smoke_copy(tmp_path / "mine", original)
    at(monkeypatch, tmp_path, mine.environment())
    before = len(mine.lake.ledger.artifacts())
    # Another threshold below every score: another recipe, the same members.
    write_recipe(mine.recipes, "smoke", score={"alpha": 0.0000011})
    stale_names = set(found(mine))
    result = vlaw("run", "--rebuild-stale", "--experiment", "smoke")
    assert result.exit_code == 0, result.output
    assert f"{KEY}: " in result.output, "the plan comes first"
    assert "nothing is stale" in result.output
    made = {ref.name for ref in mine.lake.ledger.artifacts()[before:]}
    assert {f"training_set[{KEY}]", f"reward_model_metrics[{KEY}]"} <= made <= stale_names
    assert f"policy[{KEY}]" not in made, "the members are the same, so the policy is"
    assert found(mine) == {}
    assert vlaw("run", "--rebuild-stale").output.strip() == "nothing is stale"


def test_rebuild_takes_no_other_options(place):
    result = vlaw("run", "--rebuild-stale", "--iterations", "1")
    assert result.exit_code == 2
    assert "says itself what to make" in result.stderr
    assert vlaw("run", "--rebuild-stale", "--experiment", "nobody").exit_code == 2


@pytest.mark.slow
def test_a_recipe_that_is_gone_blocks_its_own_artifacts_and_nothing_else(tmp_path_factory, monkeypatch, tmp_path):
    """What stands under a removed recipe or study is counted as blocked; everything else is rebuilt, and its pages are
    written."""
    smoke_place(tmp_path_factory)
    place = smoke_copy(tmp_path_factory.mktemp("removed") / "place")
    at(monkeypatch, tmp_path, place.environment())
    assets = ["loop_state", "real_rollouts", "validation_rollouts"]
    for name in ("gone", "stays"):
        write_recipe(place.recipes, name, world_model_metrics={"clips_per_task": 2})
        place.run("iteration", f"{name}|01", only=assets)
    (place.recipes / "gone.toml").unlink()
    edit_toml(place.recipes / "stays.toml", world_model_metrics={"clips_per_task": 1})
    found = {item.name: item for item in stale(place.lake, recipes=place.recipes)}
    assert {name for name, item in found.items() if item.blocked} == {f"{asset}[gone|01]" for asset in assets}
    assert found["validation_rollouts[stays|01]"].reasons
    result = vlaw("run", "--rebuild-stale")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "there is no experiment 'gone'" in " ".join(result.output.split())
    assert result.output.count("there is no experiment 'gone'") == 2, (
        "once before and once after, not once per artifact"
    )
    left = {item.name for item in stale(place.lake, recipes=place.recipes)}
    assert left == {f"{asset}[gone|01]" for asset in assets}
    assert json.loads(vlaw("status", "--json").stdout)
    assert vlaw("audit", "real_rollouts", "gone", "1").exit_code == 0


@pytest.mark.slow
def test_the_report_of_an_experiment_whose_recipe_is_gone(tmp_path_factory, monkeypatch, tmp_path):
    smoke_place(tmp_path_factory)
    place = smoke_copy(tmp_path_factory.mktemp("reported") / "place")
    write_recipe(place.recipes, "gone")
    place.run("iteration", "gone|01")
    (place.recipes / "gone.toml").unlink()
    at(monkeypatch, tmp_path, place.environment())
    result = vlaw("report", "gone", "1", "--out", str(tmp_path / "gone.html"))
    assert result.exit_code == 0, result.output
    assert "Which data produced this policy" in (tmp_path / "gone.html").read_text()
    assert vlaw("report", "never", "1").exit_code == 2


@pytest.mark.slow
def test_one_partition_that_fails_does_not_stop_the_others(tmp_path_factory, monkeypatch, tmp_path):
    smoke_place(tmp_path_factory)
    place = smoke_copy(tmp_path_factory.mktemp("failing") / "place")
    at(monkeypatch, tmp_path, place.environment())
    for name in ("first", "second"):
        write_recipe(place.recipes, name, world_model_metrics={"clips_per_task": 2})
        place.run("iteration", f"{name}|01", only=["loop_state", "validation_rollouts"])
        write_recipe(place.recipes, name)
    run_job = driver.run_job

    def failing(defs, instance, job, *, partition="", **options):
        if partition == "first|01":
            raise VlawError("no luck", where="here", remedy="none")
        return run_job(defs, instance, job, partition=partition, **options)

    monkeypatch.setattr(driver, "run_job", failing)
    result = vlaw("run", "--rebuild-stale")
    assert result.exit_code == 2
    assert "first|01 could not be made again: no luck" in " ".join(result.output.split())
    assert not stale(place.lake, recipes=place.recipes, experiment="second")
