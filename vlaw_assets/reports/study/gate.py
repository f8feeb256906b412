"""A gate: one figure with its bound, whether it is passed, and what that means; also where it was not measured."""

from __future__ import annotations

from dataclasses import dataclass

from vlaw_assets.reports.study.facts import Facts
from vlaw_assets.reports.study.text import title


@dataclass(frozen=True)
class Gate:
    name: str
    value: str
    bound: str
    passed: bool | None
    """None: the study cannot tell."""
    meaning: str
    measured: bool = True

    @property
    def verdict(self) -> str:
        if not self.measured:
            return "not measured"
        return "cannot be told" if self.passed is None else "passed" if self.passed else "**not passed**"


def unmeasured(facts: Facts, name: str, bound: str, *recipes: str, what: str = "first iteration") -> Gate:
    """The gate of that name, of which nothing was measured; `recipes` are the arms that it is computed from."""
    arms = " and ".join(title(recipe, privileged=recipe in facts.privileged) for recipe in recipes)
    absent = [recipe for recipe in recipes if facts.wanted and recipe not in {known for known, _ in facts.wanted}]
    first = f"add {', '.join(absent)} to the study's file, then " if absent else ""
    command = f"`vlaw study {facts.study} --only {','.join(recipes)}`"
    meaning = f"The {what} of {arms} would measure it: {first}{command}."
    return Gate(name, "", bound, None, meaning, measured=False)
