"""A backfill over several experiments and iterations, as it is asked for in the UI: green, and each after the one
before."""

from __future__ import annotations

import time

import dagster as dg
import pytest
from factories import write_recipe
from smoke_place import LOOP_ASSETS, new_place
from ui_server import serving

from vlaw_assets.partitions import split_partition
from vlaw_assets.pipeline import driver
from vlaw_assets.pipeline.run_order import PARTITION

EXPERIMENTS = ("one", "two", "three")
KEYS = [f"{name}|{number:02d}" for name in EXPERIMENTS for number in (1, 2)]
"""In the order of the partitions: the second of one before the first of another."""
DEADLINE_S = 1800


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_a_time", "keys", "assets"),
    [(1, KEYS[::-1], ()), (4, KEYS, LOOP_ASSETS)],
    ids=["a job, the second first", "assets, four at a time"],
)
def test_three_experiments_of_two_iterations_end_well_in_order(tmp_path, monkeypatch, at_a_time, keys, assets):
    place = new_place(tmp_path / "place")
    for name in EXPERIMENTS:
        write_recipe(place.recipes, name, iterations=2)
    place.run("foundation")
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    config = driver.dagster_home() / "dagster.yaml"
    config.write_text(config.read_text().replace("default_limit: 1", f"default_limit: {at_a_time}"))
    with serving(place) as server, driver.open_instance() as instance:
        server.backfill("iteration", keys, assets=assets)
        deadline = time.monotonic() + DEADLINE_S
        runs: list[dg.DagsterRun] = []
        while len(runs) < len(KEYS) or not all(run.is_finished for run in runs):
            assert time.monotonic() < deadline, [(run.tags[PARTITION], run.status) for run in runs]
            time.sleep(2)
            runs = [run for run in instance.get_runs() if PARTITION in run.tags]
        found = {run.tags[PARTITION]: run for run in runs}
        assert sorted(found) == sorted(KEYS)
        assert all(run.is_success for run in runs), {key: run.status for key, run in found.items()}
        assert len(runs) == len(KEYS), "none was tried again"
        records = {key: instance.get_run_record_by_id(run.run_id) for key, run in found.items()}
    for key, record in records.items():
        experiment, iteration = split_partition(key)
        if iteration == 2:
            assert record.start_time >= records[f"{experiment}|01"].end_time
    together = [
        (one, other)
        for one, first in records.items()
        for other, second in records.items()
        if one < other and first.start_time < second.end_time and second.start_time < first.end_time
    ]
    assert bool(together) is (at_a_time > 1), together
    assert {key for key in KEYS if place.lake.ledger.current("iteration_report", key)} == set(KEYS)
