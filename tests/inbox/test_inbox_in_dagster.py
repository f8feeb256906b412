"""The job and the sensor of the inbox: what is asked for, when, and what the asset's page says of it."""

from __future__ import annotations

import dagster as dg
import pytest

from vlaw_assets.definitions import build_defs
from vlaw_assets.inbox import sensor


@pytest.fixture
def instance(tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


@pytest.fixture
def defs(lab) -> dg.Definitions:
    return build_defs(lake=lab.lake.paths.root, recipes=lab.recipes)


@pytest.mark.slow
def test_the_sensor_asks_for_the_job_and_for_a_complete_iteration(lab, instance, defs, monkeypatch):
    asked, cursor = defs.resolve_sensor_def("inbox"), None
    assert asked.default_status == dg.DefaultSensorStatus.RUNNING

    def tick() -> dg.SensorResult:
        nonlocal cursor
        context = dg.build_sensor_context(
            instance=instance, definitions=defs, resources={"workplace": lab.workplace}, cursor=cursor
        )
        found = asked(context)
        cursor = found.cursor or cursor
        return found

    def take() -> None:
        done = defs.resolve_job_def("inbox").execute_in_process(instance=instance, raise_on_error=False)
        assert done.success

    assert "no finished recording" in tick().skip_reason.skip_message
    lab.record("one", 1)
    [request] = tick().run_requests
    assert (request.job_name, request.partition_key) == ("inbox", None)
    assert not tick().run_requests, "asked for already"
    monkeypatch.setattr(sensor, "AGAIN_S", 0.0)
    assert [request.job_name for request in tick().run_requests] == ["inbox"], "a full disk may be empty by now"
    take()
    assert lab.content()["taken"] == ["one"]
    [recording] = lab.recorded()
    assert instance.get_materialized_partitions(dg.AssetKey("recorded_episodes")) == {recording.partition}
    [event] = tick().asset_events
    assert (event.partition, event.description) == ("lab|01", "waits for recordings: cups 3 of 4")
    assert not tick().asset_events, "said already"

    lab.record("two", 2), lab.record("bad", 3, note={"format": "vhs"})
    tick()
    take()
    found = tick()
    [event] = found.asset_events
    assert event.description == "complete: cups 6 of 4"
    assert event.metadata["start"].value == "vlaw run --experiment lab --iterations 1"
    assert not found.run_requests, "the recipe does not ask for it"
    lab.experiment(rollouts={"start": "when_complete"})
    [request] = tick().run_requests
    assert (request.job_name, request.partition_key, request.run_key) == ("iteration", "lab|01", "inbox lab|01")
    lab.make("loop_state", "lab|01"), lab.make("real_rollouts", "lab|01")
    assert not tick().run_requests, "it is not open any more"
