"""The generator of the ledger benchmark: its lake is a real one, and audit, impact and SQL say what was put in."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import ledger as benchmark  # noqa: E402  (a script's folder, not a package)
from common.bare_files import Bare, write_bare  # noqa: E402
from common.known_answers import check_audit, check_impact, check_success, subjects  # noqa: E402
from common.synthetic_answers import FULL, Known, Size, key  # noqa: E402
from common.synthetic_ledger import Generator, generate  # noqa: E402

from vlaw_assets.lake import Lake  # noqa: E402
from vlaw_assets.lineage.closure import audit_of  # noqa: E402
from vlaw_assets.lineage.impact import impact  # noqa: E402
from vlaw_assets.query import connect  # noqa: E402

SIZE = Size(iterations=2, real=100, imagined=100)


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> Generator:
    return generate(Lake.open(tmp_path_factory.mktemp("synthetic") / "lake"), SIZE)


def test_the_full_size_is_what_the_limits_are_for():
    assert (FULL.episodes, FULL.steps, FULL.iterations) == (1_000_000, 40_000_000, 30)
    assert Known(FULL).all_members() >= 10_000_000
    with pytest.raises(ValueError, match="multiples of 100"):
        replace(FULL, real=150)


def test_audit_says_what_the_lake_was_made_of(generator):
    found = audit_of(generator.lake, generator.lake.ledger.require("policy", key(SIZE.iterations)))
    check_audit(found, SIZE)
    found["episodes"][-1]["count"] += 1
    found["members"][0]["count"] += 1
    with pytest.raises(AssertionError):
        check_audit(found, SIZE)


@pytest.mark.parametrize(
    "name",
    [
        "a real success of iteration 01",
        "a real failure of iteration 01",
        "a validation clip",
        "an accepted imagined one",
        "a rejected imagined one",
    ],
)
def test_impact_reaches_exactly_what_was_made_from_the_episode(generator, name):
    episode, asset, iteration, accepted = subjects(generator.lake, SIZE)[name]
    check_impact(impact(generator.lake, episode), SIZE, asset, iteration, accepted=accepted)


def test_sql_counts_rows_as_constructed(generator, tmp_path):
    rows = dict(write_bare(generator.lake, tmp_path))
    assert (rows["episodes"], rows["steps"], rows["members"]) == (SIZE.episodes, SIZE.steps, Known(SIZE).all_members())
    episode = subjects(generator.lake, SIZE)["a real success of iteration 01"][0]
    bare = Bare(tmp_path)
    with connect(generator.lake) as query:
        success = query.table(benchmark.text_of("success_per_task"))
        check_success(success.to_pylist(), SIZE)
        assert bare.ask(benchmark.text_of("success_per_task")).equals(success)
        datasets = query.table(benchmark.DATASETS, {"episode_id": episode})
        assert datasets["iteration"].to_pylist() == [1, 2]
        assert bare.ask(benchmark.DATASETS, episode_id=episode).equals(datasets)


def test_its_artifacts_verify(generator):
    from vlaw_assets.lake.upkeep.verify import verify

    lake = generator.lake
    assert (
        verify(lake, [lake.ledger.require(asset, key(2)) for asset in ("training_set", "real_rollouts", "policy")])
        == []
    )


def test_the_seed_determines_all_content(generator, tmp_path):
    def digests(seed: int) -> dict[str, str]:
        again = Generator(Lake.open(tmp_path / str(seed)), SIZE, seed)
        again.foundation()
        return {ref.name: ref.content_digest for ref in again.lake.ledger.artifacts()}

    first = {ref.name: ref.content_digest for ref in generator.lake.ledger.artifacts() if not ref.partition}
    assert digests(0) == first
    assert not set(digests(1).values()) & set(first.values())
