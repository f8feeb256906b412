"""Real disks that are full or read-only: every command says so, and nothing that was there is harmed."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import needed
import pytest
from asking import at, vlaw
from factories import PARTITION, commit_all, fill, identity

from vlaw_assets.lake import Lake
from vlaw_models.errors import VlawError


@contextmanager
def mounted(folder: Path, *options: str):
    folder.mkdir(parents=True, exist_ok=True)
    needed.worked("mount", *options, str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def stuff(folder: Path) -> Path:
    """Use up the disk, to the last page."""
    full = folder / "ballast"
    with full.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break
    return full


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where commands are given, on a disk that is well, for the lake on the other one."""
    (tmp_path / "home").mkdir()
    lake = tmp_path / "disk" / "lake"
    at(monkeypatch, tmp_path / "home", {"VLAW_LAKE": str(lake), "DAGSTER_HOME": str(tmp_path / "home")})
    return tmp_path / "home"


def refused(*words: str) -> str:
    """What a command says that cannot be done: an error of its own and no traceback."""
    done = vlaw(*words)
    assert (done.exit_code, done.exc_info[0]) == (2, SystemExit), (words, done.output, done.exception)
    assert "error:" in done.stderr, (words, done.stderr)
    return " ".join(done.stderr.split())


def test_a_full_disk(tmp_path, home):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=24m", "tmpfs") as folder:
        lake = Lake.open(folder / "lake")
        ref = commit_all(lake)
        draft = lake.paths.drafts("dead", "vlaw|03") / "x" / "checkpoint"
        draft.mkdir(parents=True)
        (draft / "model.safetensors").write_bytes(b"x" * (1 << 20))
        stray = lake.paths.checkpoints / ("0" * 64)
        stray.mkdir()
        (stray / "x.json").write_bytes(b"x" * 100_000)
        torn = lake.paths.table("steps") / "asset=dead" / "partition_key=vlaw__03" / "part-torn.parquet"
        torn.parent.mkdir(parents=True)
        torn.write_bytes(b"PAR1 torn" * 1000)
        page = folder / "audit.html"
        page.write_text("the old page")
        shutil.rmtree(lake.paths.locks)
        lake.paths.locks.mkdir()
        stuff(folder)
        name = lake.read(ref).table("episodes")["episode_id"][0].as_py()
        for words in (
            ["audit", "all", "vlaw", "1", "--html", str(page)],
            ["quarantine", name, "--why", "w"],
            ["migrate", "--reseal"],
            ["sql", "--attach", str(folder / "lake.duckdb")],
            ["export", "provenance", "all", "vlaw", "1", str(folder / "p.json")],
        ):
            said = refused(*words)
            assert "full" in said or "No space left" in said, (words, said)
        assert page.read_text() == "the old page"
        assert {path.name for path in folder.iterdir()} == {"lake", "audit.html", "ballast"}, (
            "nothing half-written is left"
        )
        vlaw("sql", "select 1", code=0)
        with (
            pytest.raises(VlawError, match="No space left"),
            lake.commit(asset="x", partition=PARTITION, identity=identity("x"), run_id="r") as made,
        ):
            fill(made)
        vlaw("gc", "--older-than", "0", code=0)
        assert not draft.exists()
        assert not stray.exists()
        assert not torn.exists()
        vlaw("audit", "all", "vlaw", "1", "--verify", code=0)  # nothing was lost
        assert commit_all(Lake.open(lake.paths.root), force=True), "and there is space again"


def test_a_read_only_disk(tmp_path, home):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as folder:
        lake = Lake.open(folder / "lake")
        ref = commit_all(lake)
        name = lake.read(ref).table("episodes")["episode_id"][0].as_py()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, capture_output=True)
        for words in (
            ["status"],
            ["audit", "all", "vlaw", "1", "--verify"],
            ["sql", "select count(*) from episodes"],
            ["impact", name],
            ["audit", "all", "vlaw", "1", "--html", str(tmp_path / "page.html")],
            ["seal"],
            ["quarantine"],
            ["sql", "--attach", str(tmp_path / "lake.duckdb")],
            ["gc", "--dry-run"],
        ):
            vlaw(*words, code=0)
        for words in (
            ["gc"],
            ["quarantine", name, "--why", "w"],
            ["migrate", "--reseal"],
            ["compact"],
            ["run", "--experiment", "smoke"],
            ["audit", "all", "vlaw", "1", "--html", str(folder / "page.html")],
        ):
            said = refused(*words)
            assert "read-only" in said.lower(), (words, said)


def test_a_full_disk_inside_a_stage_is_no_defect(tmp_path, monkeypatch):
    """Whatever library meets it: the run ends with the disk's remedy and not with a traceback."""
    import dagster as dg

    from vlaw_assets.assets import stage, stage_asset
    from vlaw_assets.pipeline import driver
    from vlaw_assets.pipeline.resources import Workplace

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))

    monkeypatch.setattr(stage_asset, "code_digest", lambda _module: "0" * 64)  # this module is no part of the project

    def failing(_stage, _plan, _work):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    failing_stage = stage_asset.stage_asset(
        "failing_stage",
        "It meets a full disk.",
        plan=lambda _stage: stage.Plan(kind="failing", recipe={}),
        make=failing,
        group="g",
    )
    defs = dg.Definitions(
        assets=[failing_stage],
        jobs=[dg.define_asset_job("failing", [failing_stage])],
        resources={"workplace": Workplace(lake=str(tmp_path / "lake"))},
    )
    with driver.open_instance() as instance, pytest.raises(VlawError, match="No space left") as caught:
        driver.run_job(defs, instance, "failing")
    assert "vlaw gc" in caught.value.remedy
    stage.STAGES.pop("failing_stage")
