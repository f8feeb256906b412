"""Columns of one episode's rows as arrays, each row checked: the first one that is wrong is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.importers.findings import Fault

if TYPE_CHECKING:
    import pyarrow as pa

TOLERANCE = 0.5
"""How far a row may lie from where its number says, in rows."""


def vector(column: pa.ChunkedArray, width: int, key: str) -> np.ndarray:
    """A feature of `width` numbers as (rows, width) float32. `Fault` for a row that is missing, of another length or
    not finite."""
    import pyarrow as pa

    values = _one(column)
    kind = values.type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    element = kind.value_type if listed else kind
    if not (pa.types.is_floating(element) or pa.types.is_integer(element)):
        raise Fault(f"{key} holds {kind} and no numbers", rule="no_numbers")
    _none_missing(values, key)
    if not listed:
        flat, lengths = values, np.ones(len(values), np.int64)
    elif pa.types.is_fixed_size_list(kind):
        flat, lengths = values.flatten(), np.full(len(values), kind.list_size)
    else:
        offsets = values.offsets.to_numpy()
        flat, lengths = values.flatten(), np.diff(offsets)
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        row = int(wrong[0])
        raise Fault(f"{key} has {lengths[row]} numbers at frame {row}, {width} are declared", row, "row_length")
    if flat.null_count:
        at = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0])
        raise Fault(f"{key} is missing at frame {at // width}, component {at % width}", at // width, "missing")
    with np.errstate(over="ignore"):
        found = flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(values), width)
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        row, component = (int(number) for number in bad[0])
        raise Fault(f"{key} is NaN or infinite at frame {row}, component {component}", row, "not_finite")
    return found


def integers(column: pa.ChunkedArray, key: str) -> np.ndarray:
    """(rows,) int64. `Fault` for a row that is missing or no whole number."""
    import pyarrow as pa

    values = _one(column)
    if not pa.types.is_integer(values.type):
        raise Fault(f"{key} holds {values.type} and no whole numbers", rule="no_numbers")
    _none_missing(values, key)
    return values.to_numpy(zero_copy_only=False).astype(np.int64)


def check_order(frames: np.ndarray, numbers: np.ndarray | None) -> None:
    """`Fault` where an episode's rows are not frame 0, 1, 2 ..., or do not follow each other in the dataset."""
    wrong = np.flatnonzero(frames != np.arange(len(frames)))
    if len(wrong):
        row = int(wrong[0])
        raise Fault(f"its rows are not numbered in order: row {row} is frame {frames[row]}", row, "row_order")
    if numbers is not None and len(numbers) > 1:
        wrong = np.flatnonzero(np.diff(numbers) != 1)
        if len(wrong):
            row = int(wrong[0]) + 1
            raise Fault(
                f"its rows are not numbered in order: row {row} is number {numbers[row]} of the dataset, the one "
                f"before {numbers[row - 1]}",
                row,
                "row_order",
            )


def check_times(column: pa.ChunkedArray, fps: float, *, from_zero: bool) -> None:
    """`Fault` where a row's timestamp is half a row or more away from its number / `fps`.

    Args:
        from_zero: whether the first one has to be 0: frames of a video are found by it.
    """
    import pyarrow as pa

    values = _one(column)
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise Fault(f"timestamp holds {values.type} and no seconds", rule="row_spacing")
    _none_missing(values, "timestamp")
    times = values.to_numpy(zero_copy_only=False).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(times))
    if len(bad):
        raise Fault(f"timestamp is NaN or infinite at frame {bad[0]}", int(bad[0]), "row_spacing")
    if from_zero and abs(times[0]) * fps >= TOLERANCE:
        raise Fault(
            f"its timestamps begin at {times[0]:g} s and not at 0: which frame of the video belongs to a row is "
            "unclear",
            0,
            "row_spacing",
        )
    aside = (times - times[0]) * fps - np.arange(len(times))
    wrong = np.flatnonzero(np.abs(aside) >= TOLERANCE)
    if len(wrong):
        row = int(wrong[0])
        steps = np.diff(times)
        steady = len(steps) > 2 and steps.min() > 0 and steps.max() - steps.min() < 0.05 * np.median(steps)
        way = f"; they are {1 / np.median(steps):.4g} Hz: --rate, if that is true" if steady else ""
        raise Fault(
            f"row {row} has timestamp {times[row]:.4f} s, {row / fps + times[0]:.4f} s were expected at {fps:g} Hz: "
            f"rows are missing, late or at another rate{way}",
            row,
            "row_spacing",
        )


def texts(column: pa.ChunkedArray) -> list[str]:
    """The different texts of a column, in their order; values that are no texts as Python shows them."""
    found: dict[str, None] = {}
    for value in _one(column).unique().to_pylist() if _hashable(column) else _one(column).to_pylist():
        if value not in (None, "", [], {}):
            found.setdefault(value if isinstance(value, str) else repr(value))
    return list(found)


def _hashable(column: Any) -> bool:
    import pyarrow as pa

    return not pa.types.is_nested(column.type)


def _one(column: pa.ChunkedArray) -> Any:
    import pyarrow as pa

    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        found = pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], found.type)
    return found.dictionary_decode() if pa.types.is_dictionary(found.type) else found


def _none_missing(values: Any, key: str) -> None:
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise Fault(f"{key} is missing at frame {row}", row, "missing")
