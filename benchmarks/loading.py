"""How long the code location takes to load, next to dagster alone: CPU seconds of fresh processes.

python benchmarks/loading.py [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

from common.limits import Limits, options

MEASURE = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"
LIMIT, WANTED = 2.0, 1.5
"""Times what dagster alone takes: never to be exceeded, and wanted (1.71 when it was last looked at)."""


def seconds(module: str, compiled: str) -> float:
    """`compiled`: folder of what was compiled before, as a second start finds it, also where Python is told to keep
    nothing."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", MEASURE.format(module)]
    done = subprocess.run(
        command, env=environment | {"PYTHONPYCACHEPREFIX": compiled}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    args, limits = options(parser, runs=3), Limits()
    with tempfile.TemporaryDirectory() as compiled:
        seconds("vlaw_assets.definitions", compiled)
        pairs = [(seconds("dagster", compiled), seconds("vlaw_assets.definitions", compiled)) for _ in range(args.runs)]
    alone, ours = (min(column) for column in zip(*pairs, strict=True))
    print(
        f"dagster {alone:.2f} s, vlaw_assets.definitions {ours:.2f} s: {ours / alone:.2f} x "
        f"(limit {LIMIT} x, wanted {WANTED} x)"
    )
    limits.at_most("loading the definitions next to dagster", ours / alone, LIMIT)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
