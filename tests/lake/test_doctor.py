"""What doctor finds of the seal and the files of a lake, and what it says it did not look into."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from mirrored_lake import ask, findings

from vlaw_assets.lake import Lake, kept_seal, verified
from vlaw_assets.lake.upkeep import sample
from vlaw_models.errors import VlawError


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _data_files(root: Path) -> list[Path]:
    return sorted(
        path
        for ref in Lake.open(root).ledger.artifacts()
        for entry in ref.versions.values()
        for file in entry["files"]
        for path in [root / file["path"]]
    )


SPOILT = (
    (lambda root: (root / "ledger.seal").unlink(), "seal"),
    (lambda root: _flip(root / "ledger.chain"), "seal"),
    (lambda root: _flip(min((root / "checkpoints").glob("*/model.safetensors"))), "files"),
    (lambda root: (min((root / "checkpoints").iterdir()) / "extra").write_text("x"), "files"),
    (lambda root: _flip(_data_files(root)[-1]), "files"),
    (lambda root: _flip(next(path for path in _data_files(root) if path.suffix == ".lance")), "files"),
)
SPOILT_OTHERWISE = (
    (lambda root: (root / "ledger.chain").unlink(), "seal"),
    (lambda root: max((root / "delta" / "artifacts" / "_delta_log").glob("*.json")).unlink(), "seal"),
    (lambda root: _flip(min((root / "delta" / "artifacts").glob("*.parquet"))), "seal"),
    (lambda root: _flip(min((root / "checkpoints").glob("*/MANIFEST.json"))), "files"),
    (lambda root: min((root / "checkpoints").glob("*/config.json")).unlink(), "files"),
    (lambda root: shutil.rmtree(min((root / "checkpoints").iterdir())), "files"),
    (lambda root: _data_files(root)[0].unlink(), "files"),
)


@pytest.mark.parametrize(
    ("spoil", "check"), [*SPOILT, *(pytest.param(*of, marks=pytest.mark.slow) for of in SPOILT_OTHERWISE)]
)
def test_doctor_says_what_is_damaged(mine, spoil, check):
    assert findings() == {}
    spoil(mine.root)
    bad = findings()
    assert check in bad, bad
    assert "copy" in bad[check] or "backup" in bad[check]


def test_a_second_doctor_hashes_nothing_and_still_sees_a_change(mine, monkeypatch):
    monkeypatch.setattr(verified, "RACY_NS", 0)
    first, second = (
        next(item["text"] for item in json.loads(ask("doctor", "--json").stdout) if item["check"] == "files")
        for _ in range(2)
    )
    count = first.split()[1]
    assert f"hashed {count} of {count} files" in first
    assert f"hashed 0 of {count} files" in second
    weights = min((mine.root / "checkpoints").glob("*/model.safetensors"))
    about = weights.stat()
    _flip(weights)
    os.utime(weights, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert f"{mine.lake.paths.relative(weights)}: content changed" in findings()["files"]


def test_a_large_lake_is_sampled_and_one_doctor_after_the_other_gets_through(mine, monkeypatch):
    monkeypatch.setattr(verified, "RACY_NS", 0)
    whole = sample.look(mine.lake, most_bytes=0, seed=1)
    assert (whole.hashed_files, whole.whole) == (1, False), "one at least"
    limit = whole.bytes // 3
    seen, rounds = 1, 0
    while not (found := sample.look(mine.lake, most_bytes=limit)).whole:
        assert 0 < found.hashed_bytes <= limit or found.hashed_files == 1
        assert found.known_files == seen
        seen += found.hashed_files
        rounds += 1
        assert rounds < 20
    assert rounds > 1
    shutil.rmtree(mine.folder / "cache")
    chosen = []
    for seed in (7, 7, 8):
        monkeypatch.setattr(
            verified.Verified, "problems", lambda self, entries: chosen.append([item["path"] for item in entries]) or []
        )
        found = sample.look(mine.lake, most_bytes=limit, seed=seed)
        assert found.seed == seed
    assert chosen[0] == chosen[1] != chosen[2], "the seed that is printed chooses the same files"


def test_doctor_says_what_it_did_not_look_into(mine, monkeypatch):
    whole = sample.look
    monkeypatch.setattr(sample, "look", lambda lake, **options: whole(lake, most_bytes=10_000, **options))
    text = next(
        item["text"] for item in json.loads(ask("doctor", "--json", "--seed", "5").stdout) if item["check"] == "files"
    )
    assert "not looked into (a random choice, --seed 5)" in text
    gone = _data_files(mine.root)[0]
    gone.unlink()
    assert f"{mine.lake.paths.relative(gone)}: missing" in findings()["files"], (
        "of every file it is looked whether it is there"
    )


def test_a_broken_ledger_is_one_line_and_not_an_exception(mine):
    shutil.rmtree(mine.root / "delta" / "artifacts")
    bad = findings()
    assert {"seal", "files"} <= set(bad)
    with pytest.raises(VlawError):
        kept_seal.now(mine.lake)
