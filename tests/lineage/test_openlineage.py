"""The ledger as OpenLineage events, read back by OpenLineage's own classes."""

from __future__ import annotations

import json
import uuid

from asking import at, vlaw
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

from vlaw_assets.lineage.openlineage import events


def read_back(event: dict) -> RunEvent:
    event = {key: value for key, value in event.items() if key != "schemaURL"}
    return RunEvent(
        **event
        | {
            "eventType": RunState(event["eventType"]),
            "run": Run(**event["run"]),
            "job": Job(**event["job"]),
            "inputs": [InputDataset(**item) for item in event["inputs"]],
            "outputs": [OutputDataset(**item) for item in event["outputs"]],
        }
    )


def version(dataset) -> str:
    return dataset.facets["version"]["datasetVersion"]


def test_one_event_per_artifact_with_the_version_of_each_input_that_was_read(made):
    lake, (_, _, second) = made
    found = [read_back(event) for event in events(lake)]
    artifacts = lake.ledger.artifacts()
    assert [version(event.outputs[0]) for event in found] == [ref.artifact_id for ref in artifacts]
    seen = set()
    for event, ref in zip(found, artifacts, strict=True):
        assert (event.job.name, event.outputs[0].name) == (ref.asset, ref.name)
        if ref.owner == ref.artifact_id:
            wanted = {parent.artifact_id for _, parent in lake.ledger.edges(ref.owner)}
        else:
            wanted = {ref.owner}
        assert {version(item) for item in event.inputs} == wanted
        assert wanted <= seen, "what is read is there before"
        seen.add(ref.artifact_id)
    policy = next(event for event in found if version(event.outputs[0]) == second["policy"].artifact_id)
    assert {item.name.partition("[")[0] for item in policy.inputs} >= {"training_set"}
    assert len({event.run.runId for event in found}) == len(found)
    assert [event.run.runId for event in map(read_back, events(lake))] == [event.run.runId for event in found]
    assert all(uuid.UUID(event.run.runId) for event in found)


def test_the_command_writes_a_line_each_and_replaces_nothing(made, monkeypatch, tmp_path):
    lake, _ = made
    at(monkeypatch, tmp_path, {"VLAW_LAKE": str(lake.paths.root)})
    result = vlaw("export", "openlineage", "events.jsonl")
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(events(lake))
    again = vlaw("export", "openlineage", "events.jsonl")
    assert again.exit_code == 2
    assert "the file exists" in again.output
    assert vlaw("export", "openlineage", "events.jsonl", "--force").exit_code == 0
