"""Recipes that extend others, study files, and the definition of a study in the ledger."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from factories import edit_toml, write_recipe
from small_study import ONE, SMALL, TWO, small_folder, write_study

from vlaw_assets.assets.stage import Stage
from vlaw_assets.lake import Lake
from vlaw_assets.partitions import MAX_ITERATIONS
from vlaw_assets.recipes import find_recipe, load_recipe, recipe_files
from vlaw_assets.recipes import study as studies
from vlaw_assets.studies.order import FAILED
from vlaw_assets.studies.partition import Task, run_partition
from vlaw_assets.studies.record import changes, hold_to_definition
from vlaw_models.errors import VlawError
from vlaw_models.learners import imitation
from vlaw_models.rollouts.seeds import HELD_OUT_SEEDS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    return small_folder(tmp_path)


# ---- extends


def test_a_recipe_has_what_it_extends_and_what_it_says_itself(folder):
    two, one = (load_recipe(folder / f"{name}.toml") for name in ("two", "one"))
    assert (two.policy, two.tasks, two.imagine.episodes_per_task) == (one.policy, one.tasks, 0)
    three = load_recipe(write_recipe(folder, "three", None, extends="two", policy={"steps": 9}))
    assert (three.policy.steps, three.imagine.episodes_per_task, three.name) == (9, 0, "three")
    assert load_recipe(recipe_files()["vlaw_awr"]).description != load_recipe(recipe_files()["vlaw"]).description


def test_words_are_not_inherited(folder):
    write_recipe(folder, "worded", None, description="of its own")
    assert load_recipe(write_recipe(folder, "silent", None, extends="worded")).description == ""


def test_an_extending_recipe_that_goes_nowhere_is_refused(folder):
    with pytest.raises(VlawError, match="'extends' names 'nobody', which is no recipe"):
        load_recipe(write_recipe(folder, "lost", None, extends="nobody"))
    write_recipe(folder, "one", None, extends="two")
    with pytest.raises(VlawError, match="in a circle: two -> one -> two"):
        load_recipe(folder / "two.toml")
    write_recipe(folder, "one", None, policy={"steps": -1})
    with pytest.raises(VlawError) as caught:
        load_recipe(folder / "two.toml")
    assert "one.toml" in caught.value.where, "a fault is reported where it is"


def test_packaged_arms_differ_from_vlaw_in_what_they_are_named_after():
    base = find_recipe("vlaw")
    other = {name: find_recipe(name) for name in recipe_files() if name not in ("smoke", "smoke_real_only")}
    tables = ("rollouts", "world_model", "reward_model", "imagine", "score", "policy", "evaluation")
    differ = {
        name: {table for table in tables if recipe.tables(table) != base.tables(table)}
        for name, recipe in other.items()
    }
    assert differ["vlaw_expert_only_world_model"] == differ["vlaw_expert_control_world_model"] == {"world_model"}
    assert differ["vlaw_half_synthetic"] == {"imagine"}
    assert differ["vlaw_no_real_in_policy"] == differ["vlaw_awr"] == differ["vlaw_recap"] == {"policy"}
    assert differ["vlaw_surer_judge"] == differ["imagined_true_labels"] == {"score"}
    assert differ["oracle"] == {"imagine", "score"}
    assert {name for name, recipe in other.items() if recipe.privileged} == {"imagined_true_labels", "oracle"}


# ---- study files


def test_experiments_of_a_study_are_recipes_with_its_settings(folder):
    write_study(folder, **SMALL, set={"evaluation": {"episodes_per_task": 3}})
    assert set(studies.experiment_names(folder)) >= {
        "one",
        "small-one-s0",
        "small-one-s1",
        "small-two-s0",
        "claims-vlaw-s2",
    }
    recipe = find_recipe("small-one-s1", folder)
    assert (recipe.name, recipe.seed, recipe.iterations) == ("small-one-s1", 1, 1)
    assert (recipe.evaluation.episodes_per_task, recipe.policy.steps) == (3, 7)
    with pytest.raises(VlawError, match="no experiment 'small-one-s2'"):
        find_recipe("small-one-s2", folder)


def test_claims_is_what_the_claims_ask_for():
    study = studies.find_study("claims")
    arms = {arm.recipe: arm for arm in study.arms}
    main = {name: arms.pop(name) for name in ("vlaw", "filtered_bc")}
    assert {(arm.seeds, arm.iterations) for arm in main.values()} == {(tuple(range(8)), 2)}
    assert len(arms) == 12
    assert {arm.seeds for arm in arms.values()} == {(0, 1, 2)}
    assert {name for name, arm in arms.items() if arm.iterations != 1} == {"real_only_more"}
    assert list(arms).index("dsrl_imagined") == list(arms).index("dsrl") + 1
    for member in study.members:
        recipe = find_recipe(member.experiment)
        assert recipe.evaluation.episodes_per_task == 100


@pytest.mark.parametrize(
    ("study", "what"),
    [
        ({}, "'arms' is empty"),
        ({"arms": [ONE, TWO | {"colour": 1}]}, "'arms.colour of two' is not a key"),
        ({"arms": [ONE, TWO | {"recipe": "six"}]}, "'six', which is no recipe"),
        ({"arms": [ONE | {"seeds": [1]}, TWO]}, "'arms.until of two' is 'one'"),
        ({"arms": [ONE, TWO | {"iterations": 11}]}, "'arms.iterations of two' is 11"),
        ({"arms": [ONE | {"seeds": [0, 0]}, TWO]}, "names a seed twice"),
        ({"arms": [ONE, ONE | {"seeds": [2]}]}, "names a recipe twice"),
        ({"arms": [ONE | {"seeds": [0, HELD_OUT_SEEDS]}, TWO]}, "'arms.seeds of one' holds 500000"),
        ({"arms": [ONE | {"seeds": [0, -1]}, TWO]}, "'arms.seeds of one' holds -1"),
        ({"arms": [ONE | {"iterations": 1000}, TWO]}, "'arms.iterations of one' is 1000"),
        ({"arms": [ONE | {"seed": 3}, TWO]}, "'arms.seed of one' is not a key"),
        (SMALL | {"seed": 3}, "'seed' is not a key"),
        (SMALL | {"set": {"seed": 3}}, "'set.seed' is not a key"),
        (SMALL | {"set": {"policy": {"seed": 3}}}, "'policy.seed' is not a key"),
        *(
            (
                SMALL | {"set": {table: {"source": "recorded:lab"}}},
                f"'set.{table}.source' is 'recorded:lab': all 2 seeds of one would take the same episodes",
            )
            for table in ("rollouts", "evaluation", "world_model_metrics")
        ),
        (SMALL | {"set": {"policies": {"steps": 1}}}, "'set.policies' is not a key"),
        (SMALL | {"set": {"imagine": {"episodes_per_task": 5}}}, "differs from one in just this: 0"),
        (SMALL | {"set": {"policy": {"steps": -1}}}, "'policy.steps' is -1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faulty_studies_are_refused(folder, study, what):
    write_study(folder, **study)
    with pytest.raises(VlawError) as caught:
        studies.definition(studies.find_study("small", folder), folder)
    assert what in str(caught.value)
    assert "small.toml" in caught.value.where
    assert caught.value.remedy


def test_seeds_out_of_range_are_refused_as_the_study_is_read(folder):
    write_study(folder, arms=[ONE | {"seeds": [0, HELD_OUT_SEEDS]}])
    with pytest.raises(VlawError, match="holds 500000") as caught:
        studies.find_study("small", folder)
    assert caught.value.remedy == "Use 0 to 499999."


def test_a_recording_is_for_one_seed_alone(folder):
    """In a recipe of its own, which is then the file that is named."""
    write_recipe(folder, "two", None, extends="one", rollouts={"source": "recorded:lab-{iteration}"})
    write_study(folder, arms=[ONE, TWO | {"seeds": [0, 1]}])
    with pytest.raises(VlawError, match=r"'rollouts\.source' .* all 2 seeds of two would take the same") as caught:
        studies.definition(studies.find_study("small", folder), folder)
    assert "two.toml" in caught.value.where
    assert caught.value.remedy == "Use 'robot', or give two one seed in small.toml."
    write_study(folder, **SMALL)
    assert find_recipe("small-two-s0", folder).rollouts.source == "recorded:lab-{iteration}", "two has one seed"
    write_study(folder, arms=[ONE], set={"rollouts": {"source": "inbox"}})
    assert find_recipe("small-one-s1", folder).rollouts.source == "inbox", "what comes in is each experiment's own"


def test_a_learner_with_a_seed_of_its_own_is_for_one_seed_alone(folder, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Stubborn(imitation.AdvantageWeighted):
        draw_seed: int = 7

    monkeypatch.setattr(imitation, "AdvantageWeighted", Stubborn)
    write_recipe(folder, "two", None, extends="one", policy={"learner": "awr"}, awr={"draw_seed": 3})
    write_study(folder, **SMALL)
    assert find_recipe("small-two-s0", folder).learner.draw_seed == 3
    write_study(folder, arms=[ONE, TWO | {"seeds": [0, 1]}])
    with pytest.raises(VlawError, match=r"'awr\.draw_seed' is 3: all 2 seeds of two would draw the same") as caught:
        studies.definition(studies.find_study("small", folder), folder)
    assert "two.toml" in caught.value.where


def test_no_two_seeds_and_iterations_train_with_the_same_seed():
    """Neighbours are the nearest that could meet."""

    def seed(recipe_seed, iteration):
        return Stage.seed.fget(SimpleNamespace(recipe=SimpleNamespace(seed=recipe_seed), iteration=iteration))

    found = [seed(s, i) for s in (0, 1, 2, HELD_OUT_SEEDS - 1) for i in range(1, MAX_ITERATIONS + 1)]
    assert len(set(found)) == len(found)
    assert seed(0, MAX_ITERATIONS) < seed(1, 1)


def test_names_too_long_for_a_partition_are_refused(folder):
    write_recipe(folder, "x" * 60, None)
    write_study(folder, arms=[ONE | {"recipe": "x" * 60}, TWO | {"until": "x" * 60}])
    with pytest.raises(VlawError, match="at most 63"):
        studies.experiment_names(folder)


# ---- the definition in the ledger


def test_a_changed_study_is_refused_with_the_difference_and_goes_on_when_told_to(folder, tmp_path):
    lake = Lake.open(tmp_path / "lake")

    def defined():
        return studies.definition(studies.find_study("small", folder), folder)

    assert hold_to_definition(lake, defined())
    assert not hold_to_definition(lake, defined())
    edit_toml(folder / "one.toml", description="other words")
    assert not hold_to_definition(lake, defined()), "words are no difference"
    edit_toml(folder / "one.toml", policy={"steps": 8})
    count = len(lake.ledger.artifacts())
    with pytest.raises(VlawError, match=r"experiments\.small-two-s0\.recipe\.policy\.steps: was 7, is 8"):
        hold_to_definition(lake, defined())
    assert len(lake.ledger.artifacts()) == count
    assert hold_to_definition(lake, defined(), restart=True)
    assert not hold_to_definition(lake, defined())


def test_a_recipe_that_changes_while_its_study_runs_fails_the_next_partition(folder, tmp_path):
    lake, study = Lake.open(tmp_path / "lake", create=True), studies.find_study("small", folder)
    hold_to_definition(lake, studies.definition(study, folder))
    edit_toml(folder / "one.toml", policy={"steps": 8})
    ended = run_partition(Task(str(lake.paths.root), str(folder), study.members[0].experiment, 1, (), jobs=1))
    assert ended.status == FAILED
    assert "experiments.small-one-s0.recipe.policy.steps: was 7, is 8" in ended.why
    assert [ref.asset for ref in lake.ledger.artifacts()] == ["study"]


def test_one_more_arm_is_a_difference_of_its_own(folder):
    before = studies.definition(studies.find_study("small", folder), folder)
    write_recipe(folder, "three", None)
    write_study(folder, arms=[{"recipe": "three", "seeds": [0], "iterations": 1}, ONE, TWO])
    found = changes(before, studies.definition(studies.find_study("small", folder), folder))
    assert {key.split(".")[1] for key, *_ in found if "." in key} == {"three", "small-three-s0"}
