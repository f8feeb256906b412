"""A lake put back to an older state, forked or lost: told from what Dagster knows and from a kept seal."""

from __future__ import annotations

import json
import shutil

import pytest
from factories import identity
from mirrored_lake import ask, findings, said, verified_against
from small_loop import loop

from vlaw_assets.definitions import defs
from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.lake.upkeep.migrate import reseal
from vlaw_assets.lake.upkeep.verify import verify_ledger
from vlaw_assets.pipeline import accepted, comparison, driver, reconcile

# ---- the whole lake replaced by an older copy


@pytest.mark.slow
def test_an_older_copy_is_told_by_doctor_reconcile_and_the_kept_seal(mine):
    mine.keep()
    older = mine.copy("older")
    lost = mine.quarantined()
    line = mine.keep()
    assert findings() == {}
    assert said("reconcile")[0] == 0
    assert verified_against(mine.file)[0] == 0
    mine.put(older)
    assert verify_ledger(mine.lake) == [], "sound in itself"
    bad = findings()
    assert set(bad) == {"mirror"}
    for words in ("replaced by an older copy", "belongs to another lake", lost, "vlaw reconcile --accept"):
        assert words in bad["mirror"]
    for words in ([], ["--dry-run"], ["--json"]):
        code, output = said("reconcile", *words)
        assert code == 2
        assert lost in output
        assert "replaced by an older copy" in output
    assert set(findings()) == {"mirror"}, "nothing was reported over the evidence"
    _, version, digest, *_ = line.split()
    code, output = verified_against(mine.file)
    assert code == 2
    assert f"the ledger is older than the kept seal (kept: version {version} of 20" in output
    assert f"here: {int(version) - 1})" in output
    assert "the last kept seal that agrees is version" in output
    code, output = verified_against(digest)
    assert code == 2
    assert "older than the kept seal, or has another history" in output
    code, output = said("audit", "quarantine", "--verify", "--seal", str(mine.file))
    assert (code, "older than the kept seal" in output) == (2, True), "also for an artifact that this lake never had"
    assert said("audit", "policy", "vlaw", "1", "--verify", "--seal", str(mine.file))[0] == 2


@pytest.mark.parametrize(
    "parts",
    [("delta/artifacts",), ("delta/artifacts", "ledger.seal", "ledger.chain"), ("delta/artifacts", "ledger.seal")],
)
def test_only_the_ledger_put_back(mine, parts):
    older = mine.copy("older")
    mine.quarantined()
    mine.keep()
    mine.put(older, *parts)
    assert findings()
    assert said("reconcile")[0] == 2
    assert verified_against(mine.file)[0] == 2


def test_a_fork_is_another_history(mine):
    first = mine.keep()
    older = mine.copy("older")
    lost = mine.quarantined()
    mine.keep()
    mine.put(older)
    mine.lake.ledger.artifacts()
    for number in range(3):  # beyond the kept version
        with mine.lake.commit(asset="notes", identity=identity(f"n{number}"), run_id="other") as draft:
            draft.write_scores([{"episode_id": "e", "p_success": 0.5}])
    assert verify_ledger(mine.lake) == []
    code, output = verified_against(mine.file)
    assert code == 2
    assert "another history than the kept seal" in output
    assert f"the last kept seal that agrees is version {first.split()[1]} of" in output
    assert lost in findings()["mirror"]
    assert said("reconcile")[0] == 2
    mine.file.write_text(first + "\n")
    assert verified_against(mine.file)[0] == 0, "what they have in common"


def test_resealed_after_tampering_is_another_history_and_resealed_as_it_was_is_not(mine):
    line = mine.keep()
    reseal(mine.root)
    assert ask("seal").stdout.strip() == line
    assert verified_against(mine.file)[0] == 0
    entry = sorted((mine.root / "delta" / "artifacts" / "_delta_log").glob("*.json"))[5]
    entry.write_text(entry.read_text().replace('"operation":"WRITE"', '"operation":"write"'))
    assert verified_against(mine.file)[0] == 2
    assert "seal" in findings()
    code, output = said("seal")
    assert (code, "vlaw-seal" in output) == (2, False), "nothing to keep of a ledger that was tampered with"
    reseal(mine.root)
    assert findings() == {}, "sound in itself"
    code, output = verified_against(mine.file)
    assert code == 2
    assert "another history than the kept seal" in output


@pytest.mark.slow
def test_the_lake_is_gone_or_new(mine):
    shutil.rmtree(mine.root)
    bad = findings()
    assert "the lake is gone" in bad["mirror"]
    assert "--accept" not in bad["mirror"], "there is nothing to reconcile with"
    loop(Lake.open(mine.root), iterations=1, anew=True)
    assert "belongs to another lake" in findings()["mirror"]
    assert said("reconcile")[0] == 2


# ---- accepted


@pytest.mark.slow
def test_accepted_once_and_the_next_loss_is_seen(mine):
    newer = mine.copy("oldest"), mine.quarantined(), mine.copy("older"), mine.quarantined(index=1), mine.copy("newest")
    oldest, first, older, second, newest = newer
    mine.put(older)
    assert second in findings()["mirror"]
    dry = json.loads(ask("reconcile", "--accept", "--dry-run", "--json").stdout)
    assert [item["artifact"] for item in dry["foreign"] if item["unexplained"]] == [second]
    assert said("reconcile")[0] == 2, "--dry-run accepts nothing"
    code, output = said("reconcile", "--accept")
    assert code == 0
    assert "1 events reported, 1 foreign ones accepted" in output
    assert findings() == {}
    code, output = said("reconcile")
    assert code == 0
    assert "nothing to do" in output
    assert "(accepted 20" in output
    mine.put(oldest)
    bad = findings()["mirror"]
    assert (first in bad, second in bad) == (True, False)
    assert said("reconcile")[0] == 2
    mine.put(newest)
    assert said("reconcile")[0] == 0
    assert findings() == {}
    mine.put(older)
    assert second in findings()["mirror"], "what was there again can be lost again"


@pytest.mark.slow
def test_accepted_where_the_ledger_has_nothing_of_the_partition(mine):
    older = mine.copy("older")
    mine.quarantined()
    mine.put(older)
    assert said("reconcile", "--accept")[0] == 0
    assert findings() == {}, "Dagster's newest event of it is still the foreign one"
    assert said("reconcile")[0] == 0


@pytest.mark.slow
def test_accepted_of_one_lake_is_not_accepted_of_another(mine):
    older = mine.copy("older")
    lost = mine.quarantined()
    ours = mine.copy("ours")
    shutil.rmtree(mine.root)
    with Lake.open(mine.root).commit(asset="notes", identity=identity("n"), run_id="other") as draft:
        draft.write_scores([{"episode_id": "e", "p_success": 0.5}])
    assert said("reconcile", "--accept")[0] == 0
    assert findings() == {}
    shutil.rmtree(mine.root)
    shutil.copytree(ours, mine.root)
    assert said("reconcile")[0] == 0
    mine.put(older)
    assert lost in findings()["mirror"]
    with driver.open_instance() as instance:
        assert accepted.load(mine.lake, instance) == {}


def test_a_quarantine_is_not_reported_over_the_evidence(mine):
    older = mine.copy("older")
    lost = mine.quarantined()
    mine.put(older)
    done = ask(
        "quarantine",
        mine.lake.read(mine.lake.ledger.require("real_rollouts", "vlaw|01")).table("episodes")["episode_id"][1].as_py(),
        "--why",
        "blurred",
    )
    assert done.exit_code == 0
    assert "Dagster was not told" in done.stderr
    assert lost in findings()["mirror"]


def test_an_event_under_newer_ones_is_found_by_reconcile(mine):
    """What doctor cannot see: it looks at the newest events."""
    older = mine.copy("older")
    lost = mine.quarantined()
    mine.put(older)
    quarantine.add(
        mine.lake,
        [
            mine.lake.read(mine.lake.ledger.require("real_rollouts", "vlaw|01"))
            .table("episodes")["episode_id"][2]
            .as_py()
        ],
        why="w",
        by="b",
    )
    with driver.open_instance() as instance:
        reconcile.Reporter(mine.lake, instance, defs, comparison.Comparison()).report(quarantine.latest(mine.lake))
    code, output = said("reconcile")
    assert code == 2
    assert lost in output
