"""Code identity, proved by rewriting functions: what reaches them is other code, and nothing else is."""

from __future__ import annotations

import importlib
import inspect
import json
import random
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from code_copies import (
    WAYS,
    Copy,
    Function,
    code_of,
    files,
    module_of,
    replaced,
    rewritten,
    sample,
)
from one_stage import Bench
from smoke_place import smoke_copy, smoke_place

from vlaw_assets import definitions
from vlaw_assets.assets.making import STAGES
from vlaw_assets.pipeline import code_identity
from vlaw_assets.pipeline.code_identity import FOR_PEOPLE

SEED = 20260304
OTHER_CODE = "made by other code than today's"
KEY = "smoke|01"
IN_SMOKE = STAGES.keys() - {"near_success"}
"""What is in the smoke lake: no recipe there asks for the other."""
VLAW = "from vlaw_assets.cli import app; app()"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("copy"))


@pytest.fixture
def copy(copied):
    yield copied
    copied.restore()


def of_other_code(copy, place) -> set[str]:
    """Assets of `smoke` and the foundation that are stale since their own code is another."""
    return {
        name.partition("[")[0] for name, reasons in copy.stale(place.environment()).items() if OTHER_CODE in reasons
    }


Samples = dict[str, tuple[list[Function], list[Function]]]
Digests = dict[str, str]


def drawn(count: int, stages: Sequence[str]) -> tuple[Samples, list[tuple[Function, str]]]:
    """`count` functions that each of these stages reaches, and as many that it does not; all of them, each with how it
    is rewritten."""
    rng = random.Random(SEED)
    samples: Samples = {}
    for asset in stages:
        code = code_of(asset)
        samples[asset] = sample(rng, code, count), sample(rng, files().keys() - code, count)
    chosen = sorted(
        {
            (function, way)
            for pair in samples.values()
            for part in pair
            for function in part
            for way in [WAYS[hash_of(function) % len(WAYS)]]
        },
        key=str,
    )
    sys.stdout.write(f"seed {SEED}: {len(chosen)} functions rewritten for {len(stages)} stages\n")
    return samples, chosen


def changes_of(chosen: Sequence[tuple[Function, str]]) -> list[tuple[str, str]]:
    return [(function.path, rewritten(function, way)) for function, way in chosen]


def check_samples(
    samples: Samples, chosen: Sequence[tuple[Function, str]], before: Digests, after: Sequence[Digests]
) -> None:
    """Digests change with the functions that a stage reaches only."""
    assert before == {asset: making.code for asset, making in STAGES.items()}
    changed = {
        function: {asset for asset in STAGES if digests[asset] != before[asset]}
        for (function, _), digests in zip(chosen, after, strict=True)
    }
    for asset, (inside, outside) in samples.items():
        assert not [str(function) for function in inside if asset not in changed[function]], f"{asset} reaches these"
        assert not [str(function) for function in outside if asset in changed[function]], (
            f"{asset} does not reach these"
        )


def hash_of(function) -> int:
    return sum(map(ord, str(function))) + function.line


class Asked(NamedTuple):
    """What one process says, which starts for seconds."""

    few: tuple[Samples, list[tuple[Function, str]]]
    before: Digests
    under_few: list[Digests]
    under_cases: list[Digests]
    left: set[Path]
    """What was not there before."""


@pytest.fixture(scope="module")
def asked(copied) -> Asked:
    few, there = drawn(1, [*STAGES][::4]), set(copied.folder.rglob("*"))
    changes = changes_of(few[1])
    before, *after = copied.digests([*changes, *((case[0], replaced(*case)) for case in CASES.values())])
    return Asked(few, before, after[: len(changes)], after[len(changes) :], set(copied.folder.rglob("*")) ^ there)


def test_reading_the_imports_leaves_nothing_behind(asked):
    assert asked.left == set()


def test_a_few_changed_functions_change_the_digests_of_what_reaches_them(asked):
    check_samples(*asked.few, asked.before, asked.under_few)


@pytest.mark.slow
def test_every_stage_changes_with_the_functions_it_reaches_and_with_no_others(copy):
    samples, chosen = drawn(12, [*STAGES])
    before, *after = copy.digests(changes_of(chosen))
    check_samples(samples, chosen, before, after)


@pytest.mark.slow
def test_every_stage_is_stale_by_a_function_it_reaches_and_by_none_it_does_not(copy, place):
    """In a process of its own for each change, asking the smoke lake."""
    rng = random.Random(SEED + 1)
    common = set.intersection(*map(code_of, STAGES))
    seen = defaultdict(set)
    for asset in sorted(IN_SMOKE):
        own = [module for module in code_of(asset) - common if module not in seen[asset]] or list(common)
        (function,) = sample(rng, own, 1)
        # One that still works: the question is what it would make, and asking runs a part of the stage.
        copy.change(function.path, rewritten(function, WAYS[-1]))
        found = of_other_code(copy, place)
        sys.stdout.write(f"seed {SEED + 1}: {function} makes stale: {', '.join(sorted(found))}\n")
        assert found == {other for other in IN_SMOKE if function.module in code_of(other)}, str(function)
        assert asset in found
        copy.restore()
    for function in sample(rng, files().keys() - set.union(*map(code_of, STAGES)), 5):
        copy.change(function.path, rewritten(function, WAYS[-1]))
        assert copy.stale(place.environment()) == {}, str(function)
        copy.restore()


CASES = {
    "actions read as zeros": (
        "vlaw_assets/lake/handles.py",
        "_matrix(actions, start, count - 1)",
        "0 * _matrix(actions, start, count - 1)",
    ),
    "actions stored as zeros": (
        "vlaw_assets/lake/encoded.py",
        "_lists(episode.actions, count)",
        "_lists(0 * episode.actions, count)",
    ),
    "pictures of low quality": ("vlaw_assets/lake/frames.py", "quality=95", "quality=5"),
    "success inverted": ("vlaw_assets/reports/success.py", 'bool(e["success"]) for e', 'not e["success"] for e'),
    "another default": ("vlaw_models/config.py", "episodes_per_task: Count = 200", "episodes_per_task: Count = 201"),
    "another count of the same recipe": (
        "vlaw_models/config.py",
        "self.episodes_per_task * self.share",
        "self.episodes_per_task * self.share / 2",
    ),
    "quarantine without what was imagined": (
        "vlaw_assets/lake/quarantine.py",
        "return lookup.with_started(quarantined(lake, ref))",
        "return quarantined(lake, ref)",
    ),
    "a near success is one": (
        "vlaw_assets/lake/labels.py",
        'return bool(row["label"] == LABELS[0])',
        'return bool(row["label"] != LABELS[1])',
    ),
    "weights that are ignored": ("vlaw_models/learners/flow_matching.py", "weights=part.weights", "weights=None"),
    "half the margin": (
        "vlaw_assets/assets/promotion.py",
        "from vlaw_models.errors import VlawError\n",
        "from vlaw_models.errors import VlawError\n\nSLACK = 0.5\n",
    ),
}


def reaching(path: str) -> set[str]:
    module = path.removesuffix(".py").replace("/", ".")
    found = {asset for asset in STAGES if module in code_of(asset)}
    assert found
    return found


def test_what_would_make_other_data_changes_the_code_of_what_reaches_it(asked):
    for (name, (path, *_)), digests in zip(CASES.items(), asked.under_cases, strict=True):
        assert {asset for asset in STAGES if digests[asset] != asked.before[asset]} == reaching(path), name


@pytest.mark.parametrize(
    "case", [case if case == "success inverted" else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_what_would_make_other_data_makes_what_reaches_it_stale(copy, place, case):
    """In a process of its own, asking the smoke lake."""
    copy.replace(*CASES[case])
    assert of_other_code(copy, place) == reaching(CASES[case][0]) & IN_SMOKE


@pytest.mark.slow
def test_the_commands_say_so(copy, place):
    copy.replace(*CASES["pictures of low quality"])
    said = copy.python("-c", VLAW, "status", "--json", environment=place.environment())
    (row,) = [row for row in json.loads(said) if row["partition"] == KEY]
    assert OTHER_CODE in row["outdated_because"]["imagined_rollouts"]
    found = copy.python(
        "-c",
        VLAW,
        "audit",
        "imagined_rollouts",
        "smoke",
        "1",
        "--replay",
        "--only",
        "--json",
        environment=place.environment(),
        ok=False,
    )
    (replayed,) = json.loads(found)["replayed"]
    assert replayed["status"] == "different", "the pictures that can be read back are others"
    assert [line.partition(":")[0] for line in replayed["differences"]] == ["other code"]


# ---- what runs


@pytest.mark.slow
def test_whatever_runs_while_a_stage_is_made_is_its_code_and_what_is_for_people_makes_nothing(
    place, tmp_path, monkeypatch
):
    """Every stage made again with its pictures, progress and reports to Dagster replaced, each call of ours written
    down."""
    mine = smoke_copy(tmp_path / "place", place)
    bench = Bench(tmp_path / "bench")
    bench.lake, bench.recipes = mine.lake, mine.recipes
    _without_what_is_for_people(monkeypatch)
    # It looks at the machine: noted beside the artifact, in no digest.
    monkeypatch.setattr("vlaw_assets.assets.stage.made_with", dict)
    # It asks the learner whether it fits, and refuses or changes nothing.
    monkeypatch.setattr("vlaw_assets.assets.loop_state.check_learner", lambda *_arguments: None)
    root = str(code_identity.ROOT)
    module_at = {str(path): module for module, path in files().items()}
    ran: set[str] = set()

    def watch(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.startswith(root) and frame.f_code.co_name != "<module>":
            ran.add(module_at.get(frame.f_code.co_filename, ""))

    for definition in (*definitions.FOUNDATION, *definitions.LOOP):
        asset = definition.key.to_user_string()
        if asset not in IN_SMOKE:
            continue
        partition = KEY if definition in definitions.LOOP else ""
        before = mine.lake.ledger.require(asset, partition)
        ran.clear()
        threading.setprofile(watch)
        sys.setprofile(watch)
        try:
            made = bench.make(asset, partition, force=True)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        assert made.artifact_id != before.artifact_id
        assert made.content_digest == before.content_digest, asset
        assert ran - {""} - FOR_PEOPLE <= code_of(asset), asset
        assert module_of(asset) in ran


def _without_what_is_for_people(monkeypatch) -> None:
    """Every function of these modules gives something useless of its type, wherever somebody has imported it
    already."""
    useless = {"str": "", "bytes": b"", "dict": {}, "list": [], "None": None, "Progress": lambda *_arguments: None}
    for name in FOR_PEOPLE:
        module = importlib.import_module(name)
        for key, value in list(vars(module).items()):
            if inspect.isfunction(value) and value.__module__ == name:
                said = str(value.__annotations__["return"]).partition("[")[0]
                given = useless.get(said)  # of other types nothing: no stage asks for them

                def instead(*_arguments, _given=given, **_options):
                    return _given

                for user in [found for other, found in sys.modules.items() if other.startswith("vlaw_")]:
                    if getattr(user, key, None) is value:
                        monkeypatch.setattr(user, key, instead)
