"""`vlaw plan`: a table where all fits, one answer and exit status 2 where something does not; nothing is made."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from vlaw_assets.assets import recordings
from vlaw_assets.cli import app
from vlaw_assets.lake import Lake


@pytest.fixture
def plan(monkeypatch, tmp_path):
    """Runs `vlaw plan` of a recipe that imagines nothing, where there is no lake."""
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["plan", "smoke_real_only", *words])


def test_a_plan_that_fits_says_how_and_makes_nothing(plan, tmp_path):
    result = plan("--gpus", "2", "--gpu-memory", "16")
    assert result.exit_code == 0, result.output
    assert "2 x 16 GiB, 400 TFLOP/s each (assumed: 40 % of an H100)" in result.output
    assert "policy" in result.output
    assert " 2 steps " in result.output, "its batch of 4 on two GPUs"
    assert "policy.micro_batch = 2" in result.output
    assert "the first iteration: " in result.output
    (line,) = (line for line in result.output.splitlines() if line.startswith("not counted: "))
    assert "the simulator's own time" in line
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_cannot_fit_is_one_answer_with_what_would_make_it_fit(plan):
    result = plan("--gpu-memory", "0.01", "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["fits"] is False
    (policy,) = (one for one in found["stages"] if one["stage"] == "policy")
    assert not policy["fits"]
    assert 0 < policy["optimizer"] < policy["state"]
    assert "does not fit 1 GPU of 0.01 GiB: " in result.stderr
    assert "policy (FlowPolicy) needs" in result.stderr
    assert "Use GPUs of" in result.stderr
    assert found["not_counted"]
    assert found["checkpoints"] == {}


def test_the_corpora_of_the_lake_are_looked_at_and_it_stays_as_it_is(plan, tmp_path, monkeypatch):
    lake, given = Lake.open(tmp_path / "lake", create=True), []
    before = sorted(path for path in tmp_path.rglob("*"))
    monkeypatch.setattr(recordings, "frames_of_corpora", lambda *found: given.append(found[-1]) or {})
    assert plan("--json").exit_code == 0
    assert given[0].paths.root == lake.paths.root
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpus", "0"), "--gpus"),
        (("--gpu-memory", "-1"), "--gpu-memory"),
        (("--tflops", "0"), "--tflops"),
        (("--gpus", "many"), "--gpus"),
    ],
)
def test_hardware_that_cannot_be_is_refused(plan, words, said):
    result = plan(*words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_an_unknown_recipe_is_named(plan):
    del plan  # for its environment
    result = CliRunner().invoke(app, ["plan", "nothing"])
    assert result.exit_code == 2
    assert "there is no experiment 'nothing'" in result.stderr
