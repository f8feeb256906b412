"""The plans that docs/paper_size.md shows are what `vlaw plan` prints of its recipe."""

from __future__ import annotations

import pytest
from documents import ROOT, blocks

from vlaw_assets.assets import recordings
from vlaw_assets.cli.plan import ASSUMED, GIB, print_plan
from vlaw_assets.planning import Planner
from vlaw_assets.recipes import find_recipe, load_foundation
from vlaw_assets.recipes.loading import PACKAGED
from vlaw_models.planning.choose import Hardware

GPUS = (8, 1)
PAGE = ROOT / "docs" / "paper_size.md"
RECORDED_HOURS = 100


def planner() -> Planner:
    """Of the packaged recipe, where there is no lake, for one GPU."""
    folder = PACKAGED / "paper_size"
    return Planner(find_recipe("vlaw_droid", folder), on(1), load_foundation(folder))


def on(gpus: int) -> Hardware:
    return Hardware(gpus, 80 * GIB, ASSUMED * 1e12)


@pytest.mark.slow
def test_the_page_shows_what_the_command_prints(capsys):
    shown = [said.text for _, said in blocks(PAGE) if said.text.startswith("vlaw_droid: ")]
    assert len(shown) == len(GPUS)
    found = planner()  # one for both: what the models need is the same on any GPUs
    for gpus, block in zip(GPUS, shown, strict=True):
        found.hardware = on(gpus)
        print_plan(found, list(found.stages()))
        printed = capsys.readouterr().out
        assert [line.rstrip() for line in printed.splitlines()] == block.splitlines()


@pytest.mark.slow
def test_the_page_says_what_latents_of_recordings_take(monkeypatch):
    frames = RECORDED_HOURS * 3600 * 5
    monkeypatch.setattr(recordings, "frames_of_corpora", lambda *_: {"co_training_data": frames})
    latents = next(planner().stages())
    assert latents.stage == "corpus_latents"
    takes = f"{latents.disk / GIB:.1f} GiB and {latents.hours:.2f} hours of a GPU"
    assert f"{RECORDED_HOURS} hours of recording at 5 Hz take {takes}" in " ".join(PAGE.read_text().split())
