"""A stage whose training was interrupted goes on there, and what it makes is what it would have made."""

from __future__ import annotations

import os
from types import SimpleNamespace

import dagster as dg
import pytest
import small_loop
from one_stage import Bench
from small_trainings import KINDS
from training_worker import digest

from vlaw_assets.assets import stage_asset
from vlaw_assets.lake import Lake
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.lake.upkeep import garbage
from vlaw_assets.pipeline import page
from vlaw_models.learners import policy as policy_update
from vlaw_models.learners.resume import EVERY

STEPS, PARTITION = 6, "lab|01"


class KilledError(Exception):
    pass


def place(root, monkeypatch, killed_after=()):
    """A lake whose policy is trained by the trainer itself, and breaks off after so many steps, each time once."""
    bench, left = Bench(root), list(killed_after)
    bench.recipe("lab", policy={"stops": [], "validation_per_task": 0, "learner": "dsrl"}, promotion={"enabled": False})
    small_loop.iteration(bench.lake, small_loop.foundation(bench.lake), {}, PARTITION)
    for asset in ("loop_state", "training_set"):
        bench.make(asset, PARTITION)

    def update(*given, checkpoints, **_more):
        after = left.pop(0) if left else 0

        def progress(done, *_said):
            if done == after:
                raise KilledError

        losses, model = KINDS["mlp"](steps=STEPS, checkpoints=checkpoints, progress=progress)
        (given[5] / "config.json").write_text(f'"{digest(losses, model)}"')
        return {"losses": losses, "seconds": 0.1}

    monkeypatch.setattr(policy_update, "update_policy", update)
    return bench


def test_a_stage_goes_on_where_it_was_interrupted_and_makes_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv(EVERY, "2")
    whole = place(tmp_path / "whole", monkeypatch).make("policy", PARTITION)
    bench = place(tmp_path / "lab", monkeypatch, killed_after=(3, 5))
    folder = bench.lake.paths.training / whole.identity_digest
    for states in (["step-00000002"], ["step-00000004"]):
        with pytest.raises(KilledError):
            bench.make("policy", PARTITION)
        assert [path.name for path in folder.iterdir()] == states
        assert bench.lake.ledger.require("policy", PARTITION).content_digest != whole.content_digest, "the one before"
    made = bench.make("policy", PARTITION)
    assert (made.identity_digest, made.content_digest) == (whole.identity_digest, whole.content_digest)
    assert not folder.exists(), "it goes with the commit"
    bench.make("policy", PARTITION, force=True)
    assert not folder.exists()


def test_the_state_of_a_training_is_garbage_once_nobody_comes_back_to_it(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    left, busy = (lake.paths.training / (letter * 64) for letter in "ab")
    for folder in (left, busy):
        (folder / "step-00000002").mkdir(parents=True)
        (folder / "step-00000002" / "whole.json").write_text("{}")
        os.utime(folder / "step-00000002" / "whole.json", (1e9, 1e9))
    lock = FileLock(lake.paths.claim(busy.name))
    assert lock.acquire(holder="a run that trains")
    os.utime(lock.path, (1.2e9, 1.2e9))
    assert [(item.path, item.kind) for item in garbage.find_garbage(lake)] == [(left, "temporary")]
    garbage.collect(lake)
    assert (left.exists(), busy.exists()) == (False, True)
    lock.release()


def test_the_curve_of_a_loss_is_on_the_page_while_it_grows(monkeypatch):
    told = page.growing("policy", PARTITION, [2.0, 1.0])
    assert (told.asset_key, told.partition) == (dg.AssetKey("policy"), PARTITION)
    assert told.metadata["step"].value == 2
    assert told.metadata["loss"].value == 1.5
    assert "data:image/" in told.metadata["training so far"].value

    events: list[dg.AssetObservation] = []
    tell = stage_asset.growing(SimpleNamespace(log_event=events.append), "policy", "")
    tell([1.0])
    assert events == [], "nobody looks so often"
    monkeypatch.setattr(stage_asset, "GROWN_S", 0.0)
    tell([1.0])
    assert [event.partition for event in events] == [None]
