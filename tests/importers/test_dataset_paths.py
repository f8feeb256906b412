"""Nothing outside a dataset's folder is opened, whatever its metadata, links and special files say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from vlaw_assets.importers.files import ChangedFileError, Folder, MissingFileError, template
from vlaw_models.errors import VlawError

SECRET = b"private"
OUTSIDE, MISSING, ODD, BAD = "outside the dataset", "is missing", "no regular file", "not one inside the dataset"


class Place:
    """A dataset's folder, a secret beside it, and the folder in the hub's cache that it may be."""

    def __init__(self, root: Path) -> None:
        self.top = root
        self.secret = root / "secret.mp4"
        self.secret.write_bytes(SECRET)
        self.data = root / "data" / "set"
        (self.data / "meta").mkdir(parents=True)
        (self.data / "meta/info.json").write_text("{}")
        self.file("videos/a.mp4")
        self.repository = root / "hub" / "datasets--lab--cups"
        self.snapshot = self.repository / "snapshots" / ("0" * 40)
        (self.snapshot / "meta").mkdir(parents=True)
        (self.repository / "blobs").mkdir()
        (self.repository / "refs").mkdir()
        (self.repository / "refs/main").write_text("0" * 40)
        self.blob("meta/info.json", b"{}")

    def file(self, name: str, data: bytes = b"frames") -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def link(self, name: str, target: Path | str) -> None:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def blob(self, name: str, data: bytes, blob: str = "") -> None:
        """A file of the snapshot, as the hub's cache keeps it."""
        target = self.repository / "blobs" / (blob or name.replace("/", "_"))
        target.write_bytes(data)
        path = self.snapshot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(target, path.parent))


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def opened(root: Path, name: str) -> bytes:
    folder = Folder.of(root, holds="meta/info.json", remedy="x")
    with folder.open(name, what="video") as file:
        return file.read()


def hard(place: Place) -> None:
    os.link(place.file("real.mp4"), place.data / "x.mp4")


def pipe(place: Place) -> None:
    os.mkfifo(place.data / "x.mp4")


def sock(place: Place) -> None:
    here = os.getcwd()
    os.chdir(place.data)  # the name of a socket may be 107 bytes long
    try:
        socket.socket(socket.AF_UNIX).bind("x.mp4")
    finally:
        os.chdir(here)


def folder_link(place: Place) -> None:
    (place.top / "others").mkdir()
    (place.top / "others/x.mp4").write_bytes(SECRET)
    place.link("linked", place.top / "others")


def chain(place: Place, last: Path | str) -> None:
    place.link("x.mp4", "one")
    place.link("one", "sub/two")
    place.link("sub/two", last)


def loop(place: Place) -> None:
    place.link("x.mp4", "y.mp4")
    place.link("y.mp4", "x.mp4")


def nothing(place: Place) -> None:
    del place


# name of the case -> (what is done, the path, words of the refusal)
REFUSED = {
    "absolute": (nothing, "/etc/passwd", BAD),
    "absolute secret": (nothing, "{secret}", BAD),
    "two slashes": (nothing, "//etc/passwd", BAD),
    "parent": (nothing, "../secret.mp4", BAD),
    "two parents": (nothing, "../../secret.mp4", BAD),
    "parent within": (nothing, "videos/../../../secret.mp4", BAD),
    "parent and back": (nothing, "videos/../videos/a.mp4", BAD),
    "only parent": (nothing, "..", BAD),
    "nul": (nothing, "videos/a.mp4\0.png", BAD),
    "nul first": (nothing, "\0", BAD),
    "empty": (nothing, "", BAD),
    "dot": (nothing, ".", BAD),
    "half a character": (nothing, "videos/\ud800.mp4", BAD),
    "number": (nothing, 7, BAD),
    "folder": (nothing, "videos", ODD),
    "folder of the dataset": (nothing, "videos/", ODD),
    "pipe": (pipe, "x.mp4", "is a pipe"),
    "link to a pipe": (lambda p: (os.mkfifo(p.data / "p"), p.link("x.mp4", "p")), "x.mp4", "is a pipe"),
    "socket": (sock, "x.mp4", "is a socket"),
    "device": (lambda p: p.link("x.mp4", "/dev/zero"), "x.mp4", OUTSIDE),
    "standard input": (lambda p: p.link("x.mp4", "/dev/stdin"), "x.mp4", "the video"),
    "open file": (lambda p: p.link("x.mp4", "/proc/self/fd/0"), "x.mp4", "the video"),
    "memory": (lambda p: p.link("x.mp4", "/proc/self/mem"), "x.mp4", OUTSIDE),
    "link outside": (lambda p: p.link("x.mp4", p.secret), "x.mp4", OUTSIDE),
    "link outside by dots": (lambda p: p.link("x.mp4", "../../secret.mp4"), "x.mp4", OUTSIDE),
    "link of a folder": (folder_link, "linked/x.mp4", OUTSIDE),
    "link of its parent": (lambda p: p.link("up", "../.."), "up/secret.mp4", OUTSIDE),
    "chain of links": (lambda p: chain(p, p.secret), "x.mp4", OUTSIDE),
    "link and back in": (lambda p: p.link("x.mp4", "../../data"), "x.mp4/../secret.mp4", BAD),
    "link to a folder": (lambda p: p.link("x.mp4", "videos"), "x.mp4", ODD),
    "link to nothing": (lambda p: p.link("x.mp4", "gone"), "x.mp4", MISSING),
    "link to itself": (lambda p: p.link("x.mp4", "x.mp4"), "x.mp4", "cannot be found"),
    "loop": (loop, "x.mp4", "cannot be found"),
    "missing": (nothing, "videos/b.mp4", MISSING),
    "below a file": (nothing, "videos/a.mp4/b.mp4", MISSING),
    "another case": (nothing, "Videos/A.MP4", MISSING),
    "dots behind": (nothing, "videos/a.mp4..", MISSING),
    "space behind": (nothing, "videos/a.mp4 ", MISSING),
    "percent": (nothing, "videos/%61.mp4", MISSING),
    "percent dots": (nothing, "%2e%2e/%2e%2e/secret.mp4", MISSING),
    "backslash": (nothing, "..\\..\\secret.mp4", MISSING),
    "home": (nothing, "~/secret.mp4", MISSING),
    "variable": (nothing, "$HOME/secret.mp4", MISSING),
    "address": (nothing, "file:///etc/passwd", MISSING),
    "full-width dots": (nothing, "．．/．．/secret.mp4", MISSING),
    "long name": (nothing, "x" * 300, "cannot be found"),
    "long path": (nothing, "x/" * 3000 + "x", MISSING),
    "empty file": (lambda p: p.file("x.mp4", b""), "x.mp4", "is empty"),
    "sibling with the same beginning": (
        lambda p: (
            (p.top / "data/set2").mkdir(),
            (p.top / "data/set2/s").write_bytes(SECRET),
            p.link("x", "../set2/s"),
        ),
        "x",
        OUTSIDE,
    ),
    "annotated blobs of nobody": (
        lambda p: (
            (p.top / "data/blobs").mkdir(),
            (p.top / "data/blobs/s").write_bytes(SECRET),
            p.link("x", "../blobs/s"),
        ),
        "x",
        OUTSIDE,
    ),
}
ALLOWED = {
    "file": (nothing, "videos/a.mp4"),
    "file by two slashes": (nothing, "videos//a.mp4"),
    "file by a dot": (nothing, "./videos/./a.mp4"),
    "link inside": (lambda p: p.link("x.mp4", "videos/a.mp4"), "x.mp4"),
    "absolute link inside": (lambda p: p.link("x.mp4", p.data / "videos/a.mp4"), "x.mp4"),
    "chain of links inside": (lambda p: chain(p, "../videos/a.mp4"), "x.mp4"),
    "folder that is a link inside": (lambda p: p.link("other", "videos"), "other/a.mp4"),
    "link through dots that stays": (lambda p: p.link("sub/x.mp4", "../videos/a.mp4"), "sub/x.mp4"),
    "git-annex": (
        lambda p: (p.file(".git/annex/objects/k/k", b"frames"), p.link("x.mp4", ".git/annex/objects/k/k")),
        "x.mp4",
    ),
    "hard link": (hard, "x.mp4"),
    "beyond ASCII": (lambda p: p.file("视频/ü ☕.mp4"), "视频/ü ☕.mp4"),
    "percent that is a name": (lambda p: p.file("%61.mp4"), "%61.mp4"),
    "dots that are a name": (lambda p: p.file("...mp4"), "...mp4"),
    "new line": (lambda p: p.file("a\nb.mp4"), "a\nb.mp4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_path_that_leads_elsewhere_is_refused(place, case):
    make, name, words = REFUSED[case]
    make(place)
    name = str(place.secret) if name == "{secret}" else name
    with pytest.raises(VlawError) as caught:
        opened(place.data, name)
    assert words in caught.value.what
    assert caught.value.remedy
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("case", ALLOWED)
def test_a_file_inside_is_opened(place, case):
    make, name = ALLOWED[case]
    make(place)
    assert opened(place.data, name) == b"frames"


HUB = {
    "its own blob": (lambda p: p.blob("x.mp4", b"frames"), ""),
    "absolute, its own blob": (
        lambda p: (
            (p.repository / "blobs/b").write_bytes(b"frames"),
            (p.snapshot / "x.mp4").symlink_to(p.repository / "blobs/b"),
        ),
        "",
    ),
    "a file of its own": (lambda p: (p.snapshot / "x.mp4").write_bytes(b"frames"), ""),
    "another repository's blob": (
        lambda p: (
            (p.top / "hub/datasets--lab--other/blobs").mkdir(parents=True),
            (p.top / "hub/datasets--lab--other/blobs/b").write_bytes(SECRET),
            (p.snapshot / "x.mp4").symlink_to("../../../datasets--lab--other/blobs/b"),
        ),
        OUTSIDE,
    ),
    "another folder of the repository": (lambda p: (p.snapshot / "x.mp4").symlink_to("../../refs/main"), OUTSIDE),
    "outside": (lambda p: (p.snapshot / "x.mp4").symlink_to(p.secret), OUTSIDE),
    "a blob that is a link outside": (
        lambda p: (
            (p.repository / "blobs/b").symlink_to(p.secret),
            (p.snapshot / "x.mp4").symlink_to("../../blobs/b"),
        ),
        OUTSIDE,
    ),
    "a blob that is gone": (lambda p: (p.snapshot / "x.mp4").symlink_to("../../blobs/gone"), MISSING),
}


@pytest.mark.parametrize("case", HUB)
def test_a_snapshot_of_the_hubs_cache_leads_to_its_own_blobs_alone(place, case):
    make, words = HUB[case]
    make(place)
    if not words:
        assert opened(place.snapshot, "x.mp4") == b"frames"
        return
    with pytest.raises(VlawError, match=words):
        opened(place.snapshot, "x.mp4")


def test_blobs_that_are_themselves_elsewhere_are_nobodys(place):
    place.blob("x.mp4", b"frames")
    (place.repository / "blobs").rename(place.top / "elsewhere")
    (place.repository / "blobs").symlink_to(place.top / "elsewhere")
    (place.snapshot / "meta/info.json").unlink()
    (place.snapshot / "meta/info.json").write_text("{}")
    with pytest.raises(VlawError, match=OUTSIDE):
        opened(place.snapshot, "x.mp4")


def test_a_dataset_in_a_folder_of_a_snapshot(place):
    place.blob("sets/one/meta/info.json", b"{}")
    place.blob("sets/one/x.mp4", b"frames")
    assert opened(place.snapshot / "sets/one", "x.mp4") == b"frames"


def test_what_was_looked_at_is_what_is_opened(place):
    folder = Folder.of(place.data, holds="meta/info.json", remedy="x")
    folder.locate("videos/a.mp4", what="video")
    place.file("videos/a.mp4", b"other frames")
    with pytest.raises(ChangedFileError, match="changed while"):
        folder.open("videos/a.mp4", what="video")
    (place.data / "videos/a.mp4").unlink()
    place.link("videos/a.mp4", place.secret)
    with pytest.raises(VlawError, match=OUTSIDE):
        folder.open("videos/a.mp4", what="video")


@pytest.mark.parametrize("root", ["gone", "data/set/videos/a.mp4", "data", "x" * 400, "a\0b"])
def test_what_is_no_dataset_is_said_to_be_none(place, root):
    with pytest.raises(VlawError, match=r"no meta/info\.json"):
        Folder.of(f"{place.top}/{root}", holds="meta/info.json", remedy="x")


def test_missing_and_empty_files_are_told_from_hostile_ones(place):
    place.file("x.mp4", b"")
    folder = Folder.of(place.data, holds="meta/info.json", remedy="x")
    for name in ("gone.mp4", "x.mp4"):
        with pytest.raises(MissingFileError):
            folder.locate(name, what="video")


FIELDS = {"chunk_index": False, "file_index": False, "video_key": True}


@pytest.mark.parametrize(
    "text",
    [
        "/{video_key}",
        "../{video_key}",
        "{video_key}/../..",
        "{video_key}\0",
        "{video_key.__class__}",
        "{video_key.__class__.__mro__[1]}",
        "{video_key[0]}",
        "{video_key!r}",
        "{video_key:>99}",
        "{file_index:999999999d}",
        "{file_index:{chunk_index}d}{video_key}",
        "{file_index:,}{video_key}",
        "{}{video_key}",
        "{0}{video_key}",
        "{self}{video_key}",
        "{video_key",
        "video_key}",
        "{file_index}",
        "",
        None,
        7,
        ["{video_key}"],
        {"path": "{video_key}"},
        "{video_key}\ud800",
    ],
)
def test_a_template_holds_plain_fields_and_no_way_out(text):
    with pytest.raises(VlawError, match="video_path is") as caught:
        template(text, FIELDS, "video_path", "info.json")
    assert "chunk_index, file_index, video_key" in caught.value.remedy


def test_templates_as_they_are():
    for text in (
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "{video_key}",
        "a{{b}}{video_key}",
    ):
        assert template(text, FIELDS, "video_path", "info.json") == text
