"""A lake in a bucket: one winner of all who race, leases that run out, no byte believed, no secret kept."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from factories import PARTITION, checkpoint, commit, commit_all, identity
from object_store import BUCKET, Place
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake, deltalog, lease, replica
from vlaw_assets.lake.copies import THERE
from vlaw_assets.lake.durable import take_name
from vlaw_assets.lake.lease import Lease
from vlaw_assets.lake.objects import Bucket
from vlaw_assets.lake.upkeep.compaction import compact
from vlaw_assets.lake.upkeep.garbage import collect
from vlaw_assets.lake.upkeep.migrate import reseal
from vlaw_assets.lake.upkeep.verify import verify, verify_ledger
from vlaw_models.errors import VlawError

RACERS = 64


def race(call) -> list:
    """What each of RACERS threads got that all began at once."""
    ready = threading.Barrier(RACERS)

    def run(number: int):
        ready.wait()
        return call(number)

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(run, range(RACERS)))


def run_out(bucket: Bucket, name: str) -> None:
    """As if the time that a lease counts for had passed."""
    said, about = bucket.get(name)
    assert bucket.swap(name, json.dumps(json.loads(said) | {"ttl": -1.0}).encode(), about.tag)


@pytest.fixture
def bucket(s3, tmp_path) -> Bucket:
    return Bucket(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_of_64_who_want_a_version_one_gets_it(place, tmp_path, rounds):
    """The names of log entries, manifests and FORMAT.json are given in this way."""
    lake = place.open()
    table = lake.paths.table("episodes")
    for version in range(1, rounds + 1):
        target = deltalog.entry_path(table, version)

        def take(number, version=version, target=target) -> bool:
            mine = tmp_path / f"{version}-{number}"
            mine.write_text(json.dumps({"by": number}))
            try:
                take_name(mine, target)
            except FileExistsError:
                return False
            return True

        won = [number for number, got in enumerate(race(take)) if got]
        assert len(won) == 1
        assert json.loads(target.read_text()) == {"by": won[0]}
        if copy := replica.of(target):
            assert copy.bucket.get(copy.name(target))[0] == target.read_bytes()


@pytest.mark.slow
def test_of_64_who_want_a_lease_one_gets_it_and_one_takes_it_over(bucket, monkeypatch):
    monkeypatch.setattr(lease, "TTL_S", 600.0)  # the server answers 64 at once slowly
    first = [Lease(bucket, "locks/x.lease") for _ in range(RACERS)]
    assert sum(race(lambda number: first[number].acquire(holder=str(number)))) == 1
    holder = Lease(bucket, "locks/x.lease").holder()
    held = first[int(holder["run_id"])]
    held.confirm()
    # Its process stands still from now on, and the lease runs out.
    held.abandon()
    run_out(bucket, "locks/x.lease")
    second = [Lease(bucket, "locks/x.lease") for _ in range(RACERS)]
    assert sum(race(lambda number: second[number].acquire(holder=f"later {number}"))) == 1
    with pytest.raises(VlawError, match="the lease on this was lost"):
        held.confirm()
    held.release()
    assert Lease(bucket, "locks/x.lease").holder()["run_id"].startswith("later"), "it gives back nothing of others"


@pytest.mark.slow
def test_a_lease_lasts_while_its_holder_lives_and_no_longer(bucket, monkeypatch):
    monkeypatch.setattr(lease, "TTL_S", 6.0)
    one, other = Lease(bucket, "locks/x.lease"), Lease(bucket, "locks/x.lease")
    assert one.acquire(holder="one")
    since = one.held_since()
    assert not other.acquire(wait_s=9.0), "renewed"
    assert other.held_since() == since
    one.abandon()
    begun = time.monotonic()
    assert other.acquire(holder="other", wait_s=30.0)
    assert time.monotonic() - begun > 2.0
    other.release()
    assert other.held_since() is None
    assert one.acquire()
    one.release()


@pytest.mark.slow
def test_who_lost_its_lease_commits_nothing(s3, tmp_path):
    place = Place("bucket", tmp_path)
    lake, other = place.open(), place.open("there")
    bucket = replica.of(lake.paths.root).bucket
    with (  # noqa: PT012
        pytest.raises(VlawError, match="lease on this was lost"),
        lake.commit(asset="a", identity=identity("a"), run_id="slow") as draft,
    ):
        checkpoint("a")(draft)
        run_out(bucket, "locks/a--foundation.lease")
        commit(other, "a", write=checkpoint("b"), run_id="quick")
    assert [ref.run_id for ref in other.ledger.artifacts()] == ["quick"]
    lake = place.open("third")
    assert [ref.run_id for ref in lake.ledger.artifacts()] == ["quick"]


@pytest.mark.slow
def test_a_host_reads_what_another_made_and_believes_no_object(s3, tmp_path, monkeypatch):
    place = Place("bucket", tmp_path)
    lake = place.open()
    made = commit_all(lake)
    bucket = replica.of(lake.paths.root).bucket
    other = place.open("there")
    assert other.ledger.artifacts() == lake.ledger.artifacts()
    ours, theirs = lake.read(made).episodes(), other.read(made).episodes()
    assert [one.images.tobytes() for one in ours] == [one.images.tobytes() for one in theirs]
    assert other.read(made).checkpoint().name == lake.read(made).checkpoint().name
    # A file that was changed in the bucket reaches nobody who has no copy of it, and harms nobody who has.
    file = made.versions["steps"]["files"][0]
    data = bytearray(bucket.get(file["path"])[0])
    data[len(data) // 2] ^= 1
    bucket.put(file["path"], bytes(data))
    third = place.open("third")
    with pytest.raises(VlawError, match=r"content changed \(sha256 differs\)"):
        third.read(made).table("steps")
    assert not (third.paths.root / file["path"]).exists()
    bucket.put(file["path"], bytes(data) + b"more")
    with pytest.raises(VlawError, match=rf"{file['size'] + 4} bytes instead of {file['size']}"):
        third.read(made).table("steps")
    assert lake.read(made).table("steps").num_rows
    # A copy that was damaged on a host is fetched again.
    frames = other.paths.root / made.versions["frames"]["files"][0]["path"]
    frames.write_bytes(bytes(frames.stat().st_size))
    assert [one.images.tobytes() for one in place.open("there").read(made).episodes()] == [
        one.images.tobytes() for one in ours
    ]
    # A bucket that is put back to an older lake is no lake that this host goes on with.
    sealed = bucket.get("ledger.seal")[0]
    commit(lake, "more", write=checkpoint("more"))
    bucket.put("ledger.seal", sealed)
    replica.of(lake.paths.root).stale()  # it looks once a second
    with pytest.raises(VlawError, match="the bucket's ledger ends at version 2, and this host has seen version 3"):
        place.open().ledger.artifacts()
    # Nothing that a person keeps secret, nor its name, is in any object.
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    for item in bucket.names():
        data = bucket.get(item.name)[0]
        assert b"not-a-secret-1f7b" not in data
        assert b"tester" not in data


@pytest.mark.slow
def test_commands_take_the_address_and_verify_the_bucket(s3, tmp_path, monkeypatch):
    place = Place("bucket", tmp_path)
    made = commit_all(place.open("there"))
    bucket = Bucket(place.address)
    monkeypatch.setenv("VLAW_LAKE", place.address)
    monkeypatch.setenv("VLAW_LAKE_COPY", str(tmp_path / "mine"))
    monkeypatch.setenv("COLUMNS", "300")

    def vlaw(*words: str):
        return CliRunner().invoke(app, list(words))

    done = vlaw("audit", "--all", "--verify")
    assert done.exit_code == 0, done.output
    done = vlaw("audit", "--all", "--as-of", "#0")
    assert done.exit_code == 0, done.output
    path = made.versions["episodes"]["files"][0]["path"]
    data = bucket.get(path)[0]
    bucket.put(path, data[:-1] + bytes([data[-1] ^ 1]))
    done = vlaw("audit", "--all", "--verify")
    assert done.exit_code != 0
    assert f"{path}: content changed (sha256 differs)" in done.output
    assert not list((tmp_path / "mine").glob("vlaw-verify-*"))
    for command in (("compact",), ("migrate",), ("migrate", "--reseal")):
        done = vlaw(*command)
        assert done.exit_code == 2, done.output
        assert "a lake on an object store is" in done.output + done.stderr


@pytest.mark.slow
def test_a_copy_in_a_folder_is_compacted_and_sealed_anew_and_goes_back(s3, tmp_path):
    """What cannot be done in a bucket is done in a folder: its files are the objects."""
    place = Place("bucket", tmp_path)
    lake = place.open()
    made = [commit_all(lake, partition=f"vlaw|{number:02d}") for number in range(3)]
    seen = [[one.images.tobytes() for one in lake.read(ref).episodes()] for ref in made]
    folder, bucket = tmp_path / "folder", replica.of(lake.paths.root).bucket
    for item in bucket.names():
        if not item.name.startswith("locks/"):
            (folder / item.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / item.name).write_bytes(bucket.get(item.name)[0])
    copied = Lake.open(folder, create=False)
    done = compact(copied)
    assert any(item.after < item.before for item in done)
    reseal(folder)
    back = Place("bucket", tmp_path / "back")
    there = Bucket(back.address)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] in THERE:
            there.put(path.relative_to(folder).as_posix(), path)
    found = back.open("elsewhere", create=False)
    assert verify_ledger(found) + verify(found, found.ledger.artifacts()) == []
    assert [[one.images.tobytes() for one in found.read(ref).episodes()] for ref in made] == seen
    commit_all(found, partition="vlaw|03", force=True)
    assert collect(found, older_than_s=0) == []
    assert len(back.open("third").ledger.artifacts()) == len(lake.ledger.artifacts()) + 1


NOWHERE = ["../../x", "delta/../../x", "/etc/x", "delta//x", "tmp/x", "locks/x", "delta/a\\b", ""]


@pytest.mark.parametrize("name", NOWHERE)
def test_names_do_not_lead_out_of_the_folder(tmp_path, name):
    copy = replica.Replica(tmp_path / "lake", Bucket("s3://bucket/lake"))
    with pytest.raises(VlawError, match="no name of a file of a lake"):
        copy.path(name)
    with pytest.raises(VlawError, match="no name of a file of a lake"):
        copy.fetch([{"path": name, "size": 1, "sha256": "0" * 64}])


@pytest.mark.parametrize(
    "address",
    ["s3://bucket", "s3://bucket/", "s3://key:secret@bucket/lake", "s3://bucket/a/../b", "s3://b/x", "s3://bucket/a b"],
)
def test_an_address_is_a_bucket_and_a_prefix(address):
    with pytest.raises(VlawError, match="form s3://bucket/prefix") as caught:
        Lake.open(address)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_refuses_is_named_without_what_it_said(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE_COPY", str(tmp_path))
    with pytest.raises(VlawError, match=r"bucket is not there|refuses or cannot be reached") as caught:
        Lake.open("s3://nobody-has-this/lake")
    assert "<" not in str(caught.value)
    assert "not-a-secret-1f7b" not in str(caught.value)


@pytest.mark.slow
def test_a_commit_whose_answer_was_lost_is_one_commit(s3, tmp_path, monkeypatch):
    """The put was made, the connection broke, and the store is away for a while: only the ledger can tell."""
    lake = Place("bucket", tmp_path).open()
    put_new, name = Bucket.put_new, "delta/artifacts/_delta_log/00000000000000000001.json"

    def lost(self, key, data):
        made = put_new(self, key, data)
        if key == name:
            raise VlawError("the object store refuses or cannot be reached", where=key, remedy="")
        return made

    monkeypatch.setattr(Bucket, "put_new", lost)
    made = commit(lake, "a", "", write=checkpoint("a"))
    assert lake.ledger.artifacts() == [made]
    assert verify_ledger(lake) + verify(lake, [made]) == []
    assert lake.ledger.current("a") == made != lake.ledger.current("all", PARTITION)
