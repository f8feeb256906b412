"""Cosmos-Predict2's folder becomes an autoencoder and a world model that imagines; a strict report of every tensor."""

from __future__ import annotations

import json

import numpy as np
import published_layouts as layouts
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.config import Sampling, WorldModelConfig
from vlaw_models.device import mixed
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.learners.world_model import finetune_world_model
from vlaw_models.published.importing import import_weights
from vlaw_models.published.part import Options
from vlaw_models.robots.droid import SPEC as DROID
from vlaw_models.world_models.base import load_world_model
from vlaw_models.world_models.imagined_world import ImaginedWorld
from vlaw_models.worlds import Start

LOW, HIGH = (np.array(values, dtype=np.float32) for values in DROID.state.scale)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return layouts.cosmos(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def imported(published, tmp_path_factory):
    out = tmp_path_factory.mktemp("imported") / "cosmos"
    return out, import_weights("cosmos", published, out, Options(DROID, preset="toy"))


def test_every_number_is_the_published_one_and_what_is_new_changes_nothing_yet(imported, published):
    out, folders = imported
    assert [part.key for part in folders.values()] == ["autoencoder", "world_model"]
    linked = (out / "autoencoder" / "model.safetensors").stat()
    assert linked.st_ino == (published / "vae" / "diffusion_pytorch_model.safetensors").stat().st_ino
    model, state = load_world_model(out / "world_model"), layouts.cosmos_transformer().state_dict()
    assert set(model.network.state_dict()) == set(state)
    assert all(torch.equal(value, state[name]) for name, value in model.network.state_dict().items())
    assert model.config.rope_scale == (1.0, 3.0, 3.0)
    report = folders[out / "world_model"].report
    assert sorted(report.renamed) == sorted(state)
    assert {name.partition(".")[0] for name in report.made} == {"action_embedders"}
    for embedder in model.action_embedders:
        assert embedder[0].weight.std() > 0
        assert not embedder[-1].weight.any()
        assert not embedder[-1].bias.any()
    clips = np.random.default_rng(0).integers(0, 256, (1, 9, 1, 48, 80, 3), dtype=np.uint8)
    found = load_autoencoder(out / "autoencoder").encode_chunk(clips)
    pixels = torch.from_numpy(clips[:, :, 0]).movedim(-1, 1).float() / 127.5 - 1
    vae = layouts.wan_vae().eval()
    with torch.inference_mode(), mixed(pixels.device):
        theirs = vae.encode(pixels).latent_dist.mode().float()
    mean, std = (torch.tensor(vae.config[name])[:, None, None, None] for name in ("latents_mean", "latents_std"))
    assert torch.allclose(found.movedim(1, 2), (theirs - mean) / std, atol=1e-5)


@pytest.mark.slow
def test_a_chunk_is_imagined_and_follows_the_actions_once_their_embedding_has_learned(imported):
    out, _ = imported
    model, autoencoder = load_world_model(out / "world_model"), load_autoencoder(out / "autoencoder")
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 80, 3), dtype=np.uint8)
    start = Start("move", 0, "move it", images=images, state=(LOW + HIGH) / 2)

    def imagined(pose: np.ndarray) -> np.ndarray:
        world = ImaginedWorld(model, autoencoder, DROID, sampling=Sampling(1), seed=0)
        world.reset([start])
        return world.step(np.repeat(pose[None, None], model.chunk, axis=1)).images

    one, other = LOW, HIGH
    still = imagined(one)
    assert still.shape == (1, 24, 3, 48, 80, 3)
    assert np.array_equal(still, imagined(other)), "no action is known yet"
    with torch.no_grad():
        for embedder in model.action_embedders:
            embedder[-1].weight.normal_(std=0.5)
    assert not np.array_equal(imagined(one), imagined(other))


def test_the_text_encoder_goes_with_the_world_model_and_reads_as_the_published_one(imported, published, tmp_path):
    """diffusers' pipeline: 512 tokens, those beyond the text's end zero; files are linked, and taken along."""
    from transformers import AutoTokenizer

    out, _ = imported
    model = load_world_model(out / "world_model")
    tokenizer = AutoTokenizer.from_pretrained(published / "tokenizer")
    given = tokenizer(layouts.INSTRUCTIONS, padding="max_length", max_length=512, return_tensors="pt")
    with torch.inference_mode():
        theirs = layouts.t5().eval()(given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    found = model.embed_text(layouts.INSTRUCTIONS)
    assert found.shape == (2, 512, 8)
    assert torch.allclose(found, theirs * given["attention_mask"][..., None], atol=1e-5)
    assert not any("text" in name for name in model.state_dict()), "it is not trained, averaged or written anew"
    again = load_world_model(model.save(tmp_path / "again"))
    assert torch.equal(again.embed_text(layouts.INSTRUCTIONS[:1])[0], found[0])
    files = [folder / "text_encoder" / "model.safetensors" for folder in (out / "world_model", tmp_path / "again")]
    assert files[0].stat().st_ino == files[1].stat().st_ino
    words = tmp_path / "again" / "text_encoder" / "tokenizer.json"
    words.unlink()  # another name of the published file
    words.write_text("{}")
    with pytest.raises(VlawError, match="this is no T5 with its tokenizer"):
        load_world_model(tmp_path / "again")


@pytest.mark.slow
def test_what_is_imagined_follows_from_the_instruction_and_training_keeps_the_text_encoder(imported, tmp_path):
    out, _ = imported
    rng = np.random.default_rng(0)
    states = rng.uniform(LOW, HIGH, (27, 7)).astype(np.float32)
    images = rng.integers(0, 256, (27, 3, 48, 80, 3), dtype=np.uint8)
    one, other = (Episode("move", text, 0, images, states, states[1:]) for text in layouts.INSTRUCTIONS)
    autoencoder = load_autoencoder(out / "autoencoder")

    def imagined(folder, instruction: str) -> np.ndarray:
        world = ImaginedWorld(load_world_model(folder), autoencoder, DROID, sampling=Sampling(1), seed=0)
        world.reset([Start("move", 0, instruction, images=images[0], state=states[0])])
        return world.step(states[None, 1:25]).images

    first = imagined(out / "world_model", one.instruction)
    assert not np.array_equal(first, imagined(out / "world_model", other.instruction))
    cfg = WorldModelConfig(steps=1, batch_size=1)
    finetune_world_model(out / "world_model", out / "autoencoder", [one, other], [], cfg, tmp_path / "new", seed=0)
    before, after = (load_world_model(folder) for folder in (out / "world_model", tmp_path / "new"))
    assert torch.equal(*(model.embed_text(layouts.INSTRUCTIONS) for model in (before, after)))
    assert not torch.equal(before.network.proj_out.weight, after.network.proj_out.weight)


def change(folder, part, state):
    save_file(state, folder / part / "diffusion_pytorch_model.safetensors")


def test_every_name_and_shape_that_does_not_fit_is_named(tmp_path):
    def refused(says):
        with pytest.raises(VlawError, match=says) as caught:
            import_weights("cosmos", folder, tmp_path / "out", Options(DROID, preset="toy"))
        assert caught.value.remedy
        assert not (tmp_path / "out").exists()

    folder = layouts.cosmos(tmp_path / "cosmos")
    transformer, vae = layouts.cosmos_transformer().state_dict(), layouts.wan_vae().state_dict()
    change(folder, "transformer", {**transformer, "learnable_pos_embed.pos_emb_t": torch.ones(2)})
    refused("1 unknown: learnable_pos_embed.pos_emb_t")
    change(folder, "transformer", {name: one for name, one in transformer.items() if name != "proj_out.weight"})
    refused("1 missing: network.proj_out.weight")
    # What makes pictures from text has no channel that says which frames are given.
    changed = transformer["patch_embed.proj.weight"][:, 4:].clone()
    change(folder, "transformer", {**transformer, "patch_embed.proj.weight": changed})
    refused(r"1 of another shape: patch_embed.proj.weight \(32, 20\) for \(32, 24\)")
    change(folder, "transformer", transformer)
    change(folder, "vae", {**vae, "decoder.extra": torch.ones(1)})
    refused("Cosmos-Predict2's autoencoder; 1 unknown: decoder.extra")
    change(folder, "vae", vae)
    told = json.loads((folder / "transformer" / "config.json").read_text())
    (folder / "transformer" / "config.json").unlink()
    refused("the published configuration cannot be read")
    (folder / "transformer" / "config.json").write_text(json.dumps({**told, "num_layers": 3}))
    refused("missing: network.transformer_blocks.2.")
    (folder / "transformer" / "config.json").write_text(json.dumps(told))
    file = folder / "text_encoder" / "model.safetensors"
    save_file({**load_file(file), "lm_head.weight": torch.ones(1)}, file)
    refused("T5's encoder; 1 unknown: lm_head.weight")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    layouts.t5().save_pretrained(folder / "text_encoder")
    refused("T5's vocabulary is not there")
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "d_model": 16}))
    refused("is a t5 of 16 numbers a token, the transformer reads a t5's of 8")
    with pytest.raises(VlawError, match="preset 'small' is no WanAutoencoder") as caught:
        import_weights("cosmos", folder, tmp_path / "out", Options(DROID, preset="small"))
    assert caught.value.remedy == "Give one of: cosmos, cosmos_toy."


def test_an_autoencoder_of_other_latents_is_refused(tmp_path):
    from diffusers import AutoencoderKLWan

    folder = layouts.cosmos(tmp_path / "cosmos")
    numbers = {"latents_mean": [0.0] * 8, "latents_std": [1.0] * 8}
    AutoencoderKLWan(base_dim=8, z_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **numbers).save_pretrained(
        folder / "vae"
    )
    with pytest.raises(VlawError, match="makes 8 channels of latents, the transformer takes 4"):
        import_weights("cosmos", folder, tmp_path / "out", Options(DROID, preset="toy"))


def test_the_commands_say_what_became_of_every_tensor(published, tmp_path):
    out = tmp_path / "out"
    words = ["weights", "import", "cosmos", str(published), "--out", str(out), "--preset", "toy"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert said.output.count("missing: 0, unknown: 0") == 2
    record = json.loads((out / "world_model" / "import.json").read_text())
    names = [*load_file(published / "transformer" / "diffusion_pytorch_model.safetensors")]
    names += [f"text_encoder.{name}" for name in load_file(published / "text_encoder" / "model.safetensors")]
    assert sorted([*record["used"], *record["renamed"], *record["dropped"]]) == sorted(names)
    for key, made in (("autoencoder", "WanAutoencoder"), ("world_model", "CosmosWorld")):
        said = CliRunner().invoke(app, ["weights", "check", str(out / key)])
        assert said.exit_code == 0, said.output
        assert f"a {made}, for weights.{key} of foundation.toml" in said.output
