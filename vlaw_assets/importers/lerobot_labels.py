"""Whether an episode succeeded, from whatever column says so: one or several, flags, numbers or words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlaw_assets.importers.files import shown

LABEL = re.compile(r"(.*[./_])?(is_)?(episode_|task_)?success(ful|_label)?")
"""Names of columns that hold success labels: next.success, is_episode_successful, annotation.human.success, success."""
YES = frozenset({"true", "yes", "1", "success", "successful", "succeeded", "pass", "passed"})
NO = frozenset({"false", "no", "0", "failure", "fail", "failed", "unsuccessful", "not successful"})
OPEN = frozenset({"", "none", "null", "nan", "n/a", "na", "unknown", "unlabelled", "unlabeled"})
"""Words of a label that says nothing."""


class LabelError(Exception):
    """Labels of one episode that cannot be understood, or contradict each other."""


def is_label(name: str) -> bool:
    return LABEL.fullmatch(name.lower()) is not None


@dataclass(frozen=True)
class Said:
    """What one column says of one episode."""

    last: bool | None
    """Its last value that says anything."""
    ever: bool
    """Whether any row says yes."""


def verdict(columns: Mapping[str, Said], success_key: str) -> bool | None:
    """The label of one episode, of what the columns say of it; None where none says anything. `LabelError` where they
    do not agree, or one takes its yes back, and nobody has said which column counts."""
    if success_key:
        return columns[success_key].last if success_key in columns else None
    spoken = {name: said.last for name, said in columns.items() if said.last is not None}
    if len(set(spoken.values())) > 1:
        listed = ", ".join(f"{name} says {'yes' if value else 'no'}" for name, value in spoken.items())
        raise LabelError(f"its success labels disagree: {listed}; say which one counts: --success-key KEY")
    for name, said in columns.items():
        if said.ever and said.last is False:
            raise LabelError(
                f"{name} says yes in some rows and no in the last one; --success-key {name} takes the last one's word"
            )
    return next(iter(spoken.values()), None)


def said(values: Sequence[Any], words: Mapping[str, bool]) -> Said:
    """What the values of one column, row by row, say. `LabelError` for one that is no label."""
    last, ever = None, False
    known: dict[tuple[type, Any], bool | None] = {}
    for value in values:
        plain = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(plain, bool | int | str):
            key = (type(plain), plain)  # True and 1 are one key, and may be two words
            found = known[key] if key in known else known.setdefault(key, meaning(plain, words))
        else:
            found = meaning(plain, words)
        if found is not None:
            last, ever = found, ever or found
    return Said(last, ever)


def meaning(value: Any, words: Mapping[str, bool]) -> bool | None:
    """Whether one value means success; None where it says nothing.

    Args:
        words: texts of labels, as a person gave them; they go before the usual ones.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or (isinstance(value, float) and value != value):
        return None
    text = str(value) if isinstance(value, bool | int | float | str) else None
    if text is not None and text in words:
        return words[text]
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in YES or word in NO:
            return word in YES
        if word in OPEN:
            return None
        raise LabelError(
            f"its success label is {shown(value)}; say what it means: --success-value {shown(value)}=true or =false"
        )
    raise LabelError(
        f"its success label is {shown(value)}; labels are true or false, 1 or 0, or words that --success-value explains"
    )
