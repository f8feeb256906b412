"""Peak memory of every stage, each in a process of its own: it must not grow with the number of episodes.

    python benchmarks/memory.py [--times 10] [--size smoke | run] [--keep FOLDER]

`smoke`: one iteration of the recipe `smoke`, then one with --times as many episodes of every kind; no stage's peak may
be more than 1.2 times as high. `run`: one iteration with as many episodes as `make run` has (and few updates, which
need no memory); no stage may take more than 3 GB. The default is both.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from graphlib import TopologicalSorter
from pathlib import Path

from common.limits import Limits, options

from vlaw_assets.assets.outside import OUTSIDE_GROUP
from vlaw_assets.definitions import build_defs
from vlaw_assets.recipes import PACKAGED

GROWTH, MOST_MB = 1.2, 3000
COUNTS = ("demonstrations_per_task", "co_training_per_task", "episodes_per_task", "clips_per_task")
FEW = {"steps": "2", "stops": "[1, 2]"}


def stage_order() -> list[tuple[str, bool]]:
    """(asset, whether it is of the foundation) of all that a run makes, parents first."""
    specs = {
        spec.key.to_user_string(): spec for spec in build_defs(lake=tempfile.gettempdir()).resolve_all_asset_specs()
    }
    made = {name: spec for name, spec in specs.items() if spec.group_name != OUTSIDE_GROUP}
    above = {
        name: sorted({dep.asset_key.to_user_string() for dep in spec.deps} & set(made)) for name, spec in made.items()
    }
    return [(name, made[name].group_name == "foundation") for name in TopologicalSorter(above).static_order()]


def place(root: Path, recipe: str, foundation: str, *, times: int = 1, few: bool = False) -> Path:
    """A folder of recipes: `recipe` as packaged, under the name `measured`, with so many times the episodes."""
    folder = root / "recipes"
    folder.mkdir(parents=True)
    (folder / "foundation.toml").write_text(more(foundation, times))
    text = re.sub(r'^name = ".*"', 'name = "measured"', recipe, flags=re.MULTILINE)
    for key, value in FEW.items() if few else ():
        text = re.sub(rf"^{key} = [^#\n]*", f"{key} = {value} ", text, flags=re.MULTILINE)
    (folder / "measured.toml").write_text(more(text, times))
    return root


def more(text: str, times: int) -> str:
    """A recipe's text with every count of episodes multiplied."""
    pattern = rf"^({'|'.join(COUNTS)}) = (\d+)"
    return re.sub(pattern, lambda found: f"{found[1]} = {int(found[2]) * times}", text, flags=re.MULTILINE)


def peaks(root: Path) -> dict[str, float]:
    """Asset -> peak of the process that made it, in MB; one line is printed for each."""
    found = {}
    for asset, foundation in stage_order():
        words = [sys.executable, __file__, "--stage", asset, "--root", str(root), "--partition"]
        environment = os.environ | {"DAGSTER_HOME": str(root)}
        done = subprocess.run(
            [*words, "" if foundation else "measured|01"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found[asset] = float(done.stdout.split()[-1])
        print(f"  {asset:28s} {found[asset]:8.0f} MB", flush=True)
    return found


def make(asset: str, root: Path, partition: str) -> None:
    """Makes one asset in this process and prints its peak in MB."""
    from vlaw_assets.assets.making import STAGES
    from vlaw_assets.assets.stage import Stage
    from vlaw_assets.lake import Lake
    from vlaw_assets.pipeline.resources import Workplace

    workplace = Workplace(lake=str(root / "lake"), recipes=str(root / "recipes"))
    STAGES[asset].run(Stage(Lake.open(root / "lake"), workplace, asset, partition, run_id="benchmark"))
    # Not getrusage's peak: that one begins with what the parent process had.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6)


def packaged(name: str) -> str:
    return (PACKAGED / f"{name}.toml").read_text()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--size", choices=("smoke", "run", "both"), default="both")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and leave it there")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--partition", help=argparse.SUPPRESS)
    args, limits = options(parser, size="smoke"), Limits()
    if args.stage:
        make(args.stage, args.root, args.partition)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        root = args.keep or Path(scratch)
        if args.size != "run":
            small = "demonstrations_per_task = 1\nco_training_per_task = 1\n"
            print("smoke")
            once = peaks(place(root / "once", packaged("smoke"), small))
            print(f"smoke, {args.times} x the episodes")
            often = peaks(place(root / "often", packaged("smoke"), small, times=args.times))
            for asset, peak in often.items():
                print(
                    f"{asset:30s} {once[asset]:8.0f} MB {peak:8.0f} MB {peak / once[asset]:6.2f} x (limit {GROWTH} x)"
                )
                limits.at_most(f"{asset}, {args.times} x the episodes", peak / once[asset], GROWTH)
        if args.size != "smoke":
            print(f"as many episodes as `make run` (limit {MOST_MB} MB)")
            found = peaks(place(root / "run", packaged("vlaw"), packaged("foundation"), few=True))
            for asset, peak in found.items():
                limits.at_most(f"{asset}, MB", peak, MOST_MB)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
