"""Embeddings and similar episodes of a smoke run: the asset, `vlaw similar`, and coverage in the report."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from asking import at
from known_vectors import ids
from smoke_place import smoke_place

from vlaw_assets.reports.coverage import coverage
from vlaw_models.reward_models.embed import embed_episodes


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


@pytest.fixture
def vlaw(place, monkeypatch, tmp_path):
    return at(monkeypatch, tmp_path, place.environment())


def test_the_asset_embeds_every_episode_with_the_pretrained_judge(place):
    lake, key = place.lake, "smoke|01"
    ref = lake.ledger.require("episode_embeddings", key)
    table = lake.read(ref).embeddings()
    expected = {
        name: lake.ledger.require(asset, key).owner
        for asset in ("real_rollouts", "imagined_rollouts", "validation_rollouts")
        for name in ids(lake, lake.ledger.require(asset, key))
    }
    assert dict(zip(table["episode_id"].to_pylist(), table["owner"].to_pylist(), strict=True)) == expected
    assert ref.num_rows == len(expected) == sum(ref.metrics["embedded"].values())
    judge = lake.ledger.require("pretrained_reward_model", "")
    assert ref.versions["embeddings"]["table"] == judge.content_digest[:12]
    scopes = {edge.role: edge.scope for edge in lake.ledger.edge_rows(ref.owner)}
    assert scopes == {
        "pretrained_reward_model": "whole",
        "real_rollouts": "rows",
        "imagined_rollouts": "rows",
        "validation_rollouts": "rows",
    }
    imagined = lake.read(lake.ledger.require("imagined_rollouts", key)).episodes()
    again = embed_episodes(lake.read(judge).checkpoint(), imagined)
    stored = dict(zip(table["episode_id"].to_pylist(), table["vector"].to_pylist(), strict=True))
    np.testing.assert_allclose(again, [stored[item.episode_id] for item in imagined], atol=2e-5)


def test_similar_for_people_programs_and_eyes(vlaw, place, tmp_path):
    name = ids(place.lake, place.lake.ledger.require("real_rollouts", "smoke|01"))[0]
    found = json.loads(vlaw("similar", name, "-k", "3", "--json").stdout)
    assert found["query"]["episode_id"] == name
    assert len(found["neighbours"]) == 3
    distances = [item["distance"] for item in found["neighbours"]]
    assert distances == sorted(distances)
    task = found["query"]["task"]
    same = json.loads(vlaw("similar", name, "--task", "same", "--source", "imagined", "--json").stdout)["neighbours"]
    assert {(item["task"], item["source"]) for item in same} == {(task, "imagined")}
    assert all(0 <= item["p_success"] <= 1 for item in same)
    shown = vlaw("similar", name, "-k", "3", "--sheet", "sheet.png").stdout
    assert all(item["episode_id"] in shown for item in found["neighbours"])
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    none = vlaw("similar", name, "--task", "fly")
    assert none.exit_code == 0
    assert re.search(r"No other episode among \d+ embeddings with task fly", none.stdout)


def test_similar_says_what_is_wrong(vlaw, place):
    demonstration = ids(place.lake, place.lake.ledger.require("expert_demonstrations"))[0]
    name = ids(place.lake, place.lake.ledger.require("real_rollouts", "smoke|01"))[0]
    before = place.lake.ledger.require("imagined_rollouts", "smoke|01").artifact_id
    for arguments, what in (
        (("nope",), "there is no episode 'nope'"),
        ((demonstration,), "episodes of expert_demonstrations are not embedded"),
        ((name, "--as-of", before), "--iterations 1 --only episode_embeddings"),
        ((name, "--outcome", "good"), "no outcome 'good'"),
        ((name, "--source", "dream"), "no source 'dream'"),
        ((name, "-k", "0"), "0 neighbours"),
        ((name, "--sheet", "/proc/none/x.png"), "cannot be written"),
    ):
        result = vlaw("similar", *arguments)
        assert result.exit_code == 2, arguments
        assert what in result.stderr
        assert "remedy:" in result.stderr


@pytest.mark.slow
def test_the_report_shows_coverage(vlaw, place, tmp_path):
    assert vlaw("report", "smoke", "1", "--out", "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text()
    found = coverage(place.lake, "smoke|01")
    assert found.embedded
    if found.failures:
        assert "Did imagination cover the failures?" in page
        total = f"<td>{len(found.failures)}</td><td>{sum(item.by_start is not None for item in found.failures)}</td>"
        assert total in page
