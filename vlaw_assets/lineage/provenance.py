"""The closure of an artifact as an in-toto Statement with SLSA's provenance predicate (both version 1).

Plain values, every digest a sha256 that a verifier can compute from the files alone. Signing is for standard tools (see
`vlaw export provenance --help`).

How ours maps on theirs: a subject per checkpoint file, and the manifest that binds them; externalParameters is the
recipe; a resolvedDependency per artifact of the closure and in its annotations every file; byproducts are the metrics.
An artifact's own digest is its content digest: of a checkpoint the sha256 of the canonical JSON of {file: {sha256,
size}}, of tables the sha256 of the canonical JSON of their rows' digests.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.lineage.reading import name_of
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:vlaw:materialization:v1"
"""What externalParameters and the rest mean; explained in docs/audit.md."""
BUILDER = "urn:vlaw:dagster-in-process"


def statement(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    """The statement about an artifact that has a checkpoint. Raises VlawError for one that has none."""
    owner = lake.ledger.get(ref.owner)
    if not owner.location:
        raise VlawError(
            f"{ref.name} has no checkpoint, so there is no file that a statement could be about",
            where=ref.artifact_id,
            remedy="Export the provenance of policy, world_model or reward_model.",
        )
    found = audit_of(lake, ref)
    finished = owner.created_at
    seconds = owner.metrics.get("seconds")
    metadata = {"invocationId": owner.run_id, "finishedOn": _time(finished)}
    if isinstance(seconds, int | float):
        metadata["startedOn"] = _time(finished - timedelta(seconds=seconds))
    return {
        "_type": STATEMENT,
        "subject": _subjects(lake, owner),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "asset": ref.asset,
                    "partition": ref.partition,
                    "recipe": json.loads(owner.recipe_json or "{}"),
                },
                "internalParameters": {
                    "artifact": owner.artifact_id,
                    "codeSha256": owner.code_digest,
                    "codeRevision": owner.code_revision,
                    "recipeSha256": owner.recipe_digest,
                    "parentsSha256": owner.parents_digest,
                    "identitySha256": owner.identity_digest,
                    "kind": owner.kind,
                    "reads": _artifact(found, owner)["parents"],
                    "learnedFrom": [
                        {key: value for key, value in row.items() if key not in ("artifact", "learner")}
                        for row in found["learned"]
                        if row["artifact"] == found["artifacts"][-1]["artifact"]
                    ],
                    "chosenBy": found["decisions"],
                },
                "resolvedDependencies": [
                    _dependency(lake, found, item) for item in found["artifacts"] if item["owner"] != owner.artifact_id
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": _versions(owner)},
                "metadata": metadata,
                "byproducts": _byproducts(lake, found, owner),
            },
        },
    }


def _artifact(found: dict[str, Any], owner: ArtifactRef) -> dict[str, Any]:
    return next(item for item in found["artifacts"] if item["owner"] == owner.artifact_id)


def _subjects(lake: Lake, owner: ArtifactRef) -> list[dict[str, Any]]:
    """The checkpoint's files, as its manifest records them, and the manifest itself."""
    from vlaw_assets.lake.checkpoints import MANIFEST
    from vlaw_assets.lake.durable import sha256_file

    files = _checkpoint_files(lake, owner.location)
    manifest = lake.paths.root / owner.location / MANIFEST
    return [
        *({"name": file["name"], "digest": file["digest"]} for file in files),
        {
            "name": MANIFEST,
            "digest": {"sha256": sha256_file(manifest)},
            "annotations": {"content": owner.content_digest},
        },
    ]


def _dependency(lake: Lake, found: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """A ResourceDescriptor of one artifact: its content digest, where it came from, and every file it consists of."""
    owner = lake.ledger.get(item["artifact"])
    files = [
        {"name": file["path"], "digest": {"sha256": file["sha256"]}, "size": file["size"]}
        for entry in owner.versions.values()
        for file in entry["files"]
    ]
    if owner.location:
        files += [
            file | {"name": f"{owner.location}/{file['name']}"} for file in _checkpoint_files(lake, owner.location)
        ]
    return {
        "name": name_of(item),
        "uri": f"urn:vlaw:artifact:{item['artifact']}",
        "digest": {"sha256": item["content_sha256"]},
        "annotations": {
            "asset": item["asset"],
            "partition": item["partition"],
            "kind": item["kind"],
            "codeSha256": item["code_sha256"],
            "recipeSha256": item["recipe_sha256"],
            "parentsSha256": item["parents_sha256"],
            "codeRevision": item["code_revision"],
            "recipe": item["recipe"],
            "run": item["run_id"],
            "createdOn": _time(owner.created_at),
            "contents": item["contents"],
            "reads": item["parents"],
            "episodesRead": _read_of(found, item),
            "files": files,
        },
    }


def _read_of(found: dict[str, Any], item: dict[str, Any]) -> list[dict[str, Any]]:
    """What the closure read of a dataset's episodes."""
    return [
        {key: row[key] for key in ("purpose", "task", "outcome", "count", "held")}
        for row in found["episodes"]
        if row["artifact"] == item["artifact"]
    ]


def _checkpoint_files(lake: Lake, location: str) -> list[dict[str, Any]]:
    from vlaw_assets.lake.checkpoints import MANIFEST

    path = lake.paths.root / location / MANIFEST
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["files"]
        return [
            {"name": name, "digest": {"sha256": entry["sha256"]}, "size": entry["size"]}
            for name, entry in sorted(recorded.items())
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VlawError(
            f"the checkpoint's manifest cannot be read ({type(error).__name__})",
            where=str(path),
            remedy="See vlaw audit ... --verify; restore the file from a copy.",
        ) from error


def _byproducts(lake: Lake, found: dict[str, Any], owner: ArtifactRef) -> list[dict[str, Any]]:
    """What was measured: of the making itself (without its curves), and of the models at the time."""
    own = {
        key: value
        for key, value in owner.metrics.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    }
    rows = [{"name": "metrics", "mediaType": "application/json", "annotations": own}] if own else []
    return rows + [
        {
            "name": f"{item['asset']}[{item['partition']}]",
            "uri": f"urn:vlaw:artifact:{item['artifact']}",
            "digest": {"sha256": lake.ledger.get(item["artifact"]).content_digest},
            "mediaType": "application/json",
            "annotations": {"measures": item["measures"], "figures": item["figures"]},
        }
        for item in found["metrics"]
    ]


def _versions(owner: ArtifactRef) -> dict[str, str]:
    """Versions of the program and of what it was made with, where the ledger has them."""
    made_with = owner.metrics.get("made_with")
    revision = {"vlaw": owner.code_revision} if owner.code_revision else {}
    return revision | (
        {name: str(version) for name, version in made_with.items()} if isinstance(made_with, dict) else {}
    )


def _time(moment: datetime) -> str:
    """RFC 3339 in UTC, as the predicate wants it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
