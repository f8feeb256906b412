"""Workers for SQL, forked from a process that has imported what they need: the suite starts hundreds, and each would
import for a third of a second. They are the real ones all the same: limits, pipes and death are the kernel's.

Run as a program, this is that process: `python -P sql_workers.py DESCRIPTOR`, with the socket to the tests.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

from vlaw_assets.query import worker_process

MOST = 1 << 17
"""Bytes of a request."""
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"}


class Forked:
    """What `worker_process.Worker` wants of a subprocess.Popen."""

    def __init__(self, forks: Forks):
        inlet, into = os.pipe()
        out_of, outlet = os.pipe()
        self.stdin, self.stdout = os.fdopen(into, "wb", buffering=0), os.fdopen(out_of, "rb", buffering=0)
        self._forks, self._status = forks, None
        request = {"environment": {**os.environ, **_ENVIRONMENT}, "folder": os.getcwd()}
        self.pid = forks.ask(request, [inlet, outlet])
        os.close(inlet)
        os.close(outlet)

    def poll(self, flags: int = os.WNOHANG) -> int | None:
        if self._status is None:
            self._status = self._forks.ask({"wait": self.pid, "flags": flags})
        return self._status

    def wait(self) -> int | None:
        return self.poll(0)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Forks:
    """The process that forks; started when it is first asked."""

    def __init__(self) -> None:
        self._lock, self._socket, self._process = threading.Lock(), None, None

    def spawn(self) -> worker_process.Worker:
        return worker_process.Worker(Forked(self))

    def ask(self, request: dict[str, Any], descriptors: list[int] = ()) -> Any:
        with self._lock:
            channel = self._socket or self._start()
            socket.send_fds(channel, [pickle.dumps(request)], descriptors)
            return pickle.loads(channel.recv(MOST))

    def _start(self) -> socket.socket:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": str(worker_process.ROOT)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        return self._socket

    def close(self) -> None:
        if self._process is not None:
            self._socket.close()
            self._process.wait()


def serve(channel: socket.socket) -> None:
    """Fork, and say how the forks ended, until the tests are gone."""
    from vlaw_assets.query import worker

    here = os.getpid()
    while True:
        data, descriptors, *_ = socket.recv_fds(channel, MOST, 2)
        if not data:
            return
        request = pickle.loads(data)
        if "wait" in request:
            found, status = os.waitpid(request["wait"], request["flags"])
            channel.send(pickle.dumps(os.waitstatus_to_exitcode(status) if found else None))
            continue
        child = os.fork()
        if not child:
            channel.close()
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.environ.clear()
            os.environ.update(request["environment"])
            os.chdir(request["folder"])
            sys.argv = ["worker", str(here)]
            try:
                worker.main()
            finally:
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(pickle.dumps(child))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
