"""A world in a process of another Python environment, for simulators whose pins conflict with ours: both ends.

Messages over a pair of connected sockets that only the two processes hold: 8 bytes with the length, then msgpack as of
the policy server (wire.py; numbers, texts and arrays, never a pickle). The process first says that it is ready. Then
each request has an answer:

    {call: "reset", tasks, seeds}     {images, state, instructions}
    {call: "step", actions,           {images, states, actions, and reward
     done_above}                       where the world tells it}
    {call: "keep", rows}              {}
    {call: "outcomes"}                {success, events}
    anything that fails               {what, where, remedy}, a VlawError

The other end needs Python 3.10, numpy and msgpack; nothing of vlaw has to be installed there.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from vlaw_models.episodes import Observation, Outcome, Start
from vlaw_models.errors import VlawError
from vlaw_models.wire import pack, unpack
from vlaw_models.worlds import Transition, World, ended

if TYPE_CHECKING:
    from vlaw_models.robots.spec import RobotSpec

ANSWER_S = 600.0
"""Seconds for an answer: scenes are compiled at the first reset."""
GRACE_S = 10.0
"""Seconds in which the process may end by itself."""
LARGEST = 1 << 32
LAST = 2000
"""Letters of what the process printed that an error shows."""


def send(end: socket.socket, values: Mapping[str, Any]) -> None:
    data = pack(values)
    end.sendall(len(data).to_bytes(8, "big"))
    end.sendall(data)


def receive(end: socket.socket) -> dict[str, Any]:
    """The next message. Raises EOFError where the other end has gone, OSError, and VlawError for what is no message."""
    length = int.from_bytes(_bytes(end, 8), "big")
    if length > LARGEST:
        raise VlawError(f"a message of {length} bytes", where="world in another process", remedy="Roll out fewer rows.")
    return unpack(_bytes(end, length))


def _bytes(end: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        part = end.recv(min(count - len(found), 1 << 20))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def serve(end: socket.socket, make: Callable[[], World]) -> None:
    """Makes the world and answers until the other end is closed."""
    world: World | None = None
    while True:
        try:
            answer: dict[str, Any]
            if world is None:
                world, answer = make(), {"ready": True}
            else:
                answer = _answer(world, receive(end))
        except EOFError:
            return
        except VlawError as error:
            answer = {"what": error.what, "where": error.where, "remedy": error.remedy}
        except Exception as error:  # of a simulator that we do not know: to whoever asked
            answer = {
                "what": f"the simulator failed: {type(error).__name__}: {error}",
                "where": "world in another process",
                "remedy": "Mend its environment.",
            }
        send(end, answer)
        if world is None:
            return


def _answer(world: World, asked: Mapping[str, Any]) -> dict[str, Any]:
    if asked["call"] == "reset":
        starts = [Start(task, int(seed)) for task, seed in zip(asked["tasks"], asked["seeds"], strict=True)]
        first = world.reset(starts)
        return {"images": first.images, "state": first.state, "instructions": world.instructions()}
    if asked["call"] == "step":
        world.done_above = asked["done_above"]
        moved = world.step(asked["actions"])
        told = {} if moved.reward is None else {"reward": moved.reward}
        return {"images": moved.images, "states": moved.states, "actions": moved.actions, **told}
    if asked["call"] == "keep":
        world.keep(asked["rows"])
        return {}
    found = world.outcomes()
    if found is None:
        raise VlawError("this world does not judge its episodes", where=world.name, remedy="Let it give outcomes().")
    return {
        "success": np.array([one.success for one in found]),
        "events": [one.event for one in found],
        "nearness": [one.nearness for one in found],
    }


class ProcessWorld:
    """A World that another process simulates. One start after the other belongs to one process, which ends with it."""

    def __init__(
        self, robot: RobotSpec, command: Sequence[str], *, image_size: int, remedy: str, environment: Mapping[str, str]
    ):
        """`command`: what to run; the number of the socket comes as its last argument. `remedy`: where it does not run.

        Raises VlawError where the process cannot be started or says that it cannot simulate.
        """
        self.name, self.robot, self.image_size = robot.world, robot, image_size
        self._remedy, self._where = remedy, f"robot {robot.name!r}, {command[0]}"
        self.done_above: float | None = None
        self._instructions: list[str] = []
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._end, other = socket.socketpair()
        self._end.settimeout(ANSWER_S)
        try:
            self.process = subprocess.Popen(
                [*command, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=subprocess.STDOUT,
                pass_fds=[other.fileno()],
                env=dict(environment),
            )
        except OSError as error:
            self._end.close()
            raise VlawError(
                f"the simulator's Python cannot be started: {error}", where=self._where, remedy=remedy
            ) from error
        finally:
            other.close()
        self.close = weakref.finalize(self, _end, self._end, self.process, self._printed)
        """Ends the process."""
        self._answered()

    def reset(self, starts: Sequence[Start]) -> Observation:
        """Resets one robot per start by (task, seed)."""
        self.robot.check_tasks([start.task for start in starts])
        seeds = np.array([start.seed for start in starts], np.int64)
        found = self._ask({"call": "reset", "tasks": [start.task for start in starts], "seeds": seeds})
        self._instructions = [str(said) for said in found["instructions"]]
        return Observation(found["images"].copy(), found["state"].copy())

    def instructions(self) -> list[str]:
        return list(self._instructions)

    def step(self, actions: np.ndarray) -> Transition:
        """Executes absolute targets (B, H, A)."""
        asked = {"call": "step", "actions": np.asarray(actions, np.float32), "done_above": self.done_above}
        found = {name: value.copy() for name, value in self._ask(asked).items()}
        reward = found.get("reward")
        return Transition(found["images"], found["states"], found["actions"], reward, ended(reward, self.done_above))

    def keep(self, rows: np.ndarray) -> None:
        self._ask({"call": "keep", "rows": np.asarray(rows, np.int64)})
        self._instructions = [self._instructions[row] for row in rows]

    def outcomes(self) -> list[Outcome]:
        found = self._ask({"call": "outcomes"})
        columns = zip(found["success"], found["events"], found["nearness"], strict=True)
        return [Outcome(bool(success), event, nearness) for success, event, nearness in columns]

    def _ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        try:
            send(self._end, asked)
        except OSError as error:
            raise self._gone("has ended") from error
        return self._answered()

    def _answered(self) -> dict[str, Any]:
        try:
            found = receive(self._end)
        except TimeoutError as error:
            raise self._gone(f"has not answered for {ANSWER_S:g} s") from error
        except (EOFError, OSError) as error:
            raise self._gone("has ended") from error
        if "what" in found:
            raise VlawError(found["what"], where=f"{self._where}: {found['where']}", remedy=found["remedy"])
        return found

    def _gone(self, how: str) -> VlawError:
        self._printed.seek(0)
        said = self._printed.read().decode(errors="replace").strip()[-LAST:]
        self.close()
        return VlawError(f"the simulator's process {how}; it printed: {said}", where=self._where, remedy=self._remedy)


def _end(end: socket.socket, process: subprocess.Popen, printed: IO[bytes]) -> None:
    end.close()  # which it takes for the end
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    printed.close()
