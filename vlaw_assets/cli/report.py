"""`vlaw report`: one self-contained HTML page of an iteration: table, curves, metrics, contact sheets, provenance.

Everything is inside the file (pictures as data: URIs, no script), so that it can be mailed and opened in ten years.
`vlaw report study NAME` writes a study's report instead (reports/study/): no experiment is called 'study'.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli import coverage_page
from vlaw_assets.cli.output import AsOf, console, existing_lake, known_experiment
from vlaw_assets.cli.page import image, table
from vlaw_assets.reports.episodes.command import watch_note
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
table { border-collapse: collapse; margin: .6rem 0; } th, td { padding: .25rem .8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #c8ced8; }
td { border-bottom: 1px solid #e6e9ef; font-variant-numeric: tabular-nums; } img { max-width: 100%; }
code { font-size: .85em; } .note { color: #5b6675; }
"""
SHOWN_PER_TASK = 1
"""Episodes per task and section on a contact sheet."""
STUDY = "study"
STUDY_FILE = Path("docs") / "study.md"


def report(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT|study", help="Name of a recipe; or the word 'study'.")
    ],
    which: Annotated[str, typer.Argument(metavar="ITERATION|NAME", help="The iteration, e.g. 2; or the study's name.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; of a study by default docs/study.md.")
    ] = None,
    as_of: AsOf = None,
) -> None:
    """One HTML page about an experiment up to an iteration; or the Markdown report of a study, pictures beside it."""
    if experiment == STUDY:
        of_study(which, out or STUDY_FILE, as_of)
        return
    from vlaw_assets.lake.durable import write_page

    if not which.isdecimal():
        raise VlawError(
            f"{which!r} is not an iteration",
            where="vlaw report",
            remedy=f"Give a number, e.g. vlaw report {experiment} 1.",
        )
    iteration, lake = int(which), existing_lake(as_of)
    if not any(ref.partition.startswith(f"{experiment}|") for ref in lake.ledger.artifacts()):
        known_experiment(experiment)  # what was made under a recipe that is gone by now can be read all the same
    path = out or Path("runs") / f"{experiment}_{iteration:02d}.html"
    page = build(lake, experiment, iteration, path.parent)
    write_page(path, page, remedy="Choose a file with --out.")
    console.print(f"{path} ({len(page) / 1e6:.1f} MB)", markup=False)


def of_study(study: str, out: Path, as_of: str | None) -> None:
    """Writes the report of a study."""
    from vlaw_assets.reports.study.write import write_report

    files = write_report(existing_lake(as_of), study, out)
    console.print(f"{files[0]} and {len(files) - 1} pictures in {out.with_suffix('')}", markup=False, soft_wrap=True)


def build(lake: Lake, experiment: str, iteration: int, folder: Path) -> str:
    """The page as text, for a file in `folder`. Raises VlawError where the iteration has no policy yet."""
    from vlaw_assets.lineage.closure import audit_of
    from vlaw_assets.partitions import partition_of

    key = partition_of(experiment, iteration)
    policy = lake.ledger.require("policy", key)
    sections = [
        *_success(lake, experiment, iteration),
        watch_note(policy, folder),
        *_metrics(lake, key),
        *_losses(lake, key),
        *_sheets(lake, key, folder),
        *coverage_page.sections(lake, key),
        *_provenance(audit_of(lake, policy)),
    ]
    title = html.escape(f"{experiment}, iteration {iteration:02d}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1>\n" + "\n".join(sections) + "\n</html>\n"
    )


def _success(lake: Lake, experiment: str, iteration: int) -> list[str]:
    from vlaw_assets.reports import success as summary
    from vlaw_assets.reports.plots import success_bars

    columns = summary.evaluations(lake, experiment, range(1, iteration + 1))
    if not columns:
        return []
    rates = {label: trials.rates for label, trials in columns.items()}
    first, final = next(iter(columns)), list(columns)[-1]
    difference = summary.change(columns[final].outcomes, columns[first].outcomes) if final != first else None
    verdict = (
        f"<p>{final} &minus; {first}: <b>{difference}</b>; {html.escape(difference.verdict)}.</p>" if difference else ""
    )
    return [
        "<h2>Success on held-out starts</h2>",
        (
            '<p class="note">Rate with its Wilson 95 % interval; the difference is paired (same starts), Newcombe. '
            f"{html.escape(summary.lists_text(columns))}</p>"
        ),
        table(summary.table(rates)),
        verdict,
        image(success_bars(rates), "success per task and iteration"),
    ]


def _metrics(lake: Lake, key: str) -> list[str]:
    from vlaw_models.metrics.rows import shown

    sections = []
    for asset, title in (
        ("world_model_metrics", "World model, on held-out clips"),
        ("reward_model_metrics", "Reward model, on held-out clips"),
    ):
        ref = lake.ledger.current(asset, key)
        if ref is not None and (rows := shown(lake.read(ref).table("evaluations").to_pylist())):
            body = [
                [
                    row["task"],
                    row["metric"],
                    row["camera"] or "",
                    f"{row['value']:.3f}",
                    f"[{row['low']:.3f}, {row['high']:.3f}]" if row["low"] is not None else "",
                    str(row["trials"]),
                ]
                for row in rows
            ]
            sections += [
                f"<h2>{title}</h2>",
                _measured_also_on(lake, ref),
                table([["task", "metric", "camera", "value", "95 %", "n"], *body]),
            ]
    return sections


def _measured_also_on(lake: Lake, ref: ArtifactRef) -> str:
    """What measurements say of episodes that were put in quarantine after they were made."""
    from vlaw_assets.lake.quarantine import in_force
    from vlaw_assets.lineage.impact import that_reached

    count = len(that_reached(lake, ref, in_force(lake)))
    return (
        (
            f'<p class="note">Measured before {count} episodes that it stands on were put in quarantine; vlaw run '
            f"--rebuild-stale "
            "measures without them.</p>"
        )
        if count
        else ""
    )


def _losses(lake: Lake, key: str) -> list[str]:
    from vlaw_assets.reports.plots import loss_curve

    sections = []
    for asset in ("world_model", "reward_model", "policy"):
        ref = lake.ledger.current(asset, key)
        losses = ref.metrics.get("losses") if ref is not None else None
        if losses:
            sections += [f"<h3>Loss of {asset}</h3>", image(loss_curve(losses), f"loss of {asset}")]
    return ["<h2>Training</h2>", *sections] if sections else []


def _sheets(lake: Lake, key: str, folder: Path) -> list[str]:
    from vlaw_models.pictures import contact_sheet, png_bytes

    sections = []
    for asset, title in (
        ("real_rollouts", "Real rollouts"),
        ("imagined_rollouts", "Imagined rollouts"),
        ("world_model_metrics", "Replays inside the world model"),
    ):
        ref = lake.ledger.current(asset, key)
        episodes = _sample(lake, ref) if ref is not None else []
        if ref is not None and episodes:
            sheet = png_bytes(contact_sheet(episodes, columns=6, scale=1))
            sections += [f"<h2>{title}</h2>", watch_note(ref, folder), image(sheet, title)]
    return sections


def _sample(lake: Lake, ref: ArtifactRef) -> list[Any]:
    """A few episodes of every task: of real ones a success and a failure, of imagined ones the best and the worst
    score."""
    handle = lake.counted(ref)
    rows = handle.table("episodes").to_pylist()
    scores = _scores(lake, ref)
    chosen: list[str] = []
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        own.sort(key=lambda row: scores.get(row["episode_id"], float(bool(row["success"]))), reverse=True)
        chosen += list(dict.fromkeys(row["episode_id"] for row in (*own[:SHOWN_PER_TASK], *own[-SHOWN_PER_TASK:])))
    episodes = handle.episodes(frames=True, episode_ids=chosen) if chosen else []
    for episode in episodes:
        if episode.episode_id in scores:
            episode.extra["p_success"] = scores[episode.episode_id]
    return episodes


def _scores(lake: Lake, ref: ArtifactRef) -> dict[str, float]:
    found = lake.ledger.current("reward_scores", ref.partition) if ref.asset == "imagined_rollouts" else None
    rows = lake.counted(found).table("reward_scores").to_pylist() if found is not None else []
    return {row["episode_id"]: row["p_success"] for row in rows}


def _provenance(found: dict[str, Any]) -> list[str]:
    from vlaw_assets.lineage.layout import pivot
    from vlaw_assets.reports.audit_tables import LEARNED, decision_table

    artifacts = [
        [
            f"{a['asset']} {a['partition']}".strip(),
            a["content_sha256"][:16],
            a["code_sha256"][:12],
            a["run_id"][:8],
            a["created_at"][:19],
        ]
        for a in found["artifacts"]
    ]
    return [
        f"<h2>Which data produced this policy</h2><p>content <code>{found['content_sha256']}</code></p>",
        "<h3>What each model learned from</h3>",
        table(pivot(found["learned"], LEARNED)),
        "<h3>Episodes read by anything it stands on</h3>",
        table(pivot(found["episodes"], ["dataset", "source"])),
        "<h3>What chose the models</h3>",
        table(decision_table(found)),
        "<h3>Artifacts</h3>",
        table([["artifact", "content", "code", "run", "made (UTC)"], *artifacts]),
    ]
