"""Commands of README and docs: all are parsed; those marked run are run here, those marked slow by make test-slow."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import json
import os
import runpy
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlm_jax import cli
from vlm_jax.config.load import load_config
from vlm_jax.errors import UserError

_spec = importlib.util.spec_from_file_location("docs_fences", Path(__file__).with_name("fences.py"))
fences = importlib.util.module_from_spec(_spec)
sys.modules["docs_fences"] = fences
_spec.loader.exec_module(fences)

ROOT, PAGES = fences.ROOT, fences.PAGES
BLOCKS = fences.all_blocks()
BASH = [block for block in BLOCKS if block.kind == "bash"]
SHELL = ("cd", "cat", "export", "git", "ls", "mkdir", "pip", "python3", "source")
"""Other words that a block may start a line with; blocks with them are parsed only."""
LAUNCHERS = ("docker", "gcloud", "kubectl", "sbatch", "launch/local_multiprocess.sh", "launch/tpu_vm.sh")
"""What starts `vlm-jax train` elsewhere: what it hands on, from --config to the end, is checked."""
REAL = ("data/vocalfolds", "data/notes")
"""What the pages call the data sets that they build from the real sources."""


def pages_with(*marks):
    """The pages that have blocks of these marks, with those blocks in order: one builds on another."""
    found: dict[str, list] = {}
    for block in BASH:
        if block.mark in marks:
            found.setdefault(block.page, []).append(block)
    chosen = {page: rows for page, rows in found.items() if marks[-1] in {row.mark for row in rows}}
    return pytest.mark.parametrize("rows", chosen.values(), ids=chosen.keys())


def words_of(command):
    """The words after `vlm-jax`; None for any other program."""
    if command[0] == "vlm-jax":
        return command[1:]
    if command[:3] in (["python", "-m", "vlm_jax"], ["python3", "-m", "vlm_jax"]):
        return command[3:]
    return None


def settings_of(words):
    """Parses a command, and the settings that it gives."""
    command, args = cli.parse(words)
    if hasattr(args, "config") and not args.config.endswith(".json"):
        return getattr(command, "load_settings", load_config)(args.config, args.overrides)
    return None


def in_a_process(words, place):
    """Runs a command as the shell would, with the interpreter that runs the test."""
    done = subprocess.run([sys.executable, "-m", "vlm_jax", *words], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, f"vlm-jax {shlex.join(words)}\n{done.stderr[-3000:]}"
    return done.stdout


def test_every_block_is_tagged_and_marked():
    assert [problem for block in BLOCKS for problem in block.problems()] == []
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        marked = [block for block in BLOCKS if block.page == name and block.comment.startswith("<!-- test:")]
        assert fences.comments(page.read_text()) == len(marked), f"{name}: a test comment without a block below it"
    assert len(BASH) >= 10 and {block.mark for block in BASH} == {"run", "slow", "parse"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```\nvlm-jax train --config x\n```", "tag it bash"),
        ("  ```console\n  $ make demo\n  ```", "tag it bash"),
        ("~~~sh\npython -m vlm_jax predict x\n~~~", "tag it bash"),
        ("```bash\nvlm-jax train\n```", "needs <!-- test: run -->"),
        ("<!-- test: run -->\n\n```bash\nvlm-jax train\n```", "needs <!-- test: run -->"),
        ("<!-- test: later -->\n```bash\nvlm-jax train\n```", "needs <!-- test: run -->"),
        ("<!-- test: parse -->\n```bash\nvlm-jax train\n```", "says why"),
        ("<!-- test: run: why -->\n```bash\nvlm-jax train\n```", "says why"),
        ("<!-- test: slow -->\n```bash\npip install x\n```", "not run: pip install x"),
        ("<!-- test: run -->\n```bash\nvlm-jax data check d\nmake demo\n```", ""),
        ("<!-- test: parse: needs a GPU -->\n```bash\npip install x\n```", ""),
        ("```\nprompt --> vlm-jax\n```", ""),
    ],
)
def test_what_a_block_lacks_is_said(text, says):
    problems = [problem for block in fences.blocks(text, "page") for problem in block.problems()]
    assert (says in problems[0] and len(problems) == 1) if says else problems == []


def test_fences_links_and_inline_commands_are_found():
    with pytest.raises(ValueError, match="not closed"):
        list(fences.blocks("```bash\nvlm-jax train\n", "page"))
    text = (
        "`vlm-jax inspect --config vlm:micro` and `vlm-jax train`, `vlm-jax data simulate|build --out DIR` [a](b.md#c)"
    )
    assert fences.inline_commands(text) == ["vlm-jax inspect --config vlm:micro"]
    assert fences.links(text + " [x](https://y) [z](#z)") == ["b.md"]


@functools.cache
def help_of(script):
    """What a script of the repository says of itself: it starts. Here, for JAX takes seconds to import."""
    said = io.StringIO()
    place = str((ROOT / script).parent)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", [script, "--help"])
        patch.syspath_prepend(place)
        patch.chdir(ROOT)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    assert not end.value.code, script
    return said.getvalue()


def check_script(words):
    """A script knows the flags that it is given."""
    shown = help_of(words[0])
    for flag in (word.split("=")[0] for word in words if word.startswith("--")):
        assert flag in shown, f"{words[0]} has no {flag}"


def test_a_script_without_the_flag_is_refused():
    with pytest.raises(AssertionError, match="has no --nothing"):
        check_script(["benchmarks/colour_histograms.py", "--nothing"])


@pytest.mark.parametrize("block", BASH, ids=[block.name for block in BASH])
def test_every_command_parses_and_its_settings_are_valid(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in block.commands:
        words = words_of(command)
        if command[0] == "make":
            subprocess.run(["make", "-n", *command[1:]], cwd=ROOT, check=True, capture_output=True)
        elif words is not None:
            assert not {"|", ">", ">>", "<", "&&", ";", "&"} & set(words), f"{block.name}: one command a line"
            settings_of(words)
        elif command[0] == "python":
            check_script(command[1:])
        elif command[0] in LAUNCHERS:
            assert all((ROOT / word).exists() for word in command if word.startswith("launch/"))
            if "--config" in command:
                settings_of(["train", *command[command.index("--config") :]])
        else:
            assert command[0] in SHELL, f"{block.name} starts a line with {command[0]!r}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere_and_commands_in_sentences_parse(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for target in fences.links(page.read_text()):
        assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
    for command in fences.inline_commands(page.read_text()):
        try:
            settings_of(shlex.split(command)[1:])
        except UserError as error:  # a sentence may leave out flags, not misspell them
            assert str(error).startswith("the following arguments are required"), f"{command}: {error}"


@pages_with("run")
def test_short_commands_run(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vlm_jax.evaluation.run.minilm", lambda: None)  # 22 M parameters, for nothing here
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # of a command in a process of its own
    for command in (command for row in rows for command in row.commands):
        words = words_of(command)
        if "--devices" in words:  # the number of devices is chosen before JAX starts
            in_a_process(words, tmp_path)
        else:
            assert cli.main(words) == 0, f"{shlex.join(command)}\n{capsys.readouterr().err}"


@pytest.fixture(scope="session")
def real_sets(real_data, tmp_path_factory):
    """A folder with data/vocalfolds and data/notes, as the pages build them."""
    folder = tmp_path_factory.mktemp("real")
    for name, source in (("vocalfolds", "vocalfolds"), ("notes", "operative_notes")):
        words = ["data", "build", "--source", source, "--input", str(real_data / source)]
        assert cli.main([*words, "--out", str(folder / "data" / name)]) == 0
    return folder


def _on_real_data():
    for block in BASH:
        for words in filter(None, map(words_of, block.commands)):
            config = settings_of(words) if words[0] == "train" else None
            if config and config.data.path and set(config.data.path) <= set(REAL):
                yield pytest.param(config, id=f"{block.name}-{config.data.split}")


@pytest.mark.parametrize("config", list(_on_real_data()))
def test_splits_of_the_real_data_name_groups_that_exist(config, real_sets, monkeypatch):
    from vlm_jax.data.run_data import RunData

    monkeypatch.chdir(real_sets)
    data = RunData.open(config)
    assert all(len(data.records(split)) for split in ("train", "validation", "test"))


@pytest.mark.slow
@pages_with("run", "slow")
def test_long_commands_run(rows, tmp_path, real_data, monkeypatch):
    """In a folder where `../shared/data` and `downloads` are the real data, and frame.jpg is an endoscopic image."""
    (tmp_path / "shared").symlink_to(real_data.parent)
    work = tmp_path / "clone"
    work.mkdir()
    (work / "downloads").symlink_to(real_data)
    _write_frame(work / "frame.jpg")
    for command in (command for row in rows for command in row.commands):
        if command[0] != "make":
            in_a_process(words_of(command), work)


def _write_frame(path):
    from PIL import Image

    from vlm_jax.simulator import SimulatorConfig, make_procedure, procedure_ids

    config = SimulatorConfig(procedures=1, image_size=64, activities_per_procedure=12, frames_per_procedure=12)
    path.write_bytes(next(iter(make_procedure(config, procedure_ids(config)[0]).frames)).image)
    Image.open(path).verify()


def test_the_slow_commands_have_a_frame_to_read(tmp_path):
    _write_frame(tmp_path / "frame.jpg")
    assert (tmp_path / "frame.jpg").stat().st_size > 500


@pytest.mark.slow
def test_make_demo_shows_what_it_must(tmp_path):
    """README's one command: what the demo claims, from the file that it writes."""
    commands = [command for block in BASH if block.mark == "slow" for command in block.commands]
    assert ["make", "demo"] in commands
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COMPILATION_CACHE")}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")  # nothing that this user compiled before
    subprocess.run(["make", "setup"], cwd=ROOT, check=True, capture_output=True)  # the install is not counted
    start = time.monotonic()
    run = ["make", "demo", f"WORKDIR={tmp_path / 'demo'}"]
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - start
    assert done.returncode == 0, done.stderr[-3000:]
    print(f"make demo took {seconds:.0f} s (the aim is under 360 on two idle cores)")
    assert seconds < 600
    results = tmp_path / "demo" / "eval" / "test"
    metrics = json.loads((results / "metrics.json").read_text())
    check_claims(metrics)
    assert metrics["fess/landmarks/f1_macro"]["n_groups"] == 8
    assert (results / "report.html").is_file() and (tmp_path / "demo" / "predictions.jsonl").is_file()


def check_claims(metrics):
    """Landmarks above every trivial score, the interval excluding it; describe and report above every trivial score."""
    assert metrics["fess/landmarks/gain/f1_macro"]["low"] > 0
    for task, metric in (("landmarks", "f1_macro"), ("describe", "bleu2"), ("report", "bleu2")):
        ours = metrics[f"fess/{task}/{metric}"]["value"]
        trivial = {
            key.split("/")[3]: row["value"]
            for key, row in metrics.items()
            if key.startswith(f"fess/{task}/trivial/") and key.endswith(f"/{metric}") and row["value"] is not None
        }
        assert len(trivial) >= 2 and ours > max(trivial.values()), (task, ours, trivial)
    assert "fess/anticipate/trivial/markov/bleu2" in metrics


def test_the_claims_of_the_demo_can_fail():
    def metrics(gain, markov):
        rows = {"fess/landmarks/gain/f1_macro": {"low": gain}, "fess/anticipate/trivial/markov/bleu2": {"value": 1.0}}
        for task, metric in (("landmarks", "f1_macro"), ("describe", "bleu2"), ("report", "bleu2")):
            rows[f"fess/{task}/{metric}"] = {"value": 0.5}
            rows[f"fess/{task}/trivial/a/{metric}"] = {"value": 0.4}
            rows[f"fess/{task}/trivial/markov/{metric}"] = {"value": markov}
        return rows

    check_claims(metrics(0.1, 0.3))
    for bad in (metrics(-0.1, 0.3), metrics(0.1, 0.6)):
        with pytest.raises(AssertionError):
            check_claims(bad)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "python"], ids=lambda block: block.name)
def test_python_blocks_compile(block):
    compile(block.text, block.name, "exec")
