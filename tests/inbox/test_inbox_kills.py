"""SIGKILL at any moment while the inbox is emptied, then again: no episode is lost and none is there twice."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from inbox_lab import EXPERIMENT, TASK, Lab

from vlaw_assets.lake import Lake
from vlaw_assets.lake.upkeep.verify import verify_ledger

RECORDINGS, EPISODES, KILLS = 12, 10, 12
LONGEST_S = 5.0
"""A kill comes at a moment drawn from 0 to this, since the process began."""
TESTS = Path(__file__).parents[1]
PARTITION = f"{EXPERIMENT}|01"


class Emptying:
    """The process of inbox_worker.py."""

    def __init__(self, root: Path):
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "inbox_worker.py"), str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
            bufsize=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, after_s: float) -> bool:
        """Empties the inbox, killed after so long; whether it ended before. It must have refused and left nothing."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(b"\n")
        child = int(stdout.readline())
        if not select.select([stdout], [], [], after_s)[0]:
            os.kill(child, signal.SIGKILL)
        status = int(stdout.readline())
        assert status in (0, -signal.SIGKILL)
        return status == 0


def _killed(lab: Lab, emptying: Emptying, recordings: int, kills: int, draw: random.Random) -> int:
    killed = number = dropped = 0
    while killed < kills:
        while number * kills < recordings * (killed + 1):  # a lab goes on dropping while it is taken
            lab.record(f"recording {number}", number)
            number += 1
        killed += not emptying.run(draw.uniform(0.0, LONGEST_S))
        if not lab.inbox.look().finished and killed < kills:
            for folder in list((lab.inbox.root / "taken").iterdir())[:3]:  # a person drops again what was taken
                dropped += 1
                folder.rename(lab.inbox.root / f"again {dropped}")
    assert emptying.run(3600.0)
    return killed


def come_back(root: Path, *, recordings: int, kills: int, seed: int) -> dict[str, int]:
    """Recordings are dropped and taken under kills, the last time undisturbed; what came of it, all of it checked."""
    lab = Lab(root, lengths=(7,) * EPISODES)
    lab.experiment(rollouts={"episodes_per_task": recordings * EPISODES})
    with Emptying(root) as emptying:
        killed = _killed(lab, emptying, recordings, kills, random.Random(seed))
    lake = Lake.open(lab.lake.paths.root)
    refs = [ref for ref in lake.ledger.artifacts() if ref.asset == "recorded_episodes"]
    assert max(Counter(ref.partition for ref in refs).values()) == 1, "no recording was committed twice"
    episodes = [episode for ref in refs for episode in lake.read(ref).episodes()]
    firsts = Counter(float(episode.states[0, 0]) for episode in episodes)
    expected = {1000.0 * recording + 7 * index for recording in range(recordings) for index in range(EPISODES)}
    assert set(firsts) == expected, "none is lost, and none is of nobody"
    assert set(firsts.values()) == {1}, "none is there twice"
    assert not lab.content()["."]
    assert not lab.content()["refused"]
    assert not [problem for ref in lake.ledger.artifacts() for problem in lake.read(ref).problems()]
    assert verify_ledger(lake) == []
    lab.make("loop_state", PARTITION)
    copies = lake.read(lab.make("real_rollouts", PARTITION)).episodes()
    assert {copy.start_episode_id for copy in copies} == {episode.episode_id for episode in episodes}
    assert Counter(float(copy.states[0, 0]) for copy in copies) == firsts
    assert {copy.task for copy in copies} == {TASK}
    by_id = {episode.episode_id: episode for episode in episodes}
    assert all(np.array_equal(copy.images, by_id[copy.start_episode_id].images) for copy in copies)
    return {"recordings": len(refs), "episodes": len(copies), "kills": killed}


@pytest.mark.slow
def test_kills_lose_no_episode_and_double_none(tmp_path):
    found = come_back(tmp_path, recordings=RECORDINGS, kills=KILLS, seed=1)
    assert found == {"recordings": RECORDINGS, "episodes": RECORDINGS * EPISODES, "kills": KILLS}
