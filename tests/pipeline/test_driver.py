"""Runs that `vlaw` executes in its own process, and Dagster's pools."""

from __future__ import annotations

import dagster as dg
import pytest

from vlaw_assets.pipeline import driver


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with driver.open_instance() as instance:
        yield instance


def test_a_run_in_this_process_waits_for_no_pool_and_is_counted_by_those_that_do(instance):
    """The pool's only place is taken: a run that waited for it would not end."""

    @dg.asset(pool="accelerator")
    def model():
        pass

    storage = instance.event_log_storage
    storage.set_concurrency_slots("accelerator", 1)
    assert storage.claim_concurrency_slot("accelerator", "another-run", "policy").is_claimed
    result = dg.materialize([model], instance=instance)
    assert result.success
    info = storage.get_concurrency_info("accelerator")
    assert (info.slot_count, info.active_slot_count) == (1, 1), "nothing is changed for others"
    assert instance.get_run_by_id(result.run_id).run_op_concurrency.all_pools == {"accelerator"}
