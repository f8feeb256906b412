"""The README's picture: real above, imagined below, of the same start."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vlaw_models.errors import VlawError
from vlaw_models.rollouts import moving_picture


@pytest.fixture(scope="module")
def episodes():
    real = moving_picture.successes(["book"])
    return real, moving_picture.imagined_from(real)


def halves(frame: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the upper and of the lower picture, without captions."""
    pixels = np.asarray(frame.convert("RGB")).astype(int)
    height = (len(pixels) - moving_picture.CAPTION) // 2
    parts = (pixels[moving_picture.CAPTION + row * height :][:height] for row in range(2))
    return tuple(part[: -moving_picture.GAP, moving_picture.SIDE : -moving_picture.GAP] for part in parts)


def test_a_success_on_the_robot_and_what_is_imagined_of_its_start(episodes):
    (real,), (imagined,) = episodes
    assert real.success is True
    assert imagined.success is None
    assert np.array_equal(real.images[0], imagined.images[0])
    assert not np.array_equal(real.images[-1], imagined.images[-1])


def test_one_frame_per_control_step_is_written_and_the_first_is_the_same_twice(episodes, tmp_path):
    frames = moving_picture.frames_of(*episodes)
    moving_picture.save(frames, tmp_path / "new" / "rollout.gif")
    with Image.open(tmp_path / "new" / "rollout.gif") as found:
        assert found.n_frames == len(episodes[0][0].images)
        for step in (0, found.n_frames - 1):
            found.seek(step)
            for seen, drawn in zip(halves(found), halves(frames[step]), strict=True):
                assert np.abs(seen - drawn).mean() < 4, "the palette is that of the frames"
    first, last = halves(frames[0]), halves(frames[-1])
    assert np.array_equal(*first)
    assert not np.array_equal(*last)


def test_a_task_without_success_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(moving_picture, "collect_rollouts", lambda *_, **__: [])
    with pytest.raises(VlawError, match="none of 10 rollouts succeeds"):
        moving_picture.successes(["stack"])
    assert moving_picture.main([str(tmp_path / "none.gif"), "--tasks", "stack"]) == 1
    assert "task stack" in capsys.readouterr().err
    assert not (tmp_path / "none.gif").exists()
