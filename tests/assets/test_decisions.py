"""What chose a model is in the lineage: validation data reach what they decided about, and nothing else; pointers have
a choice of their own."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from every_answer import check_every_answer
from factories import commit
from raw_oracle import Raw
from small_loop import checkpoint, episodes, foundation, loop

from vlaw_assets.lake import Lake
from vlaw_assets.lake.artifact import CHOSEN_BY
from vlaw_assets.lake.upkeep.verify import verify, verify_ledger
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.lineage.impact import impact
from vlaw_assets.lineage.reading import decision_lines
from vlaw_assets.query import connect
from vlaw_assets.query.questions import FOLDER, read_question


def clips_of(name):
    return lambda draft: draft.write_episodes(episodes(1, seed=sum(map(ord, name))), purpose="validation")


def judged(lake, experiment, base, models):
    """loop_state of iteration 02: its world model was promoted by measurements on clips of the experiment's own."""
    clips = commit(
        lake,
        "validation_rollouts",
        f"{experiment}|01",
        {"policy": base["base_policy"]},
        clips_of(experiment),
        recipe={"of": experiment},
    )
    measured = commit(
        lake,
        "world_model_metrics",
        f"{experiment}|01",
        {"world_model": models["world_model"], "clips": clips},
        lambda draft: draft.write_evaluations(
            [{"task": "all", "metric": "m", "value": 0.1, "trials": sum(map(ord, experiment))}]
        ),
    )
    parents = {**models, "judged_world_model": models["world_model"], "world_model_metrics": measured}
    verdict = {"world_model": {"promoted": True, "measured": True, "reason": f"measured for {experiment}"}}

    def write(draft):
        checkpoint(f"state of {experiment}", promotion=verdict)(draft)

    return SimpleNamespace(
        clips=clips, measured=measured, state=commit(lake, "loop_state", f"{experiment}|02", parents, write)
    )


def second(lake, experiment, base, models, state):
    """What iteration 02 makes of the state's models."""
    at = f"{experiment}|02"
    real = commit(
        lake,
        "real_rollouts",
        at,
        {"policy": models["policy"]},
        lambda draft: draft.write_episodes(episodes(2, seed=5), purpose="rollout"),
        state=state,
    )
    world = commit(
        lake,
        "world_model",
        at,
        {"world_model": models["world_model"], "real_rollouts_02": real},
        checkpoint("world 2"),
        state=state,
    )
    imagined = commit(
        lake,
        "imagined_rollouts",
        at,
        {"policy": models["policy"], "world_model": world},
        lambda draft: draft.write_episodes(episodes(1, seed=6, judged=False), purpose="imagined"),
        state=state,
    )
    policy = commit(
        lake,
        "policy",
        at,
        {"policy": models["policy"], "imagined_rollouts": imagined},
        checkpoint("policy 2"),
        state=state,
    )
    return SimpleNamespace(real=real, world=world, imagined=imagined, policy=policy)


@pytest.fixture
def gate(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    base = foundation(lake)
    first = commit(
        lake, "world_model", "gate|01", {"world_model": base["pretrained_world_model"]}, checkpoint("world 1")
    )
    models = {"policy": base["base_policy"], "world_model": first, "reward_model": base["pretrained_reward_model"]}
    before = judged(lake, "gate", base, models)
    return SimpleNamespace(
        lake=lake, base=base, models=models, before=before, made=second(lake, "gate", base, models, before.state)
    )


def one_of(lake, ref):
    return lake.read(ref).table("episodes")["episode_id"][0].as_py()


def reached(lake, name):
    return {item.ref.name: item.how for item in impact(lake, name)}


def agree(lake, *, every: int = 1):
    """The SQL question and `impact` say the same of every episode, or of one in `every`."""
    _, sql = read_question(FOLDER / "impact.sql")
    with connect(lake) as query:
        for name in query.table("SELECT DISTINCT episode_id FROM episodes ORDER BY 1")["episode_id"].to_pylist()[
            ::every
        ]:
            rows = query.table(sql, {"episode_id": name}).to_pylist()
            holders = {
                row["artifact_id"]
                for row in query.table(
                    "SELECT artifact_id FROM episodes WHERE episode_id = $n", {"n": name}
                ).to_pylist()
            }
            said = {row["artifact_id"]: (row["how"], row["rows"]) for row in rows if row["artifact_id"] not in holders}
            ours = {
                item.ref.artifact_id: (item.how, item.rows if item.how == "rows" else None)
                for item in impact(lake, name)
            }
            assert said == ours, name


def test_a_validation_episode_reaches_what_it_decided_about(gate):
    name = one_of(gate.lake, gate.before.clips)
    found = reached(gate.lake, name)
    assert found == {
        "world_model_metrics[gate|01]": "whole",
        "loop_state[gate|02]": "whole",
        "world_model[gate|02]": "whole",
        "imagined_rollouts[gate|02]": "whole",
        "policy[gate|02]": "whole",
    }
    assert "real_rollouts[gate|02]" not in found, "it took the policy, about which nothing was measured on that clip"
    agree(gate.lake)


def test_the_audit_shows_what_chose(gate):
    found = check_every_answer(gate.lake, "policy", "gate|02")
    assert [
        (row["state"], row["model"], row["chosen"], row["candidate"], row["promoted"]) for row in found["decisions"]
    ] == [
        ("loop_state[gate|02]", "policy", "base_policy", "", None),
        ("loop_state[gate|02]", "world_model", "world_model[gate|01]", "world_model[gate|01]", True),
        ("loop_state[gate|02]", "reward_model", "pretrained_reward_model", "", None),
    ]
    assert "measured for gate" in found["decisions"][1]["reason"]
    assert decision_lines(found)[:2] == [
        "loop_state[gate|02]: policy is base_policy",
        "loop_state[gate|02]: world_model is world_model[gate|01]; world_model[gate|01] was promoted: "
        + found["decisions"][1]["reason"],
    ]
    assert {"validation_rollouts", "world_model_metrics"} <= {item["asset"] for item in found["artifacts"]}
    assert {row["dataset"]: row["count"] for row in found["episodes"] if row["purpose"] == "validation"} == {
        "validation_rollouts[gate|01]": 1
    }
    assert not [row for row in found["learned"] if "validation" in row["dataset"]], "nothing learned from them"


@pytest.mark.slow
def test_a_pointer_has_the_choice_of_its_own_partition(gate):
    lake = gate.lake
    other = judged(lake, "twin", gate.base, gate.models)
    twin = second(lake, "twin", gate.base, gate.models, other.state)
    for name in ("real", "world", "imagined", "policy"):
        ref, owner = getattr(twin, name), getattr(gate.made, name)
        assert ref.source_artifact_id == owner.artifact_id, "the same models make the same, whoever chose them"
        chosen = {edge.parent for edge in lake.ledger.edge_rows(ref.artifact_id) if edge.role == CHOSEN_BY}
        assert chosen == {other.state.owner}
        assert {edge.role for edge in lake.ledger.edge_rows(ref.artifact_id)} == {
            edge.role for edge in lake.ledger.edge_rows(owner.artifact_id)
        }
    theirs, ours = one_of(lake, other.clips), one_of(lake, gate.before.clips)
    assert {name for name in reached(lake, theirs) if name.endswith("|02]")} == {
        "loop_state[twin|02]",
        "world_model[twin|02]",
        "imagined_rollouts[twin|02]",
        "policy[twin|02]",
    }
    assert not {name for name in reached(lake, ours) if "twin" in name}
    assert {item["partition"] for item in audit_of(lake, twin.policy)["artifacts"]} == {
        "",
        "gate|01",
        "twin|01",
        "twin|02",
    }
    for asset in ("policy", "world_model"):
        check_every_answer(lake, asset, "twin|02")
    check_every_answer(lake, "policy", "gate|02")
    agree(lake, every=2)
    assert verify(lake, lake.ledger.artifacts()) == verify_ledger(lake) == []
    fresh = Lake.open(lake.paths.root, create=False)
    assert fresh.ledger.edge_rows(twin.world.artifact_id) == lake.ledger.edge_rows(twin.world.artifact_id)
    path = lake.paths.root / twin.world.versions["edges"]["files"][0]["path"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert path.name in " ".join(map(str, verify(fresh, [twin.world])))


def test_a_decision_made_again_is_noted_again_and_only_then(gate):
    """Where the evidence changes and the choice does not, what stands on it is kept, and says who chose it now."""
    lake = gate.lake
    again = judged(lake, "again", gate.base, gate.models)  # other evidence, moved to this experiment's partition below
    parents = dict(lake.ledger.edges(again.state.owner))
    state = commit(lake, "loop_state", "gate|02", parents, checkpoint("state of gate, anew"), recipe={"anew": 1})
    before = len(lake.ledger.artifacts())
    made = second(lake, "gate", gate.base, gate.models, state)
    assert len(lake.ledger.artifacts()) == before + 4
    assert made.policy.owner == gate.made.policy.artifact_id
    ours = one_of(lake, gate.before.clips)
    assert not {
        name for name in (item.ref.name for item in impact(lake, ours) if item.is_current) if name.endswith("|02]")
    }
    assert reached(lake, one_of(lake, again.clips))["policy[gate|02]"] == "whole"
    second(lake, "gate", gate.base, gate.models, state)
    assert len(lake.ledger.artifacts()) == before + 4, "the same choice is not noted twice"
    check_every_answer(lake, "policy", "gate|02")
    agree(lake)


def test_the_small_loop_agrees_in_sql(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    loop(lake)
    agree(lake, every=5)
    assert json.loads(lake.ledger.require("policy", "vlaw|02").contents_json)["reads"]
    assert Raw(lake.paths.root).promotion(lake.ledger.require("policy", "vlaw|02").artifact_id) == {}
