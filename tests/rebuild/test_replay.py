"""Replay: a closure made again in a scratch lake through the real Dagster jobs, and what is named when it is not the
same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import dagster as dg
import pytest
import torch
from asking import at, vlaw
from factories import commit, sample_episodes, write_recipe
from object_store import imaged, read_anew
from smoke_place import smoke_place

from vlaw_assets.lake.durable import sha256_file
from vlaw_assets.lake.upkeep.clone import clone, rewind
from vlaw_assets.rebuild import replay as replaying
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import Member
from vlaw_models.robots.tabletop.render import RayRenderer
from vlaw_models.threads import on_threads

KEY = "smoke|01"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


@pytest.fixture
def untouched(place):
    """Whatever the test does, no byte of the lake may change and no file may come or go (locks aside)."""
    before = fingerprint(place.lake.paths.root)
    yield
    assert fingerprint(place.lake.paths.root) == before


def fingerprint(root: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(root).as_posix(): (sha256_file(path), path.stat().st_mode)
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] not in ("locks", "tmp")
    }


def again(place, asset, partition=KEY, **options):
    return replaying.replay(place.lake, place.lake.ledger.require(asset, partition), recipes=place.recipes, **options)


@pytest.mark.parametrize("asset", ["real_rollouts", pytest.param("policy", marks=pytest.mark.slow)])
def test_a_closure_comes_out_the_same(place, untouched, monkeypatch, asset):
    monkeypatch.setenv("DAGSTER_HOME", "/nowhere")
    monkeypatch.setattr("tempfile.tempdir", None)
    with on_threads(3 - min(2, torch.get_num_threads())):  # a replay computes on as many threads as the ledger says
        results = again(place, asset)
    closure = place.lake.ledger.closure(place.lake.ledger.require(asset, KEY))
    assert [row.artifact for row in results] == [ref.artifact_id for ref in closure], "all of it, parents first"
    assert {row.name: (row.status, row.differences) for row in results} == {row.name: ("same", ()) for row in results}
    assert all(row.replayed_sha256 == row.content_sha256 for row in results)
    assert os.environ["DAGSTER_HOME"] == "/nowhere"
    assert not list(place.root.glob("vlaw-replay-*"))


@pytest.mark.slow
def test_a_lake_in_a_bucket_is_replayed_by_a_host_that_has_none_of_it(place, s3, tmp_path):
    shutil.copytree(place.lake.paths.root, tmp_path / "lake")
    imaged(tmp_path / "lake")
    for asset in ("training_set", "real_rollouts"):
        with read_anew(tmp_path / "lake") as lake:
            ref = lake.ledger.require(asset, KEY)
            results = replaying.replay(lake, ref, recipes=place.recipes, only=True)
        assert [(row.name, row.status) for row in results] == [(f"{asset}[{KEY}]", "same")]


def test_only_one_artifact_from_the_recorded_inputs_and_the_scratch_lake_kept(place, untouched, tmp_path):
    results = again(place, "training_set", only=True, keep=tmp_path / "kept")
    assert [(row.name, row.status) for row in results] == [("training_set[smoke|01]", "same")]
    # The kept lake is a lake whose ledger ends with what was made again.
    from vlaw_assets.lake import Lake

    made = Lake.open(tmp_path / "kept" / "lake", create=False).ledger.artifacts()[-1]
    assert (made.asset, made.artifact_id != results[0].artifact, made.content_digest) == (
        "training_set",
        True,
        results[0].content_sha256,
    )
    with pytest.raises(VlawError, match="not empty"):
        again(place, "training_set", only=True, keep=tmp_path / "kept")


def test_a_changed_recipe_is_named_where_it_acts(place, untouched, tmp_path):
    recipes = tmp_path / "recipes"
    shutil.copytree(place.recipes, recipes)
    write_recipe(recipes, "smoke", score={"alpha": 0.999999})
    results = replaying.replay(place.lake, place.lake.ledger.require("training_set", KEY), recipes=recipes, only=True)
    assert [(row.status, row.differences) for row in results] == [
        ("different", ("other recipe: score.alpha: 1e-06 -> 0.999999",))
    ]
    assert results[0].replayed_sha256 not in ("", results[0].content_sha256)


def halved(monkeypatch):
    """The scores come out as they did not the first time, by something that is in no file."""
    from vlaw_models.reward_models import score

    original = score.score_episodes
    monkeypatch.setattr(score, "score_episodes", lambda *args, **options: original(*args, **options) * 0.5)


def noted(monkeypatch, **others):
    """What is noted of the environment is as it is, but for these; None: not noted."""
    from vlaw_assets.assets import stage
    from vlaw_assets.pipeline.code_identity import made_with

    monkeypatch.setattr(
        stage, "made_with", lambda: {key: value for key, value in (made_with() | others).items() if value is not None}
    )


@pytest.mark.slow
def test_a_stage_that_is_not_deterministic_is_named_and_what_stands_on_it_is_not(place, untouched, monkeypatch):
    """The scores come out shifted; the training set is made from the recorded scores, so it is the same."""
    halved(monkeypatch)
    (row,) = again(place, "reward_scores", only=True)
    assert (row.status, row.differences) == ("different", (replaying.NOT_DETERMINISTIC,))
    (row,) = again(place, "training_set", only=True)
    assert (row.status, row.differences) == ("same", ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("torch", "0.1"),
        ("settings", "VLAW_RENDERER=gl"),
        *(
            pytest.param(*of, marks=pytest.mark.slow)
            for of in (
                ("pillow", "1.0"),
                ("libjpeg", "turbo 1.0"),
                ("processor", "another"),
                ("blas_threads", "99"),
                ("cpu_kernels", "AVX9"),
            )
        ),
    ],
)
def test_another_environment_is_named_and_is_not_called_nondeterminism(place, untouched, monkeypatch, name, other):
    from vlaw_assets.pipeline.code_identity import made_with

    halved(monkeypatch)
    noted(monkeypatch, **{name: other})
    (row,) = again(place, "reward_scores", only=True)
    assert row.status == "different"
    assert row.differences == (f"made in another environment: {name} {made_with()[name]} -> {other}",)


def test_an_environment_that_makes_the_same_is_no_difference(place, untouched, monkeypatch):
    noted(monkeypatch, torch="0.1")
    (row,) = again(place, "reward_scores", only=True)
    assert (row.status, row.differences) == ("same", ())


@pytest.mark.slow
def test_what_an_older_ledger_does_not_say_is_said_to_be_unknown(place, untouched, monkeypatch):
    """As of an artifact that was made before these were noted: nobody can tell its environment from nondeterminism."""
    halved(monkeypatch)
    noted(monkeypatch, codec="new")
    (row,) = again(place, "reward_scores", only=True)
    assert row.differences == ("not noted when it was made: codec", replaying.UNKNOWN)
    noted(monkeypatch, codec="new", torch="0.1")
    (row,) = again(place, "reward_scores", only=True)
    assert [line.partition(":")[0] for line in row.differences] == [
        "made in another environment",
        "not noted when it was made",
    ]


@pytest.mark.slow
def test_other_code_in_another_environment_is_said_to_be_both(place, untouched, monkeypatch):
    from vlaw_assets.assets import stage

    halved(monkeypatch)
    noted(monkeypatch, numpy="0.1")
    monkeypatch.setattr(stage.Stage, "code", property(lambda self: "f" * 64, lambda self, value: None), raising=False)
    (row,) = again(place, "reward_scores", only=True)
    assert [line.partition(":")[0] for line in row.differences] == ["other code", "made in another environment"]


@pytest.mark.slow
def test_another_renderer_is_another_recipe_of_what_renders_only(place, untouched, monkeypatch):
    monkeypatch.setattr("vlaw_models.robots.tabletop.render.GlRenderer", Dark)
    monkeypatch.setenv("VLAW_RENDERER", "gl")
    (row,) = again(place, "real_rollouts", only=True)
    assert row.status == "different"
    assert row.differences[0] == 'other recipe: renderer: "ray" -> "gl"'
    (row,) = again(place, "training_set", only=True)
    assert (row.status, row.differences) == ("same", ())


class Dark(RayRenderer):
    """Stands in for OpenGL, which test machines need not have: other pictures of the same scene."""

    def render(self, model, data):
        return super().render(model, data) // 2


@pytest.mark.slow
def test_other_code_and_failures_are_told_apart(place, untouched, monkeypatch):
    from vlaw_assets.assets import stage
    from vlaw_models.reward_models import score

    def broken(*args, **options):
        raise VlawError("the judge is away", where="here", remedy="fetch it")

    monkeypatch.setattr(score, "score_episodes", broken)
    (row,) = again(place, "reward_scores", only=True)
    assert row.status == "failed"
    assert "the judge is away" in row.differences[0]

    def stopped(*args, **options):
        raise dg.DagsterExecutionInterruptedError()

    monkeypatch.setattr(score, "score_episodes", stopped)
    with pytest.raises(KeyboardInterrupt):
        again(place, "reward_scores", only=True)
    monkeypatch.setattr(stage.Stage, "code", property(lambda self: "f" * 64, lambda self, value: None), raising=False)
    (row,) = again(place, "training_set", only=True)
    assert row.status == "same", "other code that makes the same is the same"
    assert "other code" in row.differences[0]


def test_what_no_job_makes_is_recorded(tmp_path):
    from vlaw_assets.lake import Lake

    lake = Lake.open(tmp_path / "lake")
    ref = commit(
        lake,
        "recorded_episodes",
        "droid|00",
        write=lambda draft: draft.write_episodes(sample_episodes(2), purpose="rollout"),
    )
    (row,) = replaying.replay(lake, ref, recipes=None)
    assert (row.status, row.replayed_sha256) == ("recorded, not replayable", "")


def test_a_pointer_is_replayed_as_what_it_points_at(place):
    twin = write_recipe(place.recipes, "smoketwin")
    try:
        place.run("iteration", "smoketwin|01", only=["loop_state"])
        assert place.lake.ledger.require("loop_state", "smoketwin|01").source_artifact_id
        (row,) = again(place, "loop_state", "smoketwin|01", only=True)
        assert (row.name, row.status) == ("loop_state[smoke|01]", "same")
    finally:
        twin.unlink()


def test_a_clone_ends_before_the_artifact_and_is_sealed(place, tmp_path, untouched):
    from vlaw_assets.lake import Lake
    from vlaw_assets.lake.upkeep.verify import verify_ledger

    refs = place.lake.ledger.artifacts()
    target = place.lake.ledger.require("world_model", KEY)
    place_in_order = [ref.artifact_id for ref in refs].index(target.artifact_id)
    paths = clone(place.lake, tmp_path / "clone", place.lake.ledger.closure(target)[:-1])
    rewind(place.lake, paths, target.artifact_id)
    found = Lake.open(paths.root, create=False)
    assert [ref.artifact_id for ref in found.ledger.artifacts()] == [ref.artifact_id for ref in refs[:place_in_order]]
    assert verify_ledger(found) == []
    assert not (paths.root / target.location).exists(), "what is to be made again does not come along"
    with pytest.raises(VlawError, match="not empty"):
        clone(place.lake, tmp_path / "clone", [])


def test_a_change_of_the_tables_form_after_the_artifact_comes_along(tmp_path):
    """As migration makes one: rows from before it are read with the columns that came with it."""
    from deltalake import DeltaTable
    from small_loop import foundation

    from vlaw_assets.lake import Lake, seal

    lake = Lake.open(tmp_path / "lake")
    made = list(foundation(lake).values())
    table = DeltaTable(str(lake.paths.table("artifacts")))
    table.alter.set_table_properties({"delta.appendOnly": "true"})
    seal.extend(lake.paths)
    paths = clone(lake, tmp_path / "clone", [])
    rewind(lake, paths, made[2].artifact_id)
    assert DeltaTable(str(paths.table("artifacts"))).metadata().configuration["delta.appendOnly"] == "true"
    found = Lake.open(paths.root, create=False).ledger.artifacts()
    assert [ref.artifact_id for ref in found] == [ref.artifact_id for ref in made[:2]]
    # Rewinding again, further back and further on, starts from the lake each time.
    for number in (1, 4):
        rewind(lake, paths, made[number].artifact_id)
        assert len(Lake.open(paths.root, create=False).ledger.artifacts()) == number


@pytest.mark.slow
def test_the_command_prints_what_came_out_and_fails_on_a_difference(place, monkeypatch, tmp_path, untouched):
    at(monkeypatch, tmp_path, place.environment())
    result = vlaw("audit", "loop_state", "smoke", "1", "--replay", "--only")
    assert result.exit_code == 0, result.output
    assert "same" in result.stdout
    row = Member.row
    monkeypatch.setattr(Member, "row", lambda member: {**row(member), "weight": 2.0})
    result = vlaw("audit", "training_set", "smoke", "1", "--replay", "--only", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["replayed"][0]["status"] == "different"
    assert "training_set[smoke|01]" in result.stderr
    assert vlaw("audit", "policy", "smoke", "1", "--only").exit_code == 2
