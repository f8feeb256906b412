"""Episodes may be written batch by batch: the same content, the same tables, and steps that wait on the disk."""

from __future__ import annotations

import dataclasses
import json

import pyarrow.parquet as pq
import pytest
from factories import identity, sample_episodes

from vlaw_assets.lake import Lake, tables
from vlaw_models.errors import VlawError

COUNT, STEPS = 7, 5


def committed(root, sizes, *, purpose="rollout"):
    """A lake with one artifact of seven episodes, written in batches of these sizes."""
    lake, episodes = Lake.open(root), sample_episodes(COUNT, steps=STEPS - 1)
    with lake.commit(asset="made", partition="one|01", identity=identity("made"), run_id="run") as draft:
        for size in sizes:
            batch, episodes = episodes[:size], episodes[size:]
            draft.write_episodes(batch, purpose=purpose, world="somewhere")
    assert not episodes
    return lake, draft.ref


def contents(lake, ref):
    """All that is stored of it, without what differs between attempts."""
    handle = lake.read(ref)
    own = ("artifact_id", "created_at")
    rows = {
        name: handle.table(name).drop_columns([c for c in own if c in handle.table(name).column_names]).to_pylist()
        for name in ("episodes", "steps")
    }
    return rows, [episode.images.tobytes() for episode in handle.episodes()]


@pytest.mark.parametrize("purpose", ["rollout", "imagined"])
def test_batches_make_the_same_content_as_one_call(tmp_path, purpose):
    whole = committed(tmp_path / "whole", [COUNT], purpose=purpose)
    parts = committed(tmp_path / "parts", [1, 3, 0, 2, 1], purpose=purpose)
    assert whole[1].content_digest == parts[1].content_digest
    assert whole[1].contents_json == parts[1].contents_json
    assert contents(*whole) == contents(*parts)
    assert [len(ref.versions["steps"]["files"]) for _, ref in (whole, parts)] == [1, 1]


def test_steps_of_several_row_groups_have_the_statistics_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 8)
    lake, ref = committed(tmp_path / "groups", [2, 2, 3])
    monkeypatch.undo()
    plain_lake, plain = committed(tmp_path / "plain", [COUNT])
    assert contents(lake, ref) == contents(plain_lake, plain)
    (file,) = ref.versions["steps"]["files"]
    groups = pq.ParquetFile(lake.paths.root / file["path"]).metadata
    assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == [8, 8, 8, 8, 3]
    (own,), (other,) = (statistics(*found) for found in ((lake, ref), (plain_lake, plain)))
    for name in ("artifact_id",):
        for bounds in ("minValues", "maxValues"):
            del own[bounds][name], other[bounds][name]
    assert own == other


def statistics(lake, ref):
    (entry,) = ref.versions["steps"]["log"]
    lines = [json.loads(line) for line in (lake.paths.root / entry["path"]).read_text().splitlines()]
    return [json.loads(line["add"]["stats"]) for line in lines if "add" in line]


def fails_in_the_second_batch(lake):
    with lake.commit(asset="made", partition="one|02", identity=identity("other"), run_id="run") as draft:
        for control_hz in (1.0, 0.0):
            draft.write_episodes([dataclasses.replace(sample_episodes(1)[0], control_hz=control_hz)], purpose="rollout")


def test_steps_wait_on_the_disk_and_go_with_the_draft(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    waiting = []
    with lake.commit(asset="made", partition="one|01", identity=identity("made"), run_id="run") as draft:
        for episode in sample_episodes(3):
            draft.write_episodes([episode], purpose="rollout", world="somewhere")
            (file,) = lake.paths.temporary.rglob("steps.arrow")
            waiting.append(file.stat().st_size)
    assert waiting == sorted(set(waiting)), "each batch goes to the disk when it is written"
    assert not list(lake.paths.temporary.rglob("*.arrow"))
    with pytest.raises(VlawError, match="not an episode"):
        fails_in_the_second_batch(lake)
    assert not list(lake.paths.temporary.rglob("*.arrow"))
    assert len(lake.ledger.artifacts()) == 1


def test_a_bad_row_is_refused_when_its_batch_is_written(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    with (
        pytest.raises(VlawError, match="purpose = 'nonsense'"),
        lake.commit(asset="made", partition="one|01", identity=identity("made"), run_id="run") as draft,
    ):
        draft.write_episodes(sample_episodes(1), purpose="nonsense", world="somewhere")
    assert lake.ledger.artifacts() == []
