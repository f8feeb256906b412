"""How far a stage is reaches the run's log and listeners at least every SAY_S seconds."""

from __future__ import annotations

import re
import time

import pytest

from vlaw_assets.pipeline import progress
from vlaw_assets.pipeline.progress import Pace, Reporter, listening, spoken


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(progress, "SAY_S", 0.1)


def test_a_silent_stage_is_spoken_for(quick):
    log, told = [], []
    with listening(lambda *said: told.append(said)), Reporter("policy", "vlaw|01", log.append):
        time.sleep(0.45)
    assert 3 <= len(log) <= 5
    assert all(re.fullmatch(r"policy: at work, 0 s", line) for line in log)
    assert told == [("policy", "vlaw|01", 0, 1, "")] * len(log)
    time.sleep(0.25)
    assert len(told) == len(log), "not after its end"


def test_a_busy_stage_is_told_to_listeners_at_once_and_to_the_log_at_its_pace(quick):
    log, told = [], []
    with listening(lambda *said: told.append(said)), Reporter("policy", "vlaw|01", log.append) as report:
        for step in range(60):
            report(step + 1, 100, f"loss {step}")
            time.sleep(0.005)
    assert list(dict.fromkeys(said[2] for said in told)) == list(range(1, 61)), "some may be repeated"
    assert 2 <= len(log) <= 6
    assert re.fullmatch(r"policy: \d+ of 100 loss \d+, [\d.]+ a second, \d s left", log[-1]), log


def test_rate_and_time_left_are_of_what_is_counted_now(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    pace = Pace(0.0)
    clock[0] = 40
    assert pace.line() == "at work, 40 s"
    pace.note(0, 1, "waiting for another run")
    assert pace.line() == "waiting for another run, 40 s"
    pace.note(1, 10, "world model")
    assert pace.line() == "1 of 10 world model", "nothing is known of its rate"
    clock[0] = 60
    pace.note(3, 10, "world model")
    assert pace.line() == "3 of 10 world model, 10.0 s each, 70 s left"
    pace.note(5, 500, "policy")
    clock[0] = 61
    pace.note(15, 500, "policy")
    assert pace.line() == "15 of 500 policy, 10.0 a second, 48 s left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (7500, "2 h 05 min")]
)
def test_lengths_of_time_in_words(seconds, text):
    assert spoken(seconds) == text
