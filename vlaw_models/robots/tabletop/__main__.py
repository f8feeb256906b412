"""`python -m vlaw_models.robots.tabletop --contact-sheet FILE.png`: what every task looks like, one row per episode."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from vlaw_models.config import RolloutConfig
from vlaw_models.errors import VlawError
from vlaw_models.pictures import caption, contact_sheet
from vlaw_models.robots.tabletop.demonstrations import record_expert
from vlaw_models.robots.tabletop.render import make_renderer
from vlaw_models.robots.tabletop.tasks import TASKS, Quality
from vlaw_models.robots.tabletop.world import make_sim


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the sheet; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vlaw_models.robots.tabletop", description=__doc__)
    parser.add_argument("--contact-sheet", required=True, metavar="FILE.png", help="picture to write")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="TASK", help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="layout")
    parser.add_argument("--mistake", choices=("", "first", "last", "stop"), default="", help="how the expert fails")
    parser.add_argument("--columns", type=int, default=8, help="moments per episode")
    parser.add_argument("--image-size", type=int, default=64, help="pixels")
    options = parser.parse_args(arguments)
    renderer = make_renderer(options.image_size)
    try:
        episodes = [
            record_expert(
                make_sim(task),
                renderer,
                options.seed,
                Quality(mistake=options.mistake),
                np.random.default_rng(options.seed),
                RolloutConfig.num_steps,
            )
            for task in options.tasks
        ]
        contact_sheet(episodes, options.contact_sheet, columns=options.columns)
    except VlawError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for episode in episodes:
        sys.stdout.write(f"{caption(episode)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
