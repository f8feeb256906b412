"""A policy server in a thread of this process, and a client that speaks to it as openpi's does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
from websockets.sync.client import connect

from vlaw_assets.lake import Lake
from vlaw_assets.serving.limits import Door, Limits, bind
from vlaw_assets.serving.running import Asking, serve
from vlaw_assets.serving.served import Served
from vlaw_assets.serving.session import Session


class Client:
    """Connects, takes the metadata, asks. Options are those of websockets' `connect`."""

    def __init__(self, port: int, *, api_key: str = "", scheme: str = "ws", **options: Any):
        headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        address = f"{scheme}://127.0.0.1:{port}"
        self._open = ExitStack()
        self.socket = self._open.enter_context(
            connect(address, compression=None, max_size=None, additional_headers=headers, **options)
        )
        self.metadata = unpacked(self.socket.recv())

    def ask(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Raises RuntimeError with the text of an error."""
        return self.send(packed(observation))

    def send(self, message: str | bytes) -> dict[str, Any]:
        self.socket.send(message)
        answer = self.socket.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return unpacked(answer)

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def packed(value: Any) -> bytes:
    return msgpack.packb(value, default=_plain)


def unpacked(data: bytes) -> Any:
    return msgpack.unpackb(data, object_hook=_array)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def _array(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return np.ndarray(buffer=value[b"data"], dtype=np.dtype(value[b"dtype"]), shape=value[b"shape"])
    return value


@dataclass
class Running:
    """A server at work."""

    port: int
    session: Session
    told: list[str] = field(default_factory=list)
    """What it said of its clients."""
    ended: Session | None = None
    """The session as it was left."""


@contextmanager
def running(
    lake: Lake,
    served: Served,
    *,
    limits: Limits | None = None,
    door: Door | None = None,
    record: bool = False,
    noise_scale: float = 1.0,
) -> Iterator[Running]:
    """A server on a free port for a block."""
    started: Future[tuple[Session, Any]] = Future()
    told: list[str] = []
    bound = bind("127.0.0.1", 0, door or Door())
    asking = Asking("vlaw", 1, noise_scale, 5, record)
    place = Running(bound.getsockname()[1], session=None, told=told)  # type: ignore[arg-type] # known below

    def work() -> None:
        try:
            place.ended = serve(
                lake,
                served,
                asking,
                bound,
                limits=limits or Limits(answer_s=20),
                door=door or Door(),
                tell=told.append,
                ready=lambda session, stop: started.set_result((session, stop)),
            )
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        place.session, stop = started.result(60)
        try:
            yield place
        finally:
            stop()
    finally:
        thread.join(60)
        bound.close()
    assert not thread.is_alive(), "the server did not end"


def asked(episode: Any, step: int = 0, **changes: Any) -> dict[str, Any]:
    """What the tabletop robot sends at a step of an episode; a key that is changed to None is left out."""
    left, right, wrist = episode.images[step]
    sent = {
        "observation/exterior_1": left,
        "observation/exterior_2": right,
        "observation/wrist": wrist,
        "observation/state": episode.states[step],
        "prompt": episode.instruction,
        **{key.replace("__", "/"): value for key, value in changes.items()},
    }
    return {key: value for key, value in sent.items() if value is not None}
