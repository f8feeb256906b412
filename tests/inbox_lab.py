"""A lab with a robot arm: a lake whose experiment takes its real rollouts from the inbox, sessions, and recordings."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import tomlkit
from factories import write_toml
from one_stage import Bench
from recorded_dataset import DATA, LENGTHS, write_lerobot
from small_loop import foundation

from vlaw_assets.inbox.folder import NOTE, Inbox
from vlaw_assets.inbox.take import Report, take_in
from vlaw_assets.lake import ArtifactRef
from vlaw_assets.pipeline.resources import Workplace
from vlaw_assets.serving.session import Session, write_session

EXPERIMENT, TASK, PER_TASK = "lab", "cups", 4
SESSION = "20260301T120000Z-0a1b2c3d"
EPISODES = 3
"""Of a recording: a success, a failure, and one without a label unless `labelled`."""


class Lab(Bench):
    """See the module. Its session is served, and it has a `template` that recordings are copied from."""

    def __init__(self, root: Path, of: Lab | None = None, *, lengths: Sequence[int] = LENGTHS):
        """`of`: one that it is a copy of; without it everything is made. `lengths`: of a recording's episodes."""
        if of is not None:
            shutil.copytree(of.root, root, dirs_exist_ok=True)
        super().__init__(root)
        self.root = root
        self.made = of.made if of else foundation(self.lake)
        if of is None:
            write_lerobot(root / "template", lengths)
            corpora = dict.fromkeys(("demonstrations", "co_training"), "recorded:demonstrations")
            write_toml(self.recipes / "foundation.toml", {"robot": "arm", "preset": "tiny", **corpora})
            self.experiment()
            self.serve()
        self.inbox = Inbox.open(self.lake.paths.root / "inbox", self.lake.paths.root, create=True)
        self.workplace = Workplace(lake=str(self.lake.paths.root), recipes=str(self.recipes))

    def experiment(self, **values: Any) -> None:
        rollouts = {"source": "inbox", "episodes_per_task": PER_TASK} | values.pop("rollouts", {})
        self.recipe(
            EXPERIMENT,
            **{
                "robot": "arm",
                "tasks": [TASK],
                "rollouts": rollouts,
                "evaluation": {"source": "recorded:trials"},
                "world_model_metrics": {"source": "recorded:trials"},
                "policy": {"validation_per_task": 0, "stops": []},
                "promotion": {"enabled": False},
            }
            | values,
        )

    def serve(self, policy: ArtifactRef | None = None, session: str = SESSION, **changes: Any) -> str:
        """The record of a session that served this policy, by default the base policy."""
        policy = policy or self.made["base_policy"]
        policy_artifact = changes.pop("policy_artifact", policy.artifact_id)
        values = {
            "id": session,
            "experiment": EXPERIMENT,
            "iteration": 0,
            "robot": "arm",
            "policy": policy_artifact,
            "policy_name": policy.name,
            "policy_content_sha256": policy.content_digest,
            "policy_class": "Sample",
            "execute_steps": 4,
            "noise_scale": 1.0,
            "noise_seed": 0,
            "image_size": (16, 16),
            "code_revision": "",
            "recorded": False,
            "started_at": datetime.now(UTC),
        }
        write_session(self.lake, Session(**values | changes))
        return session

    def record(self, name: str, number: int = 0, *, note: dict[str, Any] | None = None, labelled: bool = True) -> Path:
        """A finished recording in the inbox; its numbers are those of `number`, by which it differs from others."""
        folder = self.inbox.root / name
        shutil.copytree(self.root / "template", folder)
        rows = pq.read_table(folder / DATA)
        change_rows(rows, folder / DATA, number, labelled=labelled)
        said = {"format": "lerobot", "session": SESSION, "task": TASK, "image_size": [16, 16]} | (note or {})
        (folder / NOTE).write_text(tomlkit.dumps({key: value for key, value in said.items() if value is not None}))
        return folder

    def take(self, **options: Any) -> Report:
        return take_in(self.lake, self.workplace, self.inbox, **{"run_id": "inbox", **options})

    def recorded(self) -> list[ArtifactRef]:
        return [ref for ref in self.lake.ledger.artifacts() if ref.asset == "recorded_episodes"]

    def content(self) -> dict[str, list[str]]:
        """Names in the inbox, in taken/ and in refused/."""
        root = self.inbox.root
        return {
            where: sorted(path.name for path in (root / where).iterdir() if path.name not in ("taken", "refused"))
            for where in (".", "taken", "refused")
        }


def change_rows(rows: Any, path: Path, number: int, *, labelled: bool) -> None:
    """Writes the rows of a recording with other states, and a label of every episode if `labelled`."""
    values = rows.to_pylist()
    for row in values:
        row["observation.state"] = [row["observation.state"][0] + 1000.0 * number, -float(number)]
        if labelled and row["next.success"] is None:
            row["next.success"] = False
    pq.write_table(type(rows).from_pylist(values), path)
