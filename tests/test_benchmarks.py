"""`make bench` runs every benchmark and stops at the first that fails; the benchmarks run (in the long tier)."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from common.limits import MISSED, Limits, options  # noqa: E402  (a script's folder, not a package)

SCRIPTS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))


def bench(tmp_path: Path, program: str) -> tuple[int, list[str]]:
    """`make bench` with another `python`: its exit status, and the arguments of each call."""
    (tmp_path / "bin").mkdir(parents=True)
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{program}\n')
    python.chmod(0o755)
    (tmp_path / "ready").touch()
    words = ["make", "bench", f"VENV={tmp_path}", "-o", f"{tmp_path}/ready"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, (tmp_path / "calls").read_text().splitlines()


def test_make_bench_runs_every_benchmark_and_nothing_else(tmp_path):
    status, calls = bench(tmp_path, "exit 0")
    assert status == 0
    assert calls == [f"benchmarks/{name} --quick" for name in SCRIPTS]


@pytest.mark.parametrize("code", [1, MISSED])
def test_make_bench_stops_at_the_first_that_fails(tmp_path, code):
    status, calls = bench(tmp_path, f'case "$1" in *{SCRIPTS[2]}) exit {code};; esac')
    assert status != 0
    assert len(calls) == 3


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_says_how_it_is_called_and_asks_for_its_options_in_one_place(name):
    text = (ROOT / "benchmarks" / name).read_text()
    assert f"python benchmarks/{name}" in text.split('"""')[1], "its docstring has the command"
    assert "options(parser" in text, "else it has no --quick"


def test_quick_gives_other_defaults_and_no_other_values():
    def ask(*words: str) -> tuple[int, int]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--commits", type=int, default=430)
        parser.add_argument("--runs", type=int, default=5)
        found = options(parser, words, commits=20)
        return found.commits, found.runs

    assert ask() == (430, 5)
    assert ask("--quick") == (20, 5)
    assert ask("--quick", "--commits", "7") == (7, 5)


def test_a_missed_limit_is_named_and_is_the_exit_status(capsys):
    limits = Limits()
    limits.at_most("seconds", 1.0, 1.0)
    limits.at_least("frames", 3.0, 3.0)
    assert limits.status() == 0
    limits.at_most("seconds", 1.1, 1.0)
    limits.at_least("frames", 2.9, 3.0)
    assert limits.status() == MISSED
    printed = capsys.readouterr().out
    assert "missed: seconds: 1.1, at most 1 wanted" in printed
    assert "missed: frames: 2.9, at least 3 wanted" in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_runs(name, tmp_path):
    """Its limits are of time: tests share the machine, so they are not held here."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    words = [sys.executable, f"benchmarks/{name}", "--quick"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, MISSED), done.stdout[-2000:] + done.stderr[-4000:]
