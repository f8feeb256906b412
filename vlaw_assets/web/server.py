"""The processes behind `vlaw ui`: Dagster's web server (in this process, behind the guard), its code server and its
daemon.

What `dagster dev` starts, but with the guard around the web application: it cannot be put there from outside, since
`dagster dev` offers no place for it and a proxy would leave the port behind it open to the same browser. Dagster's
version is pinned, so what is used of it here is known to be there.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import dagster as dg

MODULE = "vlaw_assets.definitions"
EVERY_ADDRESS = ("0.0.0.0", "::", "")
PATIENCE_S = 10
"""How long the daemon may take to end before it is killed."""
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


def serve(
    instance: dg.DagsterInstance, listening: socket.socket, allowed: Sequence[str], *, read_only: bool = False
) -> None:
    """Serves until this process is interrupted or terminated. `read_only`: no daemon, so nothing is started at all.

    Raises VlawError if the daemon ends by itself.
    """
    import uvicorn
    from dagster_webserver.app import create_app_from_workspace_process_context

    from vlaw_assets.web.guard import Guard

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the other processes too
    with suppress(KeyboardInterrupt), _workspace(instance, read_only=read_only) as workspace:
        app = create_app_from_workspace_process_context(workspace, live_data_poll_rate=POLL_MS)
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
        server = uvicorn.Server(config)
        if read_only:
            server.run(sockets=[listening])
            return
        with _daemon(workspace, server):
            server.run(sockets=[listening])  # a signal is raised again when it has stopped
            raise VlawError("Dagster's daemon ended", where="vlaw ui", remedy="See what it printed above.")


@contextmanager
def _workspace(instance: dg.DagsterInstance, *, read_only: bool) -> Iterator[Any]:
    """Dagster's view of the definitions, and the code server that loads them."""
    import dagster_webserver
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget
    from dagster._grpc.constants import GrpcServerCommand

    target = ModuleTarget(MODULE, attribute=None, working_directory=os.getcwd(), location_name=None)
    with WorkspaceProcessContext(
        instance,
        target,
        version=dagster_webserver.__version__,
        read_only=read_only,
        server_command=GrpcServerCommand.CODE_SERVER_START,
    ) as workspace:
        yield workspace


@contextmanager
def _daemon(workspace: Any, server: Any) -> Iterator[None]:
    """The daemon, on the same code server; when it ends by itself, so does the web server."""
    import yaml

    with tempfile.TemporaryDirectory(prefix="vlaw-ui-") as folder:
        file = Path(folder) / "workspace.yaml"
        file.write_text(yaml.safe_dump({"load_from": [dict(spec) for spec in workspace.get_code_server_specs()]}))
        process = subprocess.Popen([sys.executable, "-m", "dagster._daemon", "run", "--workspace", str(file)])

        def watch() -> None:
            process.wait()
            server.should_exit = True

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
