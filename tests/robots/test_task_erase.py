"""Erasing on the simulated robot: the expert's rate, the failures, contact and cover, repeatable resets."""

from __future__ import annotations

import numpy as np
import pytest
from expert_play import events, play

from vlaw_models.robots.tabletop.render import RayRenderer
from vlaw_models.robots.tabletop.tasks import Quality
from vlaw_models.robots.tabletop.tasks.erase import CONTACT_Z, COVER, PIECES, PRESS_Z
from vlaw_models.robots.tabletop.world import make_sim


@pytest.fixture(scope="module")
def sim():
    return make_sim("erase")


def press(sim, spot, z: float = PRESS_Z, pitch: float = 0.0) -> None:
    """Moves the pad above `spot` and down to `z`, waits, and lifts it again."""
    for height, steps in ((0.12, 5), (z, 6), (0.12, 4)):
        for _ in range(steps):
            sim.step(np.array([*spot, height, pitch if height == z else 0.0, 1.0]))


def test_expert_erases_in_time(sim):
    successes = 0
    for seed in range(40):
        assert play(sim, seed, Quality()) <= 24
        successes += sim.task.outcome(sim).success
    assert successes >= 38


def test_expert_tolerates_noise(sim):
    assert events(sim, Quality(aim=0.006, jitter=0.004), 20)["success"] >= 16


@pytest.mark.parametrize(
    ("mistake", "expected"),
    [("first", {"mark_left", "nothing_erased"}), ("last", {"mark_left"}), ("stop", {"mark_left", "nothing_erased"})],
)
def test_mistakes_fail(sim, mistake, expected):
    counts = events(sim, Quality(mistake=mistake), 20)
    assert counts["success"] <= 3
    assert set(counts) - {"success"} <= expected


def test_one_piece_left_is_a_failure(sim):
    play(sim, 0, Quality())
    assert sim.task.outcome(sim).success
    sim.memory["left"] = [[0, 0, 0.0, 0.0]]
    assert sim.task.outcome(sim).event == "mark_left"


def test_hovering_erases_nothing_and_touching_erases_what_is_covered(sim):
    sim.reset(1)
    before = list(sim.memory["left"])
    mark, piece, x, y = before[0]
    press(sim, (x, y), CONTACT_Z + 0.008)
    assert sim.memory["left"] == before
    assert sim.task.outcome(sim).event == "nothing_erased"
    press(sim, (x, y))
    left = {tuple(entry[:2]) for entry in sim.memory["left"]}
    assert (mark, piece) not in left
    assert sim.model.geom(f"mark_{mark}_{piece}").rgba[3] == 0.0
    for entry in before:
        far = max(abs(entry[2] - x), abs(entry[3] - y)) > COVER + 0.004
        assert (tuple(entry[:2]) in left) or not far


def test_raised_side_of_a_tilted_pad_covers_nothing(sim):
    offsets = np.arange(-0.030, 0.031, 0.005)

    def erased(pitch: float) -> np.ndarray:
        sim.reset(1)
        sim.memory["left"] = [[0, i, float(x), 0.0] for i, x in enumerate(offsets)]
        sim.paint = lambda *_: None  # the row of small pieces has no geoms
        for z, steps in ((0.12, 3), (PRESS_Z, 6)):
            for _ in range(steps):
                sim.step(np.array([0.0, 0.0, z, pitch, 1.0]))
        del sim.paint
        assert sim.touching("pad", "board")
        left = {entry[1] for entry in sim.memory["left"]}
        return np.array([x for i, x in enumerate(offsets) if i not in left])

    flat, tilted, other = erased(0.0), erased(0.5), erased(-0.5)
    assert np.allclose(flat, offsets[np.abs(offsets) < COVER])
    assert len(tilted) < len(flat) / 2
    assert len(other) < len(flat) / 2
    assert not (tilted < -0.005).any() or not (tilted > 0.005).any()


def test_a_stroke_needs_more_than_one_dab(sim):
    sim.reset(1)
    middle = next(entry for entry in sim.memory["left"] if entry[1] == PIECES // 2)
    press(sim, middle[2:])
    assert 0 < len([entry for entry in sim.memory["left"] if entry[0] == middle[0]]) < PIECES


def test_reset_repeats_bit_for_bit(sim):
    renderer = RayRenderer(64)

    def start(seed):
        sim.reset(seed)
        return renderer.render(sim.model, sim.data), sim.data.qpos.copy(), str(sim.memory), sim.instruction

    first = start(7)
    play(sim, 8, Quality())
    again, other = start(7), start(9)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert first[2:] == again[2:]
    assert not np.array_equal(first[0], other[0])


def test_seeds_show_one_to_three_marks(sim):
    counts = set()
    for seed in range(20):
        sim.reset(seed)
        counts.add(sim.memory["pieces"] // PIECES)
    assert counts == {1, 2, 3}


def test_outcome_is_visible_in_both_exterior_cameras(sim):
    renderer = RayRenderer(64)
    play(sim, 3, Quality())
    clean = renderer.render(sim.model, sim.data).astype(int)
    sim.paint("mark_0_0", (0.88, 0.08, 0.08))
    marked = renderer.render(sim.model, sim.data).astype(int)
    changed = (np.abs(marked - clean).max(-1) > 60).sum((1, 2))
    assert (changed[:2] >= 4).all()
