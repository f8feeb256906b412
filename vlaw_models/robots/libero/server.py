"""Run by a Python that has LIBERO, not by ours: `server.py IMAGE_SIZE INNER_FRAMES ASSETS SOCKET` (simulator.py).

It answers as robots/process.py says. What it uses of vlaw comes from the files beside it.
"""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]


def find_vlaw() -> None:
    """Makes this package importable, and nothing that is installed or lies beside it."""
    beside = Path(__file__).resolve().parent
    sys.path = [entry for entry in sys.path if Path(entry).resolve() != beside]
    spec = importlib.util.spec_from_file_location(
        PACKAGE.name, PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACKAGE.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def main() -> None:
    from vlaw_models.robots.libero.world import Libero, LiberoWorld
    from vlaw_models.robots.process import serve

    size, inner, assets, end = sys.argv[1:]
    serve(socket.socket(fileno=int(end)), lambda: LiberoWorld(Libero(assets), int(size), inner_frames=bool(int(inner))))


if __name__ == "__main__":
    find_vlaw()
    main()
