"""Bad input of a stage is one clear error, and nothing is written."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import numpy as np
import pytest
from factories import episode, write_recipe
from smoke_place import new_place, smoke_place

from vlaw_assets.assets.imagined_rollouts import begin_with_real_frames
from vlaw_assets.assets.making import Making
from vlaw_assets.assets.starts import Choice, Starts
from vlaw_assets.pipeline import driver
from vlaw_assets.recipes import find_recipe
from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import find_robot

KEY = "smoke|01"
TASKS = find_recipe("smoke").tasks
PER_TASK = 2
"""Real, imagined and evaluation episodes per task of the smoke recipe."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


@pytest.fixture
def empty_place(tmp_path):
    """Nothing materialized; for tests whose stages are replaced."""
    return new_place(tmp_path / "place")


def current(place, asset, partition=KEY):
    return place.lake.ledger.require(asset, partition)


def scripted(count, task="stack", success=True):
    """Episodes that look like a robot's, without one."""
    rng = np.random.default_rng(0)
    return [
        episode(
            task,
            index,
            success=success,
            cameras=3,
            size=(16, 16),
            states=rng.uniform(0, 0.2, size=(4, 5)).astype(np.float32),
            actions=rng.uniform(0, 0.2, size=(3, 5)).astype(np.float32),
            noise=rng,
            control_hz=5.0,
        )
        for index in range(count)
    ]


def test_iteration_two_needs_one(place):
    write_recipe(place.recipes, "late")
    with pytest.raises(VlawError, match="iteration 02 of late needs 01") as caught:
        place.run("iteration", "late|02", only=["loop_state"])
    assert "'late|01'" in caught.value.remedy
    assert place.lake.ledger.current("loop_state", "late|02") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("partition", "message"),
    [
        ("smoke|03", r"smoke has 2 iterations: smoke\|03 is none"),
        ("smoke|00", r"smoke\|00 is none"),
        ("smoke|1", r"smoke\|1 is none"),
        ("smoke|x", r"smoke\|x is none"),
        ("smoke", "smoke is none"),
        ("nobody|01", "no experiment 'nobody'"),
        ("|01", "no experiment ''"),
        ("smoke|01|02", r"smoke\|01\|02 is none"),
    ],
)
def test_a_partition_that_a_person_typed_is_refused_before_any_step(place, monkeypatch, partition, message):
    """In the UI anybody can add a partition of any name."""
    with pytest.raises(VlawError, match=message) as caught:
        place.run("iteration", partition)
    assert caught.value.remedy
    assert ended(place, monkeypatch, partition) == ("CANCELED", False)


def ended(place, monkeypatch, partition: str = "") -> tuple[str, bool]:
    """How the last run ended, and whether a step of it had begun. Of a canceled one Dagster shows nothing red."""
    monkeypatch.setenv("DAGSTER_HOME", str(place.root / "dagster_home"))
    with driver.open_instance() as instance:
        [run] = instance.get_runs(limit=1)
        assert run.tags.get("dagster/partition", "") == partition
        events = [event.dagster_event for event in instance.all_logs(run.run_id) if event.dagster_event]
        return run.status.value, "STEP_START" in [event.event_type_value for event in events]


@pytest.mark.slow
def test_a_missing_foundation_is_one_message_with_the_job_to_run(empty_place):
    with pytest.raises(
        VlawError, match=r"missing: base_policy, .*, autoencoder, expert_dem.*, corpus_latents"
    ) as caught:
        empty_place.run("iteration", KEY)
    assert "job foundation" in caught.value.remedy
    empty_place.run("foundation", only=["base_policy"])
    with pytest.raises(VlawError, match="missing: pretrained_world_model, pretrained_reward_model"):
        empty_place.run("iteration", KEY)


@pytest.mark.parametrize("asset", ["policy", "policy_evaluation"])
def test_part_of_an_iteration_that_lacks_what_it_reads_is_refused_before_any_step(empty_place, asset, monkeypatch):
    with pytest.raises(VlawError, match=r"smoke\|01") as caught:
        empty_place.run("iteration", KEY, only=[asset])
    assert caught.value.remedy
    assert ended(empty_place, monkeypatch, KEY) == ("CANCELED", False)


def test_a_run_that_a_signal_ends_leaves_nothing_red(empty_place, monkeypatch):
    def stopped(*_: object) -> None:
        raise dg.DagsterExecutionInterruptedError

    monkeypatch.setattr(Making, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        empty_place.run("foundation", only=["autoencoder"])
    assert ended(empty_place, monkeypatch) == ("CANCELED", True)


def test_missing_checkpoint_is_refused_before_anything_is_written(empty_place):
    with (empty_place.recipes / "foundation.toml").open("a") as file:
        file.write('[weights]\nbase_policy = "/nowhere"\n')
    with pytest.raises(VlawError, match="base_policy checkpoint does not exist") as caught:
        empty_place.run("foundation", only=["base_policy"])
    assert caught.value.where == "/nowhere"
    assert empty_place.lake.ledger.artifacts() == []


def test_tampered_checkpoint_stops_the_next_iteration(empty_place, monkeypatch):
    models = ["base_policy", "pretrained_world_model", "pretrained_reward_model"]
    empty_place.run("foundation", only=models)
    lake = empty_place.lake
    path = lake.paths.root / lake.ledger.require("base_policy", "").location / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    with pytest.raises(VlawError, match=r"model\.safetensors"):
        empty_place.run("iteration", KEY, only=["loop_state"])
    assert empty_place.lake.ledger.current("loop_state", KEY) is None


def bad_nan(episodes):
    episodes[1].actions[0, 0] = np.nan
    return episodes


def bad_count(episodes):
    return episodes[:-1]


def bad_task(episodes):
    episodes[0].task = "fly"
    return episodes


def bad_label(episodes):
    episodes[0].success = None
    return episodes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "check"), [(bad_nan, "finite"), (bad_count, "counts"), (bad_task, "schema"), (bad_label, "schema")]
)
def test_bad_data_is_never_committed_and_the_check_says_why(empty_place, monkeypatch, spoil, check):
    import dagster as dg

    from vlaw_models.rollouts import demonstrate

    good = [scripted(1, task)[0] for task in find_robot("tabletop").tasks]
    monkeypatch.setattr(demonstrate, "iterate_demonstrations", lambda *a, **k: spoil(good))
    with pytest.raises(VlawError, match=f"check '{check}' failed"):
        empty_place.run("foundation", only=["expert_demonstrations"])
    assert empty_place.lake.ledger.artifacts() == []
    monkeypatch.setenv("DAGSTER_HOME", str(empty_place.root / "dagster_home"))
    with driver.open_instance() as instance:
        key = dg.AssetCheckKey(dg.AssetKey("expert_demonstrations"), check)
        record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        assert record.event.asset_check_evaluation.passed is False
        assert instance.get_latest_materialization_event(dg.AssetKey("expert_demonstrations")) is None


def test_all_failures_is_a_warning_not_an_error(place, monkeypatch):
    import dagster as dg

    from vlaw_models.rollouts import collect
    from vlaw_models.rollouts.seeds import start_seeds

    episodes = [
        replace(one, seed=seed)
        for task in TASKS
        for one, seed in zip(
            scripted(PER_TASK, task, success=False), start_seeds("evaluation", task, 0, 0, PER_TASK), strict=True
        )
    ]
    monkeypatch.setattr(collect, "evaluate_policy", lambda *a, **k: episodes)
    write_recipe(place.recipes, "hopeless", evaluation={"noise_scale": 0.5})
    place.run("iteration", "hopeless|01", only=["loop_state", "start_evaluation"])
    monkeypatch.setenv("DAGSTER_HOME", str(place.root / "dagster_home"))
    with driver.open_instance() as instance:
        key = dg.AssetCheckKey(dg.AssetKey("start_evaluation"), "success_varies")
        found = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[
            key
        ].event.asset_check_evaluation
    assert found.passed is False
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert current(place, "start_evaluation", "hopeless|01").num_rows == len(episodes)


def test_a_defect_in_a_stage_keeps_its_traceback_and_writes_nothing(empty_place, monkeypatch):
    from vlaw_models.rollouts import demonstrate

    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("the stage is broken")

    monkeypatch.setattr(demonstrate, "iterate_demonstrations", broken)
    with pytest.raises(driver.StageError, match=r"(?s)expert_demonstrations.*ZeroDivisionError: the stage is broken"):
        empty_place.run("foundation", only=["expert_demonstrations"])
    assert empty_place.lake.ledger.artifacts() == []


def test_two_runs_of_one_partition_never_interleave(empty_place):
    from vlaw_assets.lake.durable import FileLock

    lake = empty_place.lake
    lock = FileLock(lake.paths.lock("base_policy", ""))
    assert lock.acquire(holder="the other run")
    try:
        with pytest.raises(VlawError, match="already being materialized by run the other run"):
            empty_place.run("foundation", only=["base_policy"])
    finally:
        lock.release()
    assert empty_place.lake.ledger.artifacts() == []


def test_unknown_asset_is_refused_by_name(place):
    with pytest.raises(VlawError, match="there is no asset polici in an iteration"):
        place.run("iteration", KEY, only=["polici"])


# ---- the parts that choose


def test_starts_take_turns_over_real_episodes_and_interleave_tasks():
    real = [*scripted(2, "stack"), *scripted(1, "erase")]
    for index, one in enumerate(real):
        one.episode_id = f"real-{index}"
    starts = Starts(Choice(("stack", "erase"), 3).starts(real))
    assert [(s.task, s.episode_id, s.seed) for s in starts] == [
        ("stack", "real-0", 0),
        ("erase", "real-2", 0),
        ("stack", "real-1", 1),
        ("erase", "real-2", 1),
        ("stack", "real-0", 2),
        ("erase", "real-2", 2),
    ]


def test_one_changed_pixel_in_a_first_frame_is_found():
    episode = scripted(1)[0]
    episode.start_episode_id = "real-0"
    first = {"real-0": episode.images[0].copy()}
    assert begin_with_real_frames([episode], first).passed
    first["real-0"][0, 0, 0, 0] ^= 1
    assert not begin_with_real_frames([episode], first).passed
    assert not begin_with_real_frames([episode], {}).passed
