"""What an episode that was read may be used for, by the rules that all importers share."""

from __future__ import annotations

from dataclasses import replace

from vlaw_assets.importers.base import Read
from vlaw_assets.importers.findings import Finding
from vlaw_assets.lake.decisions import UNNAMED_TASK, marked, worst
from vlaw_models.episodes import Episode

NO_INSTRUCTION, NO_LABEL = "no_instruction", "no_success_label"


def with_use(read: Read) -> Read:
    """An episode that was read with what its findings decide, and findings of what it lacks: one without an instruction
    or without a success label is for world models alone.

    A missing label is not written into the episode: as soon as somebody labels it, it is kept.
    """
    if read.episode is None or read.excluded is not None:
        return read
    findings = (*read.findings, *_lacks(read.number, read.episode))
    decision = worst(finding.decision for finding in findings if finding.rule != NO_LABEL)
    episode = replace(read.episode, extra=marked(read.episode.extra, decision))
    return Read(read.number, episode, findings)


def _lacks(number: int, episode: Episode) -> list[Finding]:
    found = []
    if episode.instruction == UNNAMED_TASK:
        found.append(Finding(NO_INSTRUCTION, "it was recorded without an instruction", "world_model_only", number))
    if episode.success is None:
        found.append(Finding(NO_LABEL, "it has no success label", "world_model_only", number))
    return found
