"""One asset partition made by calling its stage directly: what Dagster would do, without Dagster's seconds and without
pictures, half a second each, which nobody looks at here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from factories import changed, write_recipe

from vlaw_assets import definitions  # noqa: F401 (defines the stages)
from vlaw_assets.assets.making import STAGES
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.work import Work
from vlaw_assets.lake import ArtifactRef, Lake
from vlaw_assets.pipeline.resources import Workplace


class Bench:
    """A lake with a folder of recipes, and stages run on it."""

    def __init__(self, root: Path, lake: Lake | None = None):
        self.recipes = root / "recipes"
        self.recipes.mkdir(parents=True, exist_ok=True)
        self.lake = lake or Lake.open(root / "lake", create=True)
        self.findings: dict[str, Any] = {}

    def recipe(self, name: str, **values: Any) -> None:
        """Three iterations of two tasks, with these values; see `factories.changed`."""
        write_recipe(self.recipes, name, None, **changed({"tasks": ["stack", "book"], "iterations": 3}, values))

    def make(self, asset: str, partition: str, *, force: bool = False) -> ArtifactRef:
        """Runs the stage; its findings are kept by name in `findings`."""
        making = STAGES[asset]
        place = Workplace(lake=str(self.lake.paths.root), recipes=str(self.recipes))
        stage = Stage(self.lake, place, asset, partition, force=force, run_id="run-1")
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Work, "draw", lambda *_: None)
                making.run(stage)
        finally:
            self.findings = {finding.name: finding for finding in stage.findings}
        return self.lake.ledger.require(asset, partition)
