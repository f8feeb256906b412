"""An audit as one self-contained HTML page: a picture of the graph (audit_picture.py), and the tables below it. No
script, nothing loaded."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from vlaw_assets.lineage.closure import short
from vlaw_assets.lineage.layout import SHORT, levels, pivot
from vlaw_assets.lineage.reading import name_of
from vlaw_assets.reports import audit_picture
from vlaw_assets.reports.audit_picture import picture
from vlaw_assets.reports.audit_tables import (
    LEARNED,
    decision_table,
    judge_table,
    label_table,
    metric_table,
    quarantine_table,
)
from vlaw_assets.reports.episodes.command import command_of

SENTENCE = 60
"""Characters beyond which a cell is text to be read, not a number or a name."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1500px; margin: 2rem auto; padding: 0 1.2rem; color: #1c2430; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .88rem; }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; }
td.text { white-space: normal; min-width: 24rem; } th { border-bottom: 2px solid #c8ced8; }
td { border-bottom: 1px solid #e6e9ef; font-variant-numeric: tabular-nums; } tr:target td { background: #fff3c4; }
td.versions { white-space: normal; min-width: 15rem; }
code { font-size: .92em; } .note { color: #5b6675; } .wide { overflow-x: auto; }
details { margin: .2rem 0; font-size: .88rem; } pre { margin: .2rem 1rem; white-space: pre-wrap; }
"""


def page(found: dict[str, Any]) -> str:
    """The whole page of what `audit_of` returned."""
    title = html.escape(f"Which data produced {name_of(found)}")
    read_note = (
        "By anything it stands on, each once: successes of all; a count alone where nobody judged. "
        "Held: how many the dataset has."
    )
    learned_note = "Weight: of an episode in the loss. Through: the training set that gives it."
    sections = [
        f'<div class="wide">{picture(found)}</div>',
        *_section("Episodes read", read_note, pivot(found["episodes"], ["dataset", "source"])),
        *_section("What each model learned from", learned_note, pivot(found["learned"], LEARNED)),
        *_section(
            "What chose the models",
            "What each iteration began with, by the promotion gate on validation data.",
            decision_table(found),
        ),
        *_section(
            "Reward model and threshold",
            "An imagined episode is learned from where the judge's P(success) is above alpha.",
            judge_table(found),
        ),
        *_section(
            "Known at the time",
            "Measured before it was made, or in its own iteration; nothing was made from it.",
            metric_table(found),
        ),
        *_section(
            "Labels that people gave",
            "Of episodes that this closure read for their success: the label it was made with, and the one now.",
            label_table(found),
        ),
        *_section(
            "Quarantine in force",
            "In this closure: it reached this artifact, which was made before, or on other data.",
            quarantine_table(found),
        ),
        "<h2>Artifacts</h2>",
        f'<div class="wide">{_artifacts(found)}</div>',
        "<h2>Recipes</h2>",
        *_recipes(found),
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}{audit_picture.STYLE}</style>"
        f'<h1>{title}</h1><p class="note">{html.escape(short(found))}<br>content '
        f"<code>{found['content_sha256']}</code>, "
        f"made {found['created_at'][:19].replace('T', ' ')} UTC by run "
        f"<code>{html.escape(found['run_id'])}</code>{_watch(found)}</p>\n" + "\n".join(sections) + "\n</html>\n"
    )


def _watch(found: dict[str, Any]) -> str:
    """The command that shows its episodes; '' where it has none."""
    last = next(item for item in found["artifacts"] if item["artifact"] == found["artifact"])
    command = command_of(last["asset"], last["partition"], last["kind"], last["versions"])
    return f"<br>watch its episodes with <code>{html.escape(command)}</code>" if command else ""


def _section(title: str, note: str, rows: Sequence[Sequence[str]]) -> list[str]:
    if len(rows) == 1:  # a header alone
        return []
    return [f"<h2>{html.escape(title)}</h2>", f'<p class="note">{html.escape(note)}</p>' if note else "", _table(rows)]


def _cell(text: str) -> str:
    """A sentence may take several lines."""
    return f"<td{' class=text' if len(text) > SENTENCE else ''}>{html.escape(text)}</td>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows[1:])
    return f"<table><tr>{head}</tr>{body}</table>"


def _artifacts(found: dict[str, Any]) -> str:
    heads = ("artifact", "content", "code", "recipe", "parents", "versions", "run", "made (UTC)", "revision")
    rows = []
    for partition, items in levels(found["artifacts"]):
        label = partition.replace("|", ", iteration ") or "foundation"
        rows.append(f'<tr><th colspan="{len(heads)}" style="text-align:left">{html.escape(label)}</th></tr>')
        for item in items:
            versions = ", ".join(
                f"{name} v{entry['version']}: {entry['rows']} rows"
                for name, entry in item["versions"].items()
                if name not in ("edges", "reads")
            )
            digests = "".join(
                f'<td><code title="{item[f"{name}_sha256"]}">{item[f"{name}_sha256"][:SHORT]}</code></td>'
                for name in ("content", "code", "recipe", "parents")
            )
            name = html.escape(item["artifact"])
            rows.append(
                f'<tr id="{name}"><td title="{name}">{html.escape(item["asset"])}</td>'
                f"{digests}<td "
                f'class="versions">{html.escape(versions or ("checkpoint" if item["location"] else ""))}</td>'
                f"<td><code>{html.escape(item['run_id'][:8])}</code></td>"
                f"<td>{item['created_at'][:19].replace('T', ' ')}</td>"
                f"<td><code>{html.escape(item['code_revision'][:8])}</code></td></tr>"
            )
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in heads)}</tr>{''.join(rows)}</table>"


def _recipes(found: dict[str, Any]) -> list[str]:
    """The recipe keys of each artifact, folded."""
    return [
        f"<details><summary>{html.escape(name_of(item))} <code>{item['recipe_sha256'][:SHORT]}</code></summary>"
        f"<pre>{html.escape(json.dumps(item['recipe'], indent=1, sort_keys=True))}</pre></details>"
        for item in reversed(found["artifacts"])
        if item["recipe"]
    ]
