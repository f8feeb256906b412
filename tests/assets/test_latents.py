"""Latents are encoded once per autoencoder and episode: by row, followed by lineage; never where it costs nothing."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from factories import commit
from one_stage import Bench
from small_loop import TASKS, episodes

from vlaw_assets.assets.encoded import latents_for
from vlaw_assets.assets.stage import Stage
from vlaw_assets.lake.quarantine import add
from vlaw_assets.lake.upkeep.garbage import find_garbage
from vlaw_assets.lake.upkeep.verify import verify
from vlaw_assets.lineage.impact import impact
from vlaw_assets.pipeline.resources import Workplace
from vlaw_models.autoencoders.folded_pixels import FoldedPixels, FoldedPixelsConfig
from vlaw_models.autoencoders.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from vlaw_models.errors import VlawError
from vlaw_models.sources import gather
from vlaw_models.world_models.latents import encode_episodes

CORPORA = {"expert_demonstrations": 1, "co_training_data": 2}
"""Asset -> episodes of each task."""
SMALL = TinyAutoencoderConfig(patch=4, channels=8, latent_channels=2, encoder_blocks=(1,), decoder_blocks=(1,))


def place(root, autoencoder) -> Bench:
    """A lake with this autoencoder and two corpora of episodes of 8 x 8 pixels."""
    bench = Bench(root)
    commit(bench.lake, "autoencoder", write=lambda draft: autoencoder.save(draft.checkpoint_dir()))
    for seed, (asset, count) in enumerate(CORPORA.items()):
        purpose = "demonstration" if seed == 0 else "co_training"
        found = episodes(count, seed=seed)
        commit(
            bench.lake, asset, write=lambda draft, f=found, p=purpose: draft.write_episodes(f, purpose=p, world="lab")
        )
    return bench


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return TinyAutoencoder(SMALL).eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory, autoencoder):
    root = tmp_path_factory.mktemp("latents")
    place(root, autoencoder)
    return root


@pytest.fixture
def bench(made, tmp_path):
    return Bench(shutil.copytree(made, tmp_path, dirs_exist_ok=True))


def source_of(bench, asset):
    return bench.lake.read(bench.lake.ledger.require(asset, "")).source()


def first_latent(kept, episode):
    return kept.of(episode)[0]


def test_every_frame_is_encoded_once_and_read_by_row(bench, autoencoder, monkeypatch):
    ref = bench.make("corpus_latents", "")
    assert ref.versions["latents"]["rows"] == ref.num_rows == 3 * 3 * len(TASKS), "three frames in each episode"
    assert ref.metrics["encoded"] == 3 * len(TASKS)
    kept = bench.lake.read(ref).latents()
    for asset in CORPORA:
        found = source_of(bench, asset)
        for index, episode in enumerate(found):
            expected = autoencoder.encode(found.frames(index)).half().numpy()
            assert np.array_equal(np.asarray(kept.of(episode)), expected)
            assert np.array_equal(kept.of(episode)[[2, 0]], expected[[2, 0]])
    assert verify(bench.lake, [ref]) == []
    monkeypatch.setattr(TinyAutoencoder, "to_latents", None)
    assert bench.make("corpus_latents", "").artifact_id == ref.artifact_id, "and never again"


@pytest.mark.slow
def test_a_copy_in_another_process_reads_on_its_own(bench):
    kept = bench.lake.read(bench.make("corpus_latents", "")).latents()
    episode = source_of(bench, "co_training_data")[0]
    assert np.array_equal(pickle.loads(pickle.dumps(kept)).of(episode)[0], kept.of(episode)[0])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        assert np.array_equal(processes.submit(first_latent, kept, episode).result(), kept.of(episode)[0])


def test_a_world_model_learns_from_kept_latents_what_it_would_from_encoded_ones(bench, autoencoder, monkeypatch):
    kept = bench.lake.read(bench.make("corpus_latents", "")).latents()
    found = list(source_of(bench, "co_training_data"))
    encoded = encode_episodes(autoencoder, found)
    monkeypatch.setattr(TinyAutoencoder, "to_latents", None)
    read = encode_episodes(autoencoder, found, kept=kept)
    index = np.array([[0, 2], [5, 5], [len(read.poses) - 1, 3]])
    assert torch.equal(read.encoded(read.stored[index]), encoded.latents[index])
    assert torch.equal(read.poses, encoded.poses)
    assert np.array_equal(gather([kept.of(e) for e in found], [(1, 2)])[0], kept.of(found[1])[2])


def test_quarantine_reaches_the_latents_of_an_episode_and_no_others(bench):
    before = bench.make("corpus_latents", "")
    bad = source_of(bench, "co_training_data")[0]
    reached = {found.ref.asset: (found.how, found.rows) for found in impact(bench.lake, bad.episode_id)}
    assert reached["corpus_latents"] == ("rows", 1)
    add(bench.lake, [bad.episode_id], why="the camera fell", by="me")
    after = bench.make("corpus_latents", "")
    assert before.num_rows - after.num_rows == len(bad.images)
    kept = bench.lake.read(after).latents()
    assert bad.episode_id not in kept
    with pytest.raises(VlawError, match="has no latents") as caught:
        kept.of(bad)
    assert "corpus_latents" in caught.value.remedy


@pytest.mark.parametrize("made_by", ["this autoencoder", "another"])
def test_latents_that_came_with_a_recording_are_used_as_they_are(bench, autoencoder, monkeypatch, made_by):
    """Of the two copies one is of a recording with latents: it has those, whatever its frames are."""
    found, names = episodes(2, seed=7)[:2], []
    model = bench.lake.ledger.require("autoencoder", "").content_digest if made_by == "this autoencoder" else "f" * 64
    own = autoencoder.encode(found[0].images).half().numpy() + 1

    def write_recording(draft):
        names.extend(draft.write_episodes(found, purpose="rollout", world="lab", label_source="recorded"))
        steps = range(found[0].num_steps + 1 - len(own), found[0].num_steps + 1)
        draft.write_latents(model, draft.artifact_id, names[0], steps, own)

    recording = commit(bench.lake, "recorded_episodes", "lab|00", write=write_recording)

    def write_copies(draft):
        draft.read(recording, role="recorded_episodes", by_row=True).episodes(frames=False)
        copies = [dataclasses.replace(one, start_episode_id=name) for one, name in zip(found, names, strict=True)]
        draft.write_episodes(copies, purpose="co_training", world="lab")

    commit(bench.lake, "co_training_data", parents={"recorded_episodes": recording}, write=write_copies, reads=())
    ref = bench.make("corpus_latents", "")
    kept, (first, second) = bench.lake.read(ref).latents(), source_of(bench, "co_training_data")
    assert np.array_equal(np.asarray(kept.of(second)), autoencoder.encode(found[1].images).half().numpy())
    edges = {edge.role: edge for edge in bench.lake.ledger.edge_rows(ref.artifact_id)}
    if made_by == "another":
        assert "kept" not in ref.metrics
        assert np.array_equal(np.asarray(kept.of(first)), autoencoder.encode(found[0].images).half().numpy())
        assert set(edges) == {"autoencoder", *CORPORA}
        return
    assert (ref.metrics["kept"], ref.metrics["encoded"]) == (1, len(TASKS) + 1)
    assert np.array_equal(np.asarray(kept.of(first)), own)
    assert edges["recorded_co_training_data"].selection == "listed"
    assert {found.ref.asset for found in impact(bench.lake, names[0])} >= {"corpus_latents", "co_training_data"}
    assert verify(bench.lake, [recording, ref]) == []
    assert find_garbage(bench.lake, older_than_s=0) == []
    monkeypatch.setattr(TinyAutoencoder, "to_latents", None)
    assert bench.make("corpus_latents", "").artifact_id == ref.artifact_id


def test_what_costs_nothing_is_not_kept(tmp_path):
    bench = place(tmp_path, FoldedPixels(FoldedPixelsConfig(fold=4)))
    ref = bench.make("corpus_latents", "")
    assert (ref.versions.keys() & {"latents"}, ref.metrics["costless"], ref.num_rows) == (set(), True, 0)
    assert not bench.lake.paths.latents.exists()
    assert latents_for(stage_of(bench), {"real_rollouts_01": ref}, corpora=True) == {}


def test_stages_name_the_latents_that_they_read(bench):
    bench.recipe("lab")
    corpora = bench.make("corpus_latents", "")
    real = rolled_out(bench, seed=7)
    with pytest.raises(VlawError, match=r"latents\[lab\|01\] is not in the ledger"):
        latents_for(stage_of(bench), {"real_rollouts_01": real})
    own = bench.make("latents", "lab|01")
    found = latents_for(stage_of(bench), {"real_rollouts_01": real}, corpora=True)
    assert {role: ref.artifact_id for role, ref in found.items()} == {
        "latents_of_corpora": corpora.artifact_id,
        "latents_01": own.artifact_id,
    }
    scopes = {edge.role: edge.scope for edge in bench.lake.ledger.edge_rows(own.artifact_id)}
    assert scopes == {"autoencoder": "whole", "real_rollouts": "rows"}


def test_latents_of_other_episodes_or_another_autoencoder_are_refused(bench):
    bench.recipe("lab")
    bench.make("corpus_latents", "")
    rolled_out(bench, seed=7)
    bench.make("latents", "lab|01")
    with pytest.raises(VlawError, match=r"latents\[lab\|01\] was made of another real_rollouts"):
        latents_for(stage_of(bench), {"real_rollouts_01": rolled_out(bench, seed=8)})
    torch.manual_seed(1)
    other = TinyAutoencoder(SMALL)
    commit(bench.lake, "autoencoder", write=lambda draft: other.save(draft.checkpoint_dir()), recipe={"seed": 1})
    with pytest.raises(VlawError, match="corpus_latents was made of another autoencoder") as caught:
        latents_for(stage_of(bench), {}, corpora=True)
    assert "--rebuild-stale" in caught.value.remedy


def rolled_out(bench, *, seed):
    found = episodes(1, seed=seed)
    return commit(
        bench.lake,
        "real_rollouts",
        "lab|01",
        write=lambda draft: draft.write_episodes(found, purpose="rollout"),
        recipe={"seed": seed},
    )


def test_latents_of_a_draft_that_died_are_garbage(bench, monkeypatch):
    monkeypatch.setattr("vlaw_assets.lake.latents.WAITING", 0)
    encode, done = TinyAutoencoder.to_latents, []

    def dies(self, pixels):
        done.append(len(pixels))
        if len(done) > 2:
            raise ZeroDivisionError
        return encode(self, pixels)

    monkeypatch.setattr(TinyAutoencoder, "to_latents", dies)
    with pytest.raises(ZeroDivisionError):
        bench.make("corpus_latents", "")
    assert bench.lake.ledger.current("corpus_latents", "") is None
    assert [item.kind for item in find_garbage(bench.lake, older_than_s=-60)] == ["latents"] * 2


def stage_of(bench):
    workplace = Workplace(lake=str(bench.lake.paths.root), recipes=str(bench.recipes))
    return Stage(bench.lake, workplace, "world_model", "lab|01")
