"""What only the simulator knows: true outcomes of imagined episodes, and rollouts from recorded starts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from travelling import travelling
from wanderer import Wanderer

from vlaw_assets.assets.starts import Choice, Starts
from vlaw_models.config import ImagineConfig
from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.world import TabletopWorld
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.rollouts.privileged import rollouts_from_starts, true_outcomes


@pytest.fixture(scope="module")
def played():
    """Scripted episodes, some that succeed and some that do not, as if each had been imagined from itself."""
    found = list(iterate_demonstrations(["book", "draw"], 6, robot=SPEC, purpose="co_training", seed=3, image_size=8))
    for number, episode in enumerate(found):
        episode.episode_id = episode.start_episode_id = f"e{number}"
    return found


def test_true_outcomes_are_what_happened_on_the_robot(played):
    origins = {e.episode_id: Start(e.task, e.seed) for e in played}
    truth = [e.success for e in played]
    assert 0 < sum(truth) < len(truth)
    blind = [dataclasses.replace(e, images=e.images[:0], success=None) for e in played]
    assert true_outcomes(blind, origins, robot=SPEC).tolist() == truth
    assert true_outcomes(blind[::-1], origins, robot=SPEC, threads=1).tolist() == truth[::-1]
    assert true_outcomes(blind, origins, robot=SPEC, spread=travelling).tolist() == truth
    elsewhere = {e.episode_id: Start(e.task, e.seed + 1) for e in played}
    assert true_outcomes(blind, elsewhere, robot=SPEC).tolist() != truth, "the same actions from another layout"


def test_a_start_that_the_simulator_does_not_know_is_refused(played):
    for origins in ({}, {"e0": Start("stack", 1)}):
        with pytest.raises(VlawError, match="cannot be reset to the start 'e0'"):
            true_outcomes(played[:1], origins, robot=SPEC)
        with pytest.raises(VlawError, match="no episode that it recorded"):
            rollouts_from_starts(
                "nowhere", [Start(played[0].task, 0, episode_id="e0")], origins, ImagineConfig(), robot=SPEC, seed=0
            )


def test_the_oracle_starts_in_the_recorded_frame_and_tries_anew(played, monkeypatch):
    monkeypatch.setattr("vlaw_models.policies.base.load_policy", lambda folder: Wanderer())
    real = [dataclasses.replace(e, images=e.images[:1]) for e in played]
    world = TabletopWorld(16)
    first = dict(
        zip((e.episode_id for e in real), world.reset([Start(e.task, e.seed) for e in real]).images, strict=True)
    )
    origins = {e.episode_id: Start(e.task, e.seed) for e in real}
    starts = Starts(Choice(("book", "draw"), 8).starts(real))
    config = ImagineConfig(num_steps=5, batch_size=5)
    batches = list(rollouts_from_starts("anywhere", starts, origins, config, robot=SPEC, seed=7))
    assert [len(batch) for batch in batches] == [5, 5, 5, 1]
    done = [e for batch in batches for e in batch]
    assert [(e.task, e.seed, e.start_episode_id) for e in done] == [(s.task, s.seed, s.episode_id) for s in starts]
    assert {(e.success, e.event) for e in done} == {(None, "")}
    assert all(np.array_equal(e.images[0], first[e.start_episode_id]) for e in done)
    assert all(len(e.images) == 6 for e in done)
    one, again = (next(e for e in done if (e.start_episode_id, e.seed) == (real[0].episode_id, n)) for n in (0, 6))
    assert not np.array_equal(one.actions, again.actions), "other noise for the second try"
    repeated = [
        e for batch in rollouts_from_starts("anywhere", starts, origins, config, robot=SPEC, seed=7) for e in batch
    ]
    assert all(np.array_equal(a.images, b.images) for a, b in zip(done, repeated, strict=True))
    assert not np.array_equal(
        next(rollouts_from_starts("anywhere", starts, origins, config, robot=SPEC, seed=8))[0].actions, one.actions
    )
