"""Which policy an update starts from: what the recipe's policy.start says, in the iterations after the first too."""

from __future__ import annotations

import pytest
import small_loop
from one_stage import Bench

from vlaw_assets.assets.making import STAGES
from vlaw_assets.assets.stage import Stage
from vlaw_assets.pipeline.resources import Workplace


def planned(bench, name, number):
    place = Workplace(lake=str(bench.lake.paths.root), recipes=str(bench.recipes))
    return STAGES["policy"].plan(Stage(bench.lake, place, "policy", f"{name}|{number:02d}"))


@pytest.mark.parametrize("start", ["base", "previous"])
def test_in_iteration_2_the_parent_is_the_base_or_what_iteration_1_made(tmp_path, start):
    bench = Bench(tmp_path)
    base, before, found = small_loop.foundation(bench.lake), {}, []
    small_loop.no_latents(bench.lake)
    bench.recipe(
        "arm",
        world_model={"reward_weight": 1.0},
        policy={"learner": "grpo", "start": start},
        promotion={"enabled": False},
    )
    for number in (1, 2):
        state = bench.make("loop_state", f"arm|{number:02d}")
        before = small_loop.iteration(bench.lake, base, before, f"arm|{number:02d}")
        plan = planned(bench, "arm", number)
        found.append(plan.parents["policy"])
        # The edge says that the loop's state chose it, or that the recipe did.
        assert plan.chosen_by == (None if start == "base" else state)
    made = bench.lake.ledger.require("policy", "arm|01")
    assert made.content_digest != base["base_policy"].content_digest
    assert found == [base["base_policy"], base["base_policy"] if start == "base" else made]
