"""Commits whose clocks were wrong: what `--as-of <time>` sees then, and what it says about it."""

from __future__ import annotations

import itertools
import json
import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import factories
import pytest
from factories import fill, sample_episodes
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.lake.clocks import in_order
from vlaw_assets.lake.moments import dated_ahead, find
from vlaw_models.errors import VlawError

DAY = datetime(2026, 3, 1, tzinfo=UTC)
NOW = DAY + timedelta(days=30)
YEARS = 10 * 365 * 24


def at(hours: float) -> datetime:
    return DAY + timedelta(hours=hours)


def ledger(*hours: float) -> SimpleNamespace:
    """What `find` asks of a ledger: commits dated so, each of a partition of its own."""
    refs = [
        SimpleNamespace(
            created_at=at(hour),
            artifact_id=f"id-{n}",
            asset="a",
            partition=f"vlaw|{n:02d}",
            name=f"a[vlaw|{n:02d}]",
            run_id=f"run-{n}",
        )
        for n, hour in enumerate(hours)
    ]
    return SimpleNamespace(artifacts=lambda: refs)


LATE = 30 * 24
"""Hours from DAY to NOW."""


@pytest.mark.parametrize(
    ("dated", "counts"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((1, 2, 2, 2), (1, 2, 2, 2)),
        ((1, 2 + YEARS, 3, 4), (1, 3, 3, 4)),
        ((1, YEARS, YEARS + 1, YEARS, 3), (1, 3, 3, 3, 3)),
        ((YEARS, YEARS, 3, 4), (3, 3, 3, 4)),
        ((1, 2, YEARS), (1, 2, LATE)),
        ((1, 2, YEARS, YEARS - 1), (1, 2, LATE, LATE)),
        ((1, 50, 3, 4), (1, 3, 3, 4)),
        ((1, 50, 3), (1, 3, 3)),
        ((1, 2, -YEARS, 4), (1, 2, 2, 4)),
        ((1, 2, 3, -YEARS), (1, 2, 3, 3)),
        ((1, 2, 3, -YEARS, -YEARS + 1, 4, 5), (1, 2, 3, 3, 3, 4, 5)),
        ((1, 2, 50, 0, 4, 5), (1, 2, 4, 4, 4, 5)),
        ((YEARS, YEARS + 1), (YEARS, YEARS + 1)),
        ((YEARS + 1, YEARS), (YEARS, YEARS)),
        ((5,), (5,)),
        ((), ()),
    ],
)
def test_a_commit_counts_as_of_the_nearest_time_that_fits(dated, counts):
    assert in_order([at(hour) for hour in dated], NOW) == [at(hour) for hour in counts]


def test_order_holds_and_as_few_dates_as_can_be_are_changed():
    draw = random.Random(5)
    for _ in range(400):
        dates = [at(draw.randrange(8)) for _ in range(draw.randrange(1, 9))]
        counted = in_order(dates, NOW)
        assert counted == sorted(counted)
        longest = max(
            len(kept)
            for size in range(len(dates) + 1)
            for kept in itertools.combinations(dates, size)
            if list(kept) == sorted(kept)
        )
        assert sum(a == b for a, b in zip(dates, counted, strict=True)) >= longest
        assert in_order(counted, NOW) == counted


@pytest.mark.parametrize(
    ("dated", "asked", "sees"),
    [
        ((1, 2, YEARS, 4, 5), 2.5, 1),
        ((1, 2, YEARS, 4, 5), 4, 3),
        ((1, 2, YEARS, 4, 5), 4.5, 3),
        ((1, 2, YEARS, 4, 5), LATE, 4),
        ((1, 2, YEARS, 4, 5), YEARS + 5, 4),
        ((1, 2, YEARS), LATE - 1, 1),
        ((1, 2, YEARS), LATE, 2),
        ((1, 2, -YEARS, 4), 1.5, 0),
        ((1, 2, -YEARS, 4), 3, 2),
        ((1, 2, -YEARS, 4), 4, 3),
        ((1, 2, 2, 2), 2, 3),
    ],
)
def test_a_time_sees_what_was_committed_by_then(dated, asked, sees):
    assert find(ledger(*dated), at(asked).isoformat(), now=NOW).sequence == sees


def test_nothing_is_before_the_first_commit_wherever_clocks_were():
    for dated in ((1, 2, -YEARS), (YEARS, 1, 2)):
        with pytest.raises(VlawError, match="before the first commit, 2026-03-01T01:00:00"):
            find(ledger(*dated), at(0).isoformat(), now=NOW)


def test_each_changed_date_is_said():
    found = find(ledger(1, 2 + YEARS, 3, -5, 4), at(3).isoformat(), now=NOW)
    assert found.notes == (
        "commit #1 (a[vlaw|01]) is dated 2036-02-27T02:00:00Z, after later ones: it counts as of 2026-03-01T03:00:00Z",
        (
            "commit #3 (a[vlaw|03]) is dated 2026-02-28T19:00:00Z, before earlier ones: it counts as of "
            "2026-03-01T03:00:00Z"
        ),
    )
    ahead = find(ledger(1, YEARS), at(3).isoformat(), now=NOW)
    assert ahead.notes == ("commit #1 (a[vlaw|01]) is dated 2036-02-27T00:00:00Z, in the future: it counts as of now",)
    assert find(ledger(1, 2, 2, 3), at(3).isoformat(), now=NOW).notes == ()
    assert find(ledger(1, 2 + 1e-4, 2, 3), at(3).isoformat(), now=NOW).notes == (), "runs that commit at once"
    assert find(ledger(1, 2 + YEARS, 3), "#1", now=NOW).notes == (), "nobody asked for a time"
    many = find(ledger(1, *[YEARS] * 9, 2), at(3).isoformat(), now=NOW).notes
    assert len(many) == 4
    assert many[-1] == "6 more commits are dated out of order, the last of them #9"


def test_the_newest_commit_in_the_future_is_a_warning():
    assert "#1 (a[vlaw|01]), is dated 2036-02-27T00:00:00Z, in the future" in dated_ahead(
        ledger(1, YEARS).artifacts(), NOW
    )
    for dated in ((1, 2), (YEARS, 2), (), (LATE,)):
        assert dated_ahead(ledger(*dated).artifacts(), NOW) is None


# ---- of real commits


class Clock:
    """Stands for `datetime` where commits are dated."""

    ahead = timedelta()

    @classmethod
    def now(cls, zone):
        return datetime.now(zone) + cls.ahead


def commit(lake: Lake, partition: str, *, asset: str = "all", run_id: str = "r", seed: int = 0) -> None:
    found = sample_episodes(1, seed=seed + 7 * int(partition[-2:]))
    factories.commit(
        lake,
        asset,
        partition,
        write=lambda draft: fill(draft, found),
        recipe={"p": partition, "s": seed},
        run_id=run_id,
    )


@pytest.fixture
def vlaw(tmp_path, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    (tmp_path / "dagster_home").mkdir()
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("ahead", [timedelta(days=3650), timedelta(hours=2)])
def test_a_quarantine_after_a_commit_from_the_future_is_seen_as_of_now(vlaw, tmp_path, monkeypatch, ahead):
    lake = Lake.open(tmp_path / "lake")
    commit(lake, "vlaw|01")
    monkeypatch.setattr("vlaw_assets.lake.draft.datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", ahead)
    commit(lake, "vlaw|02")
    commit(lake, "vlaw|03")
    warned = vlaw("status")
    assert "warning: the newest commit, #2 (all[vlaw|03]), is dated" in warned.stderr
    assert vlaw("status", "--json").exit_code == 0
    monkeypatch.setattr(Clock, "ahead", timedelta())
    episode = json.loads(vlaw("sql", "select episode_id from episodes order by all limit 1", "--json").stdout)[0][
        "episode_id"
    ]
    quarantine.add(lake, [episode], why="asked for", by="me")
    assert "warning" not in vlaw("status").stderr
    now = datetime.now(UTC).isoformat()
    for moment in (now, now[:10], (datetime.now(UTC) + 2 * ahead).isoformat()):
        found = vlaw("quarantine", "--as-of", moment, "--json")
        listed = json.loads(found.stdout)
        assert [row["episode_id"] for row in listed["quarantine"]] == [episode], moment
        assert "note: commit #1 (all[vlaw|02]) is dated" in found.stderr
        assert len(listed["notes"]) == 2
    assert "note: commit #1" in vlaw("sql", "select 1", "--as-of", now).stderr
    assert Lake.open(tmp_path / "lake").as_of(now).notes == Lake.open(tmp_path / "lake").as_of(now).notes != ()


# ---- moments that moved


def test_an_iteration_made_again_says_where_it_was_first_made(vlaw, tmp_path):
    lake = Lake.open(tmp_path / "lake")
    commit(lake, "smoke|01", asset="rollouts", run_id="first")
    commit(lake, "other|01", asset="rollouts", run_id="beside")
    commit(lake, "smoke|01", asset="policy", run_id="first")
    assert find(lake.ledger, "smoke/01").notes == (), "runs that go on side by side are one making each"
    commit(lake, "smoke|02", asset="policy", run_id="second")
    assert find(lake.ledger, "smoke/01").sequence == 2
    commit(lake, "smoke|01", asset="metrics", run_id="later")
    added = find(lake.ledger, "smoke|01")
    assert (added.sequence, added.notes) == (
        4,
        ("smoke|01 was added to later: this is the lake after its last commit, #4; as first made it is #2",),
    )
    commit(lake, "smoke|02", asset="policy", run_id="third", seed=1)
    again = find(lake.ledger, "smoke/02")
    assert (again.sequence, again.notes) == (
        5,
        ("smoke/02 was made again: this is the lake after its last commit, #5; as first made it is #3",),
    )
    version = find(lake.ledger, "policy[smoke|02]")
    assert (version.sequence, version.notes) == (
        5,
        ("policy[smoke|02] was committed 2 times: this is the last, #5; the first is #3",),
    )
    assert find(lake.ledger, "policy[smoke|01]").notes == ()
    said = vlaw("sql", "select count(*) from artifacts", "--as-of", "smoke/02")
    assert (
        said.stderr
        == "note: smoke/02 was made again: this is the lake after its last commit, #5; as first made it is #3\n"
    )
    assert vlaw("sql", "select count(*) from artifacts", "--as-of", "#3").stderr == ""
    said = json.loads(vlaw("audit", "policy", "smoke", "2", "--as-of", "smoke/02", "--json").stdout)
    assert said["notes"] == list(again.notes)
