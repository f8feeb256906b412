"""A lake that Dagster mirrors, which can be copied and put back, and what doctor and audit say of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake, quarantine

LAKE_CHECKS = ("lake", "seal", "files", "mirror")


class MirroredLake:
    """A lake that Dagster mirrors, what `vlaw seal` said of it, and copies of it."""

    def __init__(self, folder: Path):
        self.folder, self.root, self.file = folder, folder / "lake", folder / "kept.txt"

    @property
    def lake(self) -> Lake:
        return Lake.open(self.root, create=False)

    def quarantined(self, *, index: int = 0, why: str = "privacy request") -> str:
        """The command, which tells Dagster too. The id of the list."""
        name = (
            self.lake.read(self.lake.ledger.require("real_rollouts", "vlaw|01"))
            .table("episodes")["episode_id"]
            .to_pylist()[index]
        )
        assert ask("quarantine", name, "--why", why).exit_code == 0
        ref = quarantine.latest(self.lake)
        assert ref is not None
        return ref.artifact_id

    def keep(self) -> str:
        line = ask("seal").stdout
        with self.file.open("a") as file:
            file.write(line)
        return line.strip()

    def copy(self, name: str) -> Path:
        return shutil.copytree(self.root, self.folder / name)

    def put(self, copy: Path, *parts: str) -> None:
        """Replaces the lake, or parts of it, by what is in a copy."""
        for part in parts or (".",):
            if (self.root / part).is_dir():
                shutil.rmtree(self.root / part)
                shutil.copytree(copy / part, self.root / part)
            else:
                shutil.copy2(copy / part, self.root / part)


def ask(*words: str):
    return CliRunner().invoke(app, list(words))


def said(*words: str) -> tuple[int, str]:
    done = ask(*words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def findings(*words: str) -> dict[str, str]:
    """What is bad, by check; the exit code says whether anything is."""
    done = ask("doctor", "--json", *words)
    bad = {item["check"]: item["text"] for item in json.loads(done.stdout) if not item["ok"]}
    assert done.exit_code == int(bool(bad))
    assert all("remedy:" in text for text in bad.values())
    return bad


def verified_against(text: str | Path) -> tuple[int, str]:
    return said("audit", "--all", "--verify", "--seal", str(text))
