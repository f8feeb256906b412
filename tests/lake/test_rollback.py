"""A lake that was put back, forked or sealed anew is sound in itself: what was kept outside, and what Dagster knows,
tell it apart."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from factories import identity
from small_loop import loop
from typer.testing import CliRunner

from vlaw_assets.cli import app, doctor
from vlaw_assets.definitions import defs
from vlaw_assets.lake import Lake, kept_seal, quarantine, seal, verified
from vlaw_assets.lake.upkeep import sample
from vlaw_assets.lake.upkeep.migrate import reseal
from vlaw_assets.lake.upkeep.verify import verify_ledger
from vlaw_assets.pipeline import accepted, driver, reconcile
from vlaw_models.errors import VlawError

LAKE_CHECKS = ("lake", "seal", "files", "mirror")


class Told:
    """A lake that Dagster mirrors, what `vlaw seal` said of it, and copies of it."""

    def __init__(self, folder: Path):
        self.folder, self.root, self.file = folder, folder / "lake", folder / "kept.txt"

    @property
    def lake(self) -> Lake:
        return Lake.open(self.root, create=False)

    def quarantined(self, *, index: int = 0, why: str = "privacy request") -> str:
        """The command, which tells Dagster too. The id of the list."""
        name = (
            self.lake.read(self.lake.ledger.require("real_rollouts", "vlaw|01"))
            .table("episodes")["episode_id"]
            .to_pylist()[index]
        )
        assert ask("quarantine", name, "--why", why).exit_code == 0
        ref = quarantine.latest(self.lake)
        assert ref is not None
        return ref.artifact_id

    def keep(self) -> str:
        line = ask("seal").stdout
        with self.file.open("a") as file:
            file.write(line)
        return line.strip()

    def copy(self, name: str) -> Path:
        return shutil.copytree(self.root, self.folder / name)

    def put(self, copy: Path, *parts: str) -> None:
        """Replaces the lake, or parts of it, by what is in a copy."""
        for part in parts or (".",):
            if (self.root / part).is_dir():
                shutil.rmtree(self.root / part)
                shutil.copytree(copy / part, self.root / part)
            else:
                shutil.copy2(copy / part, self.root / part)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A lake of one iteration, in line with Dagster."""
    folder = tmp_path_factory.mktemp("made")
    loop(Lake.open(folder / "lake"), iterations=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLAW_LAKE", str(folder / "lake"))
        patch.setenv("DAGSTER_HOME", str(folder / "dagster_home"))
        with driver.open_instance() as instance:
            found, added = reconcile.repair(Lake.open(folder / "lake"), instance, defs)
    assert added >= len(found.missing) > 10
    return folder


@pytest.fixture
def told(made, tmp_path, monkeypatch) -> Told:
    for name in ("lake", "dagster_home"):
        shutil.copytree(made / name, tmp_path / name)
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name] for name in LAKE_CHECKS})
    return Told(tmp_path)


def ask(*words: str):
    return CliRunner().invoke(app, list(words))


def said(*words: str) -> tuple[int, str]:
    done = ask(*words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def findings(*words: str) -> dict[str, str]:
    """What is bad, by check; the exit code says whether anything is."""
    done = ask("doctor", "--json", *words)
    bad = {item["check"]: item["text"] for item in json.loads(done.stdout) if not item["ok"]}
    assert done.exit_code == int(bool(bad))
    assert all("remedy:" in text for text in bad.values())
    return bad


def verified_against(text: str | Path) -> tuple[int, str]:
    return said("audit", "--all", "--verify", "--seal", str(text))


# ---- the whole lake replaced by an older copy


def test_an_older_copy_is_told_by_doctor_reconcile_and_the_kept_seal(told):
    told.keep()
    older = told.copy("older")
    lost = told.quarantined()
    line = told.keep()
    assert findings() == {}
    assert said("reconcile")[0] == 0
    assert verified_against(told.file)[0] == 0
    told.put(older)
    assert verify_ledger(told.lake) == [], "sound in itself"
    bad = findings()
    assert set(bad) == {"mirror"}
    for words in ("replaced by an older copy", "belongs to another lake", lost, "vlaw reconcile --accept"):
        assert words in bad["mirror"]
    for words in ([], ["--dry-run"], ["--json"]):
        code, output = said("reconcile", *words)
        assert code == 2
        assert lost in output
        assert "replaced by an older copy" in output
    assert set(findings()) == {"mirror"}, "nothing was reported over the evidence"
    _, version, digest, *_ = line.split()
    code, output = verified_against(told.file)
    assert code == 2
    assert f"the ledger is older than the kept seal (kept: version {version} of 20" in output
    assert f"here: {int(version) - 1})" in output
    assert "the last kept seal that agrees is version" in output
    code, output = verified_against(digest)
    assert code == 2
    assert "older than the kept seal, or has another history" in output
    code, output = said("audit", "quarantine", "--verify", "--seal", str(told.file))
    assert (code, "older than the kept seal" in output) == (2, True), "also for an artifact that this lake never had"
    assert said("audit", "policy", "vlaw", "1", "--verify", "--seal", str(told.file))[0] == 2


@pytest.mark.parametrize(
    "parts",
    [("delta/artifacts",), ("delta/artifacts", "ledger.seal", "ledger.chain"), ("delta/artifacts", "ledger.seal")],
)
def test_only_the_ledger_put_back(told, parts):
    older = told.copy("older")
    told.quarantined()
    told.keep()
    told.put(older, *parts)
    assert findings()
    assert said("reconcile")[0] == 2
    assert verified_against(told.file)[0] == 2


def test_a_fork_is_another_history(told):
    first = told.keep()
    older = told.copy("older")
    lost = told.quarantined()
    told.keep()
    told.put(older)
    told.lake.ledger.artifacts()
    for number in range(3):  # beyond the kept version
        with told.lake.commit(asset="notes", identity=identity(f"n{number}"), run_id="other") as draft:
            draft.write_scores([{"episode_id": "e", "p_success": 0.5}])
    assert verify_ledger(told.lake) == []
    code, output = verified_against(told.file)
    assert code == 2
    assert "another history than the kept seal" in output
    assert f"the last kept seal that agrees is version {first.split()[1]} of" in output
    assert lost in findings()["mirror"]
    assert said("reconcile")[0] == 2
    told.file.write_text(first + "\n")
    assert verified_against(told.file)[0] == 0, "what they have in common"


def test_resealed_after_tampering_is_another_history_and_resealed_as_it_was_is_not(told):
    line = told.keep()
    reseal(told.root)
    assert ask("seal").stdout.strip() == line
    assert verified_against(told.file)[0] == 0
    entry = sorted((told.root / "delta" / "artifacts" / "_delta_log").glob("*.json"))[5]
    entry.write_text(entry.read_text().replace('"operation":"WRITE"', '"operation":"write"'))
    assert verified_against(told.file)[0] == 2
    assert "seal" in findings()
    code, output = said("seal")
    assert (code, "vlaw-seal" in output) == (2, False), "nothing to keep of a ledger that was tampered with"
    reseal(told.root)
    assert findings() == {}, "sound in itself"
    code, output = verified_against(told.file)
    assert code == 2
    assert "another history than the kept seal" in output


def test_the_lake_is_gone_or_new(told):
    shutil.rmtree(told.root)
    bad = findings()
    assert "the lake is gone" in bad["mirror"]
    assert "--accept" not in bad["mirror"], "there is nothing to reconcile with"
    loop(Lake.open(told.root), iterations=1)
    assert "belongs to another lake" in findings()["mirror"]
    assert said("reconcile")[0] == 2


# ---- accepted


def test_accepted_once_and_the_next_loss_is_seen(told):
    newer = told.copy("oldest"), told.quarantined(), told.copy("older"), told.quarantined(index=1), told.copy("newest")
    oldest, first, older, second, newest = newer
    told.put(older)
    assert second in findings()["mirror"]
    dry = json.loads(ask("reconcile", "--accept", "--dry-run", "--json").stdout)
    assert [item["artifact"] for item in dry["foreign"] if item["unexplained"]] == [second]
    assert said("reconcile")[0] == 2, "--dry-run accepts nothing"
    code, output = said("reconcile", "--accept")
    assert code == 0
    assert "1 events reported, 1 foreign ones accepted" in output
    assert findings() == {}
    code, output = said("reconcile")
    assert code == 0
    assert "nothing to do" in output
    assert "(accepted 20" in output
    told.put(oldest)
    bad = findings()["mirror"]
    assert (first in bad, second in bad) == (True, False)
    assert said("reconcile")[0] == 2
    told.put(newest)
    assert said("reconcile")[0] == 0
    assert findings() == {}
    told.put(older)
    assert second in findings()["mirror"], "what was there again can be lost again"


def test_accepted_where_the_ledger_has_nothing_of_the_partition(told):
    older = told.copy("older")
    told.quarantined()
    told.put(older)
    assert said("reconcile", "--accept")[0] == 0
    assert findings() == {}, "Dagster's newest event of it is still the foreign one"
    assert said("reconcile")[0] == 0


def test_accepted_of_one_lake_is_not_accepted_of_another(told):
    older = told.copy("older")
    lost = told.quarantined()
    ours = told.copy("ours")
    shutil.rmtree(told.root)
    with Lake.open(told.root).commit(asset="notes", identity=identity("n"), run_id="other") as draft:
        draft.write_scores([{"episode_id": "e", "p_success": 0.5}])
    assert said("reconcile", "--accept")[0] == 0
    assert findings() == {}
    shutil.rmtree(told.root)
    shutil.copytree(ours, told.root)
    assert said("reconcile")[0] == 0
    told.put(older)
    assert lost in findings()["mirror"]
    with driver.open_instance() as instance:
        assert accepted.load(told.lake, instance) == {}


def test_a_quarantine_is_not_reported_over_the_evidence(told):
    older = told.copy("older")
    lost = told.quarantined()
    told.put(older)
    done = ask(
        "quarantine",
        told.lake.read(told.lake.ledger.require("real_rollouts", "vlaw|01")).table("episodes")["episode_id"][1].as_py(),
        "--why",
        "blurred",
    )
    assert done.exit_code == 0
    assert "Dagster was not told" in done.stderr
    assert lost in findings()["mirror"]


def test_an_event_under_newer_ones_is_found_by_reconcile(told):
    """What doctor cannot see: it looks at the newest events."""
    older = told.copy("older")
    lost = told.quarantined()
    told.put(older)
    quarantine.add(
        told.lake,
        [
            told.lake.read(told.lake.ledger.require("real_rollouts", "vlaw|01"))
            .table("episodes")["episode_id"][2]
            .as_py()
        ],
        why="w",
        by="b",
    )
    with driver.open_instance() as instance:
        reconcile.Reporter(told.lake, instance, defs, reconcile.Comparison()).report(quarantine.latest(told.lake))
    code, output = said("reconcile")
    assert code == 2
    assert lost in output


# ---- what is kept


def test_what_can_be_given_as_a_kept_seal(told, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in sorted(told.root.rglob("*"))}
    line = told.keep()
    printed = ask("seal", "--json").stdout
    assert {path: path.stat().st_mtime_ns for path in sorted(told.root.rglob("*"))} == before, (
        "nothing was written into the lake"
    )
    word, version, digest, sequence, time = line.split()
    lake = told.lake
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


def test_every_kept_line_counts_and_at_its_version(told, tmp_path):
    line = told.keep()
    _, version, digest, *rest = line.split()
    told.quarantined()
    told.file.write_text("\n".join([line, ask("seal").stdout.strip(), line]))
    assert verified_against(told.file)[0] == 0
    for other in (
        f"vlaw-seal {version} {'0' * 64} {' '.join(rest)}",
        f"vlaw-seal {int(version) - 1} {digest} {' '.join(rest)}",
        "0" * 64,
    ):
        told.file.write_text(f"{other}\n{ask('seal').stdout}")
        assert verified_against(told.file)[0] == 2


def test_a_kept_seal_inside_the_lake_is_none(told):
    (told.root / ".kept").write_text(told.keep())
    code, output = verified_against(told.root / ".kept")
    assert code == 2
    assert "inside the lake" in output


def test_a_chain_that_was_written_to_fit_does_not(told):
    """The kept hash in the last line of the chain and in the seal, over rows of another history."""
    older = told.copy("older")
    told.quarantined()
    _, version, digest, *_ = told.keep().split()
    told.put(older)
    told.quarantined(index=1, why="another")
    lines = told.lake.paths.chain.read_text().splitlines()
    item = json.loads(lines[int(version)]) | {"chain": digest}
    text = "".join(f"{line}\n" for line in [*lines[:-1], json.dumps(item, sort_keys=True, separators=(",", ":"))])
    told.lake.paths.chain.write_text(text)
    seal.write(told.lake.paths, version=int(version), chain=digest, length=len(text))
    seal.check(told.lake.paths)
    code, output = verified_against(told.file)
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


# ---- doctor looks at seal and files


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


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda root: (root / "ledger.seal").unlink(), "seal"),
        (lambda root: (root / "ledger.chain").unlink(), "seal"),
        (lambda root: _flip(root / "ledger.chain"), "seal"),
        (lambda root: max((root / "delta" / "artifacts" / "_delta_log").glob("*.json")).unlink(), "seal"),
        (lambda root: _flip(min((root / "delta" / "artifacts").glob("*.parquet"))), "seal"),
        (lambda root: _flip(min((root / "checkpoints").glob("*/model.safetensors"))), "files"),
        (lambda root: _flip(min((root / "checkpoints").glob("*/MANIFEST.json"))), "files"),
        (lambda root: min((root / "checkpoints").glob("*/config.json")).unlink(), "files"),
        (lambda root: (min((root / "checkpoints").iterdir()) / "extra").write_text("x"), "files"),
        (lambda root: shutil.rmtree(min((root / "checkpoints").iterdir())), "files"),
        (lambda root: _data_files(root)[0].unlink(), "files"),
        (lambda root: _flip(_data_files(root)[-1]), "files"),
        (lambda root: _flip(next(path for path in _data_files(root) if path.suffix == ".lance")), "files"),
    ],
)
def test_doctor_says_what_is_damaged(told, spoil, check):
    assert findings() == {}
    spoil(told.root)
    bad = findings()
    assert check in bad, bad
    assert "copy" in bad[check] or "backup" in bad[check]


def test_a_second_doctor_hashes_nothing_and_still_sees_a_change(told, monkeypatch):
    monkeypatch.setattr(verified, "RACY_NS", 0)
    first, second = (
        next(item["text"] for item in json.loads(ask("doctor", "--json").stdout) if item["check"] == "files")
        for _ in range(2)
    )
    count = first.split()[1]
    assert f"hashed {count} of {count} files" in first
    assert f"hashed 0 of {count} files" in second
    weights = min((told.root / "checkpoints").glob("*/model.safetensors"))
    about = weights.stat()
    _flip(weights)
    os.utime(weights, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert f"{told.lake.paths.relative(weights)}: content changed" in findings()["files"]


def test_a_large_lake_is_sampled_and_one_doctor_after_the_other_gets_through(told, monkeypatch):
    monkeypatch.setattr(verified, "RACY_NS", 0)
    whole = sample.look(told.lake, most_bytes=0, seed=1)
    assert (whole.hashed_files, whole.whole) == (1, False), "one at least"
    limit = whole.bytes // 3
    seen, rounds = 1, 0
    while not (found := sample.look(told.lake, most_bytes=limit)).whole:
        assert 0 < found.hashed_bytes <= limit or found.hashed_files == 1
        assert found.known_files == seen
        seen += found.hashed_files
        rounds += 1
        assert rounds < 20
    assert rounds > 1
    shutil.rmtree(told.folder / "cache")
    chosen = []
    for seed in (7, 7, 8):
        monkeypatch.setattr(
            verified.Verified, "problems", lambda self, entries: chosen.append([item["path"] for item in entries]) or []
        )
        found = sample.look(told.lake, most_bytes=limit, seed=seed)
        assert found.seed == seed
    assert chosen[0] == chosen[1] != chosen[2], "the seed that is printed chooses the same files"


def test_doctor_says_what_it_did_not_look_into(told, monkeypatch):
    whole = sample.look
    monkeypatch.setattr(sample, "look", lambda lake, **options: whole(lake, most_bytes=10_000, **options))
    text = next(
        item["text"] for item in json.loads(ask("doctor", "--json", "--seed", "5").stdout) if item["check"] == "files"
    )
    assert "not looked into (a random choice, --seed 5)" in text
    gone = _data_files(told.root)[0]
    gone.unlink()
    assert f"{told.lake.paths.relative(gone)}: missing" in findings()["files"], (
        "of every file it is looked whether it is there"
    )


def test_a_broken_ledger_is_one_line_and_not_an_exception(told):
    shutil.rmtree(told.root / "delta" / "artifacts")
    bad = findings()
    assert {"seal", "files"} <= set(bad)
    with pytest.raises(VlawError):
        kept_seal.now(told.lake)
