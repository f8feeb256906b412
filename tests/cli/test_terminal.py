"""Texts of a lake that try to drive the terminal they are shown on: every command shows them and sends none of them."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from known_lake import KnownLake, episode
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from vlaw_assets.cli.output import SafeConsole, visible
from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.lake.labels import label_episodes

ROOT = Path(__file__).parents[2]
BAD = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\x08\r\u202egpj\u2066\u2028\u200b:bomb:[bold]"
"""Sets the title, clears the screen, colours, deletes, goes back; turns and splits the line; is rich's markup and
emoji."""
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\x08\x0d\u202egpj\u2066\u2028\u200b:bomb:[bold]"
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
OURS = re.compile(r"\x1b\[[0-9;]*m")
"""The colours that rich sends to a terminal."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A lake of which every text that nobody checks is bad: tasks, instructions, events, runs, revisions, recipes,
    reasons."""
    root = tmp_path_factory.mktemp("bad")
    (root / "dagster_home").mkdir()
    k = KnownLake(Lake.open(root / "lake"))

    def make(name: str, parents: dict[str, str], found: list, partition: str, recipe: str) -> None:
        def write(draft):
            for role, parent in parents.items():
                draft.read(k.refs[parent], role=role).episodes()
            k.episodes("r", "rollout", found, policy=BAD)(draft)

        bad = {"recipe": {BAD: recipe}, "code": BAD, "run_id": BAD, "code_revision": BAD}
        k.make(name, parents, write, partition=partition, checkpoint="{}", **bad)

    make("real_rollouts 1", {}, [episode(BAD, "success", 1), episode(BAD, BAD, 2)], "vlaw|01", "a")
    make("policy 1", {BAD: "real_rollouts 1"}, [episode(BAD, "", 3)], "vlaw|01", "a")
    make("policy 2", {BAD: "real_rollouts 1"}, [episode("stack", "", 4)], "vlaw|02", BAD)
    first = k.lake.read(k.refs["real_rollouts 1"]).table("episodes").column("episode_id")[0].as_py()
    quarantine.add(k.lake, [first], why=BAD, by=BAD)
    label_episodes(k.lake, [(first, "failure", BAD, BAD)])
    (root / "episode").write_text(first)
    return root


SQL = "select task, instruction, 'x' as \"{}\" from episodes".format(BAD.replace("\r", ""))
COMMANDS: dict[str, tuple[list[str], bool]] = {
    "audit": (["audit", "policy", "vlaw", "1"], True),
    "audit all": (["audit", "--all"], False),
    "audit verify": (["audit", "policy", "vlaw", "2", "--verify"], True),
    "status": (["status"], False),
    "quarantine": (["quarantine"], True),
    "label": (["label"], True),
    "label a file": (["label", "--csv", BAD], True),
    "no label": (["label", "EPISODE", BAD, "--why", "x"], True),
    "quarantine again": (["quarantine", "EPISODE", "--why", "x"], True),
    "impact": (["impact", "EPISODE"], False),
    "watch": (["watch", "EPISODE", "--out", "page.html"], False),
    "watch sql": (["watch", f"select '{BAD}' as episode_id".replace("\r", "")], True),
    "compare": (["compare", "policy", BAD, "vlaw/01"], True),
    "diff": (["diff", "policy", "vlaw/01", "vlaw/02"], True),
    "sql": (["sql", SQL], True),
    "sql csv": (["sql", SQL, "--csv"], True),
    "as of": (["sql", "select 1", "--as-of", BAD], True),
    "no episode": (["impact", BAD], True),
    "no asset": (["audit", BAD], True),
    "no experiment": (["run", "-e", BAD], True),
    "no question": (["sql", f"{BAD}.sql"], True),
    "no partition": (["diff", "policy", BAD, "vlaw/01"], True),
    "no embedding": (["similar", BAD], True),
    "no sql": (["sql", f'select "{BAD}"'], True),
    "a path": (["report", "vlaw", "1", "--out", f"/proc/{BAD}/x.html"], False),
    "a parameter": (["sql", "select 1", "-p", BAD], True),
    "no command": ([BAD], False),
    "no number": (["run", "-i", BAD], False),
    "no option": (["status", f"--{BAD}"], True),
    "too much": (["status", BAD], True),
    "no text": (["sql", f"select {BAD}\udcff"], True),
}
"""Name -> arguments, and whether the bad text is surely shown."""

PROGRAM = """
import json, sys
from vlaw_assets.cli import app
for name, arguments in json.load(open(sys.argv[1])).items():
    for stream in (sys.stdout, sys.stderr):
        stream.write(f"\\n==={name}===\\n"); stream.flush()
    try:
        app(arguments)
    except SystemExit:
        pass
"""


def run_all(root: Path, *, terminal: bool, lake: str = "lake") -> dict[str, str]:
    """What each command sends, all in one process; to a terminal or to a pipe. Line ends and rich's colours are taken
    out."""
    episode_id = (root / "episode").read_text()
    given = {
        name: [episode_id if word == "EPISODE" else word for word in words] for name, (words, _) in COMMANDS.items()
    }
    (root / "commands.json").write_text(json.dumps(given))
    environment = os.environ | {
        "VLAW_LAKE": str(root / lake),
        "DAGSTER_HOME": str(root / "dagster_home"),
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "TERM": "xterm-256color",
        "COLUMNS": "400",
    }
    arguments = [sys.executable, "-c", PROGRAM, str(root / "commands.json")]
    if terminal:
        here, there = pty.openpty()
        process = subprocess.Popen(arguments, stdin=there, stdout=there, stderr=there, env=environment, cwd=root)
        os.close(there)
        sent = b""
        while True:
            try:
                piece = os.read(here, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            sent += piece
        os.close(here)
        process.wait()
        text = re.sub("\r+\n", "\n", sent.decode("utf-8", "surrogateescape"))
    else:
        done = subprocess.run(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=root, check=False
        )
        text = done.stdout.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    parts = re.split(r"\n===(.+?)===\n", text)
    found: dict[str, str] = dict.fromkeys(COMMANDS, "")
    for name, said in zip(parts[1::2], parts[2::2], strict=True):
        found[name] += said
    return found


@pytest.mark.slow
def test_no_command_sends_a_text_to_the_terminal(root):
    said = run_all(root, terminal=True)
    assert any(OURS.search(text) for text in said.values()), "it is a terminal, with rich's colours"
    for name, (_, surely) in COMMANDS.items():
        text = OURS.sub("", said[name])
        assert text.strip(), name
        assert not ACTING.search(text), (name, text)
        assert "Traceback" not in text, (name, text)
        if surely:
            assert r"\x1b]0;owned\x07\x1b[2J" in text, (name, text)
            assert ":bomb:" in text, name


@pytest.mark.slow
def test_nor_to_a_pipe_but_for_the_rows_of_csv(root):
    said = run_all(root, terminal=False)
    for name, (_, surely) in COMMANDS.items():
        if name == "sql csv":
            assert BAD.replace("\r", "") in said[name], "data for programs stays as it is"
            continue
        assert not ACTING.search(said[name]), (name, said[name])
        assert not surely or r"\x1b]0;owned\x07\x1b[2J" in said[name], (name, said[name])


@pytest.mark.parametrize(
    "command",
    [["audit", "policy", "vlaw", "1"], ["quarantine"], ["sql", "select task, instruction from episodes"]],
    ids=lambda words: words[0],
)
def test_json_is_ascii_without_controls_and_keeps_every_character(root, monkeypatch, command):
    from typer.testing import CliRunner

    from vlaw_assets.cli import app

    monkeypatch.setenv("VLAW_LAKE", str(root / "lake"))
    text = CliRunner().invoke(app, [*command, "--json"]).stdout
    assert text.isascii()
    assert not ACTING.search(text)
    assert BAD in str_of(json.loads(text))


def str_of(value: object) -> str:
    """All strings in a JSON value, one after the other."""
    if isinstance(value, dict):
        return "\n".join(f"{key}\n{str_of(item)}" for key, item in value.items())
    return "\n".join(map(str_of, value)) if isinstance(value, list) else str(value)


def test_a_path_that_acts_is_shown(root, tmp_path):
    """Also one whose bytes are no UTF-8, which Python has as halves of characters."""
    for name in (b"a\x1b[2Jb", b"a\x9b2Jb", "a\u202eb".encode()):
        environment = os.environ | {
            "VLAW_LAKE": str(tmp_path / os.fsdecode(name)),
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8:surrogateescape",
        }
        done = subprocess.run(
            [sys.executable, "-c", "from vlaw_assets.cli import app; app(['quarantine'])"],
            capture_output=True,
            env=environment,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 2
        said = done.stderr.decode("utf-8", "surrogateescape")
        assert re.search(r"a\\(x1b|udc9b|u202e)", said), said
        assert not ACTING.search(said), said


# ---- the console alone


def rendered(*objects: object, **options: object) -> str:
    console = SafeConsole(
        file=io.StringIO(), force_terminal=True, width=200, highlight=False, emoji=False, color_system="truecolor"
    )
    console.print(*objects, **options)
    return console.file.getvalue()


def test_everything_rich_can_show_is_made_visible():
    plain = {"markup": False, "soft_wrap": True}
    table, tree = Table(BAD.replace("[", r"\[")), Tree(BAD.replace("[", r"\["))
    table.add_row(Text(BAD))
    table.add_row(BAD.replace("[", r"\["))
    tree.add(Text(BAD))
    for made in (
        rendered(BAD, **plain),
        rendered(BAD, style="red", **plain),
        rendered(Text(BAD)),
        rendered(table),
        rendered(tree),
    ):
        assert r"\x1b]0;owned" in made
        assert not ACTING.search(OURS.sub("", made)), made
    assert rendered(BAD, **plain) == SHOWN + "\n"
    bare = io.StringIO()
    Console(file=bare, force_terminal=True, highlight=False).print(Text(BAD))
    assert ACTING.search(OURS.sub("", bare.getvalue())), "rich alone sends it"


def test_cells_are_measured_as_they_are_shown():
    table = Table(box=None, pad_edge=False)
    for name in ("a", "b"):
        table.add_column(name, no_wrap=True)
    table.add_row("\x1b", "x")
    table.add_row("long cell", "y")
    lines = [OURS.sub("", line) for line in rendered(table).splitlines()]
    assert lines[1].rindex("x") == lines[2].rindex("y")


def test_a_progress_display_moves_only_itself():
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=200)
    lock = threading.Event()
    with Progress(TextColumn("{task.description}"), console=console) as progress:
        progress.add_task(Text(BAD).plain.replace("[", r"\["), total=None)
        lock.wait(0.3)
    sent = console.file.getvalue()
    assert "\x1b[?25l" in sent, "rich hides the cursor"
    assert r"\x1b]0;owned" in sent
    assert "\x1b]0" not in sent
    assert "\x9b" not in sent


def test_what_is_text_stays():
    for text in ("", "a b\tc\nd", "läßt 日本語\u3000 é 🤖 \u00a0 −", "[x] \\x1b"):
        assert visible(text) == text
    assert visible(BAD) == SHOWN
    assert visible("\ud83e \U000e0041 \ufeff") == r"\ud83e \U000e0041 \ufeff"
