"""What an episode that was read may be used for, by the rules that all importers share."""

from __future__ import annotations

from dataclasses import replace

from vlaw_assets.importers.base import Read
from vlaw_assets.importers.findings import Finding
from vlaw_assets.lake.decisions import UNNAMED_TASK, marked, worst
from vlaw_models.episodes import Episode

NO_INSTRUCTION, NO_LABEL = "no_instruction", "no_success_label"


def with_use(read: Read, episode: Episode) -> tuple[Read, Episode]:
    """What was read of this episode, with findings of what the episode lacks; and the episode with what all of them
    decide. One without an instruction or without a success label is for world models alone; where a person has said
    which task the episodes are of, that is the instruction of one that lacks its own.

    A missing label is not written into the episode: as soon as somebody labels it, it is kept.
    """
    findings = (*read.findings, *_lacks(read.number, episode))
    if episode.instruction == UNNAMED_TASK:
        episode = replace(episode, instruction=episode.task)
    decision = worst(finding.decision for finding in findings if finding.rule != NO_LABEL)
    episode = replace(episode, extra=marked(episode.extra, decision))
    return Read(read.number, episode, findings), episode


def _lacks(number: int, episode: Episode) -> list[Finding]:
    found = []
    if episode.instruction == UNNAMED_TASK:
        if episode.task == UNNAMED_TASK:
            found.append(Finding(NO_INSTRUCTION, "it was recorded without an instruction", "world_model_only", number))
        else:
            what = f"it was recorded without an instruction, and has that of its task: {episode.task}"
            found.append(Finding(NO_INSTRUCTION, what, "keep", number))
    if episode.success is None:
        found.append(Finding(NO_LABEL, "it has no success label", "world_model_only", number))
    return found
