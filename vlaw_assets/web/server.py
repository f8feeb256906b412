"""The processes behind `vlaw ui`: Dagster's web server (in this process, behind the guard), its code server and its
daemon.

What `dagster dev` starts, but with the guard around the web application. It cannot be put there from outside: no
command of Dagster has a place for it, and a proxy would leave the port behind it open to the same browser.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import yaml

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import uvicorn

    from vlaw_assets.web.guard import App

MODULE = "vlaw_assets.definitions"
EVERY_ADDRESS = ("0.0.0.0", "::", "")
PATIENCE_S = 10
"""How long a process may take to end before it is killed."""
LOADING_S = 120
"""How long the code server may take until it listens."""
POLL_MS = 2000
"""How often an open page asks for new data, as with `dagster dev`."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises VlawError where that address is taken or none of this machine's."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise VlawError(
            f"the UI cannot listen there: {error.strerror or error}",
            where=f"{host}:{port}",
            remedy="Choose another --port (0: any free one) or --host, or stop what listens there.",
        ) from error


def origins(host: str, port: int, more: Sequence[str] = ()) -> list[str]:
    """The addresses under which browsers may reach a server on `host` and `port`."""
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname() if host in EVERY_ADDRESS else host]
    return [*(f"http://{f'[{name}]' if ':' in name else name}:{port}" for name in names), *more]


def is_local(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def serve(listening: socket.socket, allowed: Sequence[str], *, read_only: bool = False) -> None:
    """Serves the instance of DAGSTER_HOME until this process is interrupted or terminated. `read_only`: no daemon, so
    nothing is started at all.

    Raises VlawError if the code server or the daemon ends by itself.
    """
    import click

    # A script's background process begins with SIGINT ignored, and Dagster takes SIGTERM as whatever SIGINT is: runs
    # that inherit that could not be terminated.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # ends the other processes too
    processes = _Processes()
    with suppress(KeyboardInterrupt, click.Abort), tempfile.TemporaryDirectory(prefix="vlaw-ui-") as folder:
        code = Path(folder) / "code.sock"  # in a folder that no other user may enter
        workspace = Path(folder) / "workspace.yaml"
        workspace.write_text(
            yaml.safe_dump({"load_from": [{"grpc_server": {"socket": str(code), "location_name": MODULE}}]})
        )
        with processes:
            options = ["--module-name", MODULE, "--location-name", MODULE, "--working-directory", os.getcwd()]
            options += ["--socket", str(code), "--log-level", "warning"]
            processes.start("dagster", "code-server", "start", *options)
            _wait_for(code)
            if not read_only:
                processes.start("dagster-daemon", "run", "--workspace", str(workspace), "--log-level", "warning")
            _serve_pages(workspace, listening, allowed, read_only=read_only)
    if processes.ended:
        raise VlawError(f"{processes.ended} ended", where="vlaw ui", remedy="See what it printed above.")


def guarded(app: App, allowed: Sequence[str], *, read_only: bool = False) -> uvicorn.Server:
    """A web server of an ASGI application behind the guard."""
    import uvicorn

    from vlaw_assets.web.guard import Guard

    # h11 refuses what is not plain HTTP; no header of a proxy is believed.
    config = uvicorn.Config(
        Guard(app, allowed, read_only=read_only),
        http="h11",
        proxy_headers=False,
        server_header=False,
        log_level="warning",
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def _serve_pages(workspace: Path, listening: socket.socket, allowed: Sequence[str], *, read_only: bool) -> None:
    """Dagster's own command, which makes the web application and hands it to `uvicorn.run`: here it gets its guard.

    The command is to listen where we do: if it ever served by other means, it would find the port taken.
    """
    import uvicorn
    from dagster_webserver.cli import cli

    from vlaw_assets.environment import default_lake
    from vlaw_assets.web.lake_pictures import LakePictures

    def run(app: App, **_: object) -> None:
        pictured = LakePictures(app, Path(default_lake()))
        guarded(pictured, allowed, read_only=read_only).run(sockets=[listening])

    host, port = listening.getsockname()[:2]
    options = ["--workspace", str(workspace), "--host", host, "--port", str(port)]
    options += ["--live-data-poll-rate", str(POLL_MS), "--dagster-log-level", "warning"]
    unguarded = uvicorn.run
    uvicorn.run = run  # type: ignore[assignment] # takes what Dagster gives it
    try:
        cli.main([*options, *(["--read-only"] if read_only else [])], standalone_mode=False)
    finally:
        uvicorn.run = unguarded


def _wait_for(path: Path) -> None:
    """Until something listens there; whatever ends the process that should interrupts this."""
    for _ in range(LOADING_S * 10):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            return
        time.sleep(0.1)
    raise VlawError("Dagster's code server does not answer", where=str(path), remedy="See what it printed above.")


class _Processes:
    """Processes beside this one, which end with the block. One that ends before interrupts this process."""

    def __init__(self) -> None:
        self.ended = ""
        """The command that ended by itself."""
        self._running: list[subprocess.Popen[bytes]] = []
        self._leaving = False

    def __enter__(self) -> Self:
        return self

    def start(self, command: str, *options: str) -> None:
        script = Path(sysconfig.get_path("scripts")) / command
        # A group of their own: Ctrl-C is for this process, which then ends them.
        process = subprocess.Popen([script, *options], process_group=0)
        self._running.append(process)
        threading.Thread(target=self._watch, args=(process, command), daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes], command: str) -> None:
        process.wait()
        if not self._leaving:
            self.ended = self.ended or command
            os.kill(os.getpid(), signal.SIGINT)

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
