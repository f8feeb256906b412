"""Drawing on the simulated robot: the expert's rate, the failures, the outcome of curves, repeatable resets."""

from __future__ import annotations

import numpy as np
import pytest
from expert_play import events, play

from vlaw_models.robots.tabletop.render import RayRenderer
from vlaw_models.robots.tabletop.tasks import Quality
from vlaw_models.robots.tabletop.tasks.draw import CONTACT_Z, DOTS, PRESS_Z, SPACING, outcome_of
from vlaw_models.robots.tabletop.world import make_sim


@pytest.fixture(scope="module")
def sim():
    return make_sim("draw")


def arc(start: float, end: float, radius=0.055, centre=(0.0, 0.0), squash: float = 1.0) -> list[list[float]]:
    """Points of an arc from `start` to `end` degrees; `radius` may be a (first, last) pair: a spiral."""
    angle = np.deg2rad(np.linspace(start, end, 120))
    size = np.linspace(*radius, 120) if isinstance(radius, tuple) else np.full(120, radius)
    points = np.stack([centre[0] + size * np.cos(angle), centre[1] + squash * size * np.sin(angle)], -1)
    return points.tolist()


def test_expert_closes_the_circle_in_time(sim):
    successes = 0
    for seed in range(40):
        assert play(sim, seed, Quality()) <= 24
        successes += sim.task.outcome(sim).success
    assert successes >= 38


def test_expert_tolerates_noise(sim):
    assert events(sim, Quality(aim=0.006, jitter=0.004), 20)["success"] >= 16


@pytest.mark.parametrize(
    ("mistake", "expected"),
    [
        ("first", {"open_curve", "outside", "not_round"}),
        ("last", {"open_curve"}),
        ("stop", {"open_curve", "nothing_drawn"}),
    ],
)
def test_mistakes_fail(sim, mistake, expected):
    counts = events(sim, Quality(mistake=mistake), 20)
    assert counts["success"] <= 3
    assert set(counts) - {"success"} <= expected


@pytest.mark.parametrize(
    ("strokes", "event"),
    [
        ([], "nothing_drawn"),
        ([arc(0, 360)], "success"),
        ([arc(0, -360)], "success"),
        ([arc(40, 430)], "success"),
        ([arc(0, 340)], "success"),
        ([arc(0, 360, radius=(0.050, 0.062))], "success"),
        ([arc(0, 360, squash=0.8)], "success"),
        ([arc(0, 310)], "open_curve"),
        ([arc(0, 180)], "open_curve"),
        ([arc(0, 180) + arc(180, 0)], "open_curve"),
        ([arc(0, 360, radius=(0.035, 0.080))], "open_curve"),
        ([arc(0, 360, squash=0.45)], "not_round"),
        ([arc(0, 360, radius=0.015)], "not_round"),
        ([arc(0, 360, centre=(0.06, 0.0))], "outside"),
        ([arc(0, 360), [[0.0, 0.0]]], "second_stroke"),
        ([arc(0, 180), arc(180, 360)], "second_stroke"),
    ],
)
def test_outcome(strokes, event):
    outcome = outcome_of(strokes, [0.0, 0.0])
    assert outcome.event == event
    assert outcome.success == (event == "success")


def test_only_contact_draws(sim):
    sim.reset(2)
    centre = sim.memory["centre"]
    for _ in range(8):
        sim.step(np.array([*centre, CONTACT_Z + 0.008, 0.0, 1.0]))
    assert sim.task.outcome(sim).event == "nothing_drawn"
    for _ in range(2):
        sim.step(np.array([*centre, PRESS_Z, 0.0, 1.0]))
    assert len(sim.memory["dots"]) == 1
    assert np.allclose(sim.memory["dots"][0], centre, atol=0.004)


def test_line_is_continuous_at_top_speed(sim):
    sim.reset(2)
    x, y = sim.memory["centre"]
    for z in (0.1, 0.06, PRESS_Z, PRESS_Z):
        for _ in range(2):
            sim.step(np.array([x - 0.05, y, z, 0.0, 1.0]))
    for offset in (0.0, 0.05):
        sim.step(np.array([x + offset, y, PRESS_Z, 0.0, 1.0]))
    dots = np.array(sim.memory["dots"])
    assert len(sim.memory["strokes"]) == 1
    assert np.ptp(dots[:, 0]) > 0.08
    assert np.linalg.norm(np.diff(dots, axis=0), axis=1).max() < SPACING + 0.004


def test_lifting_and_starting_elsewhere_is_a_second_stroke(sim):
    sim.reset(2)
    x, y = sim.memory["centre"]
    for spot in (x - 0.04, x + 0.04):
        for z in (0.1, 0.1, 0.1, PRESS_Z, PRESS_Z, 0.1):
            sim.step(np.array([spot, y, z, 0.0, 1.0]))
    assert len(sim.memory["strokes"]) == 2
    assert sim.task.outcome(sim).event == "second_stroke"


def test_marker_runs_dry(sim):
    sim.reset(2)
    x, y = sim.memory["centre"]
    rng = np.random.default_rng(0)
    for _ in range(120):
        sim.step(np.array([x + rng.uniform(-0.1, 0.1), y + rng.uniform(-0.1, 0.1), PRESS_Z, 0.0, 1.0]))
    assert sim.memory["dry"]
    assert len(sim.memory["dots"]) == DOTS
    assert not sim.task.outcome(sim).success


def test_reset_repeats_bit_for_bit(sim):
    renderer = RayRenderer(64)

    def start(seed):
        sim.reset(seed)
        return renderer.render(sim.model, sim.data), sim.data.qpos.copy(), str(sim.memory), sim.instruction

    first = start(7)
    play(sim, 8, Quality())
    drawn = renderer.render(sim.model, sim.data)
    again, other = start(7), start(9)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert first[2:] == again[2:]
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(drawn[0], again[0][0])


def test_trace_is_in_the_picture_of_the_same_step(sim):
    play(sim, 3, Quality())
    assert sim.task.outcome(sim).success
    drawn = RayRenderer(64).render(sim.model, sim.data).astype(int)
    for i in range(DOTS):
        sim.paint(f"dot_{i}", (0.0, 0.0, 0.0, 0.0))
    blank = RayRenderer(64).render(sim.model, sim.data).astype(int)
    changed = (np.abs(drawn - blank).max(-1) > 60).sum((1, 2))
    assert (changed[:2] >= 60).all()
    sim.reset(4)
    for pose in ((0.1, 0.1), (0.06, 0.06), (PRESS_Z, PRESS_Z)):
        for z in pose:
            sim.step(np.array([*sim.memory["centre"], z, 0.0, 1.0]))
    geom = sim.data.geom("dot_0")
    assert np.allclose(geom.xpos[:2], sim.memory["dots"][0])
