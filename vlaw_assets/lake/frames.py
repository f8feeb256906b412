"""Camera images in Lance: encoding, one commit per artifact, reads pinned to a version and to exactly its files.

Real frames are PNG (lossless). Imagined frames are decoded latents, never ground truth: the first one is the real
frame it starts from (PNG), the others are JPEG (quality 95, no chroma subsampling), a third of the size.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vlaw_assets.lake import disk
from vlaw_assets.lake.lance_table import LanceWriter, create_table, fragments_of, is_there, log_files
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.schemas import FRAMES
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.episodes import Episode

PNG, JPEG = "png", "jpeg"
FILTERED_IDS = 256
"""Up to this many episodes are picked inside Lance; more are picked after reading (a long IN list is slower)."""


class Frame(NamedTuple):
    """One picture of one camera, encoded."""

    step: int
    camera: str
    format: str
    image: bytes


def camera_names(episode: Episode) -> tuple[str, ...]:
    """Names of an episode's views, in the order of the image array; numbers where nobody named them."""
    return episode.cameras or tuple(f"camera_{view}" for view in range(episode.images.shape[1]))


def encode(image: np.ndarray, *, lossless: bool) -> tuple[str, bytes]:
    """(format, bytes) of one (h, w, 3) uint8 image."""
    from PIL import Image

    buffer = io.BytesIO()
    if lossless:
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        return PNG, buffer.getvalue()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return JPEG, buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    """(h, w, 3) uint8."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        return np.asarray(image.convert("RGB"))


def encoded(episode: Episode, *, purpose: str) -> list[Frame]:
    """All frames of an episode as they are stored. With fewer images than steps + 1, they are the last ones."""
    first = episode.num_steps + 1 - len(episode.images)
    cameras = camera_names(episode)
    return [
        Frame(step, camera, *encode(image, lossless=purpose != "imagined" or step == 0))
        for step, views in enumerate(episode.images, start=first)
        for camera, image in zip(cameras, views, strict=True)
    ]


def content_of(stored: Sequence[Frame], images: np.ndarray) -> Iterator[bytes]:
    """What a digest of frames is taken of, frame by frame: of a PNG its pixels, whoever compressed them; of a JPEG its
    bytes.

    Pixels that were encoded as JPEG cannot be read back, and what is read back is the decoder's: only the bytes are
    stored.
    """
    for frame, image in zip(stored, images.reshape(-1, *images.shape[-3:]), strict=True):
        yield np.ascontiguousarray(image, np.uint8).tobytes() if frame.format == PNG else frame.image


def create(paths: Paths) -> None:
    """Create the empty frames table if it is missing. Call under the lake's lock."""
    if not is_there(paths.frames):
        create_table(paths.frames, FRAMES, root=paths.root)


class FrameWriter(LanceWriter):
    """Frames of one artifact, on their way into the lake's table."""

    def __init__(self, paths: Paths):
        super().__init__(paths, paths.frames, FRAMES, "frames")

    def commit(self, artifact_id: str) -> dict[str, Any] | None:
        """One durable, tagged Lance version, see `LanceWriter.add_version`; None when nothing was written."""
        return self.add_version(artifact_id) if self.fragments else None


def pinned(paths: Paths) -> list[Path]:
    """The files of all tagged versions."""
    import lance

    dataset = lance.dataset(str(paths.frames))
    tagged = [(tag, found["version"]) for tag, found in dataset.tags.list().items()]
    files = [log_files(lance.dataset(str(paths.frames), version=version), paths.frames, tag) for tag, version in tagged]
    return sorted({path for each in files for path in each})


def read(
    paths: Paths, entry: dict[str, Any] | None, episode_ids: Sequence[str], steps: Iterable[int] | None = None
) -> dict[str, np.ndarray]:
    """Images of the episodes of one artifact: {episode_id: (T', V, h, w, 3) uint8}, by step, cameras as written.

    Args:
        entry: what `FrameWriter.commit` returned, from the ledger.
        steps: only the frames of these steps.
    """
    steps = None if steps is None else sorted({int(step) for step in steps})
    if not entry or not episode_ids or steps == []:
        return {}
    try:
        dataset, fragments = fragments_of(paths.frames, entry)
        clauses = [] if steps is None else [f"step IN ({', '.join(map(str, steps))})"]
        if len(episode_ids) <= FILTERED_IDS:
            clauses.append("episode_id IN ({})".format(", ".join(f"'{name}'" for name in episode_ids)))
        table = dataset.scanner(
            columns=["episode_id", "step", "camera", "image"],
            fragments=fragments,
            filter=" AND ".join(clauses) or None,
            scan_in_order=True,
        ).to_table()
    except (OSError, ValueError) as error:
        disk.refuse_if_out_of_files(error)
        raise VlawError(
            f"frames cannot be read: {error}",
            where=str(paths.frames),
            remedy="restore the file, or re-materialize with force",
        ) from error
    ids = set(episode_ids)
    grouped: dict[str, dict[int, list[np.ndarray]]] = {episode_id: {} for episode_id in episode_ids}
    for episode_id, step, data in zip(
        table["episode_id"].to_pylist(), table["step"].to_pylist(), table["image"], strict=True
    ):
        if episode_id in ids:
            grouped[episode_id].setdefault(step, []).append(decode(data.as_py()))
    return {
        episode_id: np.stack([np.stack(by_step[step]) for step in sorted(by_step)])
        for episode_id, by_step in grouped.items()
        if by_step
    }
