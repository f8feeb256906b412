"""`vlaw pretrain` at a size of seconds: every stage runs, writes loadable checkpoints, resumes, and says what it
did."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from vlaw_models.pretrain import ALONE, STAGES, run_stage, write_provenance
from vlaw_models.pretrain.stages import ROBOT, Corpora, PolicyPhase, PretrainConfig, tried
from vlaw_models.rollouts import privileged
from vlaw_models.rollouts.seeds import start_seeds
from vlaw_models.threads import on_threads

SMALL = PretrainConfig(
    tasks=("stack", "erase"),
    corpus_per_task=2,
    hard_stack=2,
    hard_erase=2,
    replay_per_task=1,
    demonstrations_per_task=1,
    co_training_per_task=1,
    world_model_steps=2,
    world_model_batch=2,
    reward_heads_steps=2,
    near_success_per_task=1,
    policy_phases=(PolicyPhase(2, 1e-3, 0.9, (0.5, 0.25, 0.25), early_share=0.5),),
    policy_batch=4,
    practice=(("stack", 1, 1), ("erase", 1, 0)),
    head_steps=2,
    head_batch=4,
    reward_model_steps=2,
    imagined_per_task=2,
    imagined_steps=2,
    reward_model_batch=4,
)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    out, work = folder / "out", folder / "work"
    for stage in STAGES:
        run_stage(stage, out, work, SMALL)
    return out, work


def test_every_model_loads(pretrained):
    from vlaw_models.autoencoders.base import load_autoencoder
    from vlaw_models.policies.base import load_policy
    from vlaw_models.reward_models.base import load_reward_model
    from vlaw_models.world_models.base import load_world_model

    out, _ = pretrained
    autoencoder, world_model = load_autoencoder(out / "autoencoder"), load_world_model(out / "world_model")
    assert world_model.latent_shape[0] == autoencoder.latent_channels
    assert load_policy(out / "base_policy").chunk_size >= load_policy(out / "base_policy").execute_steps
    assert load_reward_model(out / "reward_model").num_frames == 16


def test_heads_are_taken_by_a_finetuning_that_asks_for_them_and_by_no_other(pretrained, tmp_path):
    from vlaw_models.config import WorldModelConfig
    from vlaw_models.learners.world_model import finetune_world_model
    from vlaw_models.world_models.base import load_world_model
    from vlaw_models.world_models.heads import PRETRAINED, load_heads

    out, work = pretrained
    model = load_world_model(out / "world_model")
    assert model.heads is None, "what does not ask has the model without"
    heads = load_heads(out / "world_model" / PRETRAINED, model.feature_shape, model.chunk, model.pose_dim)
    assert json.loads((work / "reward_heads.json").read_text())["episodes"] == 2 * 2 + 4 + 2 * 2
    episodes = Corpora(work, SMALL).co_training()
    for weight in (0.0, 1.0):
        cfg = WorldModelConfig(steps=1, batch_size=2, unroll=0, reward_weight=weight, learning_rate=1e-9)
        finetune_world_model(
            out / "world_model", out / "autoencoder", episodes, [], cfg, tmp_path / str(weight), seed=0
        )
    assert load_world_model(tmp_path / "0.0").heads is None
    learned = load_world_model(tmp_path / "1.0").heads
    assert learned is not None
    assert learned.tokenizer.to_json() == heads.tokenizer.to_json()
    for name, value in heads.state_dict().items():
        assert torch.allclose(learned.state_dict()[name], value, atol=1e-6), name


def test_judge_and_heads_see_imagination_with_what_really_came_of_it(pretrained, tmp_path, monkeypatch):
    """From the unseen episode first, then from another; the outcomes are the simulator's, not the start's."""
    out, work = pretrained
    data = Corpora(work, SMALL)
    found = tried(data, out / "autoencoder", out / "world_model", out / "base_policy")
    assert [episode.task for episode in found] == ["stack", "stack", "erase", "erase"]
    unseen, broad = data.unseen()[0], [episode for episode in data.broad() if episode.task == "stack"]
    assert np.array_equal(found[0].images[0], unseen.images[0])
    assert any(np.array_equal(found[1].images[0], episode.images[0]) for episode in broad)
    monkeypatch.setattr(privileged, "true_outcomes", lambda episodes, origins, **_: np.ones(len(episodes), bool))
    shutil.copytree(work, tmp_path / "work", ignore=shutil.ignore_patterns("tried"))
    with on_threads(ALONE):  # as the stage that made them first
        again = tried(
            Corpora(tmp_path / "work", SMALL), *(out / name for name in ("autoencoder", "world_model", "base_policy"))
        )
    assert all(episode.success for episode in again)
    assert all(
        np.array_equal(*pair) for pair in zip([e.actions for e in found], [e.actions for e in again], strict=True)
    )
    assert json.loads((work / "reward_model.json").read_text())["imagined"] == 4
    assert json.loads((work / "reward_heads.json").read_text())["imagined"] == 4


def test_finished_stages_are_skipped(pretrained):
    out, work = pretrained
    before = (out / "world_model" / "model.safetensors").stat().st_mtime_ns
    run_stage("world_model", out, work, SMALL)
    assert (out / "world_model" / "model.safetensors").stat().st_mtime_ns == before


def test_provenance_names_every_file(pretrained):
    out, work = pretrained
    write_provenance(out, work, SMALL, "abc")
    record = json.loads((out / "PROVENANCE.json").read_text())
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and p.name != "PROVENANCE.json"}
    assert set(record["sha256"]) == files
    name = "base_policy/model.safetensors"
    assert record["sha256"][name] == hashlib.sha256((out / name).read_bytes()).hexdigest()
    assert set(record["stages"]) == set(STAGES)
    assert record["config"]["corpus_per_task"] == SMALL.corpus_per_task


def test_unknown_stage_is_refused(tmp_path):
    with pytest.raises(ValueError, match="choose from"):
        run_stage("dreams", tmp_path, tmp_path, SMALL)


def test_shipped_weights_are_the_ones_provenance_describes():
    from vlaw_models.presets import MODELS, WEIGHTS

    record = json.loads((WEIGHTS / "PROVENANCE.json").read_text())
    shipped = {
        str(p.relative_to(WEIGHTS)): hashlib.sha256(p.read_bytes()).hexdigest()
        for kind in MODELS
        for p in (WEIGHTS / kind).rglob("*")
        if p.is_file()
    }
    assert record["sha256"] == shipped
    assert sum(p.stat().st_size for p in WEIGHTS.rglob("*") if p.is_file()) <= 25e6


def test_the_base_has_learned_from_the_very_episodes_of_the_lake():
    """Imagination may start from them: every arm has had them then, through the base."""
    from vlaw_assets.recipes import load_foundation

    foundation, cfg = load_foundation(), PretrainConfig()
    assert (foundation.demonstrations_per_task, foundation.seed) == (cfg.demonstrations_per_task, cfg.seed)
    few, all_of_them = foundation.co_training_per_task, cfg.co_training_per_task
    seeds = [start_seeds("co_training", "stack", 0, cfg.seed, count) for count in (few, all_of_them)]
    assert list(seeds[0]) == list(seeds[1])[:few], "the lake has the first ones"
    assert cfg.tasks == ROBOT.tasks, "start seeds do not depend on the task, but who is there does"
