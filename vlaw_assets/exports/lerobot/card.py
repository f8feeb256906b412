"""The dataset card, README.md: what a person who opens the folder has to know before learning from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vlaw_assets.exports.lerobot import layout
from vlaw_models.plain_text import readable

if TYPE_CHECKING:
    from vlaw_assets.exports.lerobot.episodes import Export
    from vlaw_assets.lake import ArtifactRef, Lake

REMARK = (
    "**{imagined} of {all} episodes are imagined**: a world model made their frames, states are what the policy "
    "commanded, and nobody saw a robot do it. Their rows have `origin` = `imagined`; never report them as real."
)
HELD = (
    "An episode of T control steps has T + 1 rows. The last one shows where the last action led; its own `action` is "
    "that action, held."
)


def card(lake: Lake, export: Export, *, title: str, licence: str) -> str:
    """Markdown with the head that hubs read."""
    common, imagined = export.layout, export.count(origin=layout.IMAGINED)
    tags = ["LeRobot", "vlaw", *(["synthetic"] if imagined else [])]
    head = {
        **({"license": licence} if licence else {}),
        "task_categories": ["robotics"],
        "tags": tags,
        **(
            {}
            if common.storage == layout.LANCE
            else {"configs": [{"config_name": "default", "data_files": "data/*/*.parquet"}]}
        ),
    }
    own = layout.OWN | (layout.MEMBER if common.weighted else {})
    outcomes = ", ".join(
        f"{export.count(outcome=name)} {name}" for name in (layout.SUCCESS, layout.FAILURE, layout.UNKNOWN)
    )
    about = (
        f"A LeRobot dataset {common.files.version}: {len(export.facts)} episodes, {export.frames} frames, {common.fps} "
        f"per second, of robot {code(common.robot_type)}; cameras {', '.join(map(code, common.cameras))}."
    )
    unknown = "where nobody judged, it and `next.reward` are NaN: neither true nor false"
    judged = f"`next.success` is on the last row of an episode; {'a bool' if common.judged else unknown}."
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in head.items()),
        "---",
        "",
        f"# {code(title)}",
        "",
        about,
        *(["", REMARK.format(imagined=imagined, all=len(export.facts))] if imagined else []),
        "",
        f"Outcomes: {outcomes}. {judged}",
        *([f"{export.left_out} episodes are left out: they are in quarantine."] if export.left_out else []),
        "",
        HELD,
        "",
        "| column | what it is |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, (_, meaning) in own.items()),
        "",
        "Made from these artifacts:",
        "",
        *(f"- {_artifact(ref, export)}" for ref in holders(lake, export)),
        "",
    ]
    return "\n".join(lines)


def holders(lake: Lake, export: Export) -> list[ArtifactRef]:
    return [lake.ledger.get(name) for name in dict.fromkeys(item.key[0] for item in export.facts)]


def _artifact(ref: ArtifactRef, export: Export) -> str:
    count = sum(item.key[0] == ref.artifact_id for item in export.facts)
    return f"{code(ref.name)}: {count} episodes, artifact {code(ref.artifact_id)}, content {code(ref.content_digest)}"


def code(text: str) -> str:
    """As it is, on one line, whatever characters it has."""
    plain = readable(text).replace("`", "'")
    return f"`{plain}`" if plain.strip() else "``"
