"""`vlaw import`: descriptions, dry runs, names, and what is known already."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from listed_recording import READ, write_listed
from reading_here import read_here
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.importers import spool
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.description_file import KEYS, merged, options_of, read_description
from vlaw_assets.importers.registry import name_for
from vlaw_assets.lake import Lake
from vlaw_models.errors import VlawError

FULL = """
robot = "droid"
task = "pick"
split = "train"
image_size = "48x80"
require_success = true
skip_bad = true
episodes = "0-9,12"
state = "states"
action = "actions"
action_kind = "delta"
frame = "base"
collector = "a person"
gripper = "open_is_1"
rate = 15
latents_of = "folder"
success_key = "verdict"
[cameras]
wrist = "hand"
[components]
state = ["x", 3]
[units]
state = ["mm", "deg"]
[extrinsics]
wrist = [0.1, 2]
[success_values]
done = true
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    monkeypatch.setattr("vlaw_assets.cli.data.tell_dagster", lambda lake, ref: None)
    monkeypatch.setattr("vlaw_assets.importers.commit.read_apart", read_here)
    monkeypatch.setattr(spool, "MOST_EPISODES", spool.MOST_EPISODES)  # changed by whoever reads what is listed
    return tmp_path


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["import", "listed", *map(str, words)])
    return done.exit_code, done.output


def test_every_key_is_read_from_a_file_and_is_an_option(tmp_path):
    (tmp_path / "full.toml").write_text(FULL)
    found = options_of(read_description(tmp_path / "full.toml"), where="x")
    unset = [key for key in KEYS if getattr(found, key) == getattr(Options(), key)]
    assert unset == []
    assert (found.image_size, found.components["state"], found.extrinsics) == (
        (48, 80),
        ("x", "3"),
        {"wrist": (0.1, 2)},
    )
    options = CliRunner().invoke(app, ["import", "--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"}).output
    names = {"cameras": "camera", "components": "component", "units": "unit", "success_values": "success-value"}
    assert [key for key in KEYS if f"--{names.get(key, key).replace('_', '-')}" not in options] == []


def test_options_win_over_the_file_key_by_key():
    below = {"robot": "droid", "task": "a", "cameras": {"wrist": "hand", "front": "f"}}
    above = {"task": "b", "cameras": {"wrist": "w"}, "state": "s"}
    assert merged(below, above) == {
        "robot": "droid",
        "task": "b",
        "state": "s",
        "cameras": {"wrist": "w", "front": "f"},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("robto = 'x'", "no key 'robto'"),
        ("robot = 3", "robot is 3"),
        ("rate = 'fast'", "rate is"),
        ("rate = -1", "rate -1 Hz"),
        ("skip_bad = 1", "skip_bad is 1"),
        ("image_size = [1, 2, 3]", "image_size is"),
        ("image_size = 2", "image size 2x2"),
        ("cameras = 'x'", "cameras is"),
        ("[success_values]\ndone = 1", "success_values is"),
        ("[components]\nhead = ['x']", "components 'head'"),
        ("[units]\nstate = ['inch']", "units 'inch'"),
        ("action_kind = 'torque'", "action_kind 'torque'"),
        ("gripper = 'soft'", "gripper 'soft'"),
        ("episodes = '3-'", "no list of episodes"),
        ("robot = ", "cannot be read"),
        ("\0", "cannot be read"),
    ],
)
def test_a_wrong_description_is_refused_with_the_choices(tmp_path, text, words):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(VlawError, match=words) as caught:
        options_of(read_description(path), where="x")
    assert caught.value.remedy
    if "no key" in words:
        assert all(key in caught.value.remedy for key in KEYS)


def test_chosen_episodes():
    assert Options(episodes="3, 0-1").chosen(5) == [0, 1, 3]
    assert Options().chosen(2) == [0, 1]
    for wrong in ("2", "1-0", "0-7"):
        with pytest.raises(VlawError, match="has no episodes"):
            Options(episodes=wrong).chosen(2)


def test_a_dry_run_names_everything_and_writes_nothing(tmp_path):
    listed = write_listed(tmp_path / "cups", ["ok", "faulty", "mute", "outside"])
    before = sorted(tmp_path.rglob("*"))
    code, output = run(listed, "--dry-run")
    assert code == 1
    for words in (
        "camera front",
        "as listed",
        "row 2 of e1 is late",
        "e2 has no text",
        "outside -9 to 9",
        "--skip-bad",
    ):
        assert words in output
    code, output = run(listed, "--dry-run", "--json", "--skip-bad")
    found = json.loads(output)
    assert code == 0
    assert (found["episodes"], found["excluded"], found["refused"]) == (2, 2, None)
    assert [finding["rule"] for finding in found["findings"]] == ["row_spacing", "no_instruction", "not_of_the_robot"]
    code, output = run(tmp_path / "nowhere", "--dry-run", "--json")
    assert (code, json.loads(output)["refused"]["what"]) == (1, "nothing is listed here")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, listed / READ]), "what the importer itself keeps for tests"


def test_bad_episodes_refuse_an_import_or_are_left_out_and_kept_as_findings(tmp_path):
    listed = write_listed(tmp_path / "cups", ["ok", "faulty", "failed", "unknown"])
    code, output = run(listed)
    assert (code, "row 2 of e1 is late" in output, "--episodes" in output) == (2, True, True)
    code, output = run(listed, "--skip-bad", "--json")
    found = json.loads(output)["metrics"]
    assert code == 0, output
    assert (found["episodes"], found["excluded"], found["unlabelled"], found["successes"]) == (3, 1, 1, 1)
    assert found["first_findings"][0]["value"] == "row 2 of e1 is late"
    assert found["understood"] == {"robot": "listed", "camera front": "as listed"}
    code, output = run(listed)
    assert (code, "1 episodes of this recording are faulty" in output) == (2, True), "known, and still refused"
    code, output = run(listed, "--skip-bad", "--require-success", "--json")
    assert json.loads(output)["metrics"]["findings_by_rule"] == {"row_spacing": 1, "no_success_label": 1}
    code, output = run(listed, "--episodes", "0,2", "--require-success", "--json")
    assert (code, json.loads(output)["episodes"]) == (0, 2)
    code, output = run(listed, "--episodes", "0,3", "--json", "--name", "two")
    code, output = run(listed, "--episodes", "0,3", "--require-success", "--name", "two")
    assert (code, "1 of 2 episodes have no success label" in output) == (2, True), "asked of a known dataset too"
    code, output = run(listed, "--episodes", "1", "--skip-bad", "--name", "none")
    assert (code, "all 1 episodes are faulty" in output) == (2, True)


def test_a_name_says_where_the_data_are_from(tmp_path):
    first = write_listed(tmp_path / "a" / "pick", ["ok"])
    second = write_listed(tmp_path / "b" / "pick", ["ok", "failed"])
    assert run(first)[0] == 0
    for dry in (["--dry-run"], []):
        code, output = run(second, *dry)
        assert code == (1 if dry else 2)
        assert f"the name 'pick' is taken by a dataset from {first}" in output.replace("\n", "")
        assert all(option in output for option in ("--name", "--replace"))
    lake = Lake.open(tmp_path / "lake", create=False)
    before = lake.ledger.current("recorded_episodes", "pick|00")
    write_listed(first, ["ok", "ok"])
    assert run(first)[0] == 0, "the same source, changed: its new version"
    assert run(second, "--replace")[0] == 0
    copied = write_listed(tmp_path / "c" / "pick", ["ok", "failed"])
    assert run(copied)[0] == 0, "the same bytes elsewhere are the same source"
    assert lake.read(before).episodes()[0].success


@pytest.mark.parametrize("folder", ["数据 with space ü", "_up", "cupsä", "a" * 64])
def test_a_folder_that_cannot_name_a_dataset_asks_for_a_name(tmp_path, folder):
    with pytest.raises(VlawError, match=folder) as caught:
        name_for(tmp_path / folder)
    assert "--name" in caught.value.remedy
    assert name_for(tmp_path / folder, "cups") == "cups"
    code, output = run(tmp_path / folder)
    assert (code, "--name" in output, (tmp_path / "lake").exists()) == (2, True, False)


@pytest.mark.slow
def test_what_only_describes_is_kept_and_makes_no_other_artifact(tmp_path):
    listed = write_listed(tmp_path / "cups", ["ok"])
    said = ["--frame", "base", "--collector", "a person", "--extrinsics", "front=1,2"]
    found = [json.loads(run(listed, "--json", *words)[1]) for words in (said, [])]
    assert found[0]["artifact"] == found[1]["artifact"]
    assert {"frame": "base", "collector": "a person", "extrinsics": {"front": [1, 2]}}.items() <= found[1][
        "metrics"
    ].items()
    assert {field.name for field in dataclasses.fields(Options)} == set(KEYS)
