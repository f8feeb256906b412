"""Taking finished recordings out of the inbox into the lake: one way in, for the command and for the Dagster job."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vlaw_assets.assets.inbox_recordings import sessions
from vlaw_assets.importers.commit import commit_recordings
from vlaw_assets.importers.origin import Origin
from vlaw_assets.importers.registry import code_of, open_recordings
from vlaw_assets.inbox.assignment import Assignment, NotNowError, assigned
from vlaw_assets.inbox.folder import (
    NOTE,
    REFUSED,
    TAKEN,
    Dropped,
    Files,
    Inbox,
    files_of,
    give_reason,
    is_there,
)
from vlaw_assets.inbox.recording import Note, description_of, note_of
from vlaw_assets.inbox.refused import note_refusal, plain
from vlaw_assets.lake import disk
from vlaw_assets.lake.durable import FileLock, digest_of
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Draft, Lake
    from vlaw_assets.pipeline.resources import Workplace

SHOWN = 3
"""Episodes that a refusal names."""


class ChangingError(Exception):
    """A recording was written to while it was read."""


@dataclass
class Report:
    """What one call has done."""

    taken: list[tuple[str, ArtifactRef]] = field(default_factory=list)
    """(name in the inbox, recording)."""
    refused: list[tuple[str, VlawError]] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    """(name, why it is still in the inbox)."""
    stopped: str = ""
    """What ended the call before all were looked at, and is no recording's fault; '' where nothing did."""


@dataclass
class _Taking:
    """One call of `take_in`."""

    lake: Lake
    workplace: Workplace
    inbox: Inbox
    run_id: str
    told: Callable[[ArtifactRef], None]
    report: Report = field(default_factory=Report)
    known: dict[str, set[str]] = field(default_factory=dict)
    """Artifact -> content digests of its episodes."""

    def take(self, dropped: Dropped) -> bool:
        """Takes or refuses one recording. False where what stopped it is not its own fault: others would not fare
        better."""
        note: Note | None = None
        files: Files | None = None
        try:
            note = note_of(dropped)
            files = files_of(dropped)
            ref = self._commit(dropped, note, files)
        except Exception as error:  # an importer meets anybody's data: whatever it raises, the next recording comes
            if isinstance(error, ChangingError) or not is_there(dropped) or _changed(dropped, files):
                self.report.left.append((dropped.name, "it was changed or taken away while it was read"))
                return True
            if isinstance(error, NotNowError):
                self.report.left.append((dropped.name, str(error)))
                return True
            if self._passes(error):
                self.report.stopped = str(error) or type(error).__name__
                self.report.left.append((dropped.name, "not looked at yet"))
                return False
            self._refuse(dropped, note, error)
            return True
        for made in (ref, self.lake.ledger.current("recorded_statistics", ref.partition)):
            if made is not None:
                self.told(made)
        self._move(dropped, TAKEN)
        self.report.taken.append((dropped.name, ref))
        return True

    def _commit(self, dropped: Dropped, note: Note, files: Files) -> ArtifactRef:
        where = str(dropped.path / NOTE)
        belongs = assigned(self.lake, self.workplace, note, where=where)
        options = description_of(note, robot=belongs.recipe.robot, where=where)
        recordings = open_recordings(note.format, dropped.path, options)
        source = recordings.source_digest()
        bytes_and_episodes = digest_of({"source": source, "episodes": options.chosen(len(recordings.index))})
        name, iteration = self._place(dropped, bytes_and_episodes, belongs, where)

        def check(draft: Draft) -> None:
            if files_of(dropped) != files or recordings.source_digest() != source:
                raise ChangingError
            self._refuse_repeated(draft, name, dropped)
            _refuse_strange_tasks(draft, belongs, where)

        session = {
            "id": belongs.session,
            "experiment": belongs.recipe.name,
            "iteration": iteration,
            "policy": belongs.policy.content_digest,
            "recording": bytes_and_episodes,
        }
        return commit_recordings(
            self.lake,
            recordings,
            options,
            code=code_of(note.format),
            name=name,
            run_id=self.run_id,
            origin=Origin(session, belongs.policy, {"dropped_as": dropped.name}, check),
        )

    def _place(self, dropped: Dropped, digest: str, belongs: Assignment, where: str) -> tuple[str, int]:
        """Name and iteration of the recording in the lake: those it has already, whatever iteration is open by now, or
        new ones. VlawError where it is there as one of another session."""
        for name, (ref, said) in sessions(self.lake.ledger).items():
            if said["recording"] != digest:
                continue
            if said["id"] != belongs.session:
                raise VlawError(
                    f"these episodes are in the lake already, as {ref.name} of session {said['id']}",
                    where=where,
                    remedy="Name the session that they were recorded in, and drop each recording once.",
                )
            return name, said["iteration"]
        clean = re.sub(r"[^A-Za-z0-9_-]+", "_", dropped.name).strip("_-")[:40] or "recording"
        return f"{clean}-{digest[:12]}", belongs.iteration

    def _refuse_repeated(self, draft: Draft, name: str, dropped: Dropped) -> None:
        """VlawError where the lake has one of the draft's episodes in another recording."""
        new = draft.episode_digests
        if not new:
            raise VlawError("there is no episode in it", where=str(dropped.path), remedy="Record one.")
        for other, (ref, _) in sessions(self.lake.ledger).items():
            if other == name:
                continue
            if ref.owner not in self.known:
                held = self.lake.tables.read("episodes", ref.versions.get("episodes"), ["content_digest"])
                self.known[ref.owner] = set(held["content_digest"].to_pylist())
            again = [number for number, digest in enumerate(new) if digest in self.known[ref.owner]]
            if again:
                shown = ", ".join(map(str, again[:SHOWN])) + (" ..." if len(again) > SHOWN else "")
                raise VlawError(
                    f"{len(again)} of its {len(new)} episodes are in the lake already, in {ref.name}: number {shown}",
                    where=str(dropped.path),
                    remedy=f'Drop the new ones only: episodes = "..." in {NOTE}.',
                )

    def _passes(self, error: Exception) -> bool:
        """Whether this is not about the recording: trying again later may help."""
        if isinstance(error, MemoryError) or disk.cause(error) is not None:
            return True
        where = error.where if isinstance(error, VlawError) else ""
        lake = str(self.lake.paths.root)
        sessions = str(self.lake.paths.sessions)
        ours = (str(self.inbox.root), sessions)
        return where.startswith(lake) and not where.startswith(ours)

    def _refuse(self, dropped: Dropped, note: Note | None, error: Exception) -> None:
        why = (
            error
            if isinstance(error, VlawError)
            else VlawError(
                f"it cannot be read: {type(error).__name__}: {str(error)[:300]}",
                where=str(dropped.path),
                remedy="Mend the recording, or the importer: `vlaw import FORMAT PATH --dry-run` says the same of it.",
            )
        )
        try:
            listed = note_refusal(self.lake, dropped.name, note.session if note else "", why, run_id=self.run_id)
            if listed is not None:
                self.told(listed)
            give_reason(dropped, f"{why}\n")
        except (VlawError, OSError) as trouble:
            self.report.left.append((dropped.name, f"{plain(str(why))}; and it could not be refused: {trouble}"))
            return
        self.report.refused.append((dropped.name, why))
        self._move(dropped, REFUSED)

    def _move(self, dropped: Dropped, where: str) -> None:
        try:
            self.inbox.move(dropped, where)
        except OSError as error:
            self.report.left.append((dropped.name, f"it is {where}, and cannot be moved: {error.strerror or error}"))


def take_in(
    lake: Lake,
    workplace: Workplace,
    inbox: Inbox,
    *,
    run_id: str,
    told: Callable[[ArtifactRef], None] = lambda _ref: None,
    wait_s: float = 0.0,
) -> Report:
    """Takes every finished recording of the inbox into the lake, or refuses it; one call at a time.

    Killed at any moment it goes on where it was when it is called again: nothing is lost, nothing is there twice. What
    stops it that is no recording's fault (a full disk) ends the call, see `Report.stopped`.

    Args:
        told: called with what was committed, before its folder is moved.
        wait_s: how long to wait for another call to end.

    Raises VlawError where another call is at work for longer.
    """
    lock = FileLock(lake.paths.locks / "inbox.lock")
    with lock.hold("vlaw inbox", wait_s=wait_s, remedy="wait until it is done"):
        look = inbox.look()
        taking = _Taking(lake, workplace, inbox, run_id, told)
        taking.report.left += [(name, why) for name, why in look.waiting]
        for number, dropped in enumerate(look.finished):
            if not taking.take(dropped):
                taking.report.left += [(later.name, "not looked at yet") for later in look.finished[number + 1 :]]
                break
    return taking.report


def _changed(dropped: Dropped, files: Files | None) -> bool:
    """Whether something was written to it, or taken out, since its files were listed."""
    try:
        return files is not None and files_of(dropped) != files
    except (OSError, VlawError):
        return True


def _refuse_strange_tasks(draft: Draft, belongs: Assignment, where: str) -> None:
    """VlawError where an episode is of no task of the experiment: nothing would ever use it."""
    tasks = belongs.recipe.tasks
    strange = sorted({task for task in draft.episode_tasks if tasks and task not in tasks})
    if strange:
        raise VlawError(
            f"{', '.join(map(repr, strange[:SHOWN]))} is no task of experiment {belongs.recipe.name}: it has "
            f"{', '.join(tasks)}",
            where=where,
            remedy=f'Say task = "{tasks[0]}", for example, in {NOTE}: by default it is the recorded instruction.',
        )
