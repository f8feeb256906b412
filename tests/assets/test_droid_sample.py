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


def test_imported_weights_of_every_kind_are_what_the_loop_starts_from(tmp_path):
    """Each as it is published, at toy size: the policy is a pi0.5, the world model reads the instruction."""
    from published_layouts import clip, ctrl_world, openpi, qwen3_vl, svd

    place, weights = imported(tmp_path), tmp_path / "weights"
    toy = ("--preset", "toy", "--out")
    text = clip(tmp_path / "clip")
    for kind, source, key in (
        ("pi05", openpi("pi05", tmp_path / "pi05"), "base_policy"),
        ("qwen3-vl", qwen3_vl(tmp_path / "qwen"), "reward_model"),
        ("ctrl-world", ctrl_world(tmp_path / "world.pt"), "world_model"),
        ("svd", svd(tmp_path / "svd"), "svd"),
    ):
        more = ("--clip", str(text)) if kind == "ctrl-world" else ()
        vlaw(place, "weights", "import", kind, str(source), *toy, str(weights / key), *more)
    recipes = tmp_path / "own"
    shutil.copytree(PACKAGED / "droid", recipes)
    folders = {key: weights / key for key in ("base_policy", "reward_model", "world_model")}
    folders["autoencoder"] = weights / "svd" / "autoencoder"
    lines = "".join(f'{key} = "{folder}"\n' for key, folder in folders.items())
    (recipes / "foundation.toml").write_text((recipes / "foundation.toml").read_text() + f"\n[weights]\n{lines}")
    (tmp_path / "recipes").unlink()
    (tmp_path / "recipes").symlink_to(recipes)
    vlaw(place, "run", "--experiment", "droid_sample", "--iterations", "1")
    closure = vlaw(place, "audit", "policy", "droid_sample", "1", "--json")
    assert "base_policy" in closure
    vlaw(place, "audit", "policy", "droid_sample", "1", "--verify")
