"""The order of a study's partitions: what may run next, and what need not or cannot run any more.

A queue over (experiment, iteration) that knows nothing of lakes and processes. Seeds come one after the other, within a
seed the arms in the order of the file, so that a study that is stopped early is whole for its first seeds and arms. The
first arm of a seed leads: the others take up an iteration when it is through with it, because they share what it makes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vlaw_assets.partitions import partition_of
from vlaw_assets.recipes.study import Member

WAITING, RUNNING, DONE, FAILED, SKIPPED, STOPPED = "waiting", "running", "done", "failed", "skipped", "not needed"
ELSEWHERE = "elsewhere"
"""How a partition ended that another run of the study is making: it is waiting then, and looked at again later."""
ENDED = (DONE, FAILED, SKIPPED, STOPPED)


@dataclass(frozen=True)
class Slot:
    """One partition of a study."""

    member: Member
    iteration: int

    @property
    def key(self) -> str:
        return partition_of(self.member.experiment, self.iteration)


class Order:
    """Hands out slots, and takes how each one ended."""

    def __init__(self, members: Sequence[Member]):
        """`members` as `Study.members` gives them, or some of them."""
        self.slots = [Slot(member, number) for member in members for number in range(1, member.arm.iterations + 1)]
        self.status = {slot.key: WAITING for slot in self.slots}
        self.why: dict[str, str] = {}
        """Key -> why a slot failed or was skipped."""
        self._leader: dict[int, Member] = {}
        for member in members:
            self._leader.setdefault(member.seed, member)

    def next(self, passing: Collection[str] = ()) -> Slot | None:
        """The first slot that may run now, none of the keys in `passing`; None if none may (yet). It counts as
        running."""
        for slot in self.slots:
            if self.status[slot.key] == WAITING and self._ready(slot) and slot.key not in passing:
                self.status[slot.key] = RUNNING
                return slot
        return None

    def put_back(self, slot: Slot) -> None:
        """The slot may run again: another run of the study is making it, or has made it, or has failed to."""
        self.status[slot.key] = WAITING

    def end(self, slot: Slot, status: str, why: str = "", *, reached: bool = False) -> None:
        """Says how a slot ended. After a failure, or when its target is `reached`, its later iterations are not run."""
        self.status[slot.key] = status
        if why:
            self.why[slot.key] = why
        later = [
            item
            for item in self.slots
            if item.member == slot.member and item.iteration > slot.iteration and self.status[item.key] == WAITING
        ]
        for item in later:
            if status == FAILED:
                self._skip(item, f"{slot.key} failed")
            elif reached:
                self.status[item.key] = STOPPED

    def count(self, *statuses: str) -> int:
        return sum(status in statuses for status in self.status.values())

    def _ready(self, slot: Slot) -> bool:
        target = slot.member.target
        if target is not None and (own := self._slots_of(target)):
            if any(self.status[item.key] in (FAILED, SKIPPED) for item in own):
                self._skip(slot, f"{target.experiment}, which it runs against, is not complete")
                return False
            if not all(self.status[item.key] == DONE for item in own):
                return False
        if slot.iteration > 1 and self.status[partition_of(slot.member.experiment, slot.iteration - 1)] != DONE:
            return False
        leader = self._leader[slot.member.seed]
        ahead = Slot(leader, min(slot.iteration, leader.arm.iterations))
        return leader == slot.member or self.status[ahead.key] in ENDED

    def _slots_of(self, member: Member) -> list[Slot]:
        return [slot for slot in self.slots if slot.member == member]

    def _skip(self, slot: Slot, why: str) -> None:
        self.status[slot.key], self.why[slot.key] = SKIPPED, why
