"""A server for the tests of one file."""

from __future__ import annotations

import pytest
from smoke_place import new_place
from ui_server import serving


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(new_place(tmp_path_factory.mktemp("ui"))) as server:
        yield server
