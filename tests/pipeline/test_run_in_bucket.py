"""`vlaw run` into a bucket makes what it makes in a folder, and another host can hold it against the ledger."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import object_store
import pytest
from smoke_place import new_place, smoke_place

from vlaw_assets.lake import Lake, replica_of
from vlaw_assets.lake.upkeep.verify import verify

pytestmark = pytest.mark.slow


def digests(lake: Lake) -> dict[str, str]:
    return {f"{made.asset}[{made.partition}]": made.content_digest for made in lake.ledger.artifacts()}


def test_a_run_makes_the_same_in_a_bucket_as_in_a_folder(s3, tmp_path, tmp_path_factory):
    folder = digests(smoke_place(tmp_path_factory).lake)
    store = object_store.Place("bucket", tmp_path)
    environment = {
        **os.environ,
        **new_place(tmp_path).environment(),
        "VLAW_LAKE": store.address,
        "VLAW_LAKE_COPY": str(tmp_path / "here"),
    }
    done = subprocess.run(
        [str(Path(sys.executable).with_name("vlaw")), "run", "-e", "smoke", "-i", "1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lake = store.open("another", create=False)
    kept = [item.name for item in replica_of(lake.paths.root).bucket.names("locks")]
    assert kept
    assert not [name for name in kept if name.endswith(".run")], "the lease of a run goes with its end"
    assert digests(lake) == folder
    assert verify(lake, lake.ledger.artifacts()) == []
