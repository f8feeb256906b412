"""Opening a page in the browser of whoever runs a command."""

from __future__ import annotations

import webbrowser

from vlaw_models.errors import VlawError


def open_browser(address: str) -> None:
    """Raises VlawError where there is no browser."""
    if not webbrowser.open(address):
        raise VlawError("no browser can be started", where=address, remedy="Open that address yourself.")
