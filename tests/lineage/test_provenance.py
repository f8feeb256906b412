"""The exported statement: the published field names, and every digest in it against the bytes on the disk."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timedelta

from vlaw_assets.lineage import provenance

STATEMENT_KEYS = {"_type", "subject", "predicateType", "predicate"}
DESCRIPTOR_KEYS = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
"""Of in-toto's ResourceDescriptor (v1)."""
BUILD_KEYS = {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
RUN_KEYS = {"builder", "metadata", "byproducts"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sorted_json(value) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_fields_are_those_of_the_published_schemas(made):
    lake, (_, _, second) = made
    found = provenance.statement(lake, second["policy"])
    assert set(found) == STATEMENT_KEYS
    assert (found["_type"], found["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    predicate = found["predicate"]
    assert set(predicate) == {"buildDefinition", "runDetails"}
    assert set(predicate["buildDefinition"]) == BUILD_KEYS
    assert set(predicate["runDetails"]) == RUN_KEYS
    assert set(predicate["runDetails"]["builder"]) <= {"id", "version", "builderDependencies"}
    assert set(predicate["runDetails"]["metadata"]) <= {"invocationId", "startedOn", "finishedOn"}
    descriptors = [
        *found["subject"],
        *predicate["buildDefinition"]["resolvedDependencies"],
        *predicate["runDetails"]["byproducts"],
    ]
    for descriptor in descriptors:
        assert set(descriptor) <= DESCRIPTOR_KEYS
        assert {"uri", "digest", "content", "annotations"} & set(descriptor)
        assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in descriptor.get("digest", {}).values())
    for uri in (predicate["buildDefinition"]["buildType"], predicate["runDetails"]["builder"]["id"]):
        assert re.match(r"[a-z][a-z0-9+.-]*:", uri)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_every_digest_is_that_of_the_bytes_on_the_disk(made):
    lake, (_, _, second) = made
    root, ref = lake.paths.root, second["policy"]
    found = provenance.statement(lake, ref)
    assert {entry["name"] for entry in found["subject"]} == {"config.json", "model.safetensors", "MANIFEST.json"}
    for entry in found["subject"]:
        assert entry["digest"] == {"sha256": sha256((root / ref.location / entry["name"]).read_bytes())}
    manifest = json.loads((root / ref.location / "MANIFEST.json").read_text())
    (binding,) = (entry["annotations"]["content"] for entry in found["subject"] if entry["name"] == "MANIFEST.json")
    assert binding == sha256(sorted_json(manifest["files"])) == ref.content_digest
    files = 0
    for dependency in found["predicate"]["buildDefinition"]["resolvedDependencies"]:
        for file in dependency["annotations"]["files"]:
            data = (root / file["name"]).read_bytes()
            assert (file["digest"]["sha256"], file["size"]) == (sha256(data), len(data)), file["name"]
            files += 1
        owner = lake.ledger.get(dependency["uri"].rpartition(":")[2])
        rows = {
            name: [row["content_digest"] for row in lake.read(owner).table(name).to_pylist()]
            for name in ("episodes",)
            if name in owner.versions
        }
        if owner.location:
            files_of = json.loads((root / owner.location / "MANIFEST.json").read_text())["files"]
            assert dependency["digest"]["sha256"] == sha256(sorted_json(files_of))
        elif rows:
            assert dependency["digest"]["sha256"] == sha256(sorted_json(rows))
    assert files > 40


def test_the_whole_closure_and_who_made_it_when(made):
    lake, (_, _, second) = made
    ref = second["policy"]
    found = provenance.statement(lake, ref)["predicate"]
    dependencies = found["buildDefinition"]["resolvedDependencies"]
    closure = {item.artifact_id: item for item in lake.ledger.closure(ref)[:-1]}
    assert {entry["uri"] for entry in dependencies} == {f"urn:vlaw:artifact:{name}" for name in closure}
    for entry in dependencies:
        item = closure[entry["uri"].rpartition(":")[2]]
        assert entry["digest"]["sha256"] == item.content_digest
        assert entry["annotations"]["recipe"] == json.loads(item.recipe_json)
        assert [(edge["role"], edge["artifact"]) for edge in entry["annotations"]["reads"]] == [
            (role, parent.artifact_id) for role, parent in lake.ledger.edges(item.artifact_id)
        ]
    assert found["buildDefinition"]["externalParameters"] == {
        "asset": "policy",
        "partition": "vlaw|02",
        "recipe": {"policy": {"steps": 2, "learning_rate": 0.001}, "seed": 2},
    }
    metadata = found["runDetails"]["metadata"]
    assert metadata["invocationId"] == "run-2"
    begun, ended = (datetime.fromisoformat(metadata[key]) for key in ("startedOn", "finishedOn"))
    assert abs(ended - ref.created_at) < timedelta(seconds=0.01)
    assert abs(ended - begun - timedelta(seconds=ref.metrics["seconds"])) < timedelta(seconds=0.01)
    measured = {
        name: value
        for entry in found["runDetails"]["byproducts"]
        for name, value in entry["annotations"].get("figures", {}).items()
    }
    assert measured == {"success stack": 0.5, "success all": 0.25, "psnr": 22.0}


def test_the_file_is_written_whole_and_not_over_another(vlaw, tmp_path):
    path = tmp_path / "out" / "policy.json"
    arguments = ("export", "provenance", "policy", "vlaw", "1", str(path))
    assert vlaw(*arguments).exit_code == 0
    first = path.read_bytes()
    assert json.loads(first)["_type"] == provenance.STATEMENT
    assert b"\n" not in first.rstrip()[-1:]
    path.write_text("mine")
    result = vlaw(*arguments)
    assert result.exit_code == 2
    assert "the file exists" in result.stderr
    assert path.read_text() == "mine"
    assert vlaw(*arguments, "--force").exit_code == 0
    assert path.read_bytes() == first, "the same ledger makes the same statement"
    assert [entry.name for entry in path.parent.iterdir()] == ["policy.json"]
    assert vlaw(*arguments[:-1], "/proc/none/x.json").exit_code == 2


def test_as_of_and_what_has_no_checkpoint(vlaw, made, tmp_path):
    _, (_, first, _) = made
    path = tmp_path / "then.json"
    assert (
        vlaw("export", "provenance", "policy", "vlaw", "1", str(path), "--as-of", first["policy"].artifact_id).exit_code
        == 0
    )
    names = [entry["name"] for entry in json.loads(path.read_text())["predicate"]["runDetails"]["byproducts"]]
    assert "policy_evaluation[vlaw|01]" not in names
    result = vlaw("export", "provenance", "training_set", "vlaw", "1", str(tmp_path / "no.json"))
    assert result.exit_code == 2
    assert "no checkpoint" in result.stderr
    assert not (tmp_path / "no.json").exists()
    assert "cosign attest-blob" in vlaw("export", "provenance", "--help").stdout
