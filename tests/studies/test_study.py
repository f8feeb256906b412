"""Studies: their files, their place in the ledger, the order of their partitions, and running them with one job and
two."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_loop
from smoke_place import new_place
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.definitions import build_defs
from vlaw_assets.lake import Lake
from vlaw_assets.pipeline import driver
from vlaw_assets.recipes import find_recipe, load_recipe, recipe_files
from vlaw_assets.studies import definition as studies
from vlaw_assets.studies.order import DONE, FAILED, SKIPPED, STOPPED, WAITING, Order
from vlaw_assets.studies.partition import Task, run_partition
from vlaw_assets.studies.record import changes, hold_to_definition, record_outcome
from vlaw_assets.studies.running import Place, run_study
from vlaw_models.errors import VlawError

ROOT = Path(__file__).parents[2]
SMALL = """
[[arms]]
recipe = "one"
seeds = [0, 1]
iterations = 1
[[arms]]
recipe = "two"
seeds = [0]
iterations = 3
until = "one"
"""


def write_recipe(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text(f'name = "{name}"\n{text}')
    return folder / f"{name}.toml"


def write_study(folder, text, name="small"):
    (folder / "studies").mkdir(parents=True, exist_ok=True)
    (folder / "studies" / f"{name}.toml").write_text(f'name = "{name}"\n{text}')


@pytest.fixture
def folder(tmp_path):
    """Recipes 'one' and 'two', study 'small' of both."""
    recipes = tmp_path / "recipes"
    write_recipe(recipes, "one", 'tasks = ["stack", "book"]\n[policy]\nsteps = 7\n')
    write_recipe(recipes, "two", 'extends = "one"\n[imagine]\nepisodes_per_task = 0\n')
    write_study(recipes, SMALL)
    return recipes


# ---- extends


def test_a_recipe_has_what_it_extends_and_what_it_says_itself(folder):
    two, one = (load_recipe(folder / f"{name}.toml") for name in ("two", "one"))
    assert (two.policy, two.tasks, two.imagine.episodes_per_task) == (one.policy, one.tasks, 0)
    three = load_recipe(write_recipe(folder, "three", 'extends = "two"\n[policy]\nsteps = 9\n'))
    assert (three.policy.steps, three.imagine.episodes_per_task, three.name) == (9, 0, "three")
    assert load_recipe(recipe_files()["vlaw_awr"]).description != load_recipe(recipe_files()["vlaw"]).description


def test_words_are_not_inherited(folder):
    write_recipe(folder, "worded", 'description = "of its own"\n')
    assert load_recipe(write_recipe(folder, "silent", 'extends = "worded"\n')).description == ""


def test_an_extending_recipe_that_goes_nowhere_is_refused(folder):
    with pytest.raises(VlawError, match="'extends' names 'nobody', which is no recipe"):
        load_recipe(write_recipe(folder, "lost", 'extends = "nobody"\n'))
    write_recipe(folder, "one", 'extends = "two"\n')
    with pytest.raises(VlawError, match="in a circle: two -> one -> two"):
        load_recipe(folder / "two.toml")
    write_recipe(folder, "one", "[policy]\nsteps = -1\n")
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
    assert differ["vlaw_yes_no_judge"] == differ["imagined_true_labels"] == {"score"}
    assert differ["oracle"] == {"imagine", "score"}
    assert {name for name, recipe in other.items() if recipe.privileged} == {"imagined_true_labels", "oracle"}


# ---- study files


def test_experiments_of_a_study_are_recipes_with_its_settings(folder):
    write_study(folder, SMALL + "[set.evaluation]\nepisodes_per_task = 3\n")
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
    members = studies.find_study("claims").members
    counts = {member.arm.recipe: sum(other.arm == member.arm for other in members) for member in members}
    assert counts["vlaw"] == counts["filtered_bc"] == 3
    assert len(counts) == 13
    assert all(count >= 2 for count in counts.values())
    for member in members:
        recipe = find_recipe(member.experiment)
        assert recipe.evaluation.episodes_per_task >= 50
        assert recipe.policy.stops


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "'arms' is empty"),
        (SMALL + "colour = 1\n", "'arms.colour of two' is not a key"),
        (SMALL.replace('"two"', '"six"'), "'six', which is no recipe"),
        (SMALL.replace("[0, 1]", "[1]"), "'arms.until of two' is 'one'"),
        (SMALL.replace("iterations = 3", "iterations = 11"), "'arms.iterations of two' is 11"),
        (SMALL.replace("[0, 1]", "[0, 0]"), "names a seed twice"),
        ("[set.policies]\nsteps = 1\n" + SMALL, "'set.policies' is not a key"),
        (SMALL + "[set.imagine]\nepisodes_per_task = 5\n", "differs from one in just this: 0"),
        (SMALL + "[set.policy]\nsteps = -1\n", "'policy.steps' is -1"),
    ],
)
def test_faulty_studies_are_refused(folder, text, what):
    write_study(folder, text)
    with pytest.raises(VlawError) as caught:
        studies.definition(studies.find_study("small", folder), folder)
    assert what in str(caught.value)
    assert "small.toml" in caught.value.where


def test_names_too_long_for_a_partition_are_refused(folder):
    write_recipe(folder, "x" * 60, "")
    write_study(folder, SMALL.replace('"one"', f'"{"x" * 60}"'))
    with pytest.raises(VlawError, match="at most 63"):
        studies.experiment_names(folder)


# ---- the definition in the ledger


def test_a_changed_study_is_refused_with_the_difference_and_goes_on_when_told_to(folder, tmp_path):
    lake = Lake.open(tmp_path / "lake")

    def defined():
        return studies.definition(studies.find_study("small", folder), folder)

    assert hold_to_definition(lake, defined())
    assert not hold_to_definition(lake, defined())
    write_recipe(folder, "one", 'description = "other words"\ntasks = ["stack", "book"]\n[policy]\nsteps = 7\n')
    assert not hold_to_definition(lake, defined()), "words are no difference"
    write_recipe(folder, "one", 'tasks = ["stack", "book"]\n[policy]\nsteps = 8\n')
    count = len(lake.ledger.artifacts())
    with pytest.raises(VlawError, match=r"experiments\.small-two-s0\.recipe\.policy\.steps: was 7, is 8"):
        hold_to_definition(lake, defined())
    assert len(lake.ledger.artifacts()) == count
    assert hold_to_definition(lake, defined(), restart=True)
    assert not hold_to_definition(lake, defined())


def test_a_recipe_that_changes_while_its_study_runs_fails_the_next_partition(folder, tmp_path):
    lake, study = Lake.open(tmp_path / "lake", create=True), studies.find_study("small", folder)
    hold_to_definition(lake, studies.definition(study, folder))
    write_recipe(folder, "one", 'tasks = ["stack", "book"]\n[policy]\nsteps = 8\n')
    ended = run_partition(Task(str(lake.paths.root), str(folder), study.members[0].experiment, 1, (), jobs=1))
    assert ended.status == FAILED
    assert "experiments.small-one-s0.recipe.policy.steps: was 7, is 8" in ended.why
    assert [ref.asset for ref in lake.ledger.artifacts()] == ["study"]


def test_one_more_arm_is_a_difference_of_its_own(folder):
    before = studies.definition(studies.find_study("small", folder), folder)
    write_recipe(folder, "three", "")
    write_study(folder, '[[arms]]\nrecipe = "three"\nseeds = [0]\niterations = 1\n' + SMALL)
    found = changes(before, studies.definition(studies.find_study("small", folder), folder))
    assert {key.split(".")[1] for key, *_ in found if "." in key} == {"three", "small-three-s0"}


# ---- order


def run_order(order, ends):
    """Keys as they are handed out one at a time; `ends` maps a key to arguments of `end`."""
    keys = []
    while (slot := order.next()) is not None:
        keys.append(slot.key)
        order.end(slot, *ends.get(slot.key, ((DONE,), {}))[0], **ends.get(slot.key, ((), {}))[1])
    return keys


def test_seeds_and_arms_come_in_order_and_the_first_arm_leads(folder):
    members = studies.find_study("small", folder).members
    assert run_order(Order(members), {}) == [
        "small-one-s0|01",
        "small-two-s0|01",
        "small-two-s0|02",
        "small-two-s0|03",
        "small-one-s1|01",
    ]
    order = Order(members)
    first, second = order.next(), order.next()
    assert (first.key, second.key) == ("small-one-s0|01", "small-one-s1|01"), (
        "the others of a seed wait for its first arm"
    )
    assert order.next() is None
    order.end(first, DONE)
    assert order.next().key == "small-two-s0|01"


def test_a_failure_skips_only_what_stands_on_it(folder):
    members = studies.find_study("small", folder).members
    order = Order(members)
    run_order(order, {"small-two-s0|01": ((FAILED, "broken"), {})})
    assert order.status["small-two-s0|02"] == SKIPPED
    assert order.status["small-one-s1|01"] == DONE
    order = Order(members)
    run_order(order, {"small-one-s0|01": ((FAILED, "broken"), {})})
    assert order.status["small-two-s0|01"] == SKIPPED
    assert "small-one-s0" in order.why["small-two-s0|01"]
    assert WAITING not in order.status.values()


def test_an_arm_that_reaches_its_target_is_not_continued(folder):
    order = Order(studies.find_study("small", folder).members)
    run_order(order, {"small-two-s0|02": ((DONE,), {"reached": True})})
    assert (order.status["small-two-s0|02"], order.status["small-two-s0|03"]) == (DONE, STOPPED)


def evaluated(lake, partition, successes, trials=10):
    def write(draft):
        draft.write_evaluations(
            [
                {
                    "task": "all",
                    "metric": "success_rate",
                    "policy": "p",
                    "trials": trials,
                    "successes": successes,
                    "value": successes / trials,
                    "low": 0.0,
                    "high": 1.0,
                }
            ]
        )

    small_loop.commit(
        lake,
        "real_rollouts",
        partition,
        "rollouts",
        {},
        lambda draft: draft.write_episodes(small_loop.episodes(2, seed=successes), purpose="rollout", world="tabletop"),
        recipe={"of": partition},
    )
    return small_loop.commit(
        lake, "policy_evaluation", partition, "evaluation", {}, write, recipe={"of": partition, "s": successes}
    )


def test_until_compares_pooled_success_with_the_same_seed_and_counts_real_rollouts(folder, tmp_path):
    lake = Lake.open(tmp_path / "lake")
    member = next(item for item in studies.find_study("small", folder).members if item.arm.recipe == "two")
    evaluated(lake, "small-one-s1|01", 1)  # another seed: not looked at
    evaluated(lake, "small-one-s0|01", 6)
    evaluated(lake, "small-two-s0|01", 5)
    first = record_outcome(lake, member, 1, {"wall_s": 1.0}, "run")
    assert (first.success, first.target, first.reached, first.real_rollouts) == (0.5, 0.6, False, 4)
    evaluated(lake, "small-two-s0|02", 6)
    second = record_outcome(lake, member, 2, {"wall_s": 1.0}, "run")
    assert (second.reached, second.real_rollouts) == (True, 8)
    count = len(lake.ledger.artifacts())
    assert record_outcome(lake, member, 2, {"wall_s": 9.0}, "again") == second, "the first measurement stays"
    assert len(lake.ledger.artifacts()) == count
    evaluated(lake, "small-one-s0|01", 7)  # the target was made again, and is better now
    assert not record_outcome(lake, member, 2, {"wall_s": 9.0}, "again").reached


# ---- two at a time


def test_what_two_runs_would_both_make_is_made_once(tmp_path):
    """A process holds the claim; the second comer is told, waits until it dies, and goes on."""
    from vlaw_assets.lake import Identity
    from vlaw_assets.lake.claim import claimed

    lake = Lake.open(tmp_path / "lake")
    identity = Identity("policy", "code", "{}", ())
    code = (
        "import sys, time; from vlaw_assets.lake import Identity, Lake; from vlaw_assets.lake.claim import claimed\n"
        "with claimed(Lake.open(sys.argv[1]), Identity('policy', 'code', '{}', ()), holder='other', waiting=print):\n"
        "    print('holds', flush=True); time.sleep(600)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(lake.paths.root)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert other.stdout.readline() == "holds\n"
    told = []
    with claimed(lake, Identity("world_model", "code", "{}", ()), holder="us", waiting=told.append):
        assert not told, "another identity is free"

    def end_it(text):
        told.append(text)
        other.kill()

    begun = time.monotonic()
    with claimed(lake, identity, holder="us", waiting=end_it):
        assert time.monotonic() - begun < 30
    other.wait()
    assert told == ["waits for run other, which is making the same"]


# ---- running


class Told:
    """A watcher."""

    def __init__(self):
        self.ended = {}

    def __call__(self, *progress):
        pass

    def ends(self, slot, ended):
        self.ended[slot.key] = ended.why


def test_a_partition_that_fails_or_whose_process_dies_does_not_stop_the_others(folder, tmp_path, monkeypatch):
    """The recipe changed since the study was begun; then, no partition's process even comes to that."""
    lake, study = Lake.open(tmp_path / "lake", create=True), studies.find_study("small", folder)
    hold_to_definition(lake, studies.definition(study, folder))
    write_recipe(folder, "one", 'tasks = ["stack", "book"]\n[policy]\nsteps = 8\n')
    defs = build_defs(lake=lake.paths.root, recipes=folder)
    for name in driver.foundation_lacks(defs, lake):
        small_loop.commit(lake, name, "", name, {}, lambda draft: draft.set_metrics({}))
    place = Place(lake, str(folder), defs, ("policy",), jobs=2)
    for why in ("study small is not what it was when it was begun", "its process ended (exit code 1) before"):
        told, order = Told(), Order(study.members)
        results = run_study(place, order, told)
        assert {key: ended.status for key, ended in results.items()} == dict.fromkeys(
            ("small-one-s0|01", "small-one-s1|01"), FAILED
        )
        assert all(text.startswith(why) for text in told.ended.values()), told.ended
        assert order.count(SKIPPED) == 3
        monkeypatch.setattr(sys, "executable", shutil.which("false"))


def prepared(root):
    """A place with the foundation of the smoke study."""
    place = new_place(root)
    tiny = 'extends = "smoke"\ntasks = ["stack"]\n[world_model]\nsteps = 1\n[policy]\nsteps = 1\n'
    write_recipe(place.recipes, "tiny", tiny)
    write_recipe(place.recipes, "tiny_real", 'extends = "tiny"\n[imagine]\nepisodes_per_task = 0\n')
    write_study(
        place.recipes,
        '[[arms]]\nrecipe = "tiny"\nseeds = [0]\niterations = 1\n'
        '[[arms]]\nrecipe = "tiny_real"\nseeds = [0, 1]\niterations = 1\n',
    )
    return place


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The small study: begun, killed with -9 after its first partition, and gone on with. (place, after the kill,
    result)"""
    place = prepared(tmp_path_factory.mktemp("study"))
    environment = {**os.environ, **place.environment(), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    killed = subprocess.Popen(
        [sys.executable, "-c", "from vlaw_assets.cli import app; app()", "study", "small"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        cwd=place.root,
    )
    said = []
    while not any("[1 of 3] small-tiny-s0|01: made" in line for line in said):
        said.append(killed.stdout.readline())
        assert said[-1], said
    time.sleep(5)  # the next one is at work
    killed.kill()
    killed.wait()
    before = {ref.artifact_id for ref in place.lake.ledger.artifacts()}
    return place, before, invoke(place, "study", "small", "--json")


def invoke(place, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        for key, value in place.environment().items():
            patch.setenv(key, value)
        return CliRunner().invoke(app, list(arguments))


@pytest.mark.slow
def test_a_killed_study_goes_on_and_makes_nothing_again(ran):
    place, before, result = ran
    assert result.exit_code == 0, result.output
    told = {row["partition"]: row for row in json.loads(result.stdout)["partitions"]}
    assert {key: row["found"] for key, row in told.items()} == {
        "small-tiny-s0|01": True,
        "small-tiny_real-s0|01": False,
        "small-tiny_real-s1|01": False,
    }
    assert not {
        ref.asset
        for ref in place.lake.ledger.artifacts()
        if ref.artifact_id not in before and ref.partition == "small-tiny-s0|01"
    }
    shared = {"loop_state", "real_rollouts", "reward_model", "start_evaluation", "validation_rollouts"}
    assert shared <= set(told["small-tiny_real-s0|01"]["reused"]), "the same seed shares what the first arm made"
    assert "episode_embeddings" not in {ref.asset for ref in place.lake.ledger.artifacts()}
    progress = place.lake.ledger.require("study_progress", "small-tiny_real-s0|01").metrics
    assert (progress["threads"], progress["trials"], progress["target"]) == (1, 2, None)
    assert place.lake.ledger.require("policy", "small-tiny-s0|01").metrics["made_with"]["threads"] == "1"


@pytest.mark.slow
def test_dagsters_own_processes_outlive_a_killed_parent(tmp_path):
    """Why a study starts its processes itself: with Dagster's, whoever goes on with a killed study would not be
    alone."""
    home, note = tmp_path / "home", tmp_path / "note"
    home.mkdir()
    with subprocess.Popen([sys.executable, Path(__file__).with_name("outliving.py"), home, note]) as parent:
        while not (note.exists() and note.read_text()):
            assert parent.poll() is None
            time.sleep(0.1)
        parent.kill()
    step = int(note.read_text())
    time.sleep(3)
    os.kill(step, 0)  # raises where there is no such process
    os.kill(step, signal.SIGKILL)


@pytest.mark.slow
def test_a_complete_study_is_found_and_its_plan_says_so(ran):
    place = ran[0]
    count = len(place.lake.ledger.artifacts())
    result = invoke(place, "study", "small")
    assert result.exit_code == 0, result.output
    assert "3 of 3 partitions are done (3 were before)" in result.stdout
    assert "artifacts made 0, reused 0" in result.stdout
    rows = json.loads(invoke(place, "study", "small", "--plan", "--json").stdout)["partitions"]
    assert [row["state"] for row in rows] == ["done"] * 3
    assert all(row["seconds"] > 0 and row["success"] is not None for row in rows)
    assert len(place.lake.ledger.artifacts()) == count


@pytest.mark.slow
def test_the_plan_of_a_changed_study_names_what_is_to_do_and_running_it_is_refused(ran):
    place = ran[0]
    file = place.recipes / "tiny_real.toml"
    text = file.read_text()
    file.write_text(text + "[policy]\nsteps = 2\n")
    try:
        plan = json.loads(invoke(place, "study", "small", "--plan", "--json").stdout)
        refused = invoke(place, "study", "small")
    finally:
        file.write_text(text)
    assert {row["partition"]: row["state"] for row in plan["partitions"]}["small-tiny-s0|01"] == "done"
    stale = next(row for row in plan["partitions"] if row["partition"] == "small-tiny_real-s0|01")
    assert (stale["state"], stale["stale"]) == ("begun", ["policy"])
    assert {row["key"] for row in plan["changed"]} == {
        f"experiments.small-tiny_real-s{seed}.recipe.policy.steps" for seed in (0, 1)
    }
    assert refused.exit_code == 2
    assert "policy.steps: was 1, is 2" in refused.stderr


@pytest.mark.slow
def test_two_jobs_make_the_same_content_as_one(ran, tmp_path):
    """In worker processes, at the same time, from the same foundation."""
    place, _, _ = ran
    twin = dataclasses.replace(place, root=tmp_path / "twin")
    shutil.copytree(place.recipes, twin.recipes)
    result = invoke(twin, "study", "small", "--jobs", "2", "--json")
    assert result.exit_code == 0, result.output

    def content(lake):
        return {
            (ref.asset, ref.partition): ref.content_digest
            for ref in lake.ledger.artifacts()
            if ref.partition.startswith("small-")
        }

    assert content(twin.lake) == content(place.lake)
    identities = [ref.identity_digest for ref in twin.lake.ledger.artifacts() if not ref.source_artifact_id]
    assert len(identities) == len(set(identities)), "made once"


@pytest.mark.slow
def test_mistakes_are_messages_and_make_nothing(ran):
    place = ran[0]
    count = len(place.lake.ledger.artifacts())
    for arguments, what in (
        (("study", "nope"), "no study 'nope'"),
        (("study", "small", "--only", "thre"), "no arm thre"),
        (("study", "smoke", "--only", "smoke_real_only"), "leave it in --only"),
    ):
        result = invoke(place, *arguments)
        assert result.exit_code == 2, result.output
        assert what in result.stderr
    assert len(place.lake.ledger.artifacts()) <= count + 1, "at most the definition of the smoke study"
