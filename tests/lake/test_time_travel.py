"""As of a moment: exactly the rows of that moment, whatever was made again, compacted or collected since."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from factories import PARTITION, commit_all, fill, identity, sample_episodes
from lake_pictures import moments, picture

from vlaw_assets.lake import Lake
from vlaw_assets.lake.moments import resolve
from vlaw_assets.lake.tables import tables_of
from vlaw_assets.lake.upkeep.compaction import compact
from vlaw_assets.lake.upkeep.garbage import collect
from vlaw_assets.lake.upkeep.verify import verify, verify_ledger
from vlaw_models.errors import VlawError


def grow(root: Path) -> Lake:
    """base, all[vlaw|01], all[ablation|01] (reused), all[vlaw|01] again, other[vlaw|02]."""
    lake = Lake.open(root)
    commit_all(lake)
    commit_all(lake, partition="ablation|01")
    commit_all(lake, force=True)
    with lake.commit(asset="other", partition="vlaw|02", identity=identity("other"), run_id="r") as draft:
        fill(draft, sample_episodes(2, seed=5))
    return lake


def alike(lake: Lake, seen):
    """A picture without the folder that the lake's files lie in: each host has its own of a bucket."""
    return str({key: seen[key] for key in sorted(seen)}).replace(str(lake.paths.root), "")


@pytest.fixture
def lake(tmp_path):
    return grow(tmp_path / "lake")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return grow(tmp_path_factory.mktemp("moments") / "lake")


def test_each_moment_shows_what_was_there_then(place):
    lake = place.open()
    then = []
    commit_all(lake)
    then.append(picture(lake))
    first = lake.ledger.require("all", PARTITION)
    commit_all(lake, force=True)
    then.append(picture(lake))
    with lake.commit(asset="other", partition="vlaw|02", identity=identity("o"), run_id="r") as draft:
        fill(draft)
    assert picture(lake) not in then
    assert picture(lake.as_of(1)) == then[0]
    other = place.open("there")
    assert alike(other, picture(other.as_of(2))) == alike(lake, then[1])
    assert picture(Lake.open(lake.paths.root).as_of(2)) == then[1]
    past = lake.as_of(1)
    assert past.ledger.require("all", PARTITION) == first != lake.ledger.require("all", PARTITION)
    assert past.ledger.current("other", "vlaw|02") is None
    with pytest.raises(VlawError, match="no artifact"):
        past.ledger.get(draft.ref.artifact_id)
    commit_all(lake, force=True)
    assert picture(past) == then[0], "a moment stays as it is while the lake goes on"


def test_the_past_is_for_reading_only(shared):
    past = shared.as_of(1)
    with pytest.raises(VlawError, match="reading only"), past.commit(asset="x", identity=identity("x"), run_id="r"):
        pass


def test_moments_are_named_in_many_ways(shared):
    refs = shared.ledger.artifacts()
    assert [shared.ledger.sequence(ref.artifact_id) for ref in refs] == list(range(5))
    for number, ref in enumerate(refs):
        for name in (
            number,
            f"#{number}",
            str(number),
            ref.artifact_id,
            ref.artifact_id[:20],
            ref.created_at.isoformat(),
        ):
            assert resolve(shared.ledger, name) == number, name
    naive = refs[3].created_at.replace(tzinfo=None).isoformat()
    east = (refs[3].created_at + timedelta(microseconds=1)).astimezone().isoformat()
    for name, number in {
        "vlaw|01": 3,
        "vlaw/01": 3,
        "ablation/01": 2,
        "vlaw|02": 4,
        "all[vlaw|01]": 3,
        "all[ablation/01]": 2,
        "base": 0,
        naive: 3,
        east: 3,
        "2999-01-01": 4,
        refs[0].created_at.date().isoformat(): 4,
    }.items():
        assert resolve(shared.ledger, name) == number, name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2001-01-01T00:00", "before the first commit"),
        ("2001-01-01", "before the first commit"),
        ("2026-13-01", "not a time"),
        ("#5", "no artifact #5"),
        (99, "no artifact #99"),
        ("vlaw|07", r"vlaw\|07"),
        ("nothing[vlaw|01]", "nothing"),
        ("nobody", "no artifact, partition or time"),
        ("", "no artifact, partition or time"),
        ("all", "no artifact"),
    ],
)
def test_what_is_no_moment_is_refused(shared, name, message):
    with pytest.raises(VlawError, match=message):
        shared.as_of(name)


def test_the_first_commit_is_named_and_an_ambiguous_prefix_refused(shared):
    refs = shared.ledger.artifacts()
    with pytest.raises(VlawError, match=refs[0].created_at.isoformat(timespec="seconds").replace("+", r"\+")):
        shared.as_of("2001-01-01")
    same = refs[1].artifact_id[:16]
    assert refs[3].artifact_id.startswith(same), "one identity, three rows"
    with pytest.raises(VlawError, match="3 artifacts begin"):
        shared.as_of(same)
    with pytest.raises(VlawError, match="no artifact"):
        shared.as_of(refs[0].artifact_id[:7])


def test_an_empty_lake_has_no_past(tmp_path):
    with pytest.raises(VlawError, match="no artifact yet"):
        Lake.open(tmp_path / "lake").as_of("vlaw|01")


@pytest.mark.slow
def test_compaction_and_collection_change_no_moment(lake):
    before, current = moments(lake), picture(lake)
    files = set(lake.paths.root.rglob("*.parquet"))
    compact(lake)
    assert set(lake.paths.root.rglob("*.parquet")) > files, "it did compact"
    collect(lake, older_than_s=0)
    for reader in (lake, Lake.open(lake.paths.root)):
        assert picture(reader) == current
        assert moments(reader) == before
        assert verify_ledger(reader) + verify(reader, reader.ledger.artifacts()) == []
    again = commit_all(lake, force=True)
    fresh = Lake.open(lake.paths.root)
    assert [ref.artifact_id for ref in fresh.ledger.artifacts()][-1] == again.artifact_id, "order survives"
    assert {number: picture(fresh.as_of(number)) for number in before} == before
    compact(fresh)
    assert moments(Lake.open(lake.paths.root)).items() >= before.items()
    assert verify_ledger(fresh) == []


@pytest.mark.slow
def test_compaction_by_hand_with_the_tools_defaults(lake):
    """What a person would type, log checkpoints of delta-rs included."""
    import lance
    from deltalake import DeltaTable

    before = moments(lake)
    for name in tables_of(lake.paths):
        table = DeltaTable(str(lake.paths.table(name)))
        table.optimize.compact()
        table.create_checkpoint()
        table.vacuum(dry_run=False)  # keeps what the table retains: everything
    dataset = lance.dataset(str(lake.paths.frames))
    dataset.optimize.compact_files()
    dataset.cleanup_old_versions(older_than=timedelta(0), error_if_tagged_old_versions=False)
    assert moments(Lake.open(lake.paths.root)) == before
    code = (
        "import sys; from vlaw_assets.lake import Lake; lake = Lake.open(sys.argv[1], create=False);"
        "print(*[ref.artifact_id for ref in lake.ledger.artifacts()]);"
        "print(*[len(lake.as_of('vlaw|01').read(ref).episodes()) for ref in lake.as_of('vlaw|01').ledger.artifacts()])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, lake.paths.root], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.splitlines() == [" ".join(ref.artifact_id for ref in lake.ledger.artifacts()), "1 3 3 3"]
    assert len(DeltaTable(str(lake.paths.table("episodes"))).to_pyarrow_table()) == 1 + 3 + 3 + 2


def test_an_incremental_reader_sees_what_another_process_commits(lake):
    other = Lake.open(lake.paths.root)
    assert len(other.ledger.artifacts()) == 5
    made = commit_all(lake, force=True)
    compact(lake)
    assert other.ledger.require("all", PARTITION) == made
    assert [role for role, _ in other.ledger.edges(made.artifact_id)] == ["start"]
    again = commit_all(lake, force=True)
    assert other.ledger.artifacts()[-2:] == [made, again]
