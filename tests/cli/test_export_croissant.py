"""`vlaw export croissant`: a card that is true of its files, and that Croissant's own library validates and reads."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import needed
import pyarrow.parquet as pq
import pytest
from asking import vlaw

from vlaw_assets.exports.columns import TYPES
from vlaw_assets.lake import labels, quarantine
from vlaw_assets.lake.schemas import EPISODES, FRAMES, STEPS
from vlaw_assets.query import connect
from vlaw_models.robots.registry import find_robot

READ = """
import json, sys
import mlcroissant
dataset = mlcroissant.Dataset(sys.argv[1])
told = {"name": dataset.metadata.name, "version": dataset.metadata.version}
told["problems"] = [sorted(dataset.metadata.ctx.issues.errors), sorted(dataset.metadata.ctx.issues.warnings)]
told["collected"] = dataset.metadata.data_collection
for name in ("episodes", "steps", "frames"):
    told[name] = []
    for record in dataset.records(name):
        row = {key.partition("/")[2]: value for key, value in record.items()}
        if name == "frames":
            row = {"step": int(row["step"]), "camera": row["camera"].decode(), "size": row["image"].size}
        if name == "steps":
            state = [float(value) for value in row["state"]]
            row = {"id": row["episode_id"].decode(), "step": int(row["step"]), "state": state}
        if name == "episodes":
            row = {"id": row["episode_id"].decode(), "task": row["task"].decode(), "success": row["success"]}
        told[name].append(row)
print(json.dumps(told))
"""
"""What a person would do with the card, in an environment that has mlcroissant."""


pytestmark = pytest.mark.usefixtures("here")


def ask(place, sql: str) -> list[dict[str, Any]]:
    with connect(place.lake) as query:
        return query.table(sql, {}).to_pylist()


def card_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "croissant.json").read_text())


def identified(value: Any) -> Iterator[str]:
    """The id of everything in a card that has a type."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(item, dict) and {"@id", "@type"} <= item.keys():
            yield item["@id"]
        yield from identified(item)


def referred(value: Any) -> Iterator[str]:
    """The id of everything in a card that is only named."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(item, dict) and item.keys() == {"@id"}:
            yield item["@id"]
        yield from referred(item)


def test_the_card_is_true_of_the_files_and_every_name_in_it_leads_somewhere(place, tmp_path):
    vlaw("export", "croissant", "training_set", "smoke", "1", "given", "--frames", "--license", "CC0-1.0", code=0)
    card = card_of(tmp_path / "given")
    assert {path.name for path in (tmp_path / "given").iterdir()} == {
        "croissant.json",
        *(file["contentUrl"] for file in card["distribution"]),
    }
    for file in card["distribution"]:
        data = (tmp_path / "given" / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
        assert file["contentSize"] == f"{len(data)} B"
    ids = list(identified({name: card[name] for name in ("distribution", "recordSet")}))
    assert len(ids) == len(set(ids))
    named = set(referred(card["recordSet"]))
    assert {"episodes.parquet", "episodes/episode_id", "steps/step", "frames/camera"} <= named
    assert named <= set(ids)
    assert card["license"] == "CC0-1.0"
    assert "url" not in card


def test_fields_are_the_columns_with_their_types_and_the_robots_names(place, tmp_path):
    vlaw("export", "croissant", "training_set", "smoke", "1", "given", "--frames", code=0)
    sets = {each["name"]: each["field"] for each in card_of(tmp_path / "given")["recordSet"]}
    added = ["recorded", "label", "weight", "source"]
    expected = {"episodes": [*EPISODES.names, *added], "steps": STEPS.names, "frames": FRAMES.names}
    assert {name: [field["name"] for field in fields] for name, fields in sets.items()} == expected
    for name, fields in sets.items():
        schema = pq.read_schema(tmp_path / "given" / f"{name}.parquet")
        assert schema.names == expected[name]
        for field in fields:
            kind = schema.field(field["name"]).type
            assert field["dataType"] == TYPES[str(getattr(kind, "value_type", kind))]
            assert field.get("isArray", False) == hasattr(kind, "value_type")
    state = next(field for field in sets["steps"] if field["name"] == "state")
    robot = find_robot("tabletop")
    assert state["arrayShape"] == str(len(robot.state))
    assert all(name in state["description"] for name in robot.state.names)


def test_the_rows_are_those_of_the_training_set_and_of_the_lake(place, tmp_path):
    result = vlaw("export", "croissant", "training_set", "smoke", "1", "members", "--frames", code=0)
    members = ask(place, "select m.* from members m join artifacts a on a.owner_id = m.artifact_id where a.is_current")
    episodes = pq.read_table(tmp_path / "members" / "episodes.parquet").to_pylist()
    assert {(e["artifact_id"], e["episode_id"], e["weight"], e["source"]) for e in episodes} == {
        (m["owner"], m["episode_id"], m["weight"], m["source"]) for m in members
    }
    assert len(episodes) == len(members) > 0
    assert f"members: {len(episodes)} episodes" in result.output
    steps = pq.read_table(tmp_path / "members" / "steps.parquet").to_pylist()
    assert len(steps) == sum(e["num_steps"] + 1 for e in episodes)
    frames = pq.read_table(tmp_path / "members" / "frames.parquet", columns=["episode_id", "step", "camera"])
    assert frames.num_rows == sum(e["num_frames"] * len(e["cameras"]) for e in episodes)
    vlaw("export", "croissant", "all", code=0)
    current = "artifact_id in (select owner_id from artifacts where is_current)"
    stored = ask(place, f"select * from episodes where {current}")
    written = pq.read_table(tmp_path / "all" / "episodes.parquet").to_pylist()

    def ordered(rows):
        return sorted(({k: row[k] for k in EPISODES.names} for row in rows), key=lambda r: r["episode_id"])

    assert ordered(written) == ordered(stored)
    [count] = ask(place, f"select count(*) as n, sum(len(state)) as numbers from steps where {current}")
    table = pq.read_table(tmp_path / "all" / "steps.parquet")
    assert (table.num_rows, sum(map(len, table["state"].to_pylist()))) == (count["n"], count["numbers"])


def test_the_same_lake_gives_the_same_bytes_and_another_dataset_another_version(place, tmp_path):
    for name in ("one", "two"):
        vlaw("export", "croissant", "real_rollouts", "smoke", "1", name, code=0)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    vlaw("export", "croissant", "expert_demonstrations", "three", code=0)
    assert card_of(tmp_path / "one")["version"] != card_of(tmp_path / "three")["version"]
    held = place.lake.ledger.require("real_rollouts", "smoke|01")
    assert [s["version"] for s in card_of(tmp_path / "one")["isBasedOn"]][-1] == held.content_digest


def test_a_label_is_what_success_says_and_what_is_in_quarantine_is_left_out(place, tmp_path):
    sql = "select episode_id from episodes where purpose = 'rollout' and recorded order by 1"
    labelled, slipped = [row["episode_id"] for row in ask(place, sql)][:2]
    labels.label_episodes(place.lake, [(labelled, "failure", "anna", "it slid")])
    quarantine.add(place.lake, [slipped], why="the camera had slipped", by="anna")
    result = vlaw("export", "croissant", "real_rollouts", "smoke", "1", "given", code=0)
    rows = {e["episode_id"]: e for e in pq.read_table(tmp_path / "given" / "episodes.parquet").to_pylist()}
    assert (rows[labelled]["success"], rows[labelled]["recorded"], rows[labelled]["label"]) == (False, True, "failure")
    assert slipped not in rows
    assert "1 episodes are left out" in result.output
    assert slipped not in pq.read_table(tmp_path / "given" / "steps.parquet")["episode_id"].to_pylist()
    assert "1 episodes were left out" in " ".join(card_of(tmp_path / "given")["rai:dataLimitations"])
    quarantine.release(place.lake, [slipped], why="a test", by="anna")


def test_what_has_no_episodes_is_refused_and_only_a_dataset_is_replaced(place, tmp_path):
    refused = vlaw("export", "croissant", "autoencoder", "none", code=2)
    assert "training_set vlaw 2" in " ".join(refused.output.split())
    vlaw("export", "croissant", "real_rollouts", "smoke", "none", code=2)
    forgotten = vlaw("export", "croissant", "expert_demonstrations", code=2)
    assert "FOLDER" in forgotten.output
    inside = vlaw("export", "croissant", str(place.lake.paths.root / "given"), code=2)
    assert "inside the lake" in inside.output
    assert not list(tmp_path.iterdir())
    vlaw("export", "croissant", "real_rollouts", "smoke", "1", "given", code=0)
    before = card_of(tmp_path / "given")
    assert "--force" in vlaw("export", "croissant", "expert_demonstrations", "given", code=2).output
    assert card_of(tmp_path / "given") == before
    vlaw("export", "croissant", "expert_demonstrations", "given", "--force", code=0)
    assert card_of(tmp_path / "given") != before
    (tmp_path / "given" / "mine.txt").write_text("mine")
    vlaw("export", "croissant", "real_rollouts", "smoke", "1", "given", "--force", code=2)
    assert (tmp_path / "given" / "mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["given"], "no draft is left"


@pytest.mark.slow
def test_croissants_own_library_validates_the_card_and_reads_every_record(place, tmp_path):
    # Its command does not give records: the interpreter beside it does.
    python = Path(needed.tool("mlcroissant", "make test-long installs it")).resolve().with_name("python")
    vlaw("export", "croissant", "training_set", "smoke", "1", "given", "--frames", "--license", "CC0-1.0", code=0)
    command = [str(python), "-c", READ, str(tmp_path / "given" / "croissant.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    errors, warnings = told["problems"]
    assert not errors
    assert all("citeAs" in warning for warning in warnings), warnings
    assert told["version"] == card_of(tmp_path / "given")["version"]
    assert told["name"] == "training_set smoke 01"
    assert "imagined by a world model" in told["collected"]
    tables = {
        name: pq.read_table(tmp_path / "given" / f"{name}.parquet").to_pylist()
        for name in ("episodes", "steps", "frames")
    }
    assert told["episodes"] == [
        {"id": e["episode_id"], "task": e["task"], "success": e["success"]} for e in tables["episodes"]
    ]
    assert sorted(told["steps"], key=lambda s: (s["id"], s["step"])) == [
        {"id": s["episode_id"], "step": s["step"], "state": s["state"]}
        for s in sorted(tables["steps"], key=lambda s: (s["episode_id"], s["step"]))
    ]
    size = [tables["episodes"][0]["width"], tables["episodes"][0]["height"]]
    assert told["frames"] == [{"step": f["step"], "camera": f["camera"], "size": size} for f in tables["frames"]]
