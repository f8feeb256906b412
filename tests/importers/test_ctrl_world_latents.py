"""Latents beside the videos of Ctrl-World's layout: taken as they are where the autoencoder that made them is named."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded_dataset import write_lerobot
from test_ctrl_world_import import LENGTH, SMALL, write_dataset
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.importers import registry
from vlaw_assets.importers.base import Recordings
from vlaw_assets.importers.ctrl_world import open_recordings
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.files import Folder
from vlaw_assets.lake import Lake
from vlaw_assets.lake.checkpoints import manifest_of
from vlaw_assets.lake.durable import digest_of
from vlaw_assets.lake.upkeep.verify import verify
from vlaw_models.autoencoders.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from vlaw_models.errors import VlawError

SIZES = TinyAutoencoderConfig(patch=8, channels=16, latent_channels=4, encoder_blocks=(1,), decoder_blocks=(1,))
"""Latents of the layout's form, in no time."""


def saved(folder: Path, seed: int) -> TinyAutoencoder:
    torch.manual_seed(seed)
    model = TinyAutoencoder(SIZES).eval()
    model.save(folder)
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("autoencoders")
    for seed, name in enumerate(("own", "other")):
        saved(folder / name, seed)
    return {name: folder / name for name in ("own", "other")}


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory) -> Recordings:
    """A dataset with latents of the autoencoder 'own', a file per view."""
    root = write_dataset(tmp_path_factory.mktemp("layout") / "cups")
    own = TinyAutoencoder.load(models["own"])
    for read, name in zip(open_recordings(root, Options()).read([0, 1]), ("2", "10"), strict=True):
        path = root / f"annotation/train/{name}.json"
        found = json.loads(path.read_text())
        found["latent_videos"] = []
        for view in range(3):
            file = root / f"latent_videos/train/{name}/{view}.pt"
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(own.encode(read.episode.images[:, view : view + 1]), file)
            found["latent_videos"].append({"latent_video_path": file.relative_to(root).as_posix()})
        path.write_text(json.dumps(found))
    return open_recordings(root, Options(latents_of=str(models["own"])))


@pytest.fixture
def encoded(whole, tmp_path) -> Path:
    """A copy of one's own."""
    return Path(shutil.copytree(whole.root, tmp_path / "cups"))


@pytest.mark.slow
def test_they_are_rows_of_their_autoencoders_table(encoded, models, tmp_path, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    monkeypatch.setattr("vlaw_assets.cli.data.tell_dagster", lambda lake, ref: None)
    done = CliRunner().invoke(app, ["import", "ctrl-world", str(encoded), "--latents-of", str(models["own"])])
    assert done.exit_code == 0, done.output
    lake = Lake.open(tmp_path / "lake", create=False)
    ref = lake.ledger.require("recorded_episodes", "cups|00")
    digest = digest_of(manifest_of(models["own"]))
    assert ref.versions["latents"]["table"] == digest[:12]
    kept = lake.read(ref).latents()
    for number, episode in enumerate(lake.read(ref).source()):
        parts = [torch.load(encoded / f"latent_videos/train/{(2, 10)[number]}/{view}.pt") for view in range(3)]
        assert np.array_equal(np.asarray(kept.of(episode)), torch.cat(parts, dim=2).half().numpy())
    assert f'"latents_of":"{digest}"' in ref.recipe_json
    assert verify(lake, [ref]) == []
    assert open_recordings(encoded, Options()).latents is None, "nobody has said whose they are"


class Runs:
    """A pickle of it calls a function."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def spoil(root: Path, how: str) -> None:
    file = root / "latent_videos/train/2/1.pt"
    if how == "shape":
        torch.save(torch.zeros(LENGTH + 1, 4, 24, 40), file)
    elif how == "type":
        torch.save(torch.zeros(LENGTH, 4, 24, 40, dtype=torch.int16), file)
    elif how == "no tensor":
        torch.save([1, 2], file)
    elif how == "not finite":
        torch.save(torch.full((LENGTH, 4, 24, 40), float("nan")), file)
    elif how == "large":
        torch.save(torch.zeros(40, 4, 24, 40), file)
    elif how == "code":
        file.write_bytes(pickle.dumps(Runs(root / "ran"), protocol=2))
    elif how == "noise":
        file.write_bytes(b"PK" + bytes(100))
    elif how == "gone":
        file.unlink()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("shape", r"are \(6, 4, 24, 40\), must be \(5, 4, 24, 40\)"),
        ("type", "int16"),
        ("no tensor", "are list"),
        ("not finite", "not finite"),
        ("large", "at most"),
        ("code", "cannot be read"),
        ("noise", "cannot be read"),
        ("gone", "missing"),
    ],
)
def test_an_episode_without_sound_latents_is_kept_without(whole, encoded, how, words):
    spoil(encoded, how)
    reader = replace(whole.read, folder=Folder.of(encoded, holds="annotation", remedy=""))
    first, second = reader([0, 1])
    (finding,) = first.findings
    assert (finding.rule, finding.decision) == ("latents", "keep")
    assert re.search(words, finding.value), finding.value
    assert first.episode is not None
    assert second.findings == ()
    assert reader.kept(0) is None
    assert reader.kept(1).shape == (LENGTH, 4, 72, 40)
    assert not (encoded / "ran").exists()


def test_those_of_another_autoencoder_are_refused(encoded, models):
    with pytest.raises(VlawError, match="not made of these videos by this autoencoder") as caught:
        open_recordings(encoded, Options(latents_of=str(models["other"])))
    assert "latents_of" in caught.value.remedy


@pytest.mark.slow
def test_those_of_other_videos_are_refused(encoded, models):
    for view in range(3):
        for name, scale in (("2", -1.0), ("10", 0.2)):
            file = encoded / f"latent_videos/train/{name}/{view}.pt"
            torch.save(torch.load(file) * scale, file)
    with pytest.raises(VlawError, match="not made of these videos"):
        open_recordings(encoded, Options(latents_of=str(models["own"])))


def test_smaller_frames_have_no_such_latents(encoded, models):
    with pytest.raises(VlawError, match="192x320 pixels, 24x40 are asked for"):
        open_recordings(encoded, replace(SMALL, latents_of=str(models["own"])))


def test_a_format_without_latents_says_so(tmp_path):
    root = write_lerobot(tmp_path / "arm")
    with pytest.raises(VlawError, match="no latents are read from the format 'lerobot'"):
        registry.open_recordings("lerobot", root, Options(latents_of="x", image_size=(24, 40)))
