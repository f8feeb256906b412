"""The command line: what each command prints, its exit codes, and that it changes nothing it should not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from factories import write_recipe
from html_pages import sound
from smoke_place import LOOP_ASSETS, new_place, smoke_place
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.pipeline import driver, liveness
from vlaw_assets.reports import success as summary
from vlaw_models.errors import VlawError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


@pytest.fixture
def vlaw(place, monkeypatch, tmp_path):
    """Runs a command on the smoke lake; returns its result."""
    for key, value in place.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_every_command_has_help(vlaw):
    listed = vlaw("--help").output
    for command in (
        "run",
        "study",
        "status",
        "audit",
        "diff",
        "export",
        "sql",
        "report",
        "similar",
        "watch",
        "compare",
        "doctor",
        "import",
        "pretrain",
        "ui",
    ):
        assert re.search(rf"\b{command}\b", listed)
        assert vlaw(command, "--help").exit_code == 0


def test_help_needs_no_torch_no_statistics_and_no_lake():
    code = (
        "import sys; from vlaw_assets.cli import app; "
        "print(sorted({'torch', 'lance', 'deltalake', 'dagster', 'scipy', 'statsmodels'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_run_resumes_and_closes_with_the_table(vlaw, place):
    before = len(place.lake.ledger.artifacts())
    result = vlaw("run", "--experiment", "smoke", "--iterations", "1")
    assert result.exit_code == 0, result.output
    assert len(re.findall(r"reused +\d", result.output)) == len(LOOP_ASSETS)
    assert "made " not in result.output
    assert len(place.lake.ledger.artifacts()) == before
    rates = summary.evaluations(place.lake, "smoke", [1])["after 01"].rates
    assert str(rates["all"]) in result.output
    assert re.search(r"after 01 - before, paired: [+-]0\.\d+ \[[+-]0\.\d+, [+-]\d\.\d+\]", result.output)
    assert "4 paired trials" in result.output
    assert "policy[smoke|01]" in result.output
    assert "peak memory" in result.output
    assert "vlaw report smoke 01" in result.output


@pytest.mark.slow
def test_a_device_that_is_not_there_is_refused_before_anything_runs(vlaw, place, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("VLAW_DEVICE", "cuda")
    before = len(place.lake.ledger.artifacts())
    result = vlaw("run", "-e", "smoke", "-i", "2")
    assert result.exit_code == 2
    assert "no device 'cuda'" in result.stderr
    assert "VLAW_DEVICE=auto" in result.stderr
    assert len(place.lake.ledger.artifacts()) == before
    found = {finding["check"]: finding for finding in json.loads(vlaw("doctor", "--json").stdout)}
    assert not found["device"]["ok"]


def test_a_number_of_processes_that_is_none_is_refused_before_anything_runs(vlaw, place, monkeypatch):
    monkeypatch.setenv("VLAW_WORKERS", "many")
    before = len(place.lake.ledger.artifacts())
    result = vlaw("run", "-e", "smoke", "-i", "2")
    assert result.exit_code == 2
    assert "'many' is no number of processes" in result.stderr
    assert len(place.lake.ledger.artifacts()) == before


def test_run_refuses_while_another_runs_the_same_experiment(vlaw, place):
    from vlaw_assets.lake.durable import FileLock

    lock = FileLock(place.lake.paths.locks / "experiment--smoke.lock")
    assert lock.acquire(holder="test")
    try:
        result = vlaw("run", "-e", "smoke", "-i", "1")
    finally:
        lock.release()
    assert result.exit_code == 2
    assert f"already being run by process {os.getpid()}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("run", "-e", "nope"), "there is no experiment 'nope'"),
        (("run", "-e", "smoke", "-i", "3"), "smoke has 2 iterations, not 3"),
        (("run", "-e", "smoke", "-i", "1", "--only", "polici"), "there is no asset polici"),
        (("audit", "policy", "nope", "1"), "there is no experiment 'nope'"),
        (("audit", "policy", "vlaw", "1"), "not in the ledger"),
        (("audit", "policy", "smoke", "12"), "there is no iteration 12"),
        (("report", "vlaw", "1"), "not in the ledger"),
        (("sql", "drop table episodes"), "only a single SELECT"),
        (("sql", "select 1", "--param", "x"), "not of the form key=value"),
        (("sql", "nowhere.sql"), "cannot read the SQL file"),
        (("import", "lerobot", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_two(vlaw, place, arguments, what):
    before = len(place.lake.ledger.artifacts())
    result = vlaw(*arguments)
    assert result.exit_code == 2, result.output
    assert what in result.stderr
    assert "remedy:" in result.stderr
    assert "Traceback" not in result.output
    assert len(place.lake.ledger.artifacts()) == before


def test_reading_commands_do_not_make_a_lake(vlaw, monkeypatch, tmp_path):
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "none"))
    for arguments in (("status",), ("audit", "policy", "smoke", "1"), ("sql", "select 1"), ("report", "smoke", "1")):
        result = vlaw(*arguments)
        assert result.exit_code == 2
        assert "there is no lake here" in result.stderr
    assert not (tmp_path / "none").exists()


def test_status_for_people_and_programs(vlaw):
    rows = {row["partition"]: row for row in json.loads(vlaw("status", "--json").stdout)}
    row = rows["smoke|01"]
    assert row["materialized"] == row["assets"] == len(LOOP_ASSETS)
    assert row["missing"] == row["outdated"] == []
    assert row["running"] is False
    shown = vlaw("status").stdout
    assert "smoke|01" in shown
    assert row["after"] in shown


def test_audit_as_json_names_every_artifact_and_the_tree_shows_them(vlaw, place):
    found = json.loads(vlaw("audit", "policy", "smoke", "01", "--json").stdout)
    ref = place.lake.ledger.require("policy", "smoke|01")
    assert found["content_sha256"] == ref.content_digest
    assert {item["artifact"] for item in found["artifacts"]} == {
        item.artifact_id for item in place.lake.ledger.closure(ref)
    }
    shown = vlaw("audit", "policy", "smoke", "1").stdout
    for item in found["artifacts"]:
        assert item["content_sha256"][:12] in shown
    tasks = sorted({row["task"] for row in found["members"]})
    for source in {row["source"] for row in found["members"]}:
        counts = [
            sum(row["count"] for row in found["members"] if (row["source"], row["task"]) == (source, task))
            for task in tasks
        ]
        cells = " +".join(rf"(?:\d+/)?{count or ' '}" for count in [*counts, sum(counts)])
        assert re.search(rf"training_set\[smoke\|01\] +{source} +1 +{cells}\b", shown)


def test_audit_verify_finds_a_changed_byte(vlaw, place):
    assert "has the recorded sha256" in vlaw("audit", "policy", "smoke", "1", "--verify").stdout
    lake = place.lake
    path = lake.paths.root / lake.ledger.require("pretrained_reward_model", "").location / "model.safetensors"
    mode, good = path.stat().st_mode, path.read_bytes()
    path.chmod(0o644)
    try:
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        result = vlaw("audit", "policy", "smoke", "1", "--verify")
    finally:
        path.write_bytes(good)
        path.chmod(mode)
    assert result.exit_code == 2
    assert "model.safetensors" in result.stderr


def test_sql_table_json_and_parameters(vlaw, tmp_path):
    query = "select purpose, count(*) as n from episodes where task = $task group by all order by purpose"
    rows = json.loads(vlaw("sql", query, "--param", "task=stack", "--json").stdout)
    assert {row["purpose"]: row["n"] for row in rows}["imagined"] >= 2
    file = tmp_path / "question.sql"
    file.write_text(f"-- How many episodes has a task?\n{query}\n")
    shown = vlaw("sql", str(file), "-p", "task=stack").stdout
    assert "How many episodes has a task?" in shown
    assert "imagined" in shown
    assert vlaw("sql", query, "-p", "task=stack", "--csv").stdout.splitlines()[0] == "purpose,n"


@pytest.mark.slow
def test_report_is_one_self_contained_page(vlaw, place, tmp_path):
    assert vlaw("report", "smoke", "1", "--out", str(tmp_path / "page.html")).exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") >= 5
    sound(page)
    assert place.lake.ledger.require("policy", "smoke|01").content_digest in page
    rates = summary.evaluations(place.lake, "smoke", [1])["after 01"].rates
    assert str(rates["all"]) in page
    result = vlaw("report", "smoke", "1", "--out", "/proc/none/page.html")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


@pytest.mark.slow
def test_doctor_is_content_here_and_not_with_a_faulty_recipe(vlaw, place):
    findings = {finding["check"]: finding for finding in json.loads(vlaw("doctor", "--json").stdout)}
    assert all(findings[name]["ok"] for name in ("python", "packages", "recipes", "weights", "lake", "dagster")), (
        findings
    )
    faulty = write_recipe(place.recipes, "faulty", None, score={"alpha": 7})
    try:
        result = vlaw("doctor", "--json")
    finally:
        faulty.unlink()
    assert result.exit_code == 1
    found = {finding["check"]: finding for finding in json.loads(result.stdout)}["recipes"]
    assert not found["ok"]
    assert "score.alpha" in found["text"]


# ---- summaries


def test_paired_change_uses_shared_trials_only_and_says_what_it_means():
    before = {("stack", seed): seed < 20 for seed in range(100)}
    after = {("stack", seed): seed < 60 for seed in range(110)}
    found = summary.change(after, before)
    assert found.trials == 100
    assert found.diff == pytest.approx(0.4)
    assert found.low > 0
    assert "above zero on 100 paired trials" in found.verdict
    assert summary.change(before, before).verdict.startswith("is not shown to differ")
    assert "below zero" in summary.change(before, {key: after[key] for key in before}).verdict
    assert summary.change({("a", 1): True}, {("b", 1): True}) is None


def test_rates_count_per_task_and_over_all():
    rates = summary.rates_of({("b", 1): True, ("a", 1): False, ("a", 2): True})
    assert list(rates) == ["b", "a", "all"]
    assert (rates["a"].successes, rates["a"].trials, rates["all"].trials) == (1, 2, 3)
    assert rates["a"].low < 0.5 < rates["a"].high
    with pytest.raises(VlawError):
        summary.markdown([])


# ---- killed runs


@pytest.mark.slow
def test_a_killed_run_is_closed_and_frees_its_pool(tmp_path):
    """SIGKILL in the middle of a pooled step: the next run marks it as failed, does not wait, and completes."""
    import dagster as dg

    place = new_place(tmp_path / "place")
    environment = {**os.environ, **place.environment(), "PYTHONPATH": str(ROOT)}
    hold = (
        "import os, time; from vlaw_models.rollouts import demonstrate\n"
        "def hang(*a, **k):\n    print('hanging', flush=True)\n    time.sleep(600)\n"
        "demonstrate.iterate_demonstrations = hang\n"
        "from vlaw_assets.cli import app\napp(['run', '-e', 'smoke', '-i', '1'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold], env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    while (line := process.stdout.readline()) and "hanging" not in line:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    lake = place.lake
    assert lake.ledger.current("co_training_data", "") is None
    os.environ["DAGSTER_HOME"], before = str(place.root / "dagster_home"), os.environ.get("DAGSTER_HOME")
    try:
        with driver.open_instance() as instance:
            assert len(liveness.close_dead_runs(instance)) == 1
            assert liveness.close_dead_runs(instance) == []
            assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]
            assert instance.event_log_storage.get_concurrency_info("accelerator").active_slot_count == 0
    finally:
        os.environ.pop("DAGSTER_HOME")
        if before is not None:
            os.environ["DAGSTER_HOME"] = before
    assert place.run("foundation", only=["co_training_data"]).made == ("co_training_data",)
