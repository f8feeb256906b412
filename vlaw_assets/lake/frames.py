"""Camera images in Lance: encoding, one commit per artifact, reads pinned to a version and to exactly its files.

Real frames are PNG (lossless). Imagined frames are decoded latents, never ground truth: the first one is the real
frame it starts from (PNG), the others are JPEG (quality 95, no chroma subsampling), a third of the size.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from vlaw_assets.lake import disk
from vlaw_assets.lake.durable import fsync_files, sha256_file
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.schemas import FRAMES
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.episodes import Episode

os.environ.setdefault("LANCE_LOG", "error")
"""Lance warns on stderr about every dataset it is told to create; it reads this once, when first imported."""

STORAGE_VERSION = "2.1"
PNG, JPEG = "png", "jpeg"
CREATED = "created"
"""Tag of the version that a new table has before any frame."""
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


def frame_rows(stored: Sequence[Frame], *, artifact_id: str, episode_id: str) -> pa.Table:
    """Frames of one episode as rows of the table."""
    columns = dict(zip(Frame._fields, map(list, zip(*stored, strict=True)), strict=True))
    count = len(stored)
    return pa.table(
        {"artifact_id": [artifact_id] * count, "episode_id": [episode_id] * count, **columns}, schema=FRAMES
    )


def create(paths: Paths) -> None:
    """Create the empty frames table if it is missing. Call under the lake's lock."""
    import lance

    if paths.frames.exists() and any((paths.frames / "_versions").glob("*.manifest")):
        return
    paths.frames.parent.mkdir(parents=True, exist_ok=True)
    made = lance.write_dataset(
        FRAMES.empty_table(), str(paths.frames), mode="overwrite", data_storage_version=STORAGE_VERSION
    )
    made.tags.create(CREATED, made.version)
    fsync_files(log_files(made, paths.frames, CREATED), root=paths.root)


class FrameWriter:
    """Frames of one artifact: batches go to disk at once, invisible until `commit` makes them one Lance version."""

    def __init__(self, paths: Paths):
        self._paths = paths
        self._fragments: list[Any] = []
        self._rows = 0

    def write(self, rows: pa.Table) -> None:
        from lance.fragment import write_fragments

        self._rows += rows.num_rows
        try:
            self._fragments += write_fragments(
                rows, str(self._paths.frames), schema=FRAMES, mode="append", data_storage_version=STORAGE_VERSION
            )
        except OSError as error:
            raise disk.failure(
                error,
                "frames cannot be written",
                where=str(self._paths.frames),
                remedy="see that the disk works, then run it again",
            ) from error

    def commit(self, artifact_id: str) -> dict[str, Any] | None:
        """One durable, tagged Lance version. Returns {"version", "rows", "files", "log"}; None when nothing was
        written."""
        import lance

        if not self._fragments:
            return None
        uri = str(self._paths.frames)
        files = [self._paths.frames / "data" / file.path for item in self._fragments for file in item.files]
        fsync_files(files, root=self._paths.root)
        described = [_described(self._paths, path) for path in files]
        dataset = lance.LanceDataset.commit(
            uri,
            lance.LanceOperation.Append(self._fragments),
            read_version=lance.dataset(uri).version,
            commit_message=artifact_id,
            max_retries=100,
        )
        # Lance's clean-up deletes versions that have no tag.
        tag = f"artifact-{artifact_id}"
        dataset.tags.create(tag, dataset.version)
        log = log_files(dataset, self._paths.frames, tag)
        fsync_files([*log, settled_hint(self._paths.frames)], root=self._paths.root, missing_ok=True)
        return {
            "version": dataset.version,
            "rows": self._rows,
            "files": described,
            "log": [_described(self._paths, path) for path in log],
        }


def hint(uri: Path) -> Path:
    """Where Lance notes a table's newest version, for readers whose storage is slow to list; on a disk it reads the
    folder."""
    return uri / "_versions" / "latest_version_hint.json"


def settled_hint(uri: Path) -> Path:
    """The hint, after a commit: of two processes that commit at once, the older version's may have been written last.

    A disk that fails leaves it as it is: no reader on a disk needs it, and the next commit writes it.
    """
    with contextlib.suppress(OSError):
        text = _hint_text(_newest(uri))
        while not hint(uri).exists() or hint(uri).read_bytes() != text:
            temporary = uri / "_versions" / f".tmp-hint-{uuid.uuid4().hex}"
            temporary.write_bytes(text)
            temporary.replace(hint(uri))
            text = _hint_text(_newest(uri))
    return hint(uri)


def hint_problem(uri: Path, least: int) -> str:
    """What is wrong with a table's hint; '' if it names the newest version, or an older one from `least` on."""
    try:
        text, newest = hint(uri).read_bytes(), _newest(uri)
    except OSError as error:
        return "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    found = re.fullmatch(rb'\{"version":([1-9][0-9]*)\}', text)
    if found is None:
        return "damaged"
    return "" if least <= int(found[1]) <= newest else f"names version {int(found[1])}, and the newest is {newest}"


def _hint_text(version: int) -> bytes:
    return json.dumps({"version": version}, separators=(",", ":")).encode()


def _newest(uri: Path) -> int:
    """The newest version of a Lance table, by the names of its manifests, which count down."""
    names = [path.stem for path in (uri / "_versions").glob("*.manifest")]
    return 2**64 - 1 - min((int(name) for name in names if name.isdigit()), default=2**64 - 1)


def log_files(dataset: Any, uri: Path, tag: str) -> list[Path]:
    """Manifest, transaction and tag of the version that `dataset` is at: what commits its rows.

    A Lance version is whole on its own, so these three (and the data files) are all that has to last.
    """
    manifest = uri / "_versions" / f"{2**64 - 1 - dataset.version:020d}.manifest"
    transaction = dataset.read_transaction(dataset.version).uuid
    return [manifest, *(uri / "_transactions").glob(f"*-{transaction}.txn"), uri / "_refs" / "tags" / f"{tag}.json"]


def pinned(paths: Paths) -> list[Path]:
    """The files of all tagged versions."""
    import lance

    dataset = lance.dataset(str(paths.frames))
    tagged = [(tag, found["version"]) for tag, found in dataset.tags.list().items()]
    files = [log_files(lance.dataset(str(paths.frames), version=version), paths.frames, tag) for tag, version in tagged]
    return sorted({path for each in files for path in each})


def fragments_of(uri: Path, entry: dict[str, Any]) -> tuple[Any, list[Any]]:
    """A table at the version of one artifact, and the artifact's fragments in the order written. Raises OSError,
    ValueError."""
    import lance

    wanted = {Path(file["path"]).name for file in entry["files"]}
    dataset = lance.dataset(str(uri), version=entry["version"])
    return dataset, [item for item in dataset.get_fragments() if any(f.path in wanted for f in item.metadata.files)]


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


def _described(paths: Paths, path: Path) -> dict[str, Any]:
    return {"path": paths.relative(path), "size": path.stat().st_size, "sha256": sha256_file(path)}
