"""A policy's normalisation from published statistics: openpi's norm_stats.json, or the state of LeRobot's normalizer.

pi0 subtracts the mean and divides by the standard deviation; pi0.5 maps the quantiles to [-1, 1]. Both are a `low` and
a `high` here, and the millionth that openpi adds to what it divides by is part of `high`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.policies.normalization import Normalization
    from vlaw_models.published.part import Options

FILE = "norm_stats.json"
ADDED = 1e-6
"""What openpi adds to a range or a standard deviation before it divides."""
_USED = {"MEAN_STD": ("mean", "std"), "QUANTILES": ("q01", "q99")}
_REMEDY = f"Give openpi's {FILE} of these weights as --norm-stats: it has state and actions with mean, std, q01, q99."


def read_statistics(kind: str, folder: Path, config: dict[str, Any], options: Options, *, chunk: int) -> Normalization:
    """The normalisation of chunks of `chunk` actions. Raises VlawError where statistics are missing or damaged."""
    import numpy as np

    from vlaw_models.policies.normalization import Normalization

    found, where = _published(folder, options)
    modes = config.get("normalization_mapping") or {}
    usual = "MEAN_STD" if kind == "pi0" else "QUANTILES"
    ends = []
    for key, feature in (("state", "STATE"), ("actions", "ACTION")):
        mode = usual if where.name == FILE else modes.get(feature, usual)
        ends.append(_ends(found.get(key), mode, where=f"{where}, {key}"))
    (state_low, state_high), (low, high) = ends
    robot, relative = options.robot, options.relative or bool(config.get("use_relative_actions"))
    if chunk % robot.commands_per_step:
        raise VlawError(
            f"a chunk of {chunk} commands is no whole number of control steps: robot {robot.name!r} has "
            f"{robot.commands_per_step} commands in each",
            where=str(folder),
            remedy="Give the length of chunk that these weights were trained with (--chunk), or their robot (--robot).",
        )
    return Normalization(
        state_low,
        state_high,
        np.tile(low, (chunk, 1)),
        np.tile(high, (chunk, 1)),
        tuple(robot.command.as_is) if relative else tuple(range(len(low))),
        tuple(robot.command.wraps) if relative else (),
        per_step=robot.commands_per_step,
    )


def _published(folder: Path, options: Options) -> tuple[dict[str, Any], Path]:
    """Feature -> statistic -> numbers, and the file."""
    if options.statistics is None:
        states = sorted(folder.glob("policy_preprocessor*normalizer*.safetensors"))
        if states:
            return _lerobot(states[0]), states[0]
    files = [options.statistics] if options.statistics is not None else sorted(folder.rglob(FILE))
    files = [file / FILE if file.is_dir() else file for file in files]
    if len(files) != 1:
        what = f"{len(files)} files {FILE} are beside the weights" if files else "no statistics are beside the weights"
        raise VlawError(what, where=str(folder), remedy=_REMEDY)
    try:
        found = json.loads(files[0].read_text(encoding="utf-8"))
        return dict(found.get("norm_stats", found)), files[0]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise VlawError(f"the statistics cannot be read: {error}", where=str(files[0]), remedy=_REMEDY) from error


def _lerobot(file: Path) -> dict[str, Any]:
    from vlaw_models.checkpoint import read_safetensors

    found: dict[str, Any] = {}
    for name, value in read_safetensors(file).items():
        feature, _, statistic = name.rpartition(".")
        key = {"observation.state": "state", "action": "actions"}.get(feature)
        if key is not None:
            found.setdefault(key, {})[statistic] = value.flatten().tolist()
    return found


def _ends(given: Any, mode: str, *, where: str) -> tuple[np.ndarray, np.ndarray]:
    """float32 (D,) low and high that mean -1 and 1, without the dimensions that were only filled up with zeros."""
    import numpy as np

    if mode not in _USED:
        raise VlawError(f"the weights were normalised by {mode}, which is not read here", where=where, remedy=_REMEDY)
    try:
        first, second = (np.asarray(given[name], dtype=np.float64) for name in _USED[mode])
    except (KeyError, TypeError, ValueError) as error:
        raise VlawError(
            f"the statistics lack {' and '.join(_USED[mode])}: {error!r}", where=where, remedy=_REMEDY
        ) from error
    if first.ndim != 1 or first.shape != second.shape or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise VlawError(
            f"the statistics are of shapes {first.shape} and {second.shape}, or not finite", where=where, remedy=_REMEDY
        )
    moved = np.flatnonzero((first != 0) | (second != 0))
    used = int(moved[-1]) + 1 if len(moved) else len(first)
    first, second = first[:used], second[:used]
    low, high = (first - second - ADDED, first + second + ADDED) if mode == "MEAN_STD" else (first, second + ADDED)
    if (high <= low).any():
        raise VlawError(
            f"the statistics have an empty range in dimension {int(np.argmax(high <= low))}",
            where=where,
            remedy=_REMEDY,
        )
    return low.astype(np.float32), high.astype(np.float32)
