"""Which data produced this policy: the audit's graph, and its tables folded."""

from __future__ import annotations

from vlaw_assets.lineage.closure import audit_of, short
from vlaw_assets.lineage.layout import pivot
from vlaw_assets.reports.audit_picture import picture
from vlaw_assets.reports.audit_tables import LEARNED, decision_table, judge_table, label_table, quarantine_table
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import Html, code, folded, joined, note, table, tag


def section(subject: Subject) -> Section:
    """Of the policy that this iteration made."""
    policy = subject.lake.ledger.require("policy", subject.key)
    found = audit_of(subject.lake, policy)
    for item in found["artifacts"]:
        subject.artifact(subject.lake.ledger.get(item["artifact"]))
    tables = [
        ("What each model learned from", pivot(found["learned"], LEARNED)),
        ("Episodes read by anything it stands on", pivot(found["episodes"], ["dataset", "source"])),
        ("What chose the models", decision_table(found)),
        ("Judge and threshold of each training set", judge_table(found)),
        ("Labels that people gave", label_table(found)),
        ("Quarantine in force", quarantine_table(found)),
    ]
    body = joined(
        [
            tag("p", f"{short(found)}."),
            tag("div", Html(picture(found)), cls="wide graph"),
            note(
                "Content ", code(found["content_sha256"]), ". A click on a box leads to its artifact. More: ",
                code(f"vlaw audit policy {subject.experiment} {subject.iteration:02d} --html audit.html"),
            ),
            *(folded(title, table(rows)) for title, rows in tables if len(rows) > 1),
        ]
    )  # fmt: skip
    return Section(
        "data", "Which data produced this policy", f"stands on {len(found['artifacts']) - 1} artifacts", body
    )
