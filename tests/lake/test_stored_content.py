"""The content digest of episodes is of what is stored: anybody who reads it back can compute it, whatever encoded
it."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest
from factories import commit, sample_episodes
from PIL import Image

from vlaw_assets.lake import Lake, canonical_json

SCALARS = (
    "purpose",
    "world",
    "policy",
    "world_model",
    "label_source",
    "task",
    "instruction",
    "seed",
    "success",
    "event",
    "start_episode_id",
)


def stored(tmp_path, name, purpose, *, shift=0, coarse=False):
    """A lake with two episodes of that purpose, and their artifact. Pictures of few colours, or of noise."""
    lake, episodes = Lake.open(tmp_path / name), sample_episodes(2)
    for episode in episodes if coarse else ():
        episode.images[1:] = episode.images[1:] // 64 * 64 + shift
    ref = commit(
        lake, "made", "one|01", write=lambda draft: draft.write_episodes(episodes, purpose=purpose, world="somewhere")
    )
    return lake, ref


def recomputed(lake, ref):
    """The digests of the episodes of an artifact, from its rows, its steps and its frames' bytes alone."""
    import lance

    handle = lake.read(ref)
    steps = handle.table("steps").to_pylist()
    frames = lance.dataset(str(lake.paths.frames), version=ref.versions["frames"]["version"]).to_table().to_pylist()
    found = []
    for row in handle.table("episodes").to_pylist():
        mine = [step for step in steps if step["episode_id"] == row["episode_id"]]
        states = np.array([step["state"] for step in mine], "<f4")
        actions = np.array([step["action"] for step in mine if step["action"] is not None], "<f4")
        pictures = [
            frame
            for frame in frames
            if frame["episode_id"] == row["episode_id"] and frame["artifact_id"] == ref.artifact_id
        ]
        images = [row["num_frames"], len(row["cameras"]), row["height"], row["width"], 3]
        total = hashlib.sha256(
            canonical_json(
                {
                    **{key: row[key] for key in SCALARS},
                    "extra": json.loads(row["extra_json"]),
                    "cameras": row["cameras"],
                    "shapes": [images, list(states.shape), list(actions.shape)],
                }
            ).encode()
        )
        total.update(np.array([step["timestamp"] for step in mine], "<f8").tobytes())
        total.update(states.tobytes())
        total.update(actions.tobytes())
        for frame in pictures:
            pixels = np.asarray(Image.open(io.BytesIO(frame["image"]))).tobytes()
            total.update(pixels if frame["format"] == "png" else frame["image"])
        found.append(total.hexdigest())
    return found


@pytest.mark.parametrize("purpose", ["rollout", "imagined"])
def test_the_digest_is_that_of_what_can_be_read_back(tmp_path, purpose):
    lake, ref = stored(tmp_path, "lake", purpose)
    rows = lake.read(ref).table("episodes").to_pylist()
    assert [row["content_digest"] for row in rows] == recomputed(lake, ref)


@pytest.mark.parametrize("options", [{"quality": 5}, {"quality": 94}, {"subsampling": 2}, {"progressive": True}])
def test_another_jpeg_encoder_makes_other_content(tmp_path, monkeypatch, options):
    _, before = stored(tmp_path, "before", "imagined")
    save = Image.Image.save

    def other(self, target, kind, **given):
        save(self, target, kind, **{**given, **(options if kind == "JPEG" else {})})

    monkeypatch.setattr(Image.Image, "save", other)
    lake, after = stored(tmp_path, "after", "imagined")
    assert after.content_digest != before.content_digest
    assert [row["content_digest"] for row in lake.read(after).table("episodes").to_pylist()] == recomputed(lake, after)
    assert stored(tmp_path, "real", "rollout")[1].content_digest != after.content_digest


def test_another_compressor_of_the_same_pixels_makes_the_same_content(tmp_path, monkeypatch):
    lake, before = stored(tmp_path, "before", "rollout", coarse=True)
    save = Image.Image.save
    monkeypatch.setattr(
        Image.Image,
        "save",
        lambda self, target, kind, **given: save(self, target, kind, **{**given, "compress_level": 9}),
    )
    other, after = stored(tmp_path, "after", "rollout", coarse=True)
    sizes = [
        place.read(ref).ref.versions["frames"]["files"][0]["size"] for place, ref in ((lake, before), (other, after))
    ]
    assert sizes[0] != sizes[1]
    assert after.content_digest == before.content_digest


def test_what_the_encoder_loses_is_not_content(tmp_path, monkeypatch):
    """Pictures that are stored alike are alike, whatever they were."""
    save = Image.Image.save

    def coarse(self, target, kind, **given):
        save(self.point(lambda value: value // 64 * 64) if kind == "JPEG" else self, target, kind, **given)

    monkeypatch.setattr(Image.Image, "save", coarse)
    digests = [
        stored(tmp_path, f"shift{shift}", "imagined", shift=shift, coarse=True)[1].content_digest for shift in (0, 1)
    ]
    assert digests[0] == digests[1]
