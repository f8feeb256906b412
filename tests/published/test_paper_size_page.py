"""The page on the papers' sizes, command by command, at toy size: from published weights to the first policy's audit.

What is small: weights in the published layouts, recordings in DROID's, and the numbers of SMALL.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import published_layouts as layouts
import pytest
from documents import ROOT, blocks, commands
from factories import edit_toml, write_toml
from policy_client import Client
from recorded_droid import write_droid
from test_your_robot import Lab
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.engines.settings import read_settings
from vlaw_assets.recipes import find_recipe, load_foundation
from vlaw_assets.recipes.fit import check_weights
from vlaw_assets.recipes.loading import PACKAGED

PAGE = ROOT / "docs" / "paper_size.md"
COMMANDS = [said.text for said in commands(PAGE)]
RUN = "vlaw run --experiment vlaw_droid --iterations 1"
TASKS = tomllib.loads((PACKAGED / "paper_size" / "vlaw_droid.toml").read_text())["tasks"]
STEPS, ROWS = 8, 27
"""Control steps of what is imagined, and rows of a recording, three for each of its steps."""
SMALL = {
    "preset": "toy",
    "rollouts": {"episodes_per_task": 2, "num_steps": STEPS},
    "world_model": {"steps": 2, "batch_size": 2},
    "reward_model": {"steps": 2, "batch_size": 2},
    "imagine": {"episodes_per_task": 2, "num_steps": STEPS, "batch_size": 5, "sampling_steps": 2},
    "score": {"alpha": 0.000001},  # this judge knows nothing: whatever it says, the update gets something to learn from
    "policy": {"steps": 2, "batch_size": 4},
    "world_model_metrics": {"num_steps": STEPS, "clips_per_task": 1, "sampling_steps": 2},
}
"""What the test changes in the packaged recipe."""
ENGINE = {"engine": "in_process"}
"""Stands for node.toml where there are no GPUs to share; what its engine does is tested in tests/engines."""

EXPORTED = ("VLAW_LAKE", "VLAW_RECIPES", "VLAW_ENGINE")
"""Nothing of these but what the page says."""


def file_of(name: str) -> str:
    """The block of the page that begins with this name, or with this table."""
    (text,) = (said.text for _, said in blocks(PAGE) if said.text.splitlines()[0].removeprefix("# ") == name)
    return text


def published(folder: Path) -> dict[str, str]:
    """What the words in capitals stand for that are weights."""
    folder.mkdir()
    layouts.ctrl_world(folder / "ctrl_world.pt")
    layouts.svd(folder / "svd")
    layouts.clip(folder / "clip")
    layouts.qwen3_vl(folder / "qwen")
    layouts.cosmos(folder / "cosmos")
    policy = layouts.in_joints(layouts.openpi("pi05", folder / "pi05"))
    words = shutil.copy(next(policy.rglob("tokenizer.json")), folder / "tokenizer.json")
    names = {"CTRL_WORLD.pt": "ctrl_world.pt", "SVD": "svd", "CLIP": "clip", "QWEN": "qwen", "COSMOS": "cosmos"}
    return {name: str(folder / at) for name, at in names.items()} | {"PI05": str(policy), "TOKENIZER.json": str(words)}


def recorded(folder: Path) -> dict[str, str]:
    """And those that are recordings: DROID is of other tasks than the recipe's."""
    others = [(text, success) for text in layouts.INSTRUCTIONS for success in (True, False)]
    own = {"HELD_OUT": 1, "TRIALS_00": 2, "TRIALS_01": 3}
    made = {"DROID": write_droid(folder / "droid", others, rows=ROWS, seed=0)}
    for name, seed in own.items():
        trials = [(task, (seed + number) % 2 == 0) for number, task in enumerate(TASKS)]
        made[name] = write_droid(folder / name.lower(), trials, rows=ROWS, seed=seed)
    return {name: str(path) for name, path in made.items()}


@dataclass
class Machine(Lab):
    """A checkout in which the page's commands are typed: `vlaw` runs in this process, its servers and others in a
    shell."""

    words: Mapping[str, str] = field(default_factory=dict)
    exported: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy2(ROOT / name, self.root)
        shutil.copytree(PACKAGED / "paper_size", self.root / "vlaw_assets/recipes/paper_size")
        (self.root / ".venv").mkdir()
        (self.root / ".venv" / "ready").touch()  # set up: it has this very Python

    @property
    def environment(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if name not in EXPORTED}
        return {**others, "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(self.root / "home"), **self.exported}

    def start(self, text: str) -> subprocess.Popen:
        return super().start(self.filled(text))

    def filled(self, text: str) -> str:
        return shlex.join(self.words.get(word, word) for word in shlex.split(text))

    def run(self, text: str, *, status: int = 0) -> str:
        if not text.startswith("vlaw "):
            return self._in_a_shell(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            for name in os.environ.keys() - self.environment.keys():
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            done = CliRunner().invoke(app, shlex.split(self.filled(text))[1:])
        assert done.exit_code == status, f"{text}: {done.output[-3000:]} {done.exception!r}"
        self.said.setdefault(text, []).append(done.output)
        return done.output

    def _in_a_shell(self, text: str) -> str:
        """What a command exports stays."""
        done = subprocess.run(
            ["bash", "-e", "-c", f"{text}\nenv -0 > exported"],
            cwd=self.root, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}: {done.stdout} {done.stderr}"
        now = dict(line.split("=", 1) for line in (self.root / "exported").read_text().split("\0") if line)
        self.exported |= {name: now[name] for name in now if name in ("PATH", *EXPORTED)}
        return done.stdout


def toy(text: str) -> str:
    """A command of the page with what it needs at toy size."""
    if text.startswith("vlaw weights import"):
        return f"{text} --preset toy"
    return f"{text} --image-size 48x80" if text.startswith("vlaw import") else text


def write_files(machine: Machine) -> None:
    """What a reader of the page writes once the recipe is copied, and what is small here."""
    own = machine.root / "my_lab"
    foundation = (own / "foundation.toml").read_text().replace('"paper"', '"toy"')
    (own / "foundation.toml").write_text(foundation.replace("[weights]\n", file_of("[weights]")))
    edit_toml(own / "vlaw_droid.toml", **SMALL)
    write_toml(machine.root / "node.toml", ENGINE)


def record(machine: Machine, session: str) -> None:
    """What the robot does while the base policy is served, as its operator drops it into the inbox."""
    episodes = [(task, success) for task in TASKS for success in (True, False)]
    folder = write_droid(machine.root / "lake/inbox/monday", episodes, rows=ROWS, seed=4)
    note = file_of("recording.toml").replace("SESSION", session) + 'image_size = "48x80"\n'
    (folder / "recording.toml").write_text(note)


def test_every_import_of_the_page_works_and_its_foundation_finds_the_folders(tmp_path):
    machine = Machine(tmp_path, words=published(tmp_path / "published"))
    said = [text for text in COMMANDS if text.startswith("vlaw weights") and " imitate " not in text]
    assert len(said) == 7
    for text in said:
        machine.run(toy(text))
    assert (
        "a Pi05Policy, for weights.base_policy of foundation.toml" in machine.said["vlaw weights check weights/pi05"][0]
    )
    machine.run("cp -r vlaw_assets/recipes/paper_size my_lab")
    write_files(machine)
    recipes = tmp_path / "my_lab"
    assert find_recipe("vlaw_droid", recipes).robot == load_foundation(recipes).robot == "droid_joint_velocity"
    weights = load_foundation(recipes).weights
    assert set(weights) == {"base_policy", "autoencoder", "world_model", "reward_model"}
    for name, folder in weights.items():
        check_weights(name, tmp_path / folder)


def test_the_engines_of_the_page_are_files_that_are_understood(tmp_path):
    for name in ("node.toml", "slurm.toml"):
        (tmp_path / name).write_text(file_of(name))
        found = read_settings(str(tmp_path / name))
        assert found.training is not None
        assert (found.workers, found.training["processes"]) == (8, 8)
    assert found.options["gpus_per_node"] == 1
    assert found.for_training().options["gpus_per_node"] == 8
    assert found.for_training().options["partition"] == "gpu"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (install,) = (text for text in COMMANDS if " install " in text)
    assert install.rpartition("[")[2].rstrip("]'") in extras


@pytest.mark.slow
def test_every_command_of_the_page_in_its_order(tmp_path):
    pytest.importorskip("h5py")
    words = published(tmp_path / "published") | recorded(tmp_path / "recordings")
    machine, waits = Machine(tmp_path, words=words), iter(("recordings", "droid_trials_01", ""))
    for text in COMMANDS[: next(at for at, text in enumerate(COMMANDS) if ".venv/bin/pip" in text)]:
        if text.startswith("vlaw serve-policy"):
            with machine.served(text) as session, Client(int(session.address.rpartition(":")[2])) as client:
                assert client.metadata["session"] == session.id
            if text == "vlaw serve-policy vlaw_droid 0 --record":
                record(machine, session.id)
        elif text == RUN:
            lacks = next(waits)
            assert lacks in machine.run(text, status=2 if lacks else 0)
        else:
            machine.run(toy(text))
        if text.startswith("cp "):
            write_files(machine)
    assert "taken: monday, 10 episodes" in machine.said["vlaw inbox"][0]
    audit = machine.said["vlaw audit policy vlaw_droid 1"][0]
    assert "monday-" in audit
    assert "base_policy" in audit
    policy = machine.lake.ledger.require("policy", "vlaw_droid|01")
    assert session.policy == policy.artifact_id
    config = json.loads((machine.lake.read(policy).checkpoint() / "config.json").read_text())
    assert (config["class"], config["space"]["kind"]) == ("Pi05Policy", "joint velocity")
    for asset, trials in (("start_evaluation", "00"), ("policy_evaluation", "01")):
        made = machine.lake.ledger.require(asset, "vlaw_droid|01")
        read = [ref.partition for ref in dict(machine.lake.ledger.edges(made.artifact_id)).values()]
        assert f"droid_trials_{trials}|00" in read
        assert made.metrics["trials"] == len(TASKS)
