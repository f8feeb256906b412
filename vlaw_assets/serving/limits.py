"""What clients may do to a policy server, and where it may listen."""

from __future__ import annotations

import hmac
import socket
import ssl
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path

from vlaw_models.errors import VlawError

PICTURE = 1920 * 1200 * 3
"""Bytes of the largest picture that a message has room for, per camera."""
REST = 1 << 20
SHORTEST_TOKEN = 16
BACKLOG = 256
"""Clients that may be waiting to be let in."""


@dataclass(frozen=True)
class Limits:
    """Of time, size and number."""

    answer_s: float = 10.0
    """From a whole message to its answer."""
    idle_s: float = 3600.0
    """How long a client may say nothing; one that has silently gone is found by pings within a minute."""
    clients: int = 128
    batch: int = 16
    """Requests that share a forward pass."""
    message_bytes: int = 4 * PICTURE + REST

    def __post_init__(self) -> None:
        wrong = next((name for name, value in asdict(self).items() if not value > 0), None)
        if wrong:
            raise VlawError(f"a limit of {getattr(self, wrong)}", where=wrong, remedy="Give more than 0.")


def message_bytes(cameras: int) -> int:
    """Bytes of a message with a picture of every camera."""
    return cameras * PICTURE + REST


@dataclass(frozen=True)
class Door:
    """Who is let in."""

    token: str = ""
    """What a client must say in its header `Authorization: Api-Key TOKEN`; empty: nothing."""
    tls: ssl.SSLContext | None = None

    def opens_to(self, authorization: str) -> bool:
        """Whether a client with this header (empty: none) may come in."""
        if not self.token:
            return True
        scheme, _, given = authorization.partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.token.encode())
        return same and scheme.lower() in ("api-key", "bearer")


def open_door(token_file: Path | None, certificate: Path | None, key: Path | None) -> Door:
    """Reads the token and the certificate. Raises VlawError for files that cannot be used."""
    return Door(_token(token_file) if token_file else "", _tls(certificate, key) if certificate or key else None)


def bind(host: str, port: int, door: Door) -> socket.socket:
    """A socket at that address; nobody can connect before `listen`. Addresses that other machines reach need a token
    and TLS.

    Raises VlawError without them, and where the address is taken or none of this machine's.
    """
    where = f"--host {host} --port {port}"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise VlawError(f"there is no such address: {error}", where=where, remedy="Give --host 127.0.0.1.") from error
    family, _, _, _, address = found[0]
    lacking = [name for name, there in (("--token-file", door.token), ("--tls-cert", door.tls)) if not there]
    if lacking and not ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise VlawError(
            "other machines reach this address, and a robot does what it is told from there",
            where=where,
            remedy=f"Give {' and '.join(lacking)} (docs/serving.md), or keep to --host 127.0.0.1 and let robots come "
            "through a tunnel such as ssh -L.",
        )
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not a minute's wait for what ended just now
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _taken(error, where) from error
    return bound


def listen(bound: socket.socket) -> None:
    """From now on clients can connect. Raises VlawError where another server was quicker."""
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _taken(error, f"{host}, port {port}") from error


def _taken(error: OSError, where: str) -> VlawError:
    return VlawError(
        f"the server cannot listen there: {error.strerror or error}",
        where=where,
        remedy="Choose another --port (0: any free one) or --host, or stop what listens there.",
    )


def _token(path: Path) -> str:
    remedy = f"Write {SHORTEST_TOKEN} or more random letters into it: openssl rand -hex 24 > {path}"
    try:
        text = path.read_text(encoding="ascii").strip()
        open_to_others = path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        raise VlawError(f"the token cannot be read: {error}", where=f"--token-file {path}", remedy=remedy) from error
    if len(text) < SHORTEST_TOKEN or not text.isprintable() or " " in text:
        raise VlawError("this is no token", where=f"--token-file {path}", remedy=remedy)
    if open_to_others:
        raise VlawError(
            "other users of this machine can read the token", where=f"--token-file {path}", remedy=f"chmod 600 {path}"
        )
    return text


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    if certificate is None or key is None:
        raise VlawError(
            "TLS needs a certificate and its key", where="vlaw serve-policy", remedy="Give --tls-cert and --tls-key."
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise VlawError(
            f"certificate or key cannot be used: {error}",
            where=f"--tls-cert {certificate} --tls-key {key}",
            remedy="Give PEM files that belong together; the key without a password.",
        ) from error
    return context
