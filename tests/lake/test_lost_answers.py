"""A put on a condition whose answer does not come: who won is found out, and nobody wins or loses falsely."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from false_s3 import FalseS3, after_s

from vlaw_assets.lake import objects
from vlaw_assets.lake.lease import Lease
from vlaw_assets.lake.objects import Bucket
from vlaw_models.errors import VlawError

pytestmark = pytest.mark.slow  # of `make test-long`, which has obstore

RACERS = 8
LATE_S = 0.6


@pytest.fixture
def store(monkeypatch):
    store = FalseS3().environment(monkeypatch)
    monkeypatch.setattr(objects, "ANSWER_S", LATE_S / 2)
    monkeypatch.setattr(objects, "PAUSE_S", 0.02)
    yield store
    store.close()


@pytest.fixture
def bucket(store):
    return Bucket("s3://lab-1/lake")


def theirs(data: bytes):
    """Another host's put comes first."""

    def put(store: FalseS3, path: str) -> int:
        store.objects[path] = data
        return after_s(LATE_S)(store, path)

    return put


def test_a_put_that_was_made_and_not_answered_is_ours(store, bucket):
    store.after = [after_s(LATE_S)]
    made = bucket.put_new("delta/x", b"ours")
    assert made == bucket.about("delta/x").tag
    assert store.puts == 2
    store.after = [after_s(LATE_S), after_s(LATE_S)]
    assert bucket.swap("delta/x", b"next", made) == bucket.about("delta/x").tag
    assert bucket.get("delta/x")[0] == b"next"


def test_a_put_that_another_one_came_before_is_lost(store, bucket):
    store.before = [theirs(b"1234")]
    assert bucket.put_new("delta/x", b"ours") == ""
    before = bucket.about("delta/x").tag
    store.before = [theirs(b"5678")]
    assert bucket.swap("delta/x", b"ours", before) == ""
    assert bucket.get("delta/x")[0] == b"5678"


def test_of_all_who_get_no_answer_one_wins(store, bucket):
    store.after = [after_s(LATE_S)]
    store.before = [after_s(LATE_S / 4)] * RACERS  # one after the other: half of them are not answered in time
    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(lambda number: bucket.put_new("delta/x", f"{number}".encode()), range(RACERS)))
    assert store.puts > RACERS
    assert [str(number).encode() for number, got in enumerate(won) if got] == [bucket.get("delta/x")[0]]


@pytest.mark.parametrize("status", [409, 412])
def test_who_is_refused_a_name_that_nobody_has_asks_again(store, bucket, status):
    """S3 answers 409 while a deletion, or a put that then fails, is under way: nobody has won."""
    store.before = [lambda *_: status] * 2
    assert bucket.put_new("delta/x", b"ours")
    assert store.puts == 3


def test_a_store_that_never_answers_is_an_error(store, bucket, monkeypatch):
    monkeypatch.setattr(objects, "SURE_S", 3 * LATE_S)
    store.before = [after_s(LATE_S)] * 100
    begun = time.monotonic()
    with pytest.raises(VlawError, match="the object store refuses or cannot be reached"):
        bucket.put_new("delta/x", b"ours")
    assert time.monotonic() - begun < 6 * LATE_S


def test_a_lease_whose_renewal_was_not_answered_is_still_held(store, bucket, monkeypatch):
    held = Lease(bucket, "locks/x.lease")
    assert held.acquire(holder="one")
    monkeypatch.setattr(objects, "SURE_S", 0.0)
    store.after = [after_s(LATE_S)]
    with pytest.raises(VlawError, match="the object store refuses or cannot be reached"):
        held.confirm()
    held.confirm()
    assert Lease(bucket, "locks/x.lease").holder()["beat"] == 1
    held.release()
