"""What installed packages add is code of what they make, and of nothing else: proved by changing their files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from code_copies import STALE
from factories import edit_toml, write_recipe
from one_stage import Bench
from scratch_package import install
from smoke_place import FOUNDATION_ASSETS, LOOP_ASSETS, new_place

from vlaw_assets import definitions
from vlaw_assets.assets.making import STAGES
from vlaw_assets.pipeline import read_code
from vlaw_assets.pipeline.code_identity import ROOT, code_digest, sources
from vlaw_assets.pipeline.plugins import STAGE, code_parts
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import LEARNERS
from vlaw_models.policies.registry import POLICIES
from vlaw_models.presets import foundation
from vlaw_models.reward_models.registry import REWARD_MODELS

KEY = "mine|01"
MINE = {
    "mine/__init__.py": "",
    "mine/policy.py": '''
from typing import TYPE_CHECKING

from vlaw_models.policies.flow_policy import FlowPolicy

from . import gentle
from .parts.limits import LIMIT

if TYPE_CHECKING:
    from mine.notes import Note


class Mine(FlowPolicy):
    """As ours, within limits."""

    def sample(self, *arguments, **options):
        from mine import late

        return gentle.within(super().sample(*arguments, **options), late.of(LIMIT))
''',
    "mine/learner.py": """
from dataclasses import dataclass

from vlaw_models.learners.imitation import Filtered


@dataclass(frozen=True)
class Careful(Filtered):
    def members(self, candidates, *, alpha):
        return super().members(candidates, alpha=alpha)
""",
    "mine/gentle.py": "def within(actions, limit):\n    return actions.clip(-limit, limit)\n",
    "mine/parts/__init__.py": "",
    "mine/parts/limits.py": "LIMIT = 9.0\n",
    "mine/late.py": "def of(limit):\n    return limit\n",
    "mine/notes.py": "class Note:\n    pass\n",
    "mine/arm.py": 'ARM = {"simulator": "mine.simulator:SIMULATOR", "said": "mine.notes: a note"}\n',
    "mine/simulator.py": "SIMULATOR = object()\n",
}
ENTRIES = {POLICIES.group: {"Mine": "mine.policy:Mine"}, LEARNERS.group: {"careful": "mine.learner:Careful"}}
POLICY, LEARNER = "policy 'Mine' of package mine", "learner 'careful' of package mine"
USES = ("real_rollouts", "validation_rollouts", "imagined_rollouts", "policy")
"""Stages whose parents are policies that they run."""
LEARNED = ("training_set", "policy")
"""Stages that run a learner."""
EVALUATIONS = tuple(asset for asset in LOOP_ASSETS if "evaluation" in asset)
USERS = {POLICY: (*USES, *EVALUATIONS), LEARNER: LEARNED}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder on the path, with the package above."""
    folder = tmp_path / "site"
    install(folder, "mine", MINE, ENTRIES)
    monkeypatch.syspath_prepend(str(folder))
    forget()  # another test of this process may have asked for it in vain
    yield folder
    forget()


def forget() -> None:
    """Files are read once per process: read them again, and import them again."""
    for cached in (read_code.file_of, read_code.names_in, read_code.spec_of):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine", "other", "alone", "spread")]:
        del sys.modules[name]


def parts(asset: str, *names: tuple[str, str]) -> dict[str, str]:
    return dict(code_parts(STAGES[asset].make.__module__, frozenset(names), "a test"))


# ---- what is read of a package


def test_code_of_a_thing_is_all_that_it_reaches_in_its_package_and_ours(packages):
    found = sources("mine.policy")
    assert {name for name in found if name.startswith("mine")} == {
        "mine", "mine.policy", "mine.gentle", "mine.parts", "mine.parts.limits", "mine.late",
    }  # fmt: skip
    assert {"vlaw_models.policies.flow_policy", "vlaw_models.policies.pi0"} < found.keys()
    assert "torch" not in found
    assert not [name for name in sys.modules if name.startswith("mine")], "nothing of it was run"
    assert "mine.simulator" in sources("mine.arm"), "named by a string, as a robot names its simulator"
    assert "mine.notes" not in sources("mine.arm")


def test_a_module_alone_a_package_without_init_and_a_compiled_module_are_read(packages):
    (packages / "alone.py").write_text("import mine.late\nimport vlaw_models.errors\n")
    (packages / "spread" / "deep").mkdir(parents=True)
    (packages / "spread" / "deep" / "thing.py").write_text("from spread.deep import fast\nfrom . import missing\n")
    compiled = packages / "spread" / "deep" / "fast.abi3.so"
    compiled.write_bytes(b"\x7fELF\x00")
    found = sources("alone")
    assert {"alone", "vlaw_models.errors"} < found.keys()
    assert "mine.late" not in found, "of another package"
    assert set(sources("spread.deep.thing")) == {"spread.deep.thing", "spread.deep.fast"}
    before = code_digest("spread.deep.thing")
    another = packages / "spread" / "deep" / "other.abi3.so"
    another.write_bytes(b"\x7fELF\x01")
    (packages / "spread" / "deep" / "thing.py").write_text("from spread.deep import other\nfrom . import missing\n")
    forget()
    assert "spread.deep.other" in sources("spread.deep.thing")
    assert code_digest("spread.deep.other") != code_digest("spread.deep.fast")
    assert code_digest("spread.deep.thing") != before


def test_a_module_that_is_not_there_or_no_python_is_named(packages):
    with pytest.raises(ModuleNotFoundError, match=r"mine\.nowhere"):
        sources("mine.nowhere")
    (packages / "mine" / "broken.py").write_text("def of(\n")
    with pytest.raises(VlawError, match=r"module mine\.broken cannot be read") as error:
        sources("mine.broken")
    assert error.value.where == str(packages / "mine" / "broken.py")
    install(packages, "gone", {}, {POLICIES.group: {"Gone": "gone.policy:Gone"}})
    with pytest.raises(VlawError, match=r"gone\.policy") as error:
        parts("real_rollouts", (POLICIES.group, "Gone"))
    assert error.value.where == "a test"


# ---- which artifacts use it


def test_a_stage_uses_what_its_registries_find_by_the_names_it_has(packages):
    mine = (POLICIES.group, "Mine")
    alone = parts("real_rollouts")
    assert alone == {STAGE: STAGES["real_rollouts"].code}
    assert parts("real_rollouts", (POLICIES.group, "FlowPolicy"), (POLICIES.group, "Unknown")) == alone
    assert parts("real_rollouts", mine).keys() == {STAGE, POLICY}
    assert parts("world_model", mine).keys() == {STAGE}, "it loads no policies"
    assert parts("real_rollouts", (REWARD_MODELS.group, "Mine")) == alone
    install(packages, "other", {"other.py": "X = 1\n"}, {POLICIES.group: {"Mine": "other:X", "Else": "other:X"}})
    assert parts("real_rollouts", (POLICIES.group, "FlowPolicy")) == alone
    with pytest.raises(VlawError, match="more than one policy is called 'Mine': of mine and other"):
        parts("real_rollouts", mine)


def test_a_thing_that_finds_another_by_name_has_its_code_too(packages):
    install(
        packages,
        "other",
        {"other.py": "from vlaw_models.policies.base import load_policy\n\n\nclass Judge:\n    pass\n"},
        {REWARD_MODELS.group: {"Strict": "other:Judge"}},
    )
    names = (REWARD_MODELS.group, "Strict"), (POLICIES.group, "Mine")
    assert parts("reward_scores", *names).keys() == {STAGE, POLICY, "reward model 'Strict' of package other"}
    assert parts("reward_scores", names[1]).keys() == {STAGE}
    assert parts("reward_scores", *names)[STAGE] != STAGES["reward_scores"].code, "our policies are its code now"


# ---- proof by mutation


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An iteration from a base policy of a class of the package, with what costs time left out."""
    root = tmp_path_factory.mktemp("plugins")
    mine = new_place(root / "place")
    write_recipe(
        mine.recipes,
        "mine",
        world_model={"steps": 0},
        reward_model={"steps": 0},
        world_model_metrics={"clips_per_task": 0},
        policy={"learner": "careful"},
    )
    install(root / "site", "mine", MINE, ENTRIES)
    weights = root / "weights"
    shutil.copytree(foundation("tiny", "base_policy"), weights)
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({**config, "class": "Mine"}))
    edit_toml(mine.recipes / "foundation.toml", weights={"base_policy": str(weights)})
    bench = Bench(root / "bench")
    bench.lake, bench.recipes = mine.lake, mine.recipes
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "site"))
        for definition in (*definitions.FOUNDATION, *definitions.LOOP):
            bench.make(definition.key.to_user_string(), KEY if definition in definitions.LOOP else "")
    forget()
    return mine


@pytest.fixture
def site(place):
    """The folder of the package, which is put back afterwards."""
    folder = place.root.parent / "site"
    yield folder
    shutil.rmtree(folder)
    install(folder, "mine", MINE, ENTRIES)


def python(place, site: Path, *arguments: str) -> str:
    surroundings = {
        **os.environ,
        **place.environment(),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{site}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=surroundings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stale(place, site: Path) -> dict[str, list[str]]:
    """Asset -> why it is stale, told by a new process."""
    found = json.loads(python(place, site, "-c", STALE))
    return {name.partition("[")[0]: reasons for name, reasons in found.items()}


@pytest.mark.slow
def test_artifacts_say_which_classes_load_them_and_whose_code_made_them(place):
    ledger = place.lake.ledger
    assert ledger.require("base_policy", "").metrics["classes"] == ["Mine"]
    assert ledger.require("policy", KEY).metrics["classes"] == ["Mine"]
    assert ledger.require("world_model", KEY).metrics["classes"] == ["ChunkWarp"]
    for asset in (*FOUNDATION_ASSETS, *LOOP_ASSETS):
        ref = ledger.require(asset, KEY if asset in LOOP_ASSETS else "")
        used = ref.metrics.get("code", {}).keys()
        theirs = {thing for thing, users in USERS.items() if asset in users}
        assert used == (theirs and {STAGE, *theirs}), asset


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("mine/gentle.py", "actions.clip", "0 * actions.clip"),
        pytest.param("mine/parts/limits.py", "9.0", "0.0", marks=pytest.mark.slow),
        pytest.param("mine/late.py", "return limit", "return 0 * limit", marks=pytest.mark.slow),
    ],
)
def test_another_source_of_what_was_used_makes_what_it_made_stale_and_what_stands_on_that(place, site, path, old, new):
    assert MINE[path].count(old) == 1
    (site / path).write_text(MINE[path].replace(old, new))
    found = stale(place, site)
    reason = f"made by other code than today's: {POLICY}"
    assert {asset for asset, reasons in found.items() if reason in reasons} == {*USES, *EVALUATIONS}
    others = {asset: reasons for asset, reasons in found.items() if reason not in reasons}
    assert all(len(reasons) == 1 and reasons[0].startswith("stands on ") for reasons in others.values())
    assert set(others) == set(LOOP_ASSETS) - {*USES, *EVALUATIONS, "loop_state", "world_model", "reward_model"}


@pytest.mark.slow
def test_another_source_of_the_learner_makes_what_it_made_stale_and_what_stands_on_that(place, site):
    (site / "mine" / "learner.py").write_text(MINE["mine/learner.py"].replace("alpha=alpha", "alpha=2 * alpha"))
    found = stale(place, site)
    reason = f"made by other code than today's: {LEARNER}"
    assert {asset for asset, reasons in found.items() if reasons == [reason]} == set(LEARNED)
    assert set(found) == {*LEARNED, "policy_evaluation", "policy_evaluation_low_noise", "iteration_report"}


@pytest.mark.slow
def test_what_was_not_used_makes_nothing_stale(place, site):
    (site / "mine" / "notes.py").write_text("class Note:\n    text = 'for readers'\n")
    (site / "mine" / "arm.py").write_text("ARM = None\n")
    (site / "mine" / "gentle.py").write_text("# why\n\n" + MINE["mine/gentle.py"])
    install(
        site,
        "other",
        {"other.py": "import mine.gentle\nX = 1\n"},
        {POLICIES.group: {"Else": "other:X"}, REWARD_MODELS.group: {"Mine": "other:X"}},
    )
    assert stale(place, site) == {}


@pytest.mark.slow
def test_status_names_the_package(place, site):
    (site / "mine" / "late.py").write_text("def of(limit):\n    return 2 * limit\n")
    said = json.loads(python(place, site, "-c", "from vlaw_assets.cli import app; app()", "status", "--json"))
    (row,) = [row for row in said if row["partition"] == KEY]
    assert row["outdated_because"]["real_rollouts"] == f"made by other code than today's: {POLICY}"


@pytest.mark.slow
def test_a_package_that_is_gone_or_has_a_rival_is_told(place, site):
    install(site, "other", {"other.py": "X = 1\n"}, {POLICIES.group: {"Mine": "other:X"}})
    found = stale(place, site)
    assert set(found) == {*USES, *EVALUATIONS}, "they cannot be made again as things are"
    assert any("more than one policy is called 'Mine'" in reason for reason in found["real_rollouts"])
    shutil.rmtree(site)
    site.mkdir()
    install(site, "mine", MINE, {LEARNERS.group: ENTRIES[LEARNERS.group]})
    found = stale(place, site)
    assert found["real_rollouts"] == [f"made by other code than today's: {POLICY} (not found now)"]
