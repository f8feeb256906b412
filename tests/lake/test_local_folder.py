"""An address is no lake: every command says so, and what is supported."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlaw_assets.cli import app, doctor
from vlaw_assets.definitions import build_defs
from vlaw_assets.lake import Lake
from vlaw_assets.local_folder import is_address, is_bucket
from vlaw_models.errors import VlawError

COMMANDS = (
    ("run", "-e", "smoke", "-i", "1"),
    ("run", "--rebuild-stale"),
    ("study", "smoke_study", "--plan"),
    ("study", "smoke_study"),
    ("status",),
    ("audit", "policy", "smoke", "1"),
    ("audit", "--all"),
    ("diff", "policy", "smoke/01", "smoke/02"),
    ("impact", "x"),
    ("quarantine",),
    ("quarantine", "x", "--why", "y"),
    ("sql", "select 1"),
    ("sql", "--attach", "x.duckdb"),
    ("report", "smoke", "1"),
    ("similar", "x"),
    ("doctor",),
    ("reconcile",),
    ("gc",),
    ("migrate",),
    ("migrate", "--reseal"),
    ("ui", "--port", "0"),
    ("import", "lerobot", "."),
    ("export", "provenance", "policy", "smoke", "1", "x.json"),
    ("export", "openlineage", "x.jsonl"),
    ("export", "mp4", "e", "--out", "x"),
)


@pytest.fixture
def vlaw(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "dagster_home").mkdir()
    monkeypatch.chdir(tmp_path)
    # Of those, what looks at the machine, the packages and the recipes takes seconds and asks for no lake.
    of_lakes = ("disk", "folder", "lake", "seal", "files", "dagster", "mirror")
    monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name] for name in of_lakes})
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_refuses_an_address(vlaw, monkeypatch, tmp_path, command):
    from vlaw_assets.recipes.study import study_files

    command = tuple(next(iter(study_files(None))) if word == "smoke_study" else word for word in command)
    monkeypatch.setenv("VLAW_LAKE", "gs://bucket/lake")
    result = vlaw(*command)
    said = result.output + result.stderr
    assert result.exit_code in (1, 2), said
    assert (
        "a lake is a local folder, on a disk of one host: gs:// (an object store or another host) is not supported"
        in said
    )
    assert "gs://bucket/lake" in said
    assert "set VLAW_LAKE to a folder on a local disk" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dagster_home"], "nothing was made"


@pytest.mark.parametrize(
    "address",
    [
        "S3A://b/x",
        "gs://b/x",
        "az://c/x",
        "abfss://c@a.dfs.core.windows.net/x",
        "hdfs://h:9/x",
        "https://h/x",
        "file://host/x",
        "nas:/export/lake",
        " s3://b/x",
    ],
)
def test_addresses_are_refused_as_text_and_as_path(address):
    for given in (address, Path(address)):
        with pytest.raises(VlawError, match="local folder") as caught:
            Lake.open(given)
        if given == address and "//" in address:
            assert caught.value.where == address.strip()


@pytest.mark.parametrize(
    ("address", "path"), [("file:///data/lake", "/data/lake"), ("file:///my%20lake", "/my lake"), ("file:/x", "/x")]
)
def test_a_file_address_is_told_its_path(vlaw, monkeypatch, address, path):
    monkeypatch.setenv("VLAW_LAKE", address)
    result = vlaw("status")
    assert result.exit_code == 2
    assert f"set VLAW_LAKE to the path itself: {path}\n" in result.stderr


def test_an_address_of_a_bucket_is_one_as_text_only():
    assert is_bucket("s3://bucket/lake")
    assert not any(
        map(is_bucket, ("S3://bucket/lake", "s3:/bucket/lake", Path("s3://bucket/lake"), "/s3://bucket/lake"))
    )


def test_paths_are_no_addresses(tmp_path):
    for path in ("lake", "/a/b", "./a", "~/lake", "C:/lake", "a b/c", "a//b", "/a/s3/b", ""):
        assert not is_address(path), path
    assert not is_address(tmp_path)


def test_the_code_location_loads_and_its_runs_refuse():
    place = build_defs(lake="gs://bucket/lake").resources["workplace"]
    from dagster import build_init_resource_context

    with pytest.raises(VlawError, match="gs://bucket/lake"):
        place.resource_fn(build_init_resource_context()).open_lake()
