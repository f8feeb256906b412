"""What a setting may be, as types of the fields of its dataclass: `steps: Count = 300`.

The limits are annotated_types' (pydantic checks a recipe's tables by them, see vlaw_assets/recipes); `doc` says what to
write instead of a value that is not allowed. Choices are `Literal`.
"""

from __future__ import annotations

import re
from typing import Annotated

from annotated_types import Ge, Gt, Le, Predicate, doc

_RECORDING = re.compile(r"recorded:[A-Za-z0-9][A-Za-z0-9_{}-]{0,80}")


def is_recording(source: str) -> bool:
    """Whether it names an imported dataset: 'recorded:NAME'."""
    return _RECORDING.fullmatch(source) is not None and not re.search(r"[{}]", source.replace("{iteration}", ""))


def is_source(source: str) -> bool:
    """Whether it says where real data come from: 'robot', or 'recorded:NAME'."""
    return source == "robot" or is_recording(source)


def is_rollout_source(source: str) -> bool:
    """As `is_source`, or 'inbox'."""
    return source == "inbox" or is_source(source)


Count = Annotated[int, Ge(0), doc("Use 0 or more.")]
Positive = Annotated[int, Ge(1), doc("Use 1 or more.")]
Scale = Annotated[float, Ge(0), doc("Use 0 or more.")]
AboveZero = Annotated[float, Gt(0), doc("Use a number above 0.")]
Share = Annotated[float, Ge(0), Le(1), doc("Use a share between 0 and 1.")]
Source = Annotated[
    str,
    Predicate(is_source),
    doc("Use 'robot', or 'recorded:NAME' of an imported dataset; NAME may hold {iteration}."),
]
RolloutSource = Annotated[
    str,
    Predicate(is_rollout_source),
    doc(
        "Use 'robot', or 'recorded:NAME' of an imported dataset; NAME may hold {iteration}; or 'inbox' for what comes "
        "back from a served policy."
    ),
]
