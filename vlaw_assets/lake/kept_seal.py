"""Seals that were kept outside of the lake, held against its chain: whether this ledger is the one that was seen then,
or grew from it.

A lake that is replaced by an older copy of itself, or forked from one, or sealed anew after it was changed, is sound in
itself: only what is not in the lake can tell. `vlaw seal` prints a line to keep,

    vlaw-seal <version> <H_version> <sequence> <UTC time>

and for every kept line H_version must be in ledger.chain at that version, where the links are followed from the first
one on. Since H_v holds the digest of all that was committed up to v, an equal H_v means that all of that is still what
it was, as far as the files have these digests (which `verify_ledger` asks). sequence and time are those of the newest
artifact by then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import deltalog, read_format, seal, sealed
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_assets.lake.paths import Paths

WORD = "vlaw-seal"
_LINE = re.compile(
    rf"{WORD} (?P<version>\d{{1,18}}) (?P<chain>[0-9a-f]{{64}}) (?P<sequence>-1|\d{{1,18}}) (?P<time>\S{{1,40}})"
)
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_REMEDY = "Give the hash (64 hexadecimal digits), or a file with lines that `vlaw seal` printed."
MOST_BYTES = 16 << 20
"""Of a file of kept lines: a hundred thousand of them."""
RESTORE = (
    "Restore the newer lake, or point VLAW_LAKE at it. If this lake is the right one and you know why, keep a new "
    "line of "
    "`vlaw seal` instead"
)


@dataclass(frozen=True)
class KeptSeal:
    """The seal as it was when somebody looked."""

    version: int | None
    """Of the table `artifacts`; None where only the hash was kept."""
    chain: str
    sequence: int | None = None
    """Of the newest artifact by then, as in `--as-of '#12'`; -1 in a lake without any."""
    time: str = ""
    """When that one was committed (UTC), by the clock of who did."""

    @property
    def line(self) -> str:
        return f"{WORD} {self.version} {self.chain} {self.sequence} {self.time}"

    @property
    def plain(self) -> dict[str, Any]:
        return {WORD: self.line, **asdict(self)}

    def __str__(self) -> str:
        return f"hash {self.chain[:12]}" if self.version is None else f"version {self.version} of {self.time}"


def now(lake: Lake) -> KeptSeal:
    """What to keep of this lake as it is. Raises VlawError if the ledger is not as it was sealed: that is nothing to
    keep."""
    sealed.check(lake.paths, lake.verified)
    found = seal.check(lake.paths)
    table = lake.paths.table("artifacts")
    for version in range(found["version"], -1, -1):  # those of a compaction brought no artifact
        name = deltalog.read_entry(table, version).info.get("vlaw.artifact_id")
        if name is not None:
            newest = lake.ledger.get(name)
            return KeptSeal(found["version"], found["chain"], lake.ledger.sequence(name), _utc(newest.created_at))
    return KeptSeal(
        found["version"], found["chain"], -1, _utc(datetime.fromisoformat(read_format(lake.paths)["created_at"]))
    )


def kept(text: str, *, lake: Lake) -> list[KeptSeal]:
    """What `text` means: a hash of 64 digits, a line of `vlaw seal`, or a file with hashes and lines of `vlaw seal`
    (with --json as well).

    Raises VlawError for a file that cannot be read, has another line or none at all, or lies in the lake itself.
    """
    if _HASH.fullmatch(text):
        return [KeptSeal(None, text.lower())]
    if match := _LINE.fullmatch(text.strip()):
        return [_seal(match)]
    path = Path(text).expanduser()
    try:
        inside = path.resolve().is_relative_to(lake.paths.root.resolve())
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        found = list(_parsed(data.decode("utf-8-sig"), path)) if len(data) <= MOST_BYTES else []
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise VlawError(
            f"the kept seal cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}",
            where=f"--seal {text}",
            remedy=_REMEDY,
        ) from error
    if inside:
        raise VlawError(
            "the kept seal lies inside the lake: whoever puts back an older lake puts back an older seal with it",
            where=str(path),
            remedy="Keep it somewhere else, best on another machine.",
        )
    if not found:
        raise VlawError("there is no kept seal in this file", where=str(path), remedy=_REMEDY)
    return found


def check(lake: Lake, seals: list[KeptSeal]) -> None:
    """Raises VlawError unless every kept seal is in the lake's chain, at its version: the first that is not, the oldest
    first."""
    chain, broken = _chain(lake.paths)
    versions = {digest: version for version, digest in enumerate(chain)}
    for item in sorted(seals, key=lambda item: -1 if item.version is None else item.version):
        if item.chain in versions and item.version in (None, versions[item.chain]):
            continue
        if broken and (item.version is None or item.version >= len(chain)):
            raise VlawError(
                f"the kept seal ({item}) cannot be found: ledger.chain {broken}",
                where=str(lake.paths.chain),
                remedy="`vlaw audit --all --verify` names all that is damaged; restore it from a copy.",
            )
        here = f"here: {len(chain) - 1}"
        if item.version is None:
            what = (
                f"the ledger is older than the kept seal, or has another history: its hash is at none of the "
                f"versions up to {len(chain) - 1}"
            )
        elif item.version >= len(chain):
            what = f"the ledger is older than the kept seal (kept: {item}, {here})"
        else:
            what = (
                f"the ledger has another history than the kept seal (kept: {item}; here that version has another "
                f"hash, newest {here})"
            )
        agrees = max(
            (
                other
                for other in seals
                if other.version is not None and other.version < len(chain) and chain[other.version] == other.chain
            ),
            key=lambda other: other.version or 0,
            default=None,
        )
        raise VlawError(
            what + (f"; the last kept seal that agrees is {agrees}" if agrees else ""),
            where=str(lake.paths.root),
            remedy=f"{RESTORE}.",
        )


def _chain(paths: Paths) -> tuple[list[str], str]:
    """H_0, H_1, ... as far as the seal covers them and each follows from the one before; and what is wrong after them,
    or ''."""
    try:
        length = seal.read(paths)["length"]
        with paths.chain.open("rb") as file:
            data = file.read(length)
    except OSError as error:
        return [], f"cannot be read: {error.strerror}"
    except VlawError as error:
        return [], f"counts for nothing: {error.what}"
    lines = data.splitlines()
    found = [item["chain"] for item in seal.followed(lines)]
    if len(found) < len(lines):
        return found, f"line {len(found) + 1} was changed"
    return found, "" if len(data) == length else "was cut off"


def _parsed(text: str, path: Path) -> Iterator[KeptSeal]:
    """Every kept seal of a file, in its order. Empty lines and those that begin with # say nothing."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        line = text[place:end].strip()
        if line.startswith("{"):  # what --json printed goes over several lines
            try:
                said, end = decoder.raw_decode(text, text.index("{", place))
                line = said[WORD]
            except (ValueError, KeyError, TypeError, RecursionError):
                line = "{"
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line) if isinstance(line, str) else None
            if match:
                yield _seal(match)
            elif isinstance(line, str) and _HASH.fullmatch(line):
                yield KeptSeal(None, line.lower())
            else:
                number = text.count("\n", 0, place) + 1
                raise VlawError("this is no line of `vlaw seal`", where=f"{path}, line {number}", remedy=_REMEDY)
        place = end + (text[end : end + 1] == "\n")


def _seal(match: re.Match[str]) -> KeptSeal:
    return KeptSeal(int(match["version"]), match["chain"], int(match["sequence"]), match["time"])


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
