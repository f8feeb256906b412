"""What a file alone cannot say: that a recipe fits its foundation, its policies and what packages add. Before anything
runs."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib

import pytest
from factories import changed, write_toml
from one_stage import Bench
from scratch_package import install

from vlaw_assets.cli.doctor import CHECKS
from vlaw_assets.recipes import PACKAGED, find_recipe, load_foundation, load_recipe, recipe_files
from vlaw_assets.recipes.fit import check_learner, check_weights
from vlaw_assets.recipes.preflight import check_all, check_fits, doubts
from vlaw_models import presets
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import LEARNERS
from vlaw_models.policies.registry import POLICIES
from vlaw_models.robots.registry import ROBOTS, find_robot, importable_robots


def recipe(folder, text, name="mine"):
    (folder / f"{name}.toml").write_text(f'name = "{name}"\n{text}')
    return find_recipe(name, folder)


def weights(folder, policy_class: str):
    """Shipped weights that say they are of another class."""
    shutil.copytree(presets.foundation("tiny", "base_policy"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "class": policy_class}))
    return folder


def test_packaged_recipes_fit_the_packaged_foundation():
    for path in recipe_files().values():
        check_fits(load_recipe(path), load_foundation())


@pytest.mark.parametrize(
    ("policy", "text", "key", "remedy"),
    [
        ("OpenVlaOftPolicy", "", "policy.frozen_encoder", "Set policy.frozen_encoder = false."),
        ("FlowPolicy", "lora_rank = 16\n", "policy.lora_rank", "Set policy.lora_rank = 0"),
        ("Pi0Policy", 'learner = "dsrl"\n', "policy.learner", "Choose another learner"),
        ("Pi0Policy", 'learner = "dsrl"\nuse_real = false\n', "policy.use_real", "Set policy.use_real = true"),
        ("Pi05Policy", 'learner = "recap"\nfrozen_encoder = false\n', "policy.learner", "Choose another learner"),
    ],
)
def test_a_learner_that_does_not_fit_the_policy_is_refused_by_key(tmp_path, policy, text, key, remedy):
    found = recipe(tmp_path, f"[policy]\n{text}")
    with pytest.raises(VlawError, match=f"^{key}.* does not fit") as caught:
        check_learner(found, policy)
    assert caught.value.where == f"{tmp_path / 'mine.toml'}, key '{key}'"
    assert remedy in caught.value.remedy
    check_learner(recipe(tmp_path, f"[policy]\n{text}steps = 0\n[dsrl]\nsteps = 0\n"), policy)


def test_a_recipe_for_another_foundation_is_refused_by_key(tmp_path):
    foundation = droid_foundation(tmp_path)
    with pytest.raises(VlawError, match="for preset 'tiny', the foundation is for 'toy'"):
        check_fits(recipe(tmp_path, 'robot = "droid"\n'), foundation)
    with pytest.raises(VlawError, match="for robot 'tabletop', the foundation is for 'droid'"):
        check_fits(recipe(tmp_path, 'preset = "toy"\n'), foundation)
    with pytest.raises(VlawError, match=r"^policy\.learner"):
        check_fits(droid_recipe(tmp_path, policy={"learner": "recap"}), foundation)
    check_fits(droid_recipe(tmp_path), foundation)


def droid_foundation(folder, **changes):
    """One of recordings, for a robot that nothing simulates."""
    packaged = tomllib.loads((PACKAGED / "droid" / "foundation.toml").read_text())
    write_toml(folder / "foundation.toml", changed(packaged, changes))
    return load_foundation(folder)


def droid_recipe(folder, name="mine", **changes):
    packaged = tomllib.loads((PACKAGED / "droid" / "droid_sample.toml").read_text())
    write_toml(folder / f"{name}.toml", changed(packaged, {"name": name, **changes}))
    return find_recipe(name, folder)


@pytest.mark.parametrize(
    ("changes", "key", "remedy"),
    [
        ({"imagine": {"world": "simulator"}}, "imagine.world", "Set imagine.world = 'world_model'."),
        ({"score": {"labels": "simulator"}}, "score.labels", "Set score.labels = 'judge'."),
        ({"rollouts": {"source": "robot"}}, "rollouts.source", "'recorded:NAME'"),
        ({"evaluation": {"source": "robot"}}, "evaluation.source", "'recorded:NAME'"),
        ({"world_model_metrics": {"source": "robot"}}, "world_model_metrics.source", "'recorded:NAME'"),
        ({"policy": {"validation_per_task": 2, "stops": [1]}}, "policy.validation_per_task", "policy.stops = []"),
        (
            {"policy": {"validation_per_task": 2}, "promotion": {"enabled": True}},
            "policy.validation_per_task",
            "promotion.enabled = false",
        ),
    ],
)
def test_what_a_robot_without_a_simulator_cannot_do_is_refused_by_file_and_key(tmp_path, changes, key, remedy):
    foundation = droid_foundation(tmp_path)
    with pytest.raises(VlawError, match="needs a simulator; robot 'droid' has none") as caught:
        check_fits(droid_recipe(tmp_path, **changes), foundation)
    assert caught.value.where == f"{tmp_path / 'mine.toml'}, key '{key}'"
    assert remedy in caught.value.remedy


def test_all_that_needs_the_missing_simulator_is_named_and_the_foundations_own_keys_first(tmp_path):
    both = {"imagine": {"world": "simulator"}, "score": {"labels": "simulator"}}
    with pytest.raises(VlawError, match=r"also wrong: 'score\.labels'") as caught:
        check_fits(droid_recipe(tmp_path, **both), droid_foundation(tmp_path))
    assert "Set imagine.world = 'world_model'. Set score.labels = 'judge'." in caught.value.remedy
    with pytest.raises(VlawError, match="key 'co_training' is 'scripted', which needs a simulator") as caught:
        check_fits(droid_recipe(tmp_path, **both), droid_foundation(tmp_path, co_training="scripted"))
    assert caught.value.where == f"{tmp_path / 'foundation.toml'}, key 'co_training'"


def test_weights_and_networks_that_are_not_there_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(
        VlawError, match="the weights of base_policy for preset 'tiny' of robot 'droid' are not shipped"
    ):
        check_fits(droid_recipe(tmp_path, preset="tiny"), droid_foundation(tmp_path, preset="tiny"))
    with pytest.raises(VlawError, match="no folder with the weights of a network") as caught:
        check_fits(
            droid_recipe(tmp_path, world_model_metrics={"perceptual_net": "nowhere"}), droid_foundation(tmp_path)
        )
    assert caught.value.where == f"{tmp_path / 'mine.toml'}, key 'world_model_metrics.perceptual_net'"


def described(folder, **config) -> str:
    """Weights of which only this is asked."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_packaged_recipes_leave_no_doubt(tmp_path):
    assert doubts([load_recipe(path) for path in recipe_files().values()], load_foundation()) == []
    assert doubts([droid_recipe(tmp_path)], droid_foundation(tmp_path)) == []


@pytest.mark.parametrize(
    ("executed", "chunk", "thrown"),
    [(4, 24, "of every 24 imagined frames 20 are"), (24, 5, "of every 25 imagined frames 1 are"), (24, 4, None)],
)
def test_a_chunk_of_another_length_than_the_world_models_is_told(tmp_path, executed, chunk, thrown, monkeypatch):
    here = find_robot("droid").conditioning.to_json()
    given = {
        "base_policy": described(tmp_path / "policy", **{"class": "Pi0Policy", "execute_steps": executed}),
        "world_model": described(
            tmp_path / "world", **{"class": "CosmosWorld", "chunk": chunk, "conditioned_in": here}
        ),
    }
    foundation = droid_foundation(tmp_path, weights=given)
    mine = droid_recipe(tmp_path)
    check_fits(mine, foundation)
    found = doubts([mine], foundation)
    assert len(found) == (thrown is not None)
    assert all(thrown in one for one in found)
    assert doubts([droid_recipe(tmp_path, "not_imagined", imagine={"episodes_per_task": 0})], foundation) == []
    monkeypatch.setenv("VLAW_RECIPES", str(tmp_path))
    assert CHECKS["recipes"]().splitlines()[1:] == found, "vlaw doctor says it too"


def test_a_world_model_that_says_no_rate_is_told(tmp_path):
    given = {"world_model": described(tmp_path / "world", **{"class": "CtrlWorld", "chunk": 4})}
    foundation = droid_foundation(tmp_path, weights=given)
    (found,) = doubts([droid_recipe(tmp_path)], foundation)
    assert found.startswith(f"{given['world_model']} does not say in which poses, and at which rate")
    assert "at 5 Hz, which robot 'droid' gives" in found


def test_all_recipes_that_do_not_fit_are_named_at_once(tmp_path):
    foundation = droid_foundation(tmp_path)
    recap = [droid_recipe(tmp_path, name, policy={"learner": "recap"}) for name in ("a", "b")]
    fine = droid_recipe(tmp_path, "fine")
    oracle = droid_recipe(tmp_path, "oracle", imagine={"world": "simulator"})
    check_all([fine], lambda recipe: check_fits(recipe, foundation))
    with pytest.raises(VlawError) as caught:
        check_all([*recap, fine, oracle], lambda recipe: check_fits(recipe, foundation))
    for name in ("a", "b", "oracle"):
        assert f"{name}: " in caught.value.what
        assert f"{tmp_path / name}.toml" in caught.value.where
    assert "fine" not in caught.value.what
    assert caught.value.remedy.count("Choose another learner") == 1


@pytest.mark.parametrize(
    ("name", "kind", "one"),
    [
        ("base_policy", "a policy", "Pi0Policy"),
        ("world_model", "a world model", "CtrlWorld"),
        ("reward_model", "a reward model", "QwenJudge"),
        ("autoencoder", "an autoencoder", "VideoAutoencoder"),
    ],
)
def test_weights_of_an_unknown_class_or_another_kind_are_refused_with_the_choices(tmp_path, name, kind, one):
    folder = weights(tmp_path / "weights", "Brain")
    (tmp_path / "foundation.toml").write_text(f'[weights]\n{name} = "{folder}"\n')
    with pytest.raises(VlawError, match=f"a model of class 'Brain' cannot be used as {kind}") as caught:
        check_fits(recipe(tmp_path, ""), load_foundation(tmp_path))
    assert f"key 'weights.{name}': {folder}" in caught.value.where
    assert one in caught.value.remedy
    with pytest.raises(VlawError, match="cannot be used"):
        check_weights(name, presets.foundation("tiny", "autoencoder" if name != "autoencoder" else "world_model"))
    assert check_weights(name, presets.foundation("tiny", name))


def test_an_iteration_whose_policy_the_learner_cannot_update_is_refused_at_its_first_stage(tmp_path):
    bench = Bench(tmp_path)
    folder = weights(tmp_path / "weights", "OpenVlaOftPolicy")
    (bench.recipes / "foundation.toml").write_text(f'[weights]\nbase_policy = "{folder}"\n')
    for asset in ("base_policy", "pretrained_world_model", "pretrained_reward_model"):
        bench.make(asset, "")
    bench.recipe("frozen")
    bench.recipe("frozen_base", policy={"start": "base"})
    bench.recipe("thawed", policy={"frozen_encoder": False})
    for name in ("frozen", "frozen_base"):
        with pytest.raises(VlawError, match=r"policy\.frozen_encoder = true does not fit OpenVlaOftPolicy"):
            bench.make("loop_state", f"{name}|01")
        assert bench.lake.ledger.current("loop_state", f"{name}|01") is None
    bench.make("loop_state", "thawed|01")


def test_the_first_stage_takes_no_weights_of_another_kind(tmp_path):
    bench = Bench(tmp_path)
    folder = presets.foundation("tiny", "reward_model")
    (bench.recipes / "foundation.toml").write_text(f'[weights]\nbase_policy = "{folder}"\n')
    with pytest.raises(VlawError, match="a model of class 'ClipJudge' cannot be used as a policy"):
        bench.make("base_policy", "")
    assert bench.lake.ledger.artifacts() == []


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Packages that are broken in one way each, and a sound one."""
    site = tmp_path / "site"
    for package, group, name, text in (
        ("broken_arm", ROBOTS.group, "lame", "import nothing_there\n"),
        ("broken_way", LEARNERS.group, "half", "raise RuntimeError('half installed')\n"),
        ("number", LEARNERS.group, "number", "X = 1\n"),
        ("first", LEARNERS.group, "twice", "X = 1\n"),
        ("second", LEARNERS.group, "twice", "X = 1\n"),
        ("rival", POLICIES.group, "FlowPolicy", "X = 1\n"),
        ("sound", POLICIES.group, "Sound", "X = 1\n"),
    ):
        install(site, package, {f"{package}.py": text}, {group: {name: f"{package}:X"}})
    monkeypatch.syspath_prepend(str(site))
    yield
    for package in ("number", "first", "second", "rival", "sound"):
        sys.modules.pop(package, None)


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ('robot = "lame"\n', "robot", "the robot 'lame' of package broken_arm cannot be imported: ModuleNotFoundError"),
        ('[policy]\nlearner = "half"\n', "policy.learner", "of package broken_way cannot be imported: RuntimeError"),
        ('[policy]\nlearner = "twice"\n', "policy.learner", "more than one learner is called 'twice': of first and s"),
        ("[twice]\nx = 1\n", "twice", "more than one learner is called 'twice'"),
        ('[policy]\nlearner = "number"\n', "policy.learner", "number:X is no class of learners"),
    ],
)
def test_a_recipe_that_needs_a_broken_or_ambiguous_plug_in_is_refused_by_file_and_key(
    packages, tmp_path, text, key, what
):
    with pytest.raises(VlawError, match=what) as caught:
        recipe(tmp_path, text)
    assert caught.value.where == f"{tmp_path / 'mine.toml'}, key '{key}'"


def test_the_others_go_on_and_doctor_names_every_broken_plug_in(packages, tmp_path, caplog):
    assert recipe(tmp_path, "").learner == LEARNERS.load("filtered", where="x")()
    assert {robot.name for robot in importable_robots()} >= {"tabletop", "droid"}
    assert "robot lame is left out: the robot 'lame' of package broken_arm cannot be imported" in caplog.text
    with pytest.raises(VlawError, match="more than one policy is called 'FlowPolicy': of vlaw and rival"):
        check_fits(recipe(tmp_path, ""), load_foundation())
    with pytest.raises(VlawError) as caught:
        CHECKS["plug-ins"]()
    for named in ("'lame' of package broken_arm", "'half' of package broken_way", "called 'twice'", "vlaw and rival"):
        assert named in caught.value.what
    assert "Sound" not in caught.value.what


def test_a_robot_that_two_packages_have_is_refused_by_the_recipe_that_takes_it_by_default(tmp_path, monkeypatch):
    install(tmp_path / "site", "rival", {"rival.py": "X = 1\n"}, {ROBOTS.group: {"tabletop": "rival:X"}})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(VlawError, match="more than one robot is called 'tabletop': of vlaw and rival"):
        ROBOTS.load("tabletop", where="x")
    from vlaw_models.robots.registry import find_robot

    find_robot.cache_clear()
    try:
        with pytest.raises(VlawError, match="more than one robot") as caught:
            recipe(tmp_path, "")
        assert caught.value.where == f"{tmp_path / 'mine.toml'}, key 'robot'"
    finally:
        find_robot.cache_clear()
