"""`vlaw ui` in a browser: its own page works, and a page elsewhere cannot drive it."""

from __future__ import annotations

import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import needed
import pytest
from attacks import mutation


@pytest.mark.slow
@pytest.mark.browser
def test_in_a_browser_the_page_works_and_a_page_elsewhere_cannot_drive_it(server, tmp_path):
    browser = needed.program("chromium", "chromium-browser", "google-chrome")
    page = f"""<body><iframe src="http://localhost:{server.port}/"></iframe><form id="f" method="POST" enctype="text/plain" target="x"
        action="http://localhost:{server.port}/graphql"><input name='{{"query": "{mutation("evil-form").replace('"', chr(92) + chr(34))}", "a": "' value='"}}'></form>
        <iframe name="x"></iframe><script>
        const graphql = "http://localhost:{server.port}/graphql", query = key => `mutation {{ setConcurrencyLimit(concurrencyKey: "${{key}}", limit: 7) }}`;
        new Image().src = graphql + "?query=" + encodeURIComponent(query("evil-image"));
        const socket = new WebSocket(graphql.replace("http", "ws"), "graphql-ws");
        const opened = new Promise(done => {{ socket.onopen = () => done("open"); socket.onerror = () => done("refused"); }});
        document.getElementById("f").submit();
        const tries = [["evil-text", "no-cors", "text/plain"], ["evil-json", "cors", "application/json"]].map(([key, mode, type]) =>
            fetch(graphql, {{method: "POST", mode, headers: {{"Content-Type": type}}, body: JSON.stringify({{query: query(key)}})}}).catch(() => 0));
        Promise.all([opened, ...tries]).then(([how]) => fetch("/done?" + how));
        </script>"""  # noqa: E501
    visits: list[str] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visits.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    elsewhere = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()

    def shown(address: str, budget_ms: int) -> str:
        command = [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--virtual-time-budget={budget_ms}",
            "--timeout=60000",
            "--dump-dom",
            address,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout

    try:
        shown(f"http://localhost:{elsewhere.server_address[1]}/", 15_000)  # the same site, another origin
        for _ in range(100):
            if any(path.startswith("/done") for path in visits):
                break
            time.sleep(0.1)
        assert "/done?refused" in visits, visits
        assert not {key for key in server.limits() if key.startswith("evil")}
        assert "co_training_data" in shown(f"http://localhost:{server.port}/assets", 60_000)
    finally:
        elsewhere.shutdown()
