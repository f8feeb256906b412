"""Pictures lie in the lake, named by ledger rows; Dagster's log has a reference and a small preview of each."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from factories import identity, write_recipe
from PIL import Image
from smoke_place import smoke_copy, smoke_place

from vlaw_assets.lake import Lake, pictures
from vlaw_assets.lake.upkeep.garbage import collect, find_garbage
from vlaw_assets.lake.upkeep.verify import verify
from vlaw_assets.pipeline import driver
from vlaw_models.pictures import PREVIEW_BYTES, md_image, png_bytes, preview

MEAN, LARGEST = 16 << 10, 32 << 10
"""Bytes of a materialization event."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


def sizes(home):
    with closing(sqlite3.connect(home / "history" / "runs" / "index.db")) as log:
        return [
            size
            for (size,) in log.execute(
                "SELECT length(event) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
            )
        ]


def test_events_are_small(place):
    found = sizes(place.root / "dagster_home")
    assert len(found) >= 25
    assert sum(found) / len(found) <= MEAN
    assert max(found) <= LARGEST


def test_pictures_are_whole_in_the_lake_and_shown_in_the_event(place):
    lake = place.lake
    policy = lake.ledger.require("policy", "smoke|01")
    named = pictures.named(policy)
    assert set(named) == {"training"}
    for title, metadata in shown(place, "policy", "smoke|01").items():
        digest = named[title]
        path = pictures.path_of(lake.paths, digest)
        assert metadata["preview"].endswith(f"/lake/pictures/{digest}.png`"), "the place was copied after it was made"
        assert metadata["picture"].startswith(f"![{title}](/vlaw/pictures/{digest}.svg)")
        assert len(metadata["picture"]) < 1000, "Dagster draws what is longer only after a click"
        assert metadata["preview"].startswith(f"![{title}](data:image/webp;base64,")
        assert Image.open(path).format == "PNG"


def shown(place, asset, partition):
    """{title: {"picture", "preview"}} of the newest event."""
    metadata = newest(place, asset, partition)
    titles = [key.removeprefix("preview: ") for key in metadata if key.startswith("preview: ")]
    assert titles
    return {
        title: {
            "picture": metadata[title].value,
            "preview": metadata[f"preview: {title}"].value,
        }
        for title in titles
    }


def newest(place, asset, partition):
    """Metadata of the newest event."""
    import dagster as dg

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(place.root / "dagster_home"))
        with driver.open_instance() as instance:
            records = instance.fetch_materializations(
                dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition]), limit=1
            ).records
    return records[0].asset_materialization.metadata


def test_a_reused_artifact_shows_the_same_pictures(place, tmp_path):
    mine = smoke_copy(tmp_path / "mine", place)
    write_recipe(mine.recipes, "same")
    mine.run("iteration", "same|01", only=["loop_state", "real_rollouts"])
    again, first = shown(mine, "real_rollouts", "same|01"), shown(mine, "real_rollouts", "smoke|01")
    assert {title: found["picture"] for title, found in again.items()} == {
        title: found["picture"] for title, found in first.items()
    }
    said = newest(mine, "real_rollouts", "same|01")["reused from"].value
    made = mine.lake.ledger.require("real_rollouts", "smoke|01")
    assert said.startswith(r"[real_rollouts\[smoke\|01\]](/assets/real_rollouts?view=partitions&partition=smoke%7C01)")
    assert f"[{made.run_id[:8]}](/runs/{made.run_id})" in said


def test_a_run_that_reuses_everything_says_so_for_every_step(place, monkeypatch):
    done = place.run("iteration", "smoke|01", only=["real_rollouts", "training_set"])
    assert done.reused == ("real_rollouts", "training_set")
    monkeypatch.setenv("DAGSTER_HOME", str(place.root / "dagster_home"))
    with driver.open_instance() as instance:
        lines = [entry.user_message for entry in instance.all_logs(done.run_id)]
    for asset in done.reused:
        assert [line for line in lines if line.startswith(f"{asset} is reused: nothing was computed")], asset


def picture(seed, size=(64, 64)):
    return png_bytes(Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)))


def test_the_collector_takes_what_no_row_names_and_verification_reads_the_others(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    with lake.commit(asset="note", partition="a|01", identity=identity("note"), run_id="r") as draft:
        draft.write_evaluations([{"task": "stack", "metric": "m", "value": 1.0, "trials": 1}])
        draft.keep_picture("one", picture(1))
        draft.keep_page("all", "<p>page")
    page = pictures.path_of(lake.paths, pictures.pages(draft.ref)["all"], pictures.PAGE)
    kept = pictures.path_of(lake.paths, pictures.named(draft.ref)["one"])
    orphan = pictures.path_of(lake.paths, pictures.store(lake.paths, picture(2)))
    unfinished = lake.paths.pictures / ".x.tmp"
    unfinished.write_bytes(b"")
    assert [item.path for item in find_garbage(lake, older_than_s=3600)] == []
    assert {(item.path, item.kind) for item in collect(lake, older_than_s=-60)} == {
        (orphan, "picture"),
        (unfinished, "temporary"),
    }
    assert kept.is_file()
    assert page.read_text() == "<p>page"
    assert not orphan.exists()
    assert verify(lake, [draft.ref]) == []
    kept.write_bytes(picture(3))
    assert [(problem.path, problem.text) for problem in verify(lake, [draft.ref])] == [
        (lake.paths.relative(kept), "content changed (sha256 differs)")
    ]
    pictures.store(lake.paths, picture(1))
    assert verify(lake, [draft.ref]) == [], "stored again, it is whole again"
    page.write_text("<p>pave")
    assert [problem.path for problem in verify(lake, [draft.ref])] == [lake.paths.relative(page)]
    page.write_text("<p>page")
    kept.unlink()
    assert [problem.text for problem in verify(lake, [draft.ref])] == ["missing"]


@pytest.mark.parametrize("size", [(8, 8), (500, 1200), (1200, 30), (1, 4000)])
@pytest.mark.parametrize("most", [400, PREVIEW_BYTES])
def test_a_preview_is_as_small_as_asked(size, most):
    data = preview(picture(0, size), most)
    assert len(data) <= most
    image = Image.open(io.BytesIO(data))
    assert image.format == "WEBP"
    assert md_image(data, "x").startswith("![x](data:image/webp;base64,")
