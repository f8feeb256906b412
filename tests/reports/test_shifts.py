"""`vlaw diff` finds what was made worse: one thing at a time, in sides that differ by noise in everything else."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import planted
import pytest
from asking import at
from planted import NOTHING, Worse, foundation, side
from small_loop import commit

from vlaw_assets.cli.watch import chosen
from vlaw_assets.lake import ArtifactRef, Lake, labels, quarantine
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.lineage.differences import between
from vlaw_assets.reports.shifts import BEYOND, CHANGED, SINGLE, WITHIN, base, changes, ranked, ranking
from vlaw_assets.reports.shifts.data import Learned

PUSH = "push"
REAL_MODELS = "real in data of reward_model, world_model"
LATE = ("success", "loss", "code")
"""Sides of which something after the training set is worse."""


@dataclass
class Sides:
    """A lake with one side that all others are compared with, and others that are made when they are asked for."""

    lake: Lake
    base: dict[str, ArtifactRef]
    a: dict[str, ArtifactRef]
    others: dict[str, dict[str, ArtifactRef]] = field(default_factory=dict)

    def made(self, name: str, worse: Worse = NOTHING, **options: Any) -> dict[str, ArtifactRef]:
        """The side of this name. Where data is not what was made worse it has the data of `noise0`."""
        if name not in self.others:
            if name in LATE:
                options["like"] = self.made("noise0")
            self.others[name] = side(self.lake, self.base, name, sum(map(ord, name)), worse, **options)
        return self.others[name]

    def ranking(self, name: str, worse: Worse, **options: Any) -> dict[str, Any]:
        """The ranked shifts from a to a side of this name."""
        return self.compared(self.a, self.made(name, worse, **options))

    def compared(self, a: dict[str, ArtifactRef], b: dict[str, ArtifactRef]) -> dict[str, Any]:
        left, right = (audit_of(self.lake, refs["policy"]) for refs in (a, b))
        return ranking(self.lake, left, right, between(self.lake, left, right))

    def real(self, *, success: bool) -> list[str]:
        """Real episodes of a."""
        rows = self.lake.read(self.a["real_rollouts"]).table("episodes").to_pylist()
        return [row["episode_id"] for row in rows if row["success"] is success]

    def dreams(self) -> list[dict[str, Any]]:
        """Imagined episodes of a."""
        return self.lake.read(self.a["imagined_rollouts"]).table("episodes").to_pylist()

    def members(self) -> set[str]:
        """What the policy of a learned from."""
        return set(self.lake.read(self.a["training_set"]).members()["episode_id"].to_pylist())

    def shown(self, row: dict[str, Any]) -> int:
        """How many episodes the command of a row shows; it fails where it shows none."""
        words = shlex.split(row["watch"])
        assert words[:2] == ["vlaw", "watch"]
        return chosen(self.lake, words[2:], [], limit=60).total


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    lake = Lake.open(tmp_path_factory.mktemp("shifts") / "lake")
    base = foundation(lake)
    return Sides(lake, base, side(lake, base, "a", 0))


@pytest.fixture(scope="module")
def noise(sides):
    """Rankings between sides that only noise tells apart."""
    made = [sides.a, sides.made("noise0"), sides.made("noise1")]
    return [sides.compared(a, b) for number, a in enumerate(made) for b in made[number + 1 :]]


FAILED, LOWERED = Worse(success={PUSH: 0.1}), Worse(alpha=0.2)
MEASURED = [
    pytest.param(Worse(dropped=PUSH), {f"share of {PUSH} in data of policy"}, id="task"),
    pytest.param(
        Worse(believed=0.6),
        {"judge: false positives", "judge: precision of its yes", "judge on real clips: false positives"},
        id="judge",
    ),
    pytest.param(
        Worse(shortened=True),
        {
            "steps of imagined in data of policy",
            "steps of real in data of policy",
            "steps of real in data of reward_model, world_model",
        },
        id="length",
    ),
    pytest.param(FAILED, {f"success: {PUSH}"}, id="success"),
    pytest.param(Worse(psnr={"wrist": 4.0}), {"PSNR wrist"}, id="psnr"),
    pytest.param(
        Worse(copied=1),
        {"copies in data of policy", "copies in data of reward_model, world_model"},
        id="copies",
    ),
]
"""What is made worse, and the shifts that are its own: one of them has to be the first row, beyond chance, and every
row beyond chance before any other kind of shift has to be one of them."""


@pytest.mark.slow
@pytest.mark.parametrize(("worse", "own"), MEASURED)
def test_what_was_made_worse_is_the_first_shift(sides, worse, own, request):
    found = sides.ranking(request.node.callspec.id, worse)
    first = found["rows"][0]
    assert first["what"] in own
    assert first["standing"] == BEYOND
    assert first["low"] <= first["difference"] <= first["high"]
    assert not first["low"] <= 0 <= first["high"]
    assert first["size"] == max(row["size"] for row in found["rows"] if row["standing"] == BEYOND)
    assert sides.shown(first) > 0


def test_measurements_on_the_same_clips_are_paired(sides):
    found = sides.compared(sides.a, sides.made("judge", Worse(believed=0.6)))["rows"]
    methods = {row["what"]: row["method"] for row in found}
    assert methods["judge on real clips: false positives"] == "Newcombe, paired; McNemar's exact test"
    assert methods["PSNR wrist"] == "paired t"
    assert methods["success: all"] == "Newcombe, paired; McNemar's exact test"
    assert methods["judge: false positives"] == "Newcombe; Fisher's exact test", "other dreams"


def test_other_weights_of_the_same_episodes_are_a_change(sides):
    items = [{"owner": name, "asset": "policy", "kind": "policy", "partition": f"{name}|01"} for name in "ab"]
    learned = [
        [Learned(name, name, "real", "stack", True, 10, weight) for name, weight in zip("xyz", weights, strict=True)]
        for weights in ((1.0, 1.0, 2.0), (0.5, 1.0, 1.0))
    ]
    (change,) = changes.weights(sides.lake, [tuple(items)], dict(zip("ab", learned, strict=True)))
    assert (change.what, change.a, change.b) == ("mean weight of 2 episodes in data of policy", 1.5, 0.75)
    assert shlex.split(change.watch) == ["vlaw", "watch", "x", "z"]


@pytest.mark.slow
def test_a_diverged_loss_is_first_with_the_learning_rate_that_was_raised(sides):
    loss, rate = sides.ranking("loss", Worse(learning_rate=0.1, loss=8.0))["rows"][:2]
    assert (loss["what"], loss["standing"], loss["sense"]) == ("last loss of policy", SINGLE, "worse")
    assert (loss["low"], loss["p_value"]) == (None, None), "one number has no interval"
    assert (rate["what"], rate["a"], rate["b"]) == ("recipe policy.learning_rate (policy)", 0.001, 0.1)
    assert loss["goes_with"] == [rate["rank"]]
    assert rate["goes_with"] == [loss["rank"]]
    assert sides.shown(loss) > 0


def test_a_lower_threshold_is_the_first_change_and_goes_with_the_first_shift(sides):
    """Of a change the criterion is: the first change, at the top or right under the first shift."""
    shift, change = sides.ranking("alpha", LOWERED)["rows"][:2]
    assert (shift["kind"], shift["standing"]) == ("judge", BEYOND)
    assert (change["what"], change["a"], change["b"]) == ("recipe score.alpha (training_set)", 0.6, 0.2)
    assert change["rank"] in shift["goes_with"]
    assert change["size"] is None


def test_other_code_of_one_stage_is_the_first_change(sides):
    found = sides.ranking("code", Worse(code={"policy": "code-2"}))["rows"]
    change = next(row for row in found if row["standing"] == CHANGED)
    assert (change["what"], change["a"], change["b"]) == ("code of policy", "code-1", "code-2")
    assert change["rank"] <= 2
    assert sum(row["standing"] == CHANGED for row in found) == 1


def test_successes_that_quarantine_took_are_the_first_change(sides):
    out = sides.real(success=True)[::2]
    listed = quarantine.add(sides.lake, out, why="the camera had slipped", by="ada")
    found = sides.ranking("quarantine", Worse(excluded=out), real=sides.a["real_rollouts"])
    quarantine.release(sides.lake, listed.changed, why="seen again", by="ada")
    change = next(row for row in found["rows"] if row["standing"] == CHANGED)
    started = {row["episode_id"] for row in sides.dreams() if row["start_episode_id"] in out}
    left_out = len(out) + len(started & sides.members())
    assert (change["what"], change["a"], change["b"]) == ("episodes removed by quarantine", 0, left_out)
    assert change["rank"] <= 2
    assert sides.shown(change) == 6
    assert set(shlex.split(change["watch"])[2:]) <= set(out)


@pytest.mark.slow
def test_labels_that_were_flipped_are_the_first_change(sides):
    failures = sides.real(success=False)
    labels.label_episodes(sides.lake, [(name, "success", "eve", "looks fine") for name in failures])
    found = sides.ranking("labels", Worse(labelled=dict.fromkeys(failures, True)), real=sides.a["real_rollouts"])
    labels.label_episodes(sides.lake, [(name, "failure", "ada", "looked twice") for name in failures])
    shift, change = found["rows"][:2]
    assert (shift["what"], shift["standing"]) == ("successes in data of reward_model, world_model", BEYOND)
    assert (change["what"], change["a"], change["b"]) == ("labels changed", 0, len(failures))
    assert change["rank"] in shift["goes_with"]
    assert set(shlex.split(change["watch"])[2:]) <= set(failures)


def test_noise_alone_shows_nothing(noise):
    for found in noise:
        assert found["tests"]["success"] == 5
        assert found["tests"]["others"] > 10
        assert {row["standing"] for row in found["rows"]} <= {WITHIN, SINGLE}
        assert not any(row["notable"] for row in found["rows"])


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_they_say():
    """Of every kind of test on noise, and of whole rankings of which one row is beyond chance: 5 % at most, but for
    what so few repetitions may show by chance."""
    rng, alarms, tested = np.random.default_rng(7), [], []
    for _ in range(60):
        rows = [
            *(base.rates(str(n), *((int(rng.binomial(60, 0.3)), 60) for _ in "ab"), kind="data") for n in range(4)),
            *(
                base.paired_rates(
                    str(n), *({i: bool(rng.random() < 0.6) for i in range(50)} for _ in "ab"), kind="success"
                )
                for n in range(4)
            ),
            *(base.lengths(str(n), *(rng.integers(10, 20, 40) for _ in "ab"), kind="length") for n in range(4)),
            *(
                base.means(str(n), *({str(i): rng.normal() for i in range(20)} for _ in "ab"), kind="world_model")
                for n in range(4)
            ),
        ]
        found = ranked([row for row in rows if row], [])
        alarms.append(any(row["standing"] == BEYOND for row in found["rows"]))
        tested += [row["p_value"] <= 0.05 for row in found["rows"]]
    assert np.mean(alarms) <= 0.1
    assert 0.02 <= np.mean(tested) <= 0.06


def test_order_is_the_same_whatever_order_the_shifts_come_in(noise):
    rows = [base.single(name, 1.0, value, kind="loss") for name, value in (("a", 1.5), ("b", 3.0), ("c", 1.0))]
    assert [row["what"] for row in ranked(rows, [])["rows"]] == ["b", "a", "c"]
    assert [row["what"] for row in ranked(rows[::-1], [])["rows"]] == ["b", "a", "c"]
    for found in noise:
        sizes = [row["size"] for row in found["rows"]]
        assert sizes == sorted(sizes, reverse=True)


def test_trials_in_quarantine_are_left_out_of_success(sides):
    """As everywhere that success is counted."""
    before = sides.ranking("success", FAILED)
    rows = sides.lake.read(sides.made("success", FAILED)["policy_evaluation"]).table("episodes").to_pylist()
    lost = [row["episode_id"] for row in rows if row["task"] == PUSH and not row["success"]]
    quarantine.add(sides.lake, lost, why="the table stood elsewhere", by="ada")
    after = sides.compared(sides.a, sides.made("success", FAILED))
    quarantine.release(sides.lake, lost, why="it did not", by="ada")
    (was, now) = (next(row for row in found["rows"] if row["what"] == f"success: {PUSH}") for found in (before, after))
    assert was["counts_b"][1] == planted.TRIALS
    assert now["counts_b"][1] == planted.TRIALS - len(lost)
    assert now["b"] == 1.0


@pytest.fixture
def vlaw(sides, monkeypatch, tmp_path):
    return at(monkeypatch, tmp_path, {"VLAW_LAKE": str(sides.lake.paths.root)})


def test_the_command_shows_the_ranking_in_text_and_json(sides, vlaw):
    sides.made("alpha", LOWERED)
    shown = vlaw("diff", "policy", "a/01", "alpha/01", code=0).stdout
    lines = shown.splitlines()
    assert lines[3].startswith("Why it may have got ")
    assert "success 0." in lines[3]
    assert lines[5].lstrip().startswith("1 judge: false positives")
    assert "beyond, worse" in lines[5]
    assert lines[6].lstrip().startswith("2   recipe score.alpha (training_set)")
    assert "Their episodes" in shown
    assert 'vlaw watch "SELECT ' in shown
    assert "vlaw compare policy a/01 alpha/01" in shown
    found = json.loads(vlaw("diff", "policy", "a/01", "alpha/01", "--json", code=0).stdout)
    assert {
        "a",
        "b",
        "same",
        "episodes",
        "members",
        "recipe",
        "code",
        "judge",
        "world_model",
        "artifacts",
    } < found.keys()
    assert [row["rank"] for row in found["shifts"]["rows"]] == list(range(1, len(found["shifts"]["rows"]) + 1))
    assert found["shifts"]["rows"][found["shifts"]["success"] - 1]["what"] == base.WHOLE
    assert found["shifts"]["verdict"] in ("worse", "better", "not shown to differ")


def test_the_same_policy_has_no_ranking(vlaw):
    assert "no difference" in vlaw("diff", "policy", "a/01", "a/01").stdout
    assert json.loads(vlaw("diff", "policy", "a/01", "a/01", "--json").stdout)["shifts"]["rows"] == []


def test_base_policy_other_assets_and_the_past(sides, vlaw):
    sides.made("alpha", LOWERED)
    found = json.loads(vlaw("diff", "policy", "base_policy", "a/01", "--json", code=0).stdout)["shifts"]
    data = next(row for row in found["rows"] if row["what"] == "episodes in data of policy")
    assert (data["a"], data["added"], data["removed"], data["notable"]) == (0, data["b"], 0, True)
    found = json.loads(vlaw("diff", "training_set", "a/01", "alpha/01", "--json", code=0).stdout)["shifts"]
    assert any(row["what"] == "share of real in data of training_set" for row in found["rows"])
    past = json.loads(
        vlaw("diff", "policy", "a/01", "alpha/01", "--as-of", "policy[alpha|01]", "--json", code=0).stdout
    )["shifts"]
    assert not any(row["kind"] == "success" for row in past["rows"]), "it was not evaluated then"
    assert past["rows"][0]["watch"].endswith("--as-of 'policy[alpha|01]'")


def test_a_training_set_without_a_judge(sides, vlaw):
    real = sides.a["real_rollouts"]
    rows = [
        {"episode_id": name, "owner": real.owner, "weight": 1.0, "source": "real"} for name in sides.real(success=True)
    ]
    made = commit(
        sides.lake, "training_set", "plain|01", "training_set", {"real_rollouts": real}, lambda d: d.write_members(rows)
    )
    commit(sides.lake, "policy", "plain|01", "policy", {"training_set": made, "real_rollouts": real}, checkpoint)
    shown = vlaw("diff", "policy", "a/01", "plain/01", code=0).stdout
    assert "share of imagined in data of policy" in shown


def checkpoint(draft):
    (draft.checkpoint_dir() / "config.json").write_text("{}")


def test_tasks_have_names_that_a_shell_and_sql_would_read_otherwise(tmp_path):
    """A name from data stays a name, in the statement and in the shell."""
    from vlaw_assets.reports.shifts.watching import quoted, watch_sql

    lake = Lake.open(tmp_path / "lake")
    for name in ("it's", '"; rm -rf $HOME `x`', "a\nb"):
        sql = f"SELECT episode_id FROM episodes WHERE task = {quoted(name)}"
        assert shlex.split(watch_sql(lake, sql)) == ["vlaw", "watch", " ".join(sql.split())]
