"""The page of a world model's metrics says how it was sampled, and whether imagination samples it alike."""

from __future__ import annotations

import pytest
from factories import commit

from vlaw_assets.lake import Lake
from vlaw_assets.pipeline.page import texts_of

PARTITION = "vlaw|01"
FEW = {"sampling_steps": 5, "sampling_schedule": "trained"}


@pytest.mark.parametrize(
    ("metrics", "imagine", "says"),
    [
        ({"sampling_steps": 1}, {"sampling_steps": 1}, None),
        ({"sampling_steps": 1}, None, None),
        (FEW, FEW, "Sampled with 5 steps ('trained', no guidance), as in imagination."),
        (FEW, None, "Sampled with 5 steps ('trained', no guidance)."),
        (FEW, {"world": "simulator", "sampling_steps": 1}, "Sampled with 5 steps ('trained', no guidance)."),
        ({"sampling_steps": 1}, FEW, "Sampled with 1 step ('karras', no guidance), but in imagination with 5 steps"),
        (
            {"sampling_steps": 50, "guidance": 2.0},
            FEW,
            "Sampled with 50 steps ('karras', guidance 2), but in imagination with 5 steps ('trained', no guidance)",
        ),
    ],
)
def test_metrics_say_with_which_sampling_they_were_taken(tmp_path, metrics, imagine, says):
    lake = Lake.open(tmp_path / "lake", create=True)

    def made(asset, table, values):
        return commit(
            lake, asset, PARTITION, {}, lambda draft: draft.set_metrics({}), kind=asset, recipe={table: values}
        )

    ref = made("world_model_metrics", "world_model_metrics", metrics)
    if imagine is not None:
        made("imagined_rollouts", "imagine", imagine)
    told = texts_of(lake, ref).get("sampling")
    assert (told is None) == (says is None)
    assert (told or "").startswith(says or "")
