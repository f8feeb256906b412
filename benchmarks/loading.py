"""How long the code location takes to load, next to dagster alone: CPU seconds of fresh processes. Limit: 1.5 times."""

from __future__ import annotations

import subprocess
import sys

MEASURE = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"
LIMIT, RUNS = 1.5, 5


def seconds(module: str) -> float:
    return float(
        subprocess.run(
            [sys.executable, "-c", MEASURE.format(module)], capture_output=True, text=True, check=True
        ).stdout
    )


if __name__ == "__main__":
    pairs = [(seconds("dagster"), seconds("vlaw_assets.definitions")) for _ in range(RUNS)]
    alone, ours = (min(column) for column in zip(*pairs, strict=True))
    print(
        f"dagster {alone:.2f} s, vlaw_assets.definitions {ours:.2f} s: {ours / alone:.2f} x (wanted: at most {LIMIT} x)"
    )
