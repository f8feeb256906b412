"""A seal that is kept elsewhere: what can be given as one, and what it shows."""

from __future__ import annotations

import json

import pytest
from mirrored_lake import ask, said, verified_against

from vlaw_assets.lake import Lake, kept_seal, seal


@pytest.mark.slow
def test_what_can_be_given_as_a_kept_seal(mine, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in sorted(mine.root.rglob("*"))}
    line = mine.keep()
    printed = ask("seal", "--json").stdout
    assert {path: path.stat().st_mtime_ns for path in sorted(mine.root.rglob("*"))} == before, (
        "nothing was written into the lake"
    )
    word, version, digest, sequence, time = line.split()
    lake = mine.lake
    assert (word, int(version), digest) == (
        "vlaw-seal",
        seal.read(lake.paths)["version"],
        seal.read(lake.paths)["chain"],
    )
    assert int(sequence) == len(lake.ledger.artifacts()) - 1
    assert time == lake.ledger.artifacts()[-1].created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    full = kept_seal.KeptSeal(int(version), digest, int(sequence), time)
    file = tmp_path / "file"
    for text, meant in (
        (line, [full]),
        (f"# mine\n\n{line}\n{digest.upper()}\n", [full, kept_seal.KeptSeal(None, digest)]),
        (printed, [full]),
        (f"\ufeff{line}\r\n", [full]),
        (printed * 2 + line, [full] * 3),
        (json.dumps(json.loads(printed)), [full]),
    ):
        file.write_text(text)
        assert kept_seal.kept(str(file), lake=lake) == meant
        code, output = verified_against(file)
        assert code == 0
        assert "kept seal" in output
    assert verified_against(digest.upper())[0] == verified_against(line)[0] == 0
    assert json.loads(ask("audit", "policy", "vlaw", "1", "--verify", "--seal", digest, "--json").stdout)["verified"][
        "kept_seals"
    ]
    for text in (
        "",
        "vlaw-seal\n",
        f"{line} more\n",
        f"{line}\nvlaw-seal 1 {digest[:-1]} 3 t\n",
        "{}",
        "{",
        "[" * 10_000,
        '{"a":' * 10_000,
    ):
        file.write_text(text)
        code, output = verified_against(file)
        assert (code, "remedy:" in output) == (2, True), text[:50]
    file.write_bytes(b"\xff\xfe")
    assert verified_against(file)[0] == 2
    for name in (tmp_path, tmp_path / "nothing", digest[:-1], ""):
        assert verified_against(name)[0] == 2
    assert "belongs to --verify" in said("audit", "--all", "--seal", digest)[1]


def test_every_kept_line_counts_and_at_its_version(mine, tmp_path):
    line = mine.keep()
    _, version, digest, *rest = line.split()
    mine.quarantined()
    mine.file.write_text("\n".join([line, ask("seal").stdout.strip(), line]))
    assert verified_against(mine.file)[0] == 0
    for other in (
        f"vlaw-seal {version} {'0' * 64} {' '.join(rest)}",
        f"vlaw-seal {int(version) - 1} {digest} {' '.join(rest)}",
        "0" * 64,
    ):
        mine.file.write_text(f"{other}\n{ask('seal').stdout}")
        assert verified_against(mine.file)[0] == 2


def test_a_kept_seal_inside_the_lake_is_none(mine):
    (mine.root / ".kept").write_text(mine.keep())
    code, output = verified_against(mine.root / ".kept")
    assert code == 2
    assert "inside the lake" in output


def test_a_chain_that_was_written_to_fit_does_not(mine):
    """The kept hash in the last line of the chain and in the seal, over rows of another history."""
    older = mine.copy("older")
    mine.quarantined()
    _, version, digest, *_ = mine.keep().split()
    mine.put(older)
    mine.quarantined(index=1, why="another")
    lines = mine.lake.paths.chain.read_text().splitlines()
    item = json.loads(lines[int(version)]) | {"chain": digest}
    text = "".join(f"{line}\n" for line in [*lines[:-1], json.dumps(item, sort_keys=True, separators=(",", ":"))])
    mine.lake.paths.chain.write_text(text)
    seal.write(mine.lake.paths, version=int(version), chain=digest, length=len(text))
    seal.check(mine.lake.paths)
    code, output = verified_against(mine.file)
    assert code == 2
    assert "was changed" in output


def test_the_seal_of_an_empty_lake(tmp_path, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    Lake.open(tmp_path / "lake")
    done = ask("seal")
    assert done.exit_code == 0
    (found,) = kept_seal.kept(done.stdout.split()[2], lake=Lake.open(tmp_path / "lake"))
    kept_seal.check(Lake.open(tmp_path / "lake"), [found])
    assert done.stdout.split()[3] == "-1"
    (tmp_path / "kept").write_text(done.stdout)
    assert verified_against(tmp_path / "kept")[0] == 0
