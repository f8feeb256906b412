"""What Dagster records of a commit: the ledger's row in the words of Dagster's metadata, tags and data versions.

One function per thing recorded, put together by page.py when a stage reports (assets/stage_asset.py) and when an event
is missing (reconcile.py), so that the two can be compared; and that comparison. The ledger is the truth: nothing reads
this back to decide anything but whether it must be reported again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

from vlaw_assets.pipeline.plugins import CODE_VERSION

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

ARTIFACT = "vlaw/artifact"
RECONCILED = "vlaw/reconciled"
"""Tag and metadata of an event that was reported from the ledger, not by the run that made the artifact."""

IDENTITY = "identity"
"""Metadata key of the table of an artifact's digests, versions and inputs."""
PICTURES = "/vlaw/pictures"
"""Where the server of `vlaw ui` has the lake's pictures."""
CAPTION = "_Drawn when this was made, no part of its content. [The picture in its own size]({})._"
"""Dagster makes a Markdown value as wide as its longest line would be, at most as the page: so wide is the picture."""
SHORT, SHOWN = 12, 32
"""Characters of a digest that is there to be recognised, and of one that is compared."""
PREVIEWS_BYTES = 9_000
"""Of all previews of one event together, before they become text (a third more)."""

DIGESTS = {
    "content sha256": "content_digest",
    "code sha256": "code_digest",
    "recipe sha256": "recipe_digest",
    "parents sha256": "parents_digest",
}
"""Row of the identity -> column of the ledger, of the four digests that are an artifact's identity."""


def data_version_of(ref: ArtifactRef) -> str:
    """Dagster's data version: two artifacts of an asset have the same one where content and recipe are the same."""
    return f"{ref.content_digest[:16]}-{ref.recipe_digest[:16]}"


def code_version_of(ref: ArtifactRef) -> str:
    """Dagster's code version: of the stage, as its definition has it. The code of plug-ins is in the digest only."""
    return str(ref.metrics.get(CODE_VERSION, ref.code_digest))[:16]


def facts_of(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    """Who an artifact is and what it was made from, for the end of its page: recipe, then one table."""
    import dagster as dg

    recipe = "\n".join(_settings(json.loads(ref.recipe_json or "{}")))
    return {
        **({"vlaw/excluded": ref.metrics["excluded"]} if "excluded" in ref.metrics else {}),
        **({"recipe": dg.MetadataValue.md(f"```toml\n{recipe}\n```")} if recipe else {}),
        ARTIFACT: ref.artifact_id,
        IDENTITY: dg.MetadataValue.table(
            [dg.TableRecord({"part": part, "value": value}) for part, value in _parts(lake, ref)]
        ),
    }


def row_count_of(ref: ArtifactRef) -> int | None:
    """For Dagster's own row count; None where there are no rows to count, as of a checkpoint."""
    return ref.num_rows if ref.num_rows and not ref.location else None


def _parts(lake: Lake, ref: ArtifactRef) -> Iterator[tuple[str, str]]:
    """The rows of the identity; digests with as much as a page has room for: `vlaw audit --json` has them whole."""
    yield from ((part, getattr(ref, column)[:SHOWN]) for part, column in DIGESTS.items())
    if ref.location:
        yield "checkpoint", f"{ref.location[: -64 + SHOWN]}…"
    for name, entry in ref.versions.items():
        yield f"table {name}", f"version {entry['version']}, {entry['rows']} row{'s' * (entry['rows'] != 1)}"
    for role, parent in lake.ledger.edges(ref.owner):
        name = "" if parent.asset == role and not parent.partition else f"{parent.name} "
        yield f"read as {role}", f"{name}{parent.content_digest[:SHORT]} (artifact {parent.artifact_id[:SHORT]})"
    code = f", code revision {ref.code_revision[:SHORT]}" if ref.code_revision else ""
    yield "committed", f"{ref.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC{code}"


def _settings(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Recipe values as lines, keys with dots; of the robot its name, of digests the beginning."""
    for key, value in values.items():
        if key == "robot" and isinstance(value, dict):
            yield f"{before}{key} = {json.dumps(value.get('name'))}"
        elif isinstance(value, dict):
            yield from _settings(value, f"{before}{key}.")
        else:
            short = f"{value[:SHORT]}…" if isinstance(value, str) and len(value) == 64 else value
            yield f"{before}{key} = {json.dumps(short, ensure_ascii=False)}"


def pictures_of(lake: Lake, ref: ArtifactRef) -> tuple[dict[str, Any], dict[str, Any]]:
    """An artifact's pictures as Dagster's metadata: what is visible at once, and what is a click away.

    Dagster draws Markdown of less than a thousand characters in place: so the picture is an address of this server
    (web/lake_pictures.py), an SVG around it that is as wide as the page has room for. Under Dagster's own server, which
    knows no such address, the small preview shows it. The log stays small by both.
    """
    import dagster as dg

    from vlaw_assets.lake import pictures
    from vlaw_models.pictures import PREVIEW_BYTES, md_image, preview

    shown: dict[str, Any] = {}
    behind: dict[str, Any] = {}
    named = pictures.named(ref)
    for title, digest in named.items():
        path = pictures.path_of(lake.paths, digest)
        try:
            small = preview(path.read_bytes(), min(PREVIEW_BYTES, PREVIEWS_BYTES // len(named)))
        except (OSError, ValueError):  # gone or damaged: the record of the data must not fail for it
            shown[title] = dg.MetadataValue.md("_the picture cannot be read: vlaw audit ... --verify says why_")
        else:
            address = f"{PICTURES}/{digest}"
            shown[title] = dg.MetadataValue.md(f"![{title}]({address}.svg)\n\n{CAPTION.format(f'{address}.png')}")
            behind[f"preview: {title}"] = dg.MetadataValue.md(f"{md_image(small, title)}\n\n`{path}`")
    return shown, behind


def pages_of(lake: Lake, ref: ArtifactRef) -> dict[str, str]:
    """Title -> Markdown of an artifact's pages: their addresses on this server, and their files."""
    from vlaw_assets.lake import pictures

    return {
        title: f"[**{title}** (one page, as of then)]({PICTURES}/{digest}.{pictures.PAGE})\n\n"
        f"`{pictures.path_of(lake.paths, digest, pictures.PAGE)}`"
        for title, digest in pictures.pages(ref).items()
    }


def differences(metadata: Mapping[str, Any], data_version: str | None, ref: ArtifactRef) -> list[str]:
    """Names of what an event says otherwise than the ledger's row; empty where it mirrors it."""
    table = metadata.get(IDENTITY)
    parts = {record.data["part"]: record.data["value"] for record in getattr(table, "records", ())}
    said = {
        "the artifact": (metadata.get(ARTIFACT), ref.artifact_id),
        "the row count": (metadata.get("dagster/row_count"), row_count_of(ref)),
        "the data version": (data_version, data_version_of(ref)),
        **{part: (parts.get(part), getattr(ref, column)[:SHOWN]) for part, column in DIGESTS.items()},
    }
    return [name for name, (theirs, ours) in said.items() if theirs != ours]
