"""Every message of a session, appended to one file that is readable after any kill: `messages.rec`.

The file begins with `HEADER`. Each message follows as

    length of the body (4 bytes), CRC-32 of all that follows (4), kind (1), connection (4), number (4), time (8), body

little-endian; the time is in nanoseconds since 1970. The body is what went over the wire, byte for byte: msgpack of
metadata (open), request and answer; UTF-8 of an error and of why a connection ended (close).
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from vlaw_models.errors import VlawError

HEADER = b"vlaw messages 1\n"
_LENGTH, _ABOUT = struct.Struct("<II"), struct.Struct("<BIIQ")


class Kind(IntEnum):
    """What a message is."""

    OPEN = 1
    REQUEST = 2
    ANSWER = 3
    ERROR = 4
    CLOSE = 5


@dataclass(frozen=True)
class Message:
    """One message of a session."""

    kind: Kind
    connection: int
    """From 1, in the order in which clients came."""
    number: int
    """Of the request within its connection, from 1; an answer or error has that of its request; 0: none."""
    at_ns: int
    body: bytes


class Recorder:
    """Appends messages. For one thread at a time."""

    def __init__(self, path: Path):
        """Raises OSError; FileExistsError where the file is there."""
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end = 0
        self._append(HEADER)

    def write(self, kind: Kind, connection: int, number: int, body: bytes) -> None:
        """Raises OSError (a full disk): then nothing of this message is left in the file."""
        about = _ABOUT.pack(kind, connection, number, time.time_ns())
        check = zlib.crc32(body, zlib.crc32(about))
        self._append(_LENGTH.pack(len(body), check) + about + body)

    def close(self) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def _append(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, self._end)  # or nobody could read what comes after it
            raise
        self._end += len(data)


def read_messages(path: Path) -> Iterator[Message]:
    """The messages of a recording in order; ends at the first that is not whole, as a kill leaves it.

    Raises VlawError where the file cannot be read or is no recording.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(HEADER)) != HEADER:
                raise VlawError("this is no recording of a session", where=str(path), remedy="Give its messages.rec.")
            size = path.stat().st_size
            while len(front := file.read(_LENGTH.size)) == _LENGTH.size:
                length, check = _LENGTH.unpack(front)
                if length > size:  # torn: the number is no length
                    return
                rest = file.read(_ABOUT.size + length)
                if len(rest) < _ABOUT.size + length or zlib.crc32(rest) != check:
                    return
                kind, connection, number, at_ns = _ABOUT.unpack_from(rest)
                yield Message(Kind(kind), connection, number, at_ns, rest[_ABOUT.size :])
    except OSError as error:
        raise VlawError(
            f"the recording cannot be read: {error.strerror}", where=str(path), remedy="Give its messages.rec."
        ) from error
