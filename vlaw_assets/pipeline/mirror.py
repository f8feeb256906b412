"""What Dagster records of a commit: the ledger's row in the words of Dagster's metadata, tags and data versions.

One function per thing recorded, used when a stage reports (assets/stage_asset.py) and when an event is missing
(reconcile.py), so that the two can be compared; and that comparison. The ledger is the truth: nothing reads this back
to decide anything but whether it must be reported again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlaw_assets.pipeline.plugins import CODE_VERSION

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

ARTIFACT = "vlaw/artifact"
RECONCILED = "vlaw/reconciled"
"""Tag and metadata of an event that was reported from the ledger, not by the run that made the artifact."""

PREVIEWS_BYTES = 12_000
"""Of all previews of one event together, before they become text (a third more)."""

DIGESTS = {
    "vlaw/content_sha256": "content_digest",
    "vlaw/code_sha256": "code_digest",
    "vlaw/recipe_sha256": "recipe_digest",
    "vlaw/parents_sha256": "parents_digest",
}
"""Metadata key -> column of the ledger, of the four digests that are an artifact's identity."""


def data_version_of(ref: ArtifactRef) -> str:
    """Dagster's data version: two artifacts of an asset have the same one where content and recipe are the same."""
    return f"{ref.content_digest[:16]}-{ref.recipe_digest[:16]}"


def code_version_of(ref: ArtifactRef) -> str:
    """Dagster's code version: of the stage, as its definition has it. The code of plug-ins is in the digest only."""
    return str(ref.metrics.get(CODE_VERSION, ref.code_digest))[:16]


def metadata_of(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    """Plain values: who it is, its four digests, versions and counts per table, what it was made from and how."""
    inputs = [
        {
            "role": role,
            "asset": parent.asset,
            "partition": parent.partition,
            "artifact": parent.artifact_id,
            "content_sha256": parent.content_digest,
            "versions": _numbers(parent),
        }
        for role, parent in lake.ledger.edges(ref.owner)
    ]
    contents = getattr(ref, "contents_json", "")
    return {
        "dagster/row_count": ref.num_rows,
        ARTIFACT: ref.artifact_id,
        "vlaw/owner": ref.owner,
        **{key: getattr(ref, column) for key, column in DIGESTS.items()},
        "vlaw/versions": {name: _version(entry) for name, entry in ref.versions.items()},
        "vlaw/recipe": json.loads(ref.recipe_json or "{}"),
        "vlaw/inputs": inputs,
        "vlaw/committed_at": ref.created_at.isoformat(),
        "vlaw/code_revision": ref.code_revision,
        **({"vlaw/contents": json.loads(contents)} if contents else {}),
        **({"vlaw/excluded": ref.metrics["excluded"]} if "excluded" in ref.metrics else {}),
        **({"vlaw/checkpoint": ref.location} if ref.location else {}),
    }


def pictures_of(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    """An artifact's pictures as Dagster's metadata: a small preview, and where the picture lies. The log stays small by
    it."""
    import dagster as dg

    from vlaw_assets.lake import pictures
    from vlaw_models.pictures import PREVIEW_BYTES, md_image, preview

    found: dict[str, Any] = {}
    named = pictures.named(ref)
    for title, digest in named.items():
        path = pictures.path_of(lake.paths, digest)
        try:
            found[f"picture: {title}"] = dg.MetadataValue.md(
                md_image(preview(path.read_bytes(), min(PREVIEW_BYTES, PREVIEWS_BYTES // len(named))), title)
            )
        except (OSError, ValueError):  # gone or damaged: the record of the data must not fail for it
            found[f"picture: {title}"] = dg.MetadataValue.md(
                "_the picture cannot be read: vlaw audit ... --verify says why_"
            )
        found[f"picture file: {title}"] = dg.MetadataValue.path(str(path))
    return found


def differences(metadata: Mapping[str, Any], data_version: str | None, ref: ArtifactRef) -> list[str]:
    """Names of what an event says otherwise than the ledger's row; empty where it mirrors it."""
    said = {
        "the artifact": (metadata.get(ARTIFACT), ref.artifact_id),
        "the row count": (metadata.get("dagster/row_count"), ref.num_rows),
        "the data version": (data_version, data_version_of(ref)),
        **{key: (metadata.get(key), getattr(ref, column)) for key, column in DIGESTS.items()},
    }
    return [name for name, (theirs, ours) in said.items() if theirs != ours]


def _version(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One table of an artifact; the files one by one are the ledger's business."""
    return {
        "version": entry["version"],
        "rows": entry["rows"],
        "files": len(entry["files"]),
        "bytes": sum(file["size"] for file in entry["files"]),
    }


def _numbers(ref: ArtifactRef) -> dict[str, int]:
    return {name: entry["version"] for name, entry in ref.versions.items()}
