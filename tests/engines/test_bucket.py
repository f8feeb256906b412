"""A lake in a bucket and workers of an engine: they see the run's folder of copies and never ask the bucket."""

from __future__ import annotations

import pytest
from engine_lab import Lab
from object_store import Place


@pytest.mark.slow
def test_workers_make_of_a_bucket_what_is_made_of_a_folder(s3, tmp_path, monkeypatch):
    here = Lab(tmp_path / "folder").make("imagined_rollouts")
    store = Place("bucket", tmp_path)
    lab = Lab(tmp_path / "lab", lake=store.open())
    # A worker that asked the bucket for anything would find nobody there.
    lab.by("subprocess", workers=2, python=lab.python('AWS_ENDPOINT_URL=http://127.0.0.1:9 exec $PYTHON "$@"'))
    made = lab.make("imagined_rollouts")
    assert (made.identity_digest, made.content_digest) == (here.identity_digest, here.content_digest)
    assert made.metrics["engine"]["engine"] == "subprocess"
    there = store.open("there")
    assert [one.images.tobytes() for one in there.read(made).episodes()] == [
        one.images.tobytes() for one in lab.lake.read(made).episodes()
    ]
