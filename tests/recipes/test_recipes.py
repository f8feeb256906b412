"""Recipes: the packaged ones are sound, and a faulty one is refused with file, key and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Annotated

import pytest
from annotated_types import Ge

from vlaw_assets.recipes import PACKAGED, find_recipe, load_foundation, load_recipe, recipe_files
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import LEARNERS
from vlaw_models.learners.recap import Recap
from vlaw_models.robots.registry import find_robot


def write(folder, text, name="mine"):
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\n{text}')
    return path


def test_packaged_recipes_load_and_mean_what_they_say():
    found = {name: load_recipe(path) for name, path in recipe_files().items()}
    assert {"vlaw", "filtered_bc", "smoke"} <= set(found)
    assert found["filtered_bc"].imagine.count == 0
    assert found["vlaw"].imagine.count > 0
    # What the two share must be equal, or filtered_bc could not reuse vlaw's rollouts and evaluations.
    shared = ("rollouts", "evaluation", "reward_model", "world_model_metrics", "score")
    assert found["vlaw"].tables(*shared) == found["filtered_bc"].tables(*shared)
    assert (found["vlaw"].seed, found["vlaw"].tasks) == (found["filtered_bc"].seed, found["filtered_bc"].tasks)


def test_tasks_are_those_of_the_robot_and_any_where_it_is_given_instructions(tmp_path):
    write(tmp_path, 'robot = "droid"\n', "any")
    write(tmp_path, 'robot = "droid"\ntasks = ["put the cup on the shelf"]\n', "one")
    assert find_recipe("any", tmp_path).tasks == (), "all that there are episodes of"
    assert find_recipe("one", tmp_path).tasks == ("put the cup on the shelf",)
    assert find_recipe("one", tmp_path).robot == "droid"
    assert find_recipe("vlaw").robot == "tabletop"
    with pytest.raises(VlawError, match="'put it away', which robot 'tabletop' does not have") as caught:
        load_recipe(write(tmp_path, 'tasks = ["put it away"]\n'))
    assert "stack, book, erase, scoop, draw" in caught.value.remedy
    with pytest.raises(VlawError, match="there is no robot 'toaster'") as caught:
        load_recipe(write(tmp_path, 'robot = "toaster"\n'))
    assert "droid, droid_joint_position, droid_joint_velocity, libero, metaworld, tabletop" in caught.value.remedy


def test_own_recipe_wins_over_packaged_and_keeps_defaults(tmp_path):
    write(tmp_path, "[imagine]\nepisodes_per_task = 3\n", "vlaw")
    recipe = find_recipe("vlaw", tmp_path)
    assert recipe.imagine.episodes_per_task == 3
    assert recipe.tasks == find_robot("tabletop").tasks
    assert recipe.score.alpha == 0.8


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[imagine]\nepisodes = 3\n", "imagine.episodes"),
        ("[imagination]\nsteps = 3\n", "imagination"),
        ("colour = 1\n", "colour"),
        ("[imagine]\nepisodes_per_task = -1\n", "imagine.episodes_per_task"),
        ("[imagine]\nepisodes_per_task = 2.5\n", "imagine.episodes_per_task"),
        ("[imagine]\nepisodes_per_task = true\n", "imagine.episodes_per_task"),
        ("[score]\nalpha = 0\n", "score.alpha"),
        ("[score]\nalpha = 1.0\n", "score.alpha"),
        ("[score]\nalpha = nan\n", "score.alpha"),
        ("[policy]\nlearning_rate = 0\n", "policy.learning_rate"),
        ("[policy]\nlearning_rate = inf\n", "policy.learning_rate"),
        ('[policy]\nstart = "best"\n', "policy.start"),
        ("[policy]\nimagined_fraction = 1.5\n", "policy.imagined_fraction"),
        ("[policy]\nuse_real = 1\n", "policy.use_real"),
        ("[rollouts]\nnum_steps = 0\n", "rollouts.num_steps"),
        ("[promotion]\nconfidence = 1.5\n", "promotion.confidence"),
        ("[promotion]\nconfidence = 0.1\n", "promotion.confidence"),
        ("[promotion]\nmargin = -5\n", "promotion.margin"),
        ("[promotion]\nmax_false_positive_rate = -1\n", "promotion.max_false_positive_rate"),
        ("[awr]\nbeta = 0\n", "awr.beta"),
        ("[policy]\nbeta = 1\n", "policy.beta"),
        ('[policy]\nlearner = "ppo"\n', "policy.learner"),
        ("[filtered]\nbeta = 0.5\n", "filtered.beta"),
        ("[policy]\nstops = [0, 300]\n", "policy.stops"),
        ("[policy]\nstops = [300]\nvalidation_per_task = 0\n", "policy.stops"),
        ("[policy]\nvalidation_per_task = -3\n", "policy.validation_per_task"),
        ("[world_model_metrics]\nnum_steps = 1\n", "world_model_metrics.num_steps"),
        ("[dsrl]\nnoise_bound = -1\n", "dsrl.noise_bound"),
        ("[world_model]\nuse_rollouts = false\nexpert_per_task = 0\n", "world_model.expert_per_task"),
        ("[evaluation]\nlow_noise_scale = -1\n", "evaluation.low_noise_scale"),
        ('tasks = ["stack", "fly"]\n', "tasks"),
        ('tasks = ["stack", "stack"]\n', "tasks"),
        ("tasks = []\n", "tasks"),
        ('robot = "droid"\ntasks = [3]\n', "tasks"),
        ('robot = "toaster"\n', "robot"),
        ("robot = 3\n", "robot"),
        ("iterations = 0\n", "iterations"),
        ("iterations = 11\n", "iterations"),
        ("seed = -1\n", "seed"),
        ("seed = 500000\n", "seed"),
        ('preset = "huge"\n', "preset"),
        ("rollouts = 3\n", "rollouts"),
        ('[rollouts]\nsource = "camera"\n', "rollouts.source"),
        ('[evaluation]\nsource = "recorded:"\n', "evaluation.source"),
    ],
)
def test_faulty_recipe_names_file_and_key(tmp_path, text, key):
    path = write(tmp_path, text)
    with pytest.raises(VlawError) as caught:
        load_recipe(path)
    assert str(path) in caught.value.where
    assert f"'{key}'" in str(caught.value)
    assert caught.value.remedy


def test_name_must_be_the_file_name(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "other"\n')
    with pytest.raises(VlawError, match="the file is mine"):
        load_recipe(tmp_path / "mine.toml")


def test_unreadable_toml_is_one_clear_error(tmp_path):
    path = write(tmp_path, "tasks = [\n")
    with pytest.raises(VlawError, match="cannot be read") as caught:
        load_recipe(path)
    assert caught.value.where == str(path)


def test_unknown_experiment_lists_the_known_ones():
    with pytest.raises(VlawError, match="there is no experiment 'nope'") as caught:
        find_recipe("nope")
    assert "filtered_bc" in caught.value.remedy


def test_names_that_cannot_be_partition_keys_are_refused(tmp_path):
    write(tmp_path, "", "a|b")
    with pytest.raises(VlawError, match="cannot name an experiment"):
        recipe_files(tmp_path)
    assert find_recipe("smoke", tmp_path).name == "smoke", "the others are there all the same"
    with pytest.raises(VlawError, match="there is no experiment"):
        find_recipe("a|b", tmp_path)


def test_what_an_editor_leaves_beside_a_recipe_is_none(tmp_path):
    (tmp_path / ".#mine.toml").symlink_to("somebody@somewhere.1")
    (tmp_path / "._mine.toml").write_bytes(b"\0")
    assert recipe_files(tmp_path) == recipe_files()


def test_missing_recipe_folder(tmp_path):
    with pytest.raises(VlawError, match="does not exist"):
        recipe_files(tmp_path / "nowhere")


def test_foundation_file_is_no_recipe_and_is_checked(tmp_path):
    assert "foundation" not in recipe_files()
    assert load_foundation().demonstrations_per_task >= 1
    assert (PACKAGED / "foundation.toml").is_file()
    for text, key in (
        ("demonstrations_per_task = 0\n", "demonstrations_per_task"),
        ("demos = 1\n", "demos"),
        ('[weights]\nbrain = "x"\n', "weights.brain"),
        ('robot = "toaster"\n', "robot"),
    ):
        (tmp_path / "foundation.toml").write_text(text)
        with pytest.raises(VlawError) as caught:
            load_foundation(tmp_path)
        assert f"'{key}'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[policy]\nstep = 3\n", "Did you mean 'steps'?"),
        ("[arw]\nbeta = 1\n", "Did you mean 'awr'?"),
        ("[recap]\nbeta = 1\n", "this table has none"),
        ("[policy]\nsteps = 2.0\n", "Give a whole number."),
        ('[score]\nlabels = "human"\n', "Use 'judge', 'head' or 'simulator'."),
        ("description = 2026-01-01\n", "Give a text in quotes."),
        ('[policy]\nlearner = "ppo"\n', "Use one of awr, dsrl, dsrl_imagined, filtered, grpo, grpo_on_robot, recap"),
        ('[rollouts]\nsource = "camera"\n', "Use 'robot', or 'recorded:NAME' of an imported dataset"),
        ('[policy]\nstops = [300, "late"]\n', "Give a whole number."),
    ],
)
def test_the_remedy_is_what_to_write_instead(tmp_path, text, remedy):
    with pytest.raises(VlawError) as caught:
        load_recipe(write(tmp_path, text))
    assert remedy in caught.value.remedy


def test_all_that_is_wrong_is_named_at_once(tmp_path):
    with pytest.raises(VlawError, match=r"'score\.alpha' is 2; also wrong: 'policy\.ema', 'seed'") as caught:
        load_recipe(write(tmp_path, "seed = -1\n[score]\nalpha = 2\n[policy]\nema = 7\n"))
    assert "threshold" in caught.value.remedy


def test_the_table_of_an_added_learner_is_what_its_dataclass_says(tmp_path, monkeypatch):
    monkeypatch.setattr(LEARNERS, "_added", {})
    LEARNERS.add("patient", f"{__name__}:Patient")
    LEARNERS.add("opaque", f"{__name__}:Opaque")
    text = '[policy]\nlearner = "patient"\n[patient]\n'
    recipe = load_recipe(write(tmp_path, f"{text}num_steps = 0\nweights = [1, 0.5]\n"))
    assert recipe.learner == Patient(num_steps=0, weights=(1.0, 0.5)), "no range but its own"
    with pytest.raises(VlawError, match=r"'patient\.patience' is 1") as caught:
        load_recipe(write(tmp_path, f"{text}patience = 1\n"))
    assert caught.value.remedy == "Use a value that is greater than or equal to 2."
    with pytest.raises(VlawError, match="no keys of a recipe") as caught:
        load_recipe(write(tmp_path, '[policy]\nlearner = "opaque"\n'))
    assert "Opaque" in caught.value.where


@dataclass(frozen=True)
class Patient(Recap):
    num_steps: int = 3
    patience: Annotated[int, Ge(2)] = 2
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Opaque(Recap):
    inside: Random | None = None


def test_a_world_model_is_measured_as_it_is_sampled_unless_a_recipe_says_otherwise(tmp_path):
    few = '[imagine]\nsampling_steps = 5\nsampling_schedule = "trained"\n'
    recipe = load_recipe(write(tmp_path, few))
    assert recipe.world_model_metrics.sampling == recipe.imagine.sampling
    assert recipe.tables("world_model_metrics")["world_model_metrics"]["sampling_steps"] == 5
    recipe = load_recipe(write(tmp_path, few + "[world_model_metrics]\nsampling_steps = 50\n", "slow"))
    assert (recipe.world_model_metrics.sampling_steps, recipe.world_model_metrics.sampling_schedule) == (50, "trained")
    write(tmp_path, "[imagine]\nguidance = 2.0\n", "guided")
    (tmp_path / "child.toml").write_text('name = "child"\nextends = "guided"\n')
    assert find_recipe("child", tmp_path).world_model_metrics.guidance == 2.0
