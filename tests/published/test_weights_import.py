"""Published weights become checkpoints of ours: the same numbers out of the same network, and a strict report."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import published_layouts as layouts
import pytest
import torch
from golden_openpi import RECORD, vectors
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.episodes import Observation
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import load_policy
from vlaw_models.presets import WORLD_MODEL
from vlaw_models.published import tensors as published_tensors
from vlaw_models.published.importing import import_weights
from vlaw_models.published.part import Options
from vlaw_models.reward_models.base import load_reward_model
from vlaw_models.robots.droid import IN_JOINT_VELOCITY
from vlaw_models.robots.droid import SPEC as DROID
from vlaw_models.world_models.base import Condition, load_world_model
from vlaw_models.world_models.ctrl_world import PUBLISHED_ROLLOUTS


def imported(kind, path, out, **options):
    return import_weights(kind, path, out, Options(DROID, preset="toy", **options))


def condition(model, instructions):
    context, (channels, height, width) = len(model.offsets()[0]), model.latent_shape
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(len(instructions), context, channels, height, width, generator=generator)
    poses = torch.rand(len(instructions), context + model.chunk, 7, generator=generator)
    return Condition(frames, poses, model.embed_text(instructions))


def test_stable_video_diffusion_is_an_autoencoder_and_the_start_of_a_world_model(tmp_path):
    source = layouts.svd(tmp_path / "svd")
    folders = imported("svd", source, tmp_path / "out")
    assert [(folder.name, part.key) for folder, part in folders.items()] == [
        ("autoencoder", "autoencoder"),
        ("world_model", "world_model"),
    ]
    linked = (tmp_path / "out" / "autoencoder" / "model.safetensors").stat()
    assert linked.st_ino == (source / "vae" / "diffusion_pytorch_model.safetensors").stat().st_ino, "no copy is made"
    pixels = torch.rand(1, 3, 48, 80) * 2 - 1
    ours = load_autoencoder(tmp_path / "out" / "autoencoder")
    with torch.inference_mode():
        expected = layouts.vae().eval().encode(pixels).latent_dist.mode() * 0.18215
        assert torch.equal(ours.to_latents(pixels), expected)
    model = load_world_model(tmp_path / "out" / "world_model")
    published = layouts.unet().state_dict()
    assert all(torch.equal(value, published[name]) for name, value in model.unet.state_dict().items())
    assert all(
        why.startswith("the action encoder") for why in folders[tmp_path / "out" / "world_model"].report.made.values()
    )


def test_ctrl_world_brings_its_text_encoder_and_is_conditioned_by_it(tmp_path):
    source = layouts.ctrl_world(tmp_path / "checkpoint.pt")
    clip = layouts.clip(tmp_path / "clip")
    ((_, part),) = imported("ctrl-world", source, tmp_path / "out", clip=clip).items()
    assert set(part.report.dropped.values()) == {
        "the autoencoder's: `vlaw weights import svd` takes them",
        "Ctrl-World does not ask it",
    }
    assert part.report.renamed["action_encoder.action_encode.4.bias"] == "action_encoder.4.bias"
    model = load_world_model(tmp_path / "out")
    state = torch.load(source, weights_only=True)
    assert torch.equal(model.action_encoder[4].bias, state["action_encoder.action_encode.4.bias"])
    # transformers' own classes embed the same words to the same numbers.
    from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(clip / "tokenizer.json"), pad_token="<|endoftext|>", model_max_length=12
    )
    given = tokenizer(layouts.INSTRUCTIONS, padding="max_length", truncation=True, return_tensors="pt")
    theirs = CLIPTextModelWithProjection.from_pretrained(clip).eval()
    with torch.inference_mode():
        expected = theirs(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).text_embeds
        assert torch.allclose(model.embed_text(layouts.INSTRUCTIONS), expected, atol=1e-6)
        told = condition(model, layouts.INSTRUCTIONS)
        untold = Condition(told.context, told.poses)
        tokens, without = model.tokens(told), model.tokens(untold)
        assert torch.allclose(tokens, without + expected.repeat(1, 2)[:, None], atol=1e-5), (
            "added to every frame's token"
        )
    assert not any(parameter.requires_grad for parameter in model.text_encoder.parameters()), "it stays frozen"
    again = load_world_model(model.save(tmp_path / "again"))
    assert torch.equal(again.embed_text(layouts.INSTRUCTIONS), model.embed_text(layouts.INSTRUCTIONS))


@pytest.mark.parametrize(
    ("said", "own", "current", "history", "noise"),
    [
        ([], False, True, (24, 20, 16, 12, 8, 4, 0), None),
        (["--defects", "all"], False, True, (*PUBLISHED_ROLLOUTS["rollout_history"], 0), 0.02),
        (["--defects", "none"], True, False, (24, 20, 16, 12, 8, 4, 0), None),
    ],
)
def test_the_published_defects_are_kept_as_the_command_says(tmp_path, monkeypatch, said, own, current, history, noise):
    monkeypatch.setitem(WORLD_MODEL["toy"]["sizes"], "history", 6)  # as published, of which no weight depends
    source, clip = layouts.ctrl_world(tmp_path / "wm.pt"), layouts.clip(tmp_path / "clip")
    words = ["weights", "import", "ctrl-world", str(source), "--clip", str(clip), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--preset", "toy", *said])
    assert done.exit_code == 0, done.output
    model = load_world_model(load_world_model(tmp_path / "out").save(tmp_path / "again"))
    assert (model.config.own_tokens, model.learn_current) == (own, current)
    assert model.offsets()[0] == history
    assert model.config.rollout_noise_aug == noise


def test_an_unknown_word_about_defects_is_refused(tmp_path):
    source, clip = layouts.ctrl_world(tmp_path / "wm.pt"), layouts.clip(tmp_path / "clip")
    with pytest.raises(VlawError, match="'some' says nothing of defects"):
        imported("ctrl-world", source, tmp_path / "out", clip=clip, defects="some")
    assert not (tmp_path / "out").exists()


def test_clip_alone_is_what_ctrl_world_takes_too(tmp_path):
    clip = layouts.clip(tmp_path / "clip")
    ((_, part),) = imported("clip", clip, tmp_path / "text").items()
    assert {"the picture's side of CLIP"} == set(part.report.dropped.values())
    state = layouts.ctrl_world_state()
    torch.save({name: value for name, value in state.items() if not name.startswith("text_")}, tmp_path / "wm.pt")
    imported("ctrl-world", tmp_path / "wm.pt", tmp_path / "out", clip=tmp_path / "text")
    model = load_world_model(tmp_path / "out")
    assert torch.equal(model.text_encoder.model.text_projection.weight, state["text_encoder.text_projection.weight"])


def test_qwen_is_the_judge_and_its_files_are_linked(tmp_path):
    source = layouts.qwen3_vl(tmp_path / "qwen")
    imported("qwen3-vl", source, tmp_path / "out")
    judge = load_reward_model(tmp_path / "out")
    assert judge.cameras == ("exterior_1", "wrist")
    assert judge.model.dtype is torch.bfloat16
    published = load_file(source / "model.safetensors")
    own = judge.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in published.items())
    assert (tmp_path / "out" / "model.safetensors").stat().st_nlink == 2


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
@pytest.mark.parametrize("layout", ["openpi", "lerobot"])
def test_an_imported_policy_acts_as_openpi_s(kind, layout, tmp_path, monkeypatch):
    imported(kind, getattr(layouts, layout)(kind, tmp_path / "published"), tmp_path / "out")
    policy, given = load_policy(tmp_path / "out"), vectors(kind)
    assert policy.views == [0, 2]
    assert policy.chunk_size == 8
    if kind == "pi0":  # its golden states were scaled by quantiles; published ones are by mean and deviation
        assert np.allclose(policy.normalization.state(torch.tensor([[0.6] * 7])), 1.0, atol=1e-5)
        return
    monkeypatch.setattr(policy, "draw_noise", lambda *_: torch.from_numpy(given["noise"]))
    policy.euler_steps = 4
    first, wrist, other = (given["images"][:, view] for view in range(3))
    seen = Observation(np.stack([first, other, wrist], axis=1), given["states"])
    found = policy.sample(seen, RECORD["instructions"], torch.Generator())
    assert np.abs(found - given["droid_targets"]).max() < 1e-5


def test_bytes_go_from_file_to_file_in_pieces(tmp_path, monkeypatch):
    """16 MB under new names, and never more than a few pieces of them in memory."""
    monkeypatch.setattr(published_tensors, "COPIED", 1 << 16)
    save_file(
        {"a": torch.arange(4_000_000, dtype=torch.int32), "b": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "x"
    )
    found = published_tensors.stored_tensors(tmp_path / "x")
    tracemalloc.start()
    published_tensors.write_tensors(tmp_path / "y", {"new.b": found["b"], "new.a": found["a"]})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6
    written = load_file(tmp_path / "y")
    assert torch.equal(written["new.a"], torch.arange(4_000_000, dtype=torch.int32))
    assert written["new.b"].dtype is torch.bfloat16


def test_the_commands_say_what_became_of_every_tensor(tmp_path):
    source = layouts.openpi("pi05", tmp_path / "published")
    words = ["weights", "import", "pi05", str(source), "--out", str(tmp_path / "out"), "--preset", "toy"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert "base_policy: " in said.output
    assert "missing: 0, unknown: 0" in said.output
    record = json.loads((tmp_path / "out" / "import.json").read_text())
    named = [*record["used"], *record["renamed"], *record["dropped"]]
    assert sorted(named) == sorted(RECORD["weights"]["pi05"])
    said = CliRunner().invoke(app, ["weights", "check", str(tmp_path / "out")])
    assert said.exit_code == 0, said.output
    assert "a Pi05Policy, for weights.base_policy of foundation.toml" in said.output
    assert "state: 0.2 to 0.8; -0.5 to 0.4" in said.output


def test_a_policy_in_joints_is_imported_for_the_robot_that_is_commanded_so(tmp_path):
    """pi0.5-DROID: joint velocities at 15 Hz, three commands in a control step; a chunk is a whole number of steps."""
    folder = layouts.in_joints(layouts.openpi("pi05", tmp_path / "pi05"))
    import_weights("pi05", folder, tmp_path / "out", Options(IN_JOINT_VELOCITY, preset="toy", chunk=6))
    policy = load_policy(tmp_path / "out")
    assert policy.space == IN_JOINT_VELOCITY.commands
    assert (policy.normalization.rows, policy.chunk_size, policy.action_dim) == ((6, 8), 2, 24)
    assert policy.execute_steps == 1
    with pytest.raises(VlawError, match="a chunk of 7 commands is no whole number of control steps"):
        import_weights("pi05", folder, tmp_path / "other", Options(IN_JOINT_VELOCITY, preset="toy", chunk=7))
    assert not (tmp_path / "other").exists()
