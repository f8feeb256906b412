"""An API server that knows pods, and runs the command of each as a process: all that a client asks of a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FalseCluster:
    """Pods by name in `pods`, with their processes; all that was created in `created`."""

    def __init__(self, folder: Path):
        self.pods: dict[str, tuple[dict[str, Any], subprocess.Popen[bytes]]] = {}
        self.created: list[dict[str, Any]] = []
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def answer(self, body: dict[str, Any], status: int = 200) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def asked(self) -> tuple[str, dict[str, str]]:
                """(name of a pod or '', selectors)."""
                url = urlsplit(self.path)
                parts = url.path.strip("/").split("/")  # api v1 namespaces NAME pods [POD]
                return (parts[5] if len(parts) > 5 else ""), {k: v[0] for k, v in parse_qs(url.query).items()}

            def do_GET(self) -> None:
                name, query = self.asked()
                wanted = query.get("fieldSelector", "").removeprefix("metadata.name=") or name
                found = [cluster.seen(one) for one in list(cluster.pods) if wanted in ("", one)]
                if name:
                    return self.answer(found[0] if found else {"kind": "Status", "code": 404}, 200 if found else 404)
                return self.answer({"kind": "PodList", "apiVersion": "v1", "items": found})

            def do_POST(self) -> None:
                pod = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                cluster.start(pod)
                self.answer(cluster.seen(pod["metadata"]["name"]), 201)

            def do_DELETE(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                name, query = self.asked()
                key, _, value = query.get("labelSelector", "").partition("=")
                for one, (pod, _) in list(cluster.pods.items()):
                    if one == name or (key and pod["metadata"]["labels"].get(key) == value):
                        cluster.end(one)
                self.answer({"kind": "Status", "status": "Success"})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.kubeconfig = folder / "kubeconfig.json"
        named = {"name": "false", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "false",
                    "clusters": [named],
                    "users": [{"name": "false", "user": {}}],
                    "contexts": [{"name": "false", "context": {"cluster": "false", "user": "false"}}],
                }
            )
        )

    def start(self, pod: dict[str, Any]) -> None:
        container = pod["spec"]["containers"][0]
        given = {one["name"]: one["value"] for one in container["env"]}
        process = subprocess.Popen(container["command"], env={**os.environ, **given}, start_new_session=True)
        self.created.append(pod)
        self.pods[pod["metadata"]["name"]] = (pod, process)

    def seen(self, name: str) -> dict[str, Any]:
        """The pod as it stands."""
        pod, process = self.pods[name]
        code = process.poll()
        state = (
            {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
            if code is None
            else {"terminated": {"exitCode": code % 256, "reason": "Error" if code else "Completed"}}
        )
        status = {
            "phase": "Running" if code is None else "Failed" if code else "Succeeded",
            "containerStatuses": [
                {
                    "name": pod["spec"]["containers"][0]["name"],
                    "ready": code is None,
                    "state": state,
                    "image": "",
                    "imageID": "",
                    "restartCount": 0,
                }
            ],
        }
        return {**pod, "kind": "Pod", "apiVersion": "v1", "status": status}

    def end(self, name: str) -> None:
        _, process = self.pods.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def __enter__(self) -> FalseCluster:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.close()
        for name in list(self.pods):
            self.end(name)
