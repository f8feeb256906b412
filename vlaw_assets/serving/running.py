"""One session from its first line to its last: the record, the warm-up, the event loop, and an orderly end."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vlaw_assets.lake import disk
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.pipeline.code_identity import code_revision
from vlaw_assets.serving.batches import Batches
from vlaw_assets.serving.limits import Door, Limits, listen
from vlaw_assets.serving.recorder import Recorder
from vlaw_assets.serving.served import Served, blank
from vlaw_assets.serving.server import PolicyServer
from vlaw_assets.serving.session import LOCK, MESSAGES, Session, folder_of, new_id, write_session
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

NOTE_S = 2.0
"""How often session.json follows the counts."""
WARM_S = 600.0
"""How long the first forward passes may take: compilers and caches are at work."""
ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminated"}


@dataclass(frozen=True)
class Asking:
    """How the policy is asked, and whether that is recorded."""

    experiment: str
    iteration: int
    noise_scale: float = 1.0
    noise_seed: int = 0
    record: bool = False


def warm_up(served: Served, batches: Batches, limits: Limits) -> float:
    """Asks once alone and once in a full batch; returns the milliseconds of a chunk asked alone, once warm.

    Raises VlawError where the policy does not take what its robot sends.
    """
    one = blank(served.robot, served.image_size)
    remedy = "Give --image-size as the policy was trained on, or the experiment of the robot that it was trained for."
    took = 0.0
    for count in (1, limits.batch, 1):
        answers = [batches.submit(one, 0) for _ in range(count)]
        if wait(answers, timeout=WARM_S).not_done:
            raise VlawError(f"no chunk within {WARM_S:g} s", where=f"warm-up of {served.ref.name}", remedy=remedy)
        for answer in answers:
            if (error := answer.exception()) is not None:
                raise VlawError(
                    f"the policy does not take an observation of robot {served.robot.name!r} with pictures of "
                    f"{served.image_size[0]}x{served.image_size[1]}: {str(error)[:300]}",
                    where=f"warm-up of {served.ref.name}",
                    remedy=remedy,
                ) from error
        took = answers[0].result().infer_ms
    return took


def serve(
    lake: Lake,
    served: Served,
    asking: Asking,
    bound: socket.socket,
    *,
    limits: Limits,
    door: Door,
    tell: Callable[[str], None],
    ready: Callable[[Session, Callable[[], None]], None] = lambda _session, _stop: None,
) -> Session:
    """Serves on a bound socket until this process is interrupted or terminated, and returns the session as it is then
    recorded.

    `ready` is called once clients are let in, with the session and what ends it (from any thread). Raises VlawError
    where the lake cannot be written, or the policy does not fit its robot: then nothing is left of the session.
    """
    tell(f"{served.ref.name} is tried, alone and in a batch of {limits.batch}, before anybody can connect")
    batches = Batches(served.policy, served.robot, noise_scale=asking.noise_scale, most=limits.batch)
    took = warm_up(served, batches, limits)
    listen(bound)
    session = _begin(served, asking, address_of(bound, door))
    folder = folder_of(lake, session.id)
    try:
        folder.mkdir(parents=True)
        recorder = Recorder(folder / MESSAGES) if asking.record else None
        write_session(lake, session)
    except OSError as error:
        raise disk.failure(
            error, "the session cannot be recorded", where=str(folder), remedy="Let the lake be written."
        ) from error
    with FileLock(folder / LOCK).hold("vlaw serve-policy", wait_s=0, remedy="Try again."):
        server = PolicyServer(served, session, batches, limits=limits, door=door, recorder=recorder, tell=tell)

        def now() -> Session:
            return session.model_copy(update={"counts": server.counts, "latency_ms": server.latency_ms()})

        end = "failed"
        try:
            tell(f"warm: a chunk takes {took:.1f} ms")
            end = asyncio.run(_until_ended(lake, server, bound, now, ready))
        finally:
            session = now().model_copy(update={"ended_at": datetime.now(UTC), "end": end})
            with suppress(OSError):  # the disk filled up meanwhile: what was noted last stands
                write_session(lake, session)
                if recorder is not None:
                    recorder.close()
    return session


def address_of(listening: socket.socket, door: Door) -> str:
    """As clients give it, of the socket itself: ws://127.0.0.1:8000."""
    host, port = listening.getsockname()[:2]
    return f"ws{'s' if door.tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def _begin(served: Served, asking: Asking, address: str) -> Session:
    return Session(
        id=new_id(),
        experiment=asking.experiment,
        iteration=asking.iteration,
        robot=served.robot.name,
        policy=served.ref.artifact_id,
        policy_name=served.ref.name,
        policy_content_sha256=served.ref.content_digest,
        policy_class=served.policy_class,
        execute_steps=served.policy.execute_steps,
        noise_scale=asking.noise_scale,
        noise_seed=asking.noise_seed,
        image_size=served.image_size,
        code_revision=code_revision(),
        address=address,
        recorded=asking.record,
        started_at=datetime.now(UTC),
    )


async def _until_ended(
    lake: Lake,
    server: PolicyServer,
    listening: socket.socket,
    now: Callable[[], Session],
    ready: Callable[[Session, Callable[[], None]], None],
) -> str:
    """Serves; returns what ended it."""
    loop, ends = asyncio.get_running_loop(), ["stopped"]

    def stop(why: str = "stopped") -> None:
        ends[0] = why
        server.stop()
        for number in ENDINGS:  # the second time it is at once
            loop.remove_signal_handler(number)

    if threading.current_thread() is threading.main_thread():
        for number, why in ENDINGS.items():
            loop.add_signal_handler(number, stop, why)
    noting = loop.create_task(_note(lake, now))

    def stop_from_anywhere() -> None:
        loop.call_soon_threadsafe(stop)

    loop.call_soon(ready, now(), stop_from_anywhere)
    try:
        await server.run(listening)
    finally:
        noting.cancel()
    return ends[0]


async def _note(lake: Lake, now: Callable[[], Session]) -> None:
    """Writes session.json whenever the counts have changed."""
    written = now().counts
    while True:
        await asyncio.sleep(NOTE_S)
        session = now()
        if session.counts != written:
            with suppress(OSError):
                await asyncio.to_thread(write_session, lake, session)
                written = session.counts
