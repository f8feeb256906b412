"""What an episode lacks, and what it may be used for by that and by what its importer found."""

from __future__ import annotations

import dataclasses

import pytest
from factories import episode

from vlaw_assets.importers.base import Read
from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.use import with_use
from vlaw_assets.lake.decisions import UNNAMED_TASK

NOTED = Finding("blurred", "frame 3 is blurred", "keep", 7)
DOUBTFUL = Finding("two_instructions", "it has two", "world_model_only", 7)


@pytest.mark.parametrize(
    ("changes", "findings", "rules", "decision"),
    [
        ({}, (), [], None),
        ({}, (NOTED,), ["blurred"], None),
        ({}, (NOTED, DOUBTFUL), ["blurred", "two_instructions"], "world_model_only"),
        ({"instruction": UNNAMED_TASK, "task": UNNAMED_TASK}, (), ["no_instruction"], "world_model_only"),
        ({"instruction": UNNAMED_TASK}, (), ["no_instruction"], None),
        ({"success": None}, (NOTED,), ["blurred", "no_success_label"], None),
        (
            {"success": None, "instruction": UNNAMED_TASK, "task": UNNAMED_TASK},
            (),
            ["no_instruction", "no_success_label"],
            "world_model_only",
        ),
    ],
)
def test_findings_and_decision(changes, findings, rules, decision):
    given = dataclasses.replace(episode("stack", 7, success=True), **changes)
    read, decided = with_use(Read(7, given, findings), given)
    assert [finding.rule for finding in read.findings] == rules
    assert {finding.episode for finding in read.findings} <= {7}
    assert decided.extra.get("decision") == decision, "nothing is said of an episode that a label makes a kept one"
    assert read.excluded is None
    assert decided.instruction == (given.instruction if given.instruction != UNNAMED_TASK else given.task)
