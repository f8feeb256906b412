"""Objects of a bucket, by their names: the few calls that a lake on an object store is made of.

    put_new   If-None-Match: *   exactly one of all who try gets the name
    swap      If-Match           exactly one of all who read the same content replaces it
    put, get, fetch, about, names, delete, sha256
    try_conditions     whether the store does the first two

obstore makes them (the extra `object-store`), since nothing else that vlaw installs can put on a condition: pyarrow's
S3FileSystem and fsspec have no such argument, and deltalake and lance keep theirs to themselves. Credentials are
obstore's business, which takes them from the environment (AWS_*) or from the machine's role; none is in an address, in
a message or in the lake.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from vlaw_models.errors import VlawError

REMEDY = "see that the bucket is there, that AWS_* name its credentials and region, and that it can be reached"
ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([A-Za-z0-9_.=-]+(?:/[A-Za-z0-9_.=-]+)*)/?")
SMALL = 64 << 20
"""Bytes of what is read into memory, at most: log entries, seals, manifests."""
_PART = 1 << 20
ANSWER_S = 30.0
"""How long the answer to one request is waited for."""
SURE_S = 180.0
"""A put on a condition that was not answered is repeated for so long; other requests are by obstore, for as long."""
PAUSE_S = 1.0


@dataclass(frozen=True)
class About:
    """What a bucket says of an object."""

    name: str
    size: int
    changed: datetime
    """By the clock of the store."""
    tag: str
    """Changes with the content (ETag)."""


class Bucket:
    """The objects below `s3://bucket/prefix`. Safe to use from several threads."""

    def __init__(self, address: str):
        """Raises VlawError for an address that is not of the form s3://bucket/prefix."""
        found = ADDRESS.fullmatch(address.strip())
        if found is None or ".." in found[2].split("/") or "." in found[2].split("/"):
            raise VlawError(
                "the address of a lake has the form s3://bucket/prefix",
                where=address.rpartition("@")[2],  # whatever stood before an @ was meant to be a secret
                remedy="use letters, digits and _ . = - between the slashes; credentials come from the environment",
            )
        self.bucket, self.prefix = found.groups()
        self.address = f"s3://{self.bucket}/{self.prefix}"

    @cached_property
    def _store(self) -> Any:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise VlawError(
                "a lake on an object store needs obstore", where=self.address, remedy="pip install 'vlaw[object-store]'"
            ) from error
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        plain = re.match(r"http://(127\.0\.0\.1|localhost|\[::1\])(:|/|$)", endpoint) is not None
        client: Any = {"timeout": timedelta(seconds=ANSWER_S), **({"allow_http": True} if plain else {})}
        with self._said(""):
            return S3Store(self.bucket, prefix=self.prefix, client_options=client)

    def put_new(self, name: str, data: bytes | Path) -> str:
        """Write an object that is not there yet. Returns its tag, '' if somebody else has written it.

        Raises VlawError if the store did not say so within SURE_S: then it may be there, now or in a moment.
        """
        return self._put_if(name, data, "create")

    def swap(self, name: str, data: bytes, tag: str) -> str:
        """Replace an object whose content still has this tag. Returns the new tag, '' if it has another one by now.

        Raises VlawError as `put_new` does.
        """
        return self._put_if(name, data, {"e_tag": tag})

    def _put_if(self, name: str, data: bytes | Path, condition: Any) -> str:
        """Put on a condition, again and again until the store has said how it went.

        obstore does not repeat such a put when its answer does not come in time, since it cannot know whether it was
        made. Here it can be known: the condition lets only one of them through, and who is refused looks whose bytes
        are there.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError

        until = time.monotonic() + SURE_S
        unclear: Exception
        with self._said(name):
            while True:
                try:
                    made = obstore.put(self._store, name, data, mode=condition, use_multipart=False)
                    return str(made["e_tag"])
                except (AlreadyExistsError, PreconditionError) as error:
                    about = self.about(name)
                    if about is not None or condition != "create":
                        return self._ours(name, data, about)
                    unclear = error  # no one has the name: S3 answers so while a deletion or another put is under way
                except GenericError as error:
                    unclear = error
                except FileNotFoundError:
                    if condition == "create":
                        raise
                    return ""
                if time.monotonic() + PAUSE_S > until:
                    raise unclear
                time.sleep(PAUSE_S)

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, whether or not there is one of that name."""
        import obstore

        with self._said(name):
            obstore.put(self._store, name, data)

    def get(self, name: str, *, most: int = SMALL) -> tuple[bytes, About] | None:
        """The bytes of a small object; None if there is none. Raises VlawError if it has more than `most`."""
        import obstore

        with self._said(name):
            try:
                found = obstore.get(self._store, name)
            except FileNotFoundError:
                return None
            about = _about(found.meta)
            if about.size > most:
                raise VlawError(
                    f"an object of {about.size:,} bytes where at most {most:,} are expected",
                    where=f"{self.address}/{name}",
                    remedy="restore it from a backup",
                )
            return bytes(found.bytes()), about

    def fetch(self, name: str, target: Path, *, size: int, sha256: str = "") -> str:
        """Bring an object to a file. '' once it is there, else what is wrong: then there is no file.

        The file has its name only when its bytes are as many, and have the sha256, that the caller knows they have.
        """
        import obstore

        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".tmp-{uuid.uuid4().hex}")
        try:
            with self._said(name):
                try:
                    found = obstore.get(self._store, name)
                except FileNotFoundError:
                    return "missing"
                about = _about(found.meta)
                if about.size != size:
                    return f"{about.size} bytes instead of {size}"
                digest, length = hashlib.sha256(), 0
                with temporary.open("wb") as file:
                    for part in found.stream(min_chunk_size=_PART):
                        length += len(part)
                        if length > size:
                            break
                        digest.update(part)
                        file.write(part)
                if length != size:
                    return f"{length} bytes instead of {size}"
            if sha256 and digest.hexdigest() != sha256:
                return "content changed (sha256 differs)"
            when = about.changed.timestamp()
            os.utime(temporary, (when, when))
            temporary.replace(target)
            return ""
        finally:
            temporary.unlink(missing_ok=True)

    def sha256(self, name: str) -> str:
        """sha256 (hex) of an object's bytes; '' if there is none."""
        import obstore

        with self._said(name):
            try:
                digest = hashlib.sha256()
                for part in obstore.get(self._store, name).stream(min_chunk_size=_PART):
                    digest.update(part)
                return digest.hexdigest()
            except FileNotFoundError:
                return ""

    def about(self, name: str) -> About | None:
        """What there is to know of an object without reading it; None if there is none."""
        import obstore

        with self._said(name):
            try:
                return _about(obstore.head(self._store, name))
            except FileNotFoundError:
                return None

    def names(self, folder: str = "", *, after: str = "", most: int = 0) -> list[About]:
        """Everything below a folder, by name; with `after`, what comes after that name; with `most`, about as many."""
        import obstore

        found: list[About] = []
        with self._said(folder):
            for part in obstore.list(self._store, folder.rstrip("/") or None, offset=after or None):
                found += map(_about, part)
                if most and len(found) >= most:
                    break
        return sorted(found, key=lambda item: item.name)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are gone are passed over."""
        import obstore

        for name in names:
            with self._said(name), suppress(FileNotFoundError):
                obstore.delete(self._store, name)

    def now(self) -> datetime:
        """The time by the store's own clock: the only one that all hosts share."""
        name = f"locks/.clock-{os.uname().nodename}"
        self.put(name, b"")
        about = self.about(name)
        assert about is not None
        return about.changed

    def try_conditions(self) -> None:
        """Try out, with an object that is deleted again, that the store keeps the conditions of `put_new` and `swap`.

        Raises VlawError naming what it does not do: there, two who commit at once would both be told that they won, and
        the lake would lose what one of them made.
        """
        name = f"locks/.trial-{uuid.uuid4().hex}"
        try:
            tag = self.put_new(name, b"one")
            if self.put_new(name, b"two"):
                raise self._unfit("writes over an object that a put with If-None-Match: * must not touch")
            if not self.swap(name, b"three", tag):
                raise self._unfit("refuses a put with If-Match although the object is as it was")
            if self.swap(name, b"four", tag):
                raise self._unfit("writes over an object whose ETag is not the one of If-Match")
        finally:
            self.delete([name])

    def _unfit(self, what: str) -> VlawError:
        return VlawError(
            f"the store {what}",
            where=self.address,
            remedy="use a store that supports conditional writes, as S3 does; without them commits would be lost",
        )

    def _ours(self, name: str, data: bytes | Path, about: About | None) -> str:
        """The tag of an object that has just these bytes, else '': the answer to a put that was made may have been
        lost, and the put repeated."""
        wanted = data if isinstance(data, bytes) else data.read_bytes()
        if about is None or about.size != len(wanted):
            return ""
        found = self.get(name, most=len(wanted))
        return found[1].tag if found and found[0] == wanted else ""

    @contextmanager
    def _said(self, name: str) -> Iterator[None]:
        """What obstore says as an error a person can read: no answer of a server in it, which may hold a key's name."""
        try:
            yield
        except FileNotFoundError as error:
            raise VlawError("the bucket is not there", where=self.address, remedy=REMEDY) from error
        except Exception as error:
            if not type(error).__module__.startswith("obstore"):
                raise
            what = re.split(r"[<\n{]", str(error), maxsplit=1)[0].strip().rstrip(":")[:300]
            raise VlawError(
                f"the object store refuses or cannot be reached: {type(error).__name__}: {what}",
                where=f"{self.address}/{name}".rstrip("/"),
                remedy=REMEDY,
            ) from None


def _about(found: Mapping[str, Any]) -> About:
    return About(found["path"], int(found["size"]), found["last_modified"], str(found["e_tag"] or ""))
