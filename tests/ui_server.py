"""`vlaw ui` in a process of its own, and what its pages ask of it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from smoke_place import Place

ROOT = Path(__file__).parents[1]
JSON = {"Content-Type": "application/json"}
LIMITS = "{ instance { concurrencyLimits { concurrencyKey limit: slotCount } } }"
LAUNCH = """mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message } } }"""
BACKFILL = """mutation Backfill($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


@dataclass
class Server:
    """A running `vlaw ui`."""

    place: Place
    port: int
    pid: int

    def ask(self, method: str, path: str, headers: dict[str, str | list[str]], body: str = "") -> tuple[int, str]:
        """A request with these headers; one that is not named is not sent, except for Host and the length."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": f"localhost:{self.port}", **headers}.items():
            for one in value if isinstance(value, list) else [value]:
                connection.putheader(name, one.replace("PORT", str(self.port)))
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body.encode() if body else None)
        answer = connection.getresponse()
        try:
            # A server that refuses a request without reading its body resets the connection, maybe before all is read.
            with suppress(ConnectionResetError):
                return answer.status, answer.read().decode(errors="replace")
            return answer.status, ""
        finally:
            connection.close()

    def graphql(self, query: str, **variables: object) -> dict:
        """As the UI's own page asks."""
        headers = {
            **JSON,
            "Origin": "http://localhost:PORT",
            "Referer": "http://localhost:PORT/runs?x=1",
            "Sec-Fetch-Site": "same-origin",
        }
        status, body = self.ask("POST", "/graphql", headers, json.dumps({"query": query, "variables": variables}))
        assert status == 200, body
        return json.loads(body)["data"]

    def limits(self) -> set[str]:
        return {item["concurrencyKey"] for item in self.graphql(LIMITS)["instance"]["concurrencyLimits"]}

    def launch(self, job: str = "foundation", *, assets: Sequence[str] = (), partition: str = "", config: dict) -> dict:
        """As the launchpad asks; without `assets` all of the job."""
        selector: dict[str, object] = {
            "repositoryName": "__repository__",
            "repositoryLocationName": "vlaw_assets.definitions",
            "pipelineName": job,
        }
        if assets:
            selector |= {"assetSelection": [{"path": [asset]} for asset in assets]}  # with their checks
        tags = [{"key": "dagster/partition", "value": partition}] if partition else []
        params = {
            "selector": selector,
            "runConfigData": config,
            "mode": "default",
            "executionMetadata": {"tags": tags},
        }
        return self.graphql(LAUNCH, params=params)["launchRun"]

    def backfill(self, job: str, partitions: Sequence[str], *, assets: Sequence[str] = ()) -> str:
        """As the page of a job's partitions asks; with `assets` as the graph asks for those. Returns its id."""
        selector = {
            "repositorySelector": {
                "repositoryName": "__repository__",
                "repositoryLocationName": "vlaw_assets.definitions",
            },
            "partitionSetName": f"{job}_partition_set",
        }
        what = {"assetSelection": [{"path": [asset]} for asset in assets]} if assets else {"selector": selector}
        answer = self.graphql(BACKFILL, params={**what, "partitionNames": list(partitions)})
        assert "backfillId" in answer["launchPartitionBackfill"], answer
        return answer["launchPartitionBackfill"]["backfillId"]

    def status(self, run_id: str) -> str:
        """QUEUED, STARTED, SUCCESS, FAILURE ..."""
        return self.graphql("query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }", run=run_id)[
            "runOrError"
        ]["status"]


@contextmanager
def serving(place: Place, *options: str, exit_code: int = 0) -> Iterator[Server]:
    environment = {**os.environ, **place.environment(), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    as_background = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # what a script begins with & has so
    command = [sys.executable, "-c", f"{as_background}; from vlaw_assets.cli import app; app()", "ui", "--port", "0"]
    command += options
    with (place.root / "ui.log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=place.root)
        try:
            server = Server(place, _port(process, place.root / "ui.log"), process.pid)
            for _ in range(600):
                with suppress(OSError):
                    if server.ask("GET", "/server_info", {})[0] == 200:
                        break
                assert process.poll() is None, (place.root / "ui.log").read_text()
                time.sleep(0.2)
            yield server
        finally:
            others = children(process.pid)
            if not exit_code:  # else it ends by itself
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) == exit_code, (place.root / "ui.log").read_text()
            assert not [pid for pid in others if Path(f"/proc/{pid}").exists()], "nothing is left behind"


def children(pid: int) -> dict[int, str]:
    """Process number -> command line, of what a process has started and not yet seen to end."""
    return (
        {
            int(child): Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        }
        if Path(f"/proc/{pid}").exists()
        else {}
    )


def _port(process: subprocess.Popen, log: Path) -> int:
    for _ in range(600):
        found = re.search(r"http://\S+:(\d+) ", log.read_text())
        if found:
            return int(found[1])
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())
