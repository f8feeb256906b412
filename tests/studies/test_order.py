"""The order of a study's partitions, and when an arm is not continued."""

from __future__ import annotations

from pathlib import Path

import small_loop

from vlaw_assets.lake import Lake
from vlaw_assets.recipes import study as studies
from vlaw_assets.studies.order import DONE, FAILED, SKIPPED, STOPPED, WAITING, Order
from vlaw_assets.studies.record import record_outcome

ROOT = Path(__file__).parents[2]


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
