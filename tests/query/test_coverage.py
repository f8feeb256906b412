"""Which failures imagination covered: by the episode it started from, and by similarity to one that was accepted."""

from __future__ import annotations

import numpy as np
import pytest
from factories import commit
from known_vectors import KEY, far, ids, known_vectors, unit

from vlaw_assets.lake import Lake
from vlaw_assets.reports.coverage import coverage
from vlaw_assets.reports.iteration import covered
from vlaw_assets.reports.iteration.subject import Subject
from vlaw_assets.reports.success import rate
from vlaw_models.metrics.coverage import nearest, neighbour_distance


@pytest.fixture
def known(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    return lake, *known_vectors(lake)


def test_neighbour_distance_is_the_median_to_the_nearest_other():
    assert neighbour_distance(unit(0, 1, 10)) == pytest.approx(far(0, 1), abs=1e-6)  # 1, 1, 9 degrees
    assert neighbour_distance(unit(0)) is None
    index, apart = nearest(unit(0, 50), unit(48, 3))
    assert index.tolist() == [1, 0]
    np.testing.assert_allclose(apart, [far(0, 3), far(50, 48)], atol=1e-6)
    assert nearest(unit(0), np.empty((0, 8), np.float32))[0].tolist() == [-1]


def test_coverage_by_start_and_by_similarity(known):
    lake, real, imagined, _ = known
    r, i = ids(lake, real), ids(lake, imagined)
    found = coverage(lake, KEY)
    by_id = {item.episode_id: item for item in found.failures}
    assert set(by_id) == {r[0], r[1], r[2], r[4]}, "the success is no failure"
    # Stack at 0, 4, 40, 90 degrees: nearest others at 4, 4, 36, 50, so the median is halfway between far(4) and
    # far(36).
    assert found.near["stack"] == pytest.approx((far(0, 4) + far(0, 36)) / 2, abs=1e-6)
    assert found.near["erase"] is None
    assert (by_id[r[0]].by_start, by_id[r[0]].tries, by_id[r[0]].accepted, by_id[r[0]].best) == (i[0], 1, 1, 0.9)
    assert by_id[r[0]].by_similarity == i[2], "6 degrees away; the one it started is at 60"
    assert (by_id[r[1]].by_start, by_id[r[1]].best) == (None, 0.5), "refused by the judge"
    assert (by_id[r[1]].by_similarity, by_id[r[1]].distance) == (i[2], pytest.approx(far(4, 6), abs=1e-6)), (
        "i1 is nearer, but refused"
    )
    assert by_id[r[2]].by_similarity == i[0], "20 degrees"
    assert not by_id[r[4]].covered
    assert by_id[r[4]].distance is None, "no accepted one of its task, however near those of others are"


def test_coverage_without_embeddings_is_by_start_only_and_says_so(known):
    lake, _, _, made = known
    found = coverage(lake.as_of(lake.ledger.sequence(made.artifact_id) - 1), KEY)
    assert not found.embedded
    assert sum(item.covered for item in found.failures) == 1
    assert [item.by_similarity for item in found.failures] == [None] * 4
    assert coverage(lake, "vlaw|02") is None


def test_the_page_counts_and_shows_them(known):
    lake, *_ = known
    page = covered.section(Subject(lake, "vlaw", 1)).body
    assert "<td>stack</td><td>3</td><td>1</td><td>3</td><td>3</td><td>0</td><td>2</td><td>1</td>" in page
    assert "<td>erase</td><td>1</td><td>0</td><td>0</td><td>0</td><td>1</td><td>1</td><td>0</td>" in page
    assert "P(yes) &gt; 0.8" in page
    assert "neighbour distance" in page
    for title in ("Covered by start", "Covered by similarity only", "Not covered"):
        assert title in page
    assert page.count("data:image/jpeg;base64,") == 4, "a row of moments for each failure"


def test_what_was_truly_rescued_is_told_by_number_of_tries(known):
    lake, _, imagined, _ = known
    assert "ruly rescued" not in covered.section(Subject(lake, "vlaw", 1)).body, "it was not measured"
    truth = zip(ids(lake, imagined), (1.0, 0.0, 1.0, 0.0), strict=True)
    scores = [{"episode_id": name, "owner": imagined.owner, "judge": "simulator", "p_success": t} for name, t in truth]
    commit(lake, "imagined_outcomes", KEY, {"imagined_rollouts": imagined}, lambda draft: draft.write_scores(scores))
    found = coverage(lake, KEY)
    assert [found.rescued("stack", tries) for tries in (None, 1, 2)] == [(1, 3), (1, 2), (0, 0)], "r2 was never tried"
    assert [found.rescued("all", tries) for tries in (None, 1)] == [(1, 4), (1, 3)]
    page = covered.section(Subject(lake, "vlaw", 1)).body
    assert f"<td>all</td><td>1 of 4: {rate(1, 4)}</td><td>1 of 3: {rate(1, 3)}</td></tr>" in page
