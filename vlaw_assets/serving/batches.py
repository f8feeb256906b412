"""Asking one policy for many clients: requests that wait share a forward pass, each with noise of its own.

A request's noise comes from its own seed, so its chunk does not depend on who else waits, but for the last digits of
sums that a machine orders otherwise in another batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vlaw_models.episodes import Observation

if TYPE_CHECKING:
    from vlaw_models.robots.observation import Asked
    from vlaw_models.robots.spec import RobotSpec
    from vlaw_models.rollouts.ask import ChunkPolicy


class Answer(NamedTuple):
    """What one request got."""

    actions: np.ndarray
    """(H, A) float32: absolute targets that the robot's controller accepts."""
    waited_ms: float
    """Until the forward pass began."""
    infer_ms: float
    """Of the forward pass."""
    batch: int
    """Requests that shared it."""


class _Waiting(NamedTuple):
    asked: Asked
    seed: int
    since: float
    answer: Future[Answer]


class Batches:
    """The thread that asks the policy. Use `submit` from any thread, `stop` once."""

    def __init__(self, policy: ChunkPolicy, robot: RobotSpec, *, noise_scale: float, most: int):
        """`most`: requests in one forward pass."""
        self._policy, self._robot, self._noise_scale, self._most = policy, robot, noise_scale, most
        self._waiting: deque[_Waiting] = deque()
        self._change = threading.Condition()
        self._ended = False
        self._since: float | None = None
        # A daemon: a policy that hangs must not keep the process from ending.
        threading.Thread(target=self._work, name="policy", daemon=True).start()

    def submit(self, asked: Asked, seed: int) -> Future[Answer]:
        """The answer to come; a VlawError where the policy has none. Cancelled while it waits, it is not computed."""
        waiting = _Waiting(asked, seed, time.perf_counter(), Future())
        with self._change:
            self._waiting.append(waiting)
            self._change.notify()
        return waiting.answer

    def busy_s(self) -> float:
        """For how long the present forward pass has been running; 0 where none is."""
        since = self._since
        return 0.0 if since is None else time.perf_counter() - since

    def stop(self) -> None:
        """Ends the thread once what it computes is done; what still waits is cancelled."""
        with self._change:
            self._ended = True
            self._change.notify()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    for waiting in self._waiting:
                        waiting.answer.cancel()
                    return
                taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            batch = [waiting for waiting in taken if waiting.answer.set_running_or_notify_cancel()]
            if batch:
                self._since = time.perf_counter()
                self._answer(batch)
                self._since = None

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        begun = time.perf_counter()
        try:
            chunks = self._chunks(batch)
        except Exception as error:  # of a policy from anywhere: it concerns who asked, not the server
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for waiting in batch:  # one of them is to blame, or all
                self._answer([waiting])
            return
        took = (time.perf_counter() - begun) * 1000
        for waiting, chunk in zip(batch, chunks, strict=True):
            waited = (begun - waiting.since) * 1000
            waiting.answer.set_result(Answer(chunk, waited, took, len(batch)))

    def _chunks(self, batch: Sequence[_Waiting]) -> np.ndarray:
        """(B, R, W) float32: commands, a row each."""
        import torch

        from vlaw_models.rollouts.ask import accepted, ask

        images, state = (np.stack([getattr(w.asked, name) for w in batch]) for name in ("images", "state"))
        chunk = ask(
            self._policy,
            Observation(images, state),
            [waiting.asked.prompt for waiting in batch],
            [torch.Generator().manual_seed(waiting.seed) for waiting in batch],
            noise_scale=self._noise_scale,
            steps=self._policy.execute_steps,
            where="the served policy",
        )
        return self._robot.rows(accepted(self._robot, state, chunk))


def request_seed(session_seed: int, connection: int, number: int) -> int:
    """The seed of a request that brought none: another one for every request of a session, the same whenever it is
    derived again. Below 2**63."""
    return int(
        np.random.SeedSequence([session_seed, connection, number]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    )
