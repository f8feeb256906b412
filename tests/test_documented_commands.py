"""Every command that the pages show is run: here, on a small lake, or by the test that ELSEWHERE names.

Commands to be copied stand in blocks of shell; each line is run as it stands, in a scratch folder that looks like a
checkout, on a lake in which `vlaw`, `filtered_bc`, `oracle` and the study `claims` are as small as the recipe `smoke`.
Words in capitals are filled in. A command that is new in a page is run without anything being added here. A command
that is only mentioned, as code within the text, has to exist with all its options.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest
from documents import PAGES, PROGRAMS, ROOT, SHELL, Said, blocks, commands, is_command, prose, spans
from factories import write_recipe, write_toml
from recorded_dataset import write_lerobot
from smoke_place import Place, smoke_copy, smoke_place
from typer.main import get_command
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake

RECIPES = {
    "vlaw": ("smoke", {}),
    "filtered_bc": ("smoke_real_only", {}),
    "oracle": ("smoke", {"imagine": {"world": "simulator"}, "score": {"labels": "simulator"}}),
}
"""Name -> the packaged recipe that it is as small as, and what it changes."""
CLAIMS = {
    "name": "claims",
    "description": "small",
    "arms": [{"recipe": name, "seeds": [0], "iterations": 1} for name in ("vlaw", "oracle")],
}
YOUR_ROBOT, PAPER_SIZE = (
    next(page for page in PAGES if page.name == name) for name in ("your_robot.md", "paper_size.md")
)
ELSEWHERE = {
    "make ui": "tests/web/test_ui.py::test_the_page_and_its_files_are_served_and_shown_in_no_frame",
    "make bench": "tests/test_benchmarks.py::test_make_bench_runs_every_benchmark_and_nothing_else",
    "vlaw ui --origin https://vlaw.example.org": (
        "tests/web/test_ui.py::test_a_server_on_every_address_is_known_by_the_one_that_was_asked"
    ),
    "vlaw import ctrl-world FOLDER --latents-of svd/vae": (
        "tests/importers/test_ctrl_world_latents.py::test_they_are_rows_of_their_autoencoders_table"
    ),
    **dict.fromkeys(
        (
            "vlaw serve-policy vlaw 2",
            "vlaw serve-policy vlaw 0 --record",
            "vlaw serve-policy vlaw 2 --host 0.0.0.0 --token-file token --tls-cert cert.pem --tls-key key.pem",
        ),
        "tests/serving/test_command.py::test_the_commands_of_the_page_serve",
    ),
    **dict.fromkeys(
        (said.text for said in commands(PAPER_SIZE) if said.text != "vlaw doctor"),
        "tests/published/test_paper_size_page.py::test_every_command_of_the_page_in_its_order",
    ),
    "vlaw weights import cosmos COSMOS": (
        "tests/published/test_paper_size_page.py::test_every_import_of_the_page_works_and_its_foundation_finds_the_folders"
    ),
    "vlaw weights imitate openvla-oft --preset paper --weights OPENVLA --lora-rank 32 --recompute --micro-batch 4": (
        "tests/assets/test_openvla_oft_in_the_loop.py::test_it_begins_with_the_published_weights"
    ),
    "vlaw weights imitate openvla-oft": (
        "tests/assets/test_openvla_oft_in_the_loop.py::"
        "test_it_is_finetuned_on_the_demonstrations_and_learns_by_grpo_in_the_world_model"
    ),
    **dict.fromkeys(
        (said.text for said in commands(YOUR_ROBOT)),
        "tests/test_your_robot.py::test_every_command_of_the_page_in_its_order",
    ),
}
"""Command -> the test that runs it, or what it stands for."""
MAKE_RUN = "make run"
INSIDE = {"vlaw run --experiment vlaw --iterations 2": MAKE_RUN}
"""Command -> the one of these pages that runs it, as `make -n` says."""
BENCHMARK = "tests/test_benchmarks.py::test_a_benchmark_runs"
THIS_SUITE = ("make test", "make test-long", "make test-engines")
QUICK = (
    "vlaw doctor",
    "vlaw gc --dry-run",
    "vlaw inbox --look",
    "vlaw reconcile",
    "vlaw seal",
    "vlaw sql --list",
    "vlaw status",
)
"""Commands that say something of any lake. The others look at what `make run` made, and are of the long tier."""
BEFORE = {
    "vlaw quarantine EPISODE --release": 'vlaw quarantine EPISODE --why "test"',
    "vlaw export study claims claims.duckdb": "vlaw study claims --jobs 2",
    "vlaw report study claims": "vlaw study claims --jobs 2",
    "vlaw report study claims --from claims.duckdb": "vlaw export study claims claims.duckdb",
    "vlaw report vlaw 02 --compare filtered_bc/02": "vlaw run --experiment filtered_bc",
    "vlaw report vlaw 02 --compare filtered_bc/02 --out report.html": "vlaw run --experiment filtered_bc",
}
"""Command -> what has to be done before, where the test is run by itself."""
SHOWN = [said for page in PAGES for said in commands(page)]
MENTIONED = [said for page in PAGES for said in spans(page) if is_command(said.text)]
WORD = re.compile(r"\b[A-Z]{4,}\b")


def runs_here(text: str) -> bool:
    return text not in {*ELSEWHERE, *INSIDE, *THIS_SUITE} and not text.startswith("python benchmarks/")


def changes_data(text: str) -> bool:
    """Commands after which others would have more to do: they come last."""
    return text.startswith(("vlaw quarantine", "vlaw label"))


HERE = [
    pytest.param(text, marks=[] if text in QUICK else [pytest.mark.slow], id=text)
    for text in sorted(dict.fromkeys(said.text for said in SHOWN), key=changes_data)
    if runs_here(text)
]


@dataclass
class Checkout:
    """A folder to run commands in, and what the words in capitals stand for."""

    folder: Path
    environment: dict[str, str]
    lake: Lake

    @cached_property
    def main_job(self) -> tuple[int, str]:
        """What `make run` ended with: all but a few others look at what it made."""
        return self._in_a_shell(MAKE_RUN)

    @cached_property
    def words(self) -> dict[str, str]:
        """What the words in capitals stand for."""
        return words_in(self.lake, self.folder)

    def run(self, text: str) -> tuple[int, str]:
        """Exit status and output. `vlaw` runs in this process, everything else in a shell."""
        if text not in QUICK:
            assert self.main_job[0] == 0, self.main_job[1][-3000:]
        filled = WORD.sub(lambda found: self.words.get(found[0], found[0]), text)
        if filled.startswith("vlaw "):
            result = CliRunner().invoke(app, shlex.split(filled)[1:])
            return result.exit_code, result.output + result.stderr
        return self._in_a_shell(filled)

    def _in_a_shell(self, text: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", text], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    smoke_place(tmp_path_factory)
    place = smoke_copy(tmp_path_factory.mktemp("documented"))
    for name, (base, changes) in RECIPES.items():
        write_recipe(place.recipes, name, base, **changes)
    write_toml(place.recipes / "studies" / "claims.toml", CLAIMS)
    return place


@pytest.fixture(scope="module")
def checkout(place, tmp_path_factory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy2(ROOT / name, folder)
    shutil.copytree(ROOT / "sql", folder / "sql")
    (folder / "docs").mkdir()
    bin_folder = folder / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (folder / ".venv" / "ready").touch()
    for name, program in {
        "vlaw": "-c 'import sys; from vlaw_assets.cli import app; sys.argv[0] = \"vlaw\"; app()'",
        "dagster": "-m dagster",
        "python": "",
    }.items():
        (bin_folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
        (bin_folder / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        for key, value in place.environment().items():
            patch.setenv(key, value)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
        patch.chdir(folder)
        yield Checkout(folder, dict(os.environ), place.lake)


def words_in(lake: Lake, folder: Path) -> dict[str, str]:
    """Something of the lake for each word in capitals."""
    rollouts = lake.ledger.require("real_rollouts", "vlaw|01")
    sealed = CliRunner().invoke(app, ["seal"])
    assert sealed.exit_code == 0, sealed.output
    (folder / "kept.txt").write_text(sealed.stdout)
    return {
        "EPISODE": lake.read(rollouts).episodes()[0].episode_id,
        "ARTIFACT": rollouts.artifact_id,
        "HASH": "kept.txt",
        "FILE": str(folder / "statement.json"),
        "PATH": str(write_lerobot(folder / "recorded")),
    }


def before(text: str) -> list[str]:
    """What has to be done before a command, first things first."""
    return [*before(BEFORE[text]), BEFORE[text]] if text in BEFORE else []


@pytest.mark.parametrize("text", HERE)
def test_a_command_that_is_shown_does_what_it_should(checkout, text):
    for earlier in before(text):
        checkout.run(earlier)
    status, output = checkout.main_job if text == MAKE_RUN else checkout.run(text)
    assert status == 0, output[-3000:]
    assert "Traceback" not in output
    assert output.strip() or text.startswith("python -m vlaw_models.rollouts"), "a command says what it did"


@pytest.mark.slow
def test_the_readme_shows_what_make_run_prints(checkout):
    (shown,) = [said.text for language, said in blocks(ROOT / "README.md") if language == "text"]
    title, header, *rates, _, change, verdict = [form_of(line) for line in shown.splitlines()]
    printed = [form_of(line) for line in checkout.main_job[1].splitlines()]
    for line in (title, header, rates[-1], change):
        assert line in printed, f"{line} is not in what was printed: {printed[-20:]}"
    assert verdict.startswith("The policy after N ")
    assert any(line.startswith("The policy after N ") for line in printed)


@pytest.mark.parametrize(("text", "outer"), INSIDE.items())
def test_what_runs_inside_another_command_does(checkout, text, outer):
    done = subprocess.run([*outer.split(), "-n"], cwd=checkout.folder, capture_output=True, text=True, check=True)
    assert text in done.stdout
    assert {text, outer} <= {said.text for said in SHOWN}


def test_what_runs_elsewhere_is_a_test_and_is_shown():
    shown = {said.text for said in SHOWN}
    assert set(ELSEWHERE) <= shown, "or it need not be listed"
    for node in {*ELSEWHERE.values(), BENCHMARK}:
        path, _, name = node.partition("::")
        assert name in names_of_tests(ROOT / path), node


@pytest.mark.parametrize("said", [said for said in SHOWN if said.text.startswith("make ")], ids=str)
def test_a_target_that_is_shown_is_one(checkout, said):
    done = subprocess.run(
        ["make", "-n", *said.text.split()[1:]], cwd=checkout.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if said.text in THIS_SUITE:
        assert "-m pytest" in done.stdout


@pytest.mark.parametrize("said", [*SHOWN, *MENTIONED], ids=str)
def test_a_command_that_is_named_exists_with_its_options(said):
    assert not wrong_with(said.text), wrong_with(said.text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("vlaw nothing", "no command"),
        ("vlaw audit --nothing", "no option --nothing"),
        ("vlaw export provenance --nothing", "no option --nothing"),
        ("make nothing", "no target"),
        ("python benchmarks/nothing.py", "no script"),
        ("python benchmarks/ledger.py --nothing", "no option --nothing"),
        ("python -m vlaw_models.nothing", "no module"),
        ("pytest tests/nothing.py", "no file"),
        ("pytest tests/test_documents.py -k nothing", "no test"),
        ("pytest tests/test_documents.py -k 'short or nothing'", "no test"),
    ],
)
def test_a_command_that_does_not_exist_is_found(text, what):
    assert what in wrong_with(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_stands_where_nobody_would_run_it(page):
    hidden = [
        Said(line, page, said.line)
        for language, said in blocks(page)
        if language != "sh"
        for line in said.text.splitlines()
        if is_command(line.strip().removeprefix("$ "))
    ]
    hidden += [
        Said(line, page, number)
        for number, line in enumerate(prose(page).splitlines(), 1)
        if line.startswith("    ") and is_command(line.strip().removeprefix("$ "))
    ]
    assert not hidden, "set it as a block of sh"


@pytest.mark.parametrize("said", SHOWN, ids=str)
def test_a_block_of_shell_holds_programs_that_are_known(said):
    assert said.text.split()[0] in (*PROGRAMS, *SHELL)


def form_of(line: str) -> str:
    """A printed line with N for every number and single spaces."""
    return " ".join(re.sub(r"[+-]?\d+(\.\d+)?", "N", line).split())


def wrong_with(text: str) -> str:
    """Why there is no such command, or ''."""
    program, *words = shlex.split(text)
    if program.endswith("python") and words[:2] == ["-m", "pytest"]:
        program, words = "pytest", words[2:]
    if program.endswith("vlaw"):
        return wrong_options(words)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "" if words[0] in targets else f"no target {words[0]}"
    if program.endswith("python") and words[0] == "-m":
        module = ROOT.joinpath(*words[1].split("."))
        return "" if module.with_suffix(".py").is_file() or module.is_dir() else f"no module {words[1]}"
    if program.endswith("python"):
        if not (ROOT / words[0]).is_file():
            return f"no script {words[0]}"
        text = (ROOT / words[0]).read_text()
        return next((f"no option {word}" for word in words if word[:2] == "--" and f'"{word}"' not in text), "")
    return wrong_selection(words) if program == "pytest" else ""


@cache
def every_command():
    return get_command(app)


def wrong_options(words: list[str]) -> str:
    command = every_command()
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
    return next((f"no option {word}" for word in words if word.startswith("-") and word not in known), "")


def wrong_selection(words: list[str]) -> str:
    files = [word for word in words if word.endswith(".py")]
    absent = [name for name in files if not (ROOT / name).is_file()]
    if absent:
        return f"no file {absent[0]}"
    names = [name for file in files for name in names_of_tests(ROOT / file)]
    choices = words[words.index("-k") + 1].split(" or ") if "-k" in words else []
    return next((f"no test {choice}" for choice in choices if not any(choice in name for name in names)), "")


def names_of_tests(path: Path) -> list[str]:
    return [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
