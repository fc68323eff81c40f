"""Commands of README and docs: all are parsed; `test: run` marks blocks that run, `slow` those that take long."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from vlm_jax import cli
from vlm_jax.config.load import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(?:<!-- test: (?P<mark>\w+) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
SHELL = ("cd", "cat", "export", "git", "ls", "mkdir", "pip", "python3", "source")
"""Other words that a block may start a line with; they are not run."""


class Block(NamedTuple):
    """One fenced block of a page."""

    page: Path
    number: int
    mark: str
    kind: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of every line; a backslash joins lines, a `#` starts a comment."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}-{self.number}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text())):
            yield Block(page, number, match["mark"] or "", match["kind"], match["text"])


BASH = [block for block in blocks() if block.kind == "bash"]


def parametrise(marks: tuple[str, ...]):
    chosen = [block for block in BASH if block.mark in marks]
    return pytest.mark.parametrize("block", chosen, ids=[block.name for block in chosen])


def words_of(command: list[str]) -> list[str] | None:
    """The words after `vlm-jax`; None for any other program."""
    if command[0] == "vlm-jax":
        return command[1:]
    if command[:3] in (["python", "-m", "vlm_jax"], ["python3", "-m", "vlm_jax"]):
        return command[3:]
    return None


def test_pages_hold_commands():
    assert len(BASH) >= 8 and {block.mark for block in BASH} == {"", "run", "slow"}
    commands = [command[0] for block in BASH for command in block.commands]
    assert commands.count("vlm-jax") >= 15 and "make" in commands


@parametrise(("", "run", "slow"))
def test_every_command_parses_and_its_settings_are_valid(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in block.commands:
        words = words_of(command)
        if command[0] == "make":
            subprocess.run(["make", "-n", *command[1:]], cwd=ROOT, check=True, capture_output=True)
        elif words is not None:
            _, args = cli.parse(words)
            if hasattr(args, "config") and not args.config.endswith(".json"):
                load_config(args.config, args.overrides)
        else:
            assert command[0] in SHELL, f"{block.name} starts a line with {command[0]!r}"


@parametrise(("run",))
def test_short_commands_run(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in block.commands:
        words = words_of(command)
        if words is not None:
            assert cli.main(words) == 0, f"{shlex.join(command)}\n{capsys.readouterr().err}"


@pytest.mark.slow
@parametrise(("slow",))
def test_long_commands_run(block, tmp_path, real_data):
    """In a folder that stands where a checkout would, so that `../shared/data` is where the pages say."""
    (tmp_path / "shared").symlink_to(real_data.parent)
    work = tmp_path / "clone"
    work.mkdir()
    for command in block.commands:
        if command[0] == "make":
            command, place = [*command, f"WORKDIR={work / 'demo'}"], ROOT
        elif words_of(command) is not None:
            command, place = [sys.executable, "-m", "vlm_jax", *(words_of(command) or [])], work
        else:
            continue
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("block", [b for b in blocks() if b.kind == "python"], ids=lambda block: block.name)
def test_python_blocks_compile(block):
    compile(block.text, block.name, "exec")


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
