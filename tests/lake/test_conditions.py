"""A store that does not keep the conditions of puts is named by doctor, and no lake is made in it."""

from __future__ import annotations

import pytest
from false_s3 import FalseS3
from mirrored_lake import ask, findings
from object_store import Place

from vlaw_assets.cli import doctor
from vlaw_assets.lake.objects import Bucket
from vlaw_models.errors import VlawError

pytestmark = pytest.mark.slow  # of `make test-long`, which has obstore


@pytest.fixture
def store(monkeypatch):
    store = FalseS3().environment(monkeypatch)
    yield store
    store.close()


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Doctor looks at the bucket alone."""
    monkeypatch.setenv("VLAW_LAKE", "s3://lab-1/lake")
    monkeypatch.setenv("VLAW_LAKE_COPY", str(tmp_path))
    monkeypatch.setattr(doctor, "CHECKS", {"bucket": doctor.CHECKS["bucket"]})


def test_a_store_that_keeps_them_is_fine_and_left_as_it_was(store, asked):
    assert findings() == {}
    assert "s3://lab-1/lake keeps the conditions" in ask("doctor").stdout
    assert store.puts == 2 * 4
    assert store.objects == {}


@pytest.mark.parametrize(
    ("ignored", "said"),
    [("If-None-Match", "put with If-None-Match: * must not touch"), ("If-Match", "not the one of If-Match")],
)
def test_a_store_that_ignores_one_is_named(store, asked, ignored, said):
    store.honours.remove(ignored)
    bad = findings()
    assert said in bad["bucket"]
    assert "s3://lab-1/lake" in bad["bucket"]
    assert store.objects == {}


def test_a_store_that_refuses_what_it_must_make_is_named(store):
    store.after = [lambda store, path: store.objects.update({path: b"another's"}) or 0]
    with pytest.raises(VlawError, match="refuses a put with If-Match although the object is as it was"):
        Bucket("s3://lab-1/lake").try_conditions()


def test_moto_keeps_them_and_no_lake_is_made_where_they_are_not(s3, tmp_path, monkeypatch):
    place = Place("bucket", tmp_path)
    place.open()
    found = Bucket(place.address)
    assert not [item.name for item in found.names() if ".trial-" in item.name]
    monkeypatch.setattr(Bucket, "put_new", lambda self, name, data: self.put(name, data) or "a tag")
    with pytest.raises(VlawError, match="If-None-Match"):
        Place("bucket", tmp_path).open("there")


def test_of_a_lake_in_a_folder_there_is_nothing_to_ask(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    assert findings() == {}
    assert "the lake is in a folder" in ask("doctor").stdout
