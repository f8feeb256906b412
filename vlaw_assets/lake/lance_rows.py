"""Rows of one artifact in a Lance table, by number: where each episode's lie, and reading just those asked for.

A fork of a process must not use what Lance has open; so each process opens the table for itself, and a pickled copy
opens it anew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from vlaw_assets.lake import disk
from vlaw_assets.lake.lance_table import fragments_of
from vlaw_models.errors import VlawError


class Place(NamedTuple):
    """Rows of one episode, which are together, by step: `views` rows of each step."""

    begin: int
    """Number of its first row, counted through the artifact's fragments."""
    steps: int
    views: int
    first_step: int


class LanceRows:
    """The rows behind one entry of the ledger. Safe to read from several threads."""

    def __init__(self, uri: Path, entry: dict[str, Any], what: str):
        """`what`: what the rows are, for messages: 'frames'."""
        self.uri, self._entry, self.what = uri, entry, what
        self._opened: tuple[int, list[Any]] = (0, [])
        self._lock = threading.Lock()
        self._first_rows = np.zeros(1, np.int64)
        """(fragments + 1,): the number of each fragment's first row."""

    def places(self) -> dict[str, Place]:
        """Episode id -> its rows. Raises VlawError for rows that are not there or not in order."""
        try:
            dataset, fragments = fragments_of(self.uri, self._entry)
            self._opened = os.getpid(), fragments
            self._first_rows = np.cumsum([0, *(fragment.count_rows() for fragment in fragments)])
            table = dataset.scanner(columns=["episode_id", "step"], fragments=fragments, scan_in_order=True).to_table()
        except (OSError, ValueError) as error:
            raise self.damaged(error) from error
        encoded = pc.dictionary_encode(table["episode_id"]).combine_chunks()
        codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        steps = table["step"].to_numpy()
        cuts = [*np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]).tolist(), len(codes)] if len(codes) else [0]
        found: dict[str, Place] = {}
        for begin, end in pairwise(cuts):
            name, own = names[codes[begin]], steps[begin:end]
            count = int(own[-1] - own[0]) + 1
            views, left = divmod(end - begin, count)
            if name in found or left or (own != np.repeat(np.arange(own[0], own[0] + count), views)).any():
                raise self.damaged(ValueError(f"the rows of episode {name} are not in order"))
            found[name] = Place(begin, count, views, int(own[0]))
        return found

    def take(self, rows: np.ndarray, column: str) -> Iterator[tuple[np.ndarray, Any]]:
        """For each fragment that holds some of these rows (N,), in rising order: (which of them, values of the column).

        Raises VlawError where they cannot be read.
        """
        which = np.searchsorted(self._first_rows, rows, side="right") - 1
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            local = (rows[here] - self._first_rows[number]).tolist()
            try:
                values = self._fragments()[number].take(local, columns=[column])[column]
            except (OSError, ValueError) as error:
                raise self.damaged(error) from error
            yield here, values

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": (0, []), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_lock": threading.Lock()}

    def _fragments(self) -> list[Any]:
        with self._lock:
            if self._opened[0] != os.getpid():
                self._opened = os.getpid(), fragments_of(self.uri, self._entry)[1]
            return self._opened[1]

    def damaged(self, error: Exception) -> VlawError:
        disk.refuse_if_out_of_files(error)
        return VlawError(
            f"{self.what} cannot be read: {error}",
            where=str(self.uri),
            remedy="restore the file, or re-materialize with force",
        )
