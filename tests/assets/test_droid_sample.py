"""The loop on recordings alone: two iterations of `droid_sample` on real DROID episodes, and no simulator anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from factories import edit_toml
from smoke_place import Place
from ui_server import serving

from vlaw_assets.recipes import PACKAGED

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT.parent / "shared" / "data" / "droid_sample" / "droid_subset"
SIMULATORS = ("mujoco", "vlaw_models.robots.tabletop.world", "vlaw_models.robots.tabletop.scene")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SAMPLE.is_dir(), reason="the DROID sample is not there")]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> dict[str, str]:
    """Where the sample was imported, and two iterations have run."""
    place = imported(tmp_path_factory.mktemp("droid"))
    vlaw(place, "run", "--experiment", "droid_sample", "--iterations", "2")
    return place


def imported(root: Path) -> dict[str, str]:
    """The environment of a lake that has the recordings."""
    (root / "recipes").symlink_to(PACKAGED / "droid")
    place = {**os.environ, **Place(root).environment(), "PYTHONPATH": str(ROOT)}
    for split in ("train", "val"):
        options = ["--split", split, "--name", f"droid_{split}", "--task", "manipulation", "--image-size", "48x80"]
        vlaw(place, "import", "ctrl-world", str(SAMPLE), *options)
    return place


def vlaw(place: dict[str, str], *args: str) -> str:
    """What a command prints; it fails if it loaded a simulator."""
    code = (
        "import sys; from vlaw_assets.cli import app; sys.argv[0] = 'vlaw'\n"
        f"try: app()\nfinally: assert not set({SIMULATORS!r}) & set(sys.modules), 'a simulator was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{args}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return done.stdout


def test_every_iteration_has_recordings_of_its_own_and_is_audited(place):
    question = (
        "select iteration, count(distinct start_episode_id) as recordings from episodes "
        "where purpose = 'rollout' and experiment = 'droid_sample' group by all order by all"
    )
    found = vlaw(place, "sql", question, "--json")
    assert found.count('"recordings"') == 2, "each iteration has some"
    audit = json.loads(vlaw(place, "audit", "policy", "droid_sample", "2", "--json"))
    assert "droid_train" in json.dumps(audit)
    vlaw(place, "audit", "policy", "droid_sample", "2", "--verify")


def test_both_iterations_are_materialized_from_the_page(tmp_path):
    place = imported(tmp_path)
    with serving(Place(tmp_path)) as server:
        for job, partition in (("foundation", ""), ("iteration", "droid_sample|01"), ("iteration", "droid_sample|02")):
            answer = server.launch(job, partition=partition, config={})
            assert answer["__typename"] == "LaunchRunSuccess", answer
            deadline = time.monotonic() + 900
            while (status := server.status(answer["run"]["runId"])) not in ("SUCCESS", "FAILURE", "CANCELED"):
                assert time.monotonic() < deadline, status
                time.sleep(1)
            assert status == "SUCCESS", f"{job} {partition}"
    assert "droid_train" in vlaw(place, "audit", "policy", "droid_sample", "2")


def test_a_stage_that_needs_a_simulator_is_refused_by_name(place, tmp_path):
    recipes = shutil.copytree(PACKAGED / "droid", tmp_path / "recipes")
    shutil.copy(recipes / "droid_sample.toml", recipes / "oracle_droid.toml")
    edit_toml(recipes / "oracle_droid.toml", name="oracle_droid", imagine={"world": "simulator"})
    command = [sys.executable, "-c", "from vlaw_assets.cli import app; app()", "run", "-e", "oracle_droid", "-i", "1"]
    done = subprocess.run(
        command, env={**place, "VLAW_RECIPES": str(recipes)}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "needs a simulator; robot 'droid' has none" in done.stdout + done.stderr
