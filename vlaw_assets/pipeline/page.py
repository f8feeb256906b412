"""An artifact's page in Dagster: numbers, picture, where to look next, and at the end who it is.

From the ledger's row and what it names alone: made, reused and reconciled artifacts have the same page. Dagster shows
metadata in this order, Markdown of less than a thousand characters in place and more behind a click.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vlaw_assets.partitions import split_partition
from vlaw_assets.pipeline import mirror
from vlaw_assets.reports.episodes.command import watch_command
from vlaw_assets.reports.markdown import literal
from vlaw_assets.reports.numbers import numbers_of
from vlaw_assets.reports.sampled import sampled
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import dagster as dg

    from vlaw_assets.lake import ArtifactRef, Lake

REUSED = "vlaw/reused"
"""Metadata: whether the run found it in the ledger instead of making it."""
LONGEST = 4000
"""Characters of one text."""
EVALUATED = ("evaluation", "evaluation_low_noise")
REPORT = "iteration_report"
RECORDED = "recorded_episodes"
MEASURED = "world_model_metrics"
RECENT = 50
"""Losses whose mean is the newest."""
EXAMPLE = 120
"""Characters of an example."""
POLICY = "policy"
"""Its rows are those of its picture."""


def page_of(lake: Lake, ref: ArtifactRef, *, reused: bool) -> dict[str, Any]:
    """Metadata of a materialization of this artifact, in the order in which it is shown."""
    import dagster as dg

    shown, behind = mirror.pictures_of(lake, ref)
    rows = mirror.row_count_of(ref)
    first, said = (
        {title: dg.MetadataValue.md(_cut(text)) for title, text in texts.items()}
        for texts in (
            {**({"reused from": origin(lake, ref)} if reused else {}), **mirror.pages_of(lake, ref)},
            {**texts_of(lake, ref), "look next": look_next(ref)},
        )
    )
    return {
        **{name: dg.MetadataValue.float(value) for name, value in numbers_of(lake, ref).items()},
        **first,
        **shown,
        **said,
        **behind,
        **({"dagster/row_count": rows} if rows is not None else {}),
        **({"vlaw/privileged": True} if ref.metrics.get("privileged") else {}),
        REUSED: reused,
        **mirror.facts_of(lake, ref),
    }


def growing(asset: str, partition: str, losses: Sequence[float]) -> dg.AssetObservation:
    """How the loss goes while a model is trained, an event on the asset's page: Dagster plots its numbers, and the
    curve of every step so far is a click away."""
    import dagster as dg

    from vlaw_assets.reports import stage_pictures
    from vlaw_models.pictures import PREVIEW_BYTES, md_image, preview

    recent = losses[-RECENT:]
    metadata: dict[str, Any] = {"step": len(losses), "loss": dg.MetadataValue.float(sum(recent) / len(recent))}
    try:
        drawn = preview(stage_pictures.training(losses, {}, None) or b"", PREVIEW_BYTES)
    except Exception as error:  # whatever a drawing library meets: a training must not be lost by it
        metadata["not drawn"] = f"{type(error).__name__}: {error}"[:200]
    else:
        metadata["training so far"] = dg.MetadataValue.md(md_image(drawn, "training so far"))
    return dg.AssetObservation(asset, partition=partition or None, metadata=metadata)


def origin(lake: Lake, ref: ArtifactRef) -> str:
    """Whose data these are and which run made them when, as Markdown with links."""
    made = lake.ledger.get(ref.owner)
    run = f" in run [{made.run_id[:8]}](/runs/{quote(made.run_id)})" if made.run_id else ""
    when = f"{made.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"[{literal(made.name)}]({address_of(made.asset, made.partition)}), made {when}{run}"


def address_of(asset: str, partition: str) -> str:
    """The page of an asset's partition on the server that shows this one."""
    chosen = f"?view=partitions&partition={quote(partition, safe='')}" if partition else ""
    return f"/assets/{quote(asset)}{chosen}"


def look_next(ref: ArtifactRef) -> str:
    """Commands that say more and where the report is, as Markdown."""
    experiment, iteration = split_partition(ref.partition)
    where = f" {shlex.quote(experiment)} {iteration:02d}" if ref.partition else ""
    commands = [f"vlaw audit {ref.asset}{where}"]
    if ref.partition and (watched := watch_command(ref)):
        commands.insert(0, f"{watched} --open")
    if ref.partition and iteration:
        commands.insert(0, f"vlaw report{where} --out report.html")
    if ref.asset in ("policy_evaluation", REPORT):
        before = f"{experiment}/{iteration - 1:02d}" if iteration > 1 else "base_policy"
        commands.insert(
            1, f"vlaw compare policy {shlex.quote(before)} {shlex.quote(experiment)}/{iteration:02d} --open"
        )
    links = [f"[the report of this iteration]({address_of(REPORT, ref.partition)})"] if iteration else []
    return "\n".join(["```sh", *commands, "```", *(links if ref.asset != REPORT else [])])


def texts_of(lake: Lake, ref: ArtifactRef) -> dict[str, str]:
    """Title -> Markdown of what the numbers and the picture leave out."""
    found: dict[str, str] = {}
    if ref.metrics.get("passed_on"):
        found["passed on"] = "nothing was learned: it is the model of before, unchanged"
    if verdicts := ref.metrics.get("promotion"):
        found["promotion"] = "\n".join(
            f"- {model} {'promoted' if said['promoted'] else '**refused**'}: {literal(said['reason'])}"
            for model, said in sorted(verdicts.items())
        )
    if ref.kind == MEASURED and (text := sampled(lake, ref)):
        found["sampling"] = text
    if left_out := ref.metrics.get("left_out"):
        found["not measured"] = "\n".join(f"- {literal(text)}" for text in left_out)
    if understood := ref.metrics.get("understood"):
        found["how the recording was understood"] = "\n".join(
            f"- {literal(what)}: {literal(how)}" for what, how in understood.items()
        )
    try:
        if ref.asset == RECORDED:
            found["what was found"] = _findings(lake, ref)
        elif ref.asset == REPORT and ref.location:
            found["report"] = (lake.paths.root / ref.location / "report.md").read_text(encoding="utf-8")
        elif "evaluations" in ref.versions and ref.kind != POLICY:
            found["table"] = _table(lake, ref)
    except (OSError, VlawError):  # the record of the data must not fail where the data are damaged
        found["table"] = "_the rows cannot be read: vlaw audit ... --verify says why_"
    return found


def _findings(lake: Lake, ref: ArtifactRef) -> str:
    """What an import noticed, counted by rule and decision, the most episodes first."""
    from vlaw_assets.reports.success import markdown

    rows = lake.read(ref).table("import_findings").to_pylist()
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["rule"], row["decision"]), []).append(row)
    unjudged = ref.num_rows - ref.metrics.get("judged", ref.num_rows)
    counts = (
        f"{ref.num_rows - unjudged} kept, {unjudged} for world models alone, {ref.metrics.get('excluded', 0)} excluded"
    )
    if not rows:
        return f"{counts}; nothing was found"
    body = [
        [
            literal(rule),
            decision,
            str(len({row["episode"] for row in of})),
            str(len(of)),
            "the dataset" if of[0]["episode"] < 0 else str(of[0]["episode"]),
            literal(of[0]["value"][:EXAMPLE]),
        ]
        for (rule, decision), of in sorted(found.items(), key=lambda item: -len(item[1]))
    ]
    return f"{counts}\n\n" + markdown([["rule", "decision", "episodes", "findings", "first in", "example"], *body])


def _cut(text: str) -> str:
    """The whole lines that a page has room for."""
    lines = text.split("\n")
    while sum(len(line) + 1 for line in lines) > LONGEST and len(lines) > 1:
        lines.pop()
    left = text.count("\n") + 1 - len(lines)
    return "\n".join(lines)[:LONGEST] + (f"\n\n_{left} more lines: vlaw sql, table evaluations_" if left else "")


def _table(lake: Lake, ref: ArtifactRef) -> str:
    from vlaw_assets.reports.success import Rate, measured_table, success_table

    rows = lake.read(ref).table("evaluations").to_pylist()
    if ref.kind in EVALUATED:
        rates = {row["task"]: Rate(row["successes"], row["trials"], row["low"], row["high"]) for row in rows}
        return success_table({"success": rates})
    from vlaw_models.metrics.rows import shown

    return measured_table(shown(rows))
