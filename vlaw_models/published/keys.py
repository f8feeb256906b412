"""Which published tensor is which of ours: a strict report, in which every name on both sides stands once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vlaw_models.errors import VlawError

SHOWN = 5
"""Names that a message gives."""


@dataclass
class KeyReport:
    """What became of the tensors of one import."""

    used: list[str] = field(default_factory=list)
    """Names that are the same here."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Published name -> ours."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Published name -> why it is not read."""
    made: dict[str, str] = field(default_factory=dict)
    """Our name -> why it is new: the layout is known not to have it."""
    missing: list[str] = field(default_factory=list)
    """Ours that nothing was published for."""
    unknown: list[str] = field(default_factory=list)
    """Published ones that are nothing here."""
    misshapen: dict[str, str] = field(default_factory=dict)
    """Published name -> the two shapes."""

    def check(self, what: str, *, where: str, remedy: str) -> KeyReport:
        """Raises VlawError, naming keys, where anything is missing, unknown or of another shape. Returns itself."""
        wrong = []
        for kind, names in (
            ("unknown", self.unknown),
            ("missing", self.missing),
            ("of another shape", [f"{name} {shapes}" for name, shapes in self.misshapen.items()]),
        ):
            if names:
                more = ", ..." if len(names) > SHOWN else ""
                wrong.append(f"{len(names)} {kind}: {', '.join(names[:SHOWN])}{more}")
        if wrong:
            raise VlawError(f"these are not the weights of {what}; {'; '.join(wrong)}", where=where, remedy=remedy)
        return self

    def lines(self) -> list[str]:
        """For a person."""
        reasons = Counter(self.dropped.values())
        new = Counter(self.made.values())
        return [
            f"used as they are: {len(self.used)}",
            f"renamed: {len(self.renamed)}" + _example(self.renamed),
            *(f"dropped: {count} ({why})" for why, count in sorted(reasons.items())),
            *(f"new: {count} ({why})" for why, count in sorted(new.items())),
            f"missing: {len(self.missing)}, unknown: {len(self.unknown)}",
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "used": sorted(self.used),
            "renamed": dict(sorted(self.renamed.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "new": dict(sorted(self.made.items())),
        }


def match(
    published: Mapping[str, tuple[int, ...]],
    ours: Mapping[str, tuple[int, ...]],
    *,
    name: Callable[[str], str] = lambda name: name,
    drop: Callable[[str], str | None] = lambda _: None,
    made: Callable[[str], str | None] = lambda _: None,
) -> KeyReport:
    """Lays names and shapes of both sides beside each other.

    Args:
        name: our name of a published one.
        drop: why a published tensor is not read; None where it is.
        made: why one of ours that nothing was published for is new; None where it must not be.
    """
    report, found = KeyReport(), set()
    for key, shape in published.items():
        target, why = name(key), drop(key)
        if why is not None:
            report.dropped[key] = why
        elif target not in ours or target in found:
            report.unknown.append(key)
        else:
            found.add(target)
            if tuple(shape) != tuple(ours[target]):
                report.misshapen[key] = f"{tuple(shape)} for {tuple(ours[target])}"
            elif target == key:
                report.used.append(key)
            else:
                report.renamed[key] = target
    for key in ours:
        if key in found:
            continue
        why = made(key)
        if why is None:
            report.missing.append(key)
        else:
            report.made[key] = why
    return report


def _example(renamed: Mapping[str, str]) -> str:
    first = next(iter(sorted(renamed.items())), None)
    return "" if first is None else f", e.g. {first[0]} -> {first[1]}"
