"""The scooping task: its expert, its mistakes, its reset and its success criterion."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from expert_play import play

from vlaw_models.robots.tabletop.render import RayRenderer
from vlaw_models.robots.tabletop.scene import Sim
from vlaw_models.robots.tabletop.tasks import Expert, Quality
from vlaw_models.robots.tabletop.tasks.scoop import COUNT, SNACKS
from vlaw_models.robots.tabletop.world import make_sim


@pytest.fixture(scope="module")
def sim() -> Sim:
    return make_sim("scoop")


def _episodes(sim: Sim, seeds: int, quality: Quality) -> tuple[Counter, int]:
    """Events over `seeds` episodes, and the latest step in which an expert was done."""
    events, latest = Counter(), 0
    for seed in range(seeds):
        latest = max(latest, play(sim, seed, quality))
        events[sim.task.outcome(sim).event] += 1
    return events, latest


def _lay(sim: Sim, spots: list[list[float]]) -> None:
    """Puts the snacks at `spots`, lets them come to rest and looks again."""
    for index, spot in enumerate(spots):
        sim.place(f"snack_{index}", np.array(spot))
    for _ in range(3):
        sim.step(sim.state)


def test_the_expert_succeeds_in_time(sim):
    events, latest = _episodes(sim, 20, Quality())
    assert events["success"] >= 19
    assert latest <= 24


def test_small_errors_mostly_succeed(sim):
    events, _ = _episodes(sim, 20, Quality(aim=0.006, jitter=0.004))
    assert events["success"] >= 16


@pytest.mark.parametrize(
    ("mistake", "expected"), [("first", {"missed"}), ("last", {"spilled"}), ("stop", {"missed", "not_poured"})]
)
def test_mistakes_fail_in_their_own_way(sim, mistake, expected):
    events, _ = _episodes(sim, 20, Quality(mistake=mistake))
    assert events["success"] <= 3
    assert sum(events[event] for event in expected) >= 16
    assert expected <= set(events)


def test_reset_is_reproducible_bit_for_bit(sim):
    def look(seed):
        sim.reset(seed)
        picture = RayRenderer(64).render(sim.model, sim.data)
        return sim.data.qpos.tobytes(), sim.state.tobytes(), picture.tobytes(), sim.instruction

    first = look(3)
    expert = Expert(sim, np.random.default_rng(0), Quality())
    for _ in range(10):
        sim.step(expert.act(sim))
    other = look(4)
    assert look(3) == first
    assert all(a != b for a, b in zip(first[:3], other[:3], strict=True))


def test_every_kind_is_asked_for_and_the_start_varies(sim):
    instructions, starts = set(), []
    for seed in range(30):
        sim.reset(seed)
        instructions.add(sim.instruction)
        starts.append(sim.state.copy())
        assert np.allclose([sim.data.joint(n).qpos[0] for n in ("x", "y", "z")], sim.state[:3], atol=0.005)
    assert instructions == {f"transfer some {kind} to the bowl" for kind in SNACKS}
    assert np.std(starts, axis=0)[:2].min() > 0.02


def test_criterion_counts_the_bowl_against_the_spilled(sim):
    def outcome(inside: int, outside: int):
        sim.reset(5)
        bowl, places = sim.memory["bowl"], sim.memory["places"]
        spots = [[bowl[0] + 0.025 * (-1) ** i, bowl[1] + 0.025 * (-1) ** (i // 2), 0.03] for i in range(inside)]
        spots += [[-0.18, 0.16 - 0.06 * i, 0.03] for i in range(outside)]
        spots += [[*places[i], 0.018] for i in range(inside + outside, COUNT)]
        sim.memory["lifted"] = inside + outside
        _lay(sim, spots)
        return sim.task.outcome(sim)

    assert outcome(4, 0).success
    assert outcome(2, 0).success
    assert outcome(3, 1).success
    assert outcome(1, 0).event == "too_few"
    assert outcome(2, 2).event == "spilled"
    assert outcome(1, 1).event == "spilled"


def test_untouched_snacks_are_a_miss_and_carried_ones_are_not_poured(sim):
    sim.reset(6)
    for _ in range(3):
        sim.step(sim.state)
    assert sim.task.outcome(sim).event == "missed"
    x, y, z = sim.body("hand")
    _lay(sim, [[x + 0.035 + 0.035 * (i // 2), y + 0.02 * (-1) ** i, z + 0.003] for i in range(COUNT)])
    assert sim.task.outcome(sim).event == "not_poured"
