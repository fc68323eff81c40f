"""The command line: its table, its words, its mistakes and its exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import subprocess
import sys
import types

import pytest

import vlm_jax
from vlm_jax import cli
from vlm_jax.errors import EnvironmentFault, UserError


@pytest.fixture
def command(monkeypatch):
    """A command `probe` (and `group probe`) whose run() is set by the test."""
    module = types.ModuleType("probe")

    def add_arguments(parser):
        parser.add_argument("--config", default="vlm:micro")
        parser.add_argument("--workdir")
        parser.add_argument("inputs", nargs="*")

    vars(module).update(HELP="Probe things.\n\nexample:\n  vlm-jax probe x", add_arguments=add_arguments, seen=[])
    module.run = lambda args: module.seen.append(args)
    monkeypatch.setitem(sys.modules, "tests_probe_command", module)
    monkeypatch.setattr(cli, "COMMANDS", {"probe": "tests_probe_command", "group probe": "tests_probe_command"})
    return module


def test_every_command_of_the_table_has_help_with_an_example():
    for name, path in cli.COMMANDS.items():
        module = importlib.import_module(path)
        lines = module.HELP.strip().splitlines()
        assert len(lines[0]) < 110 and f"vlm-jax {name}" in module.HELP, name
        assert callable(module.run) and callable(module.add_arguments)


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"  {name}  " in out, "set apart from its help"
    assert cli.main([]) == 2
    assert cli.main(["data", "--help"]) == 0
    assert "data simulate" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vlm-jax {vlm_jax.__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command(name, capsys):
    assert cli.main([*name.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: vlm-jax {name}") and "example" in out
    setting = "--config.folds=  int" if name == "study" else "--config.optim.lr=  float"  # a study has its own settings
    assert (setting in out) == ("--config " in out)


def test_overrides_are_taken_in_both_forms_and_in_order(command):
    words = ["probe", "a", "--config.optim.lr=1e-3", "--workdir", "w", "--config.data.path", "x,y", "b"]
    assert cli.main([*words, "--config.parallel.data", "-1", "--config.name="]) == 0
    args = command.seen[0]
    expected = [("optim.lr", "1e-3"), ("data.path", "x,y"), ("parallel.data", "-1"), ("name", "")]
    assert args.overrides == expected
    assert (args.inputs, args.workdir, args.config) == (["a", "b"], "w", "vlm:micro")
    assert args.run_command(["group", "probe"]) == 0 and len(command.seen) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prob"], "unknown command 'prob' (did you mean 'probe'?)"),
        (["group"], "choose one of group probe"),
        (["group", "prob"], "did you mean 'group probe'"),
        (["group", "--nope"], "unknown command 'group --nope'"),
        (["--verbose"], "unknown command '--verbose'"),
        (["probe", "--wrkdir=x"], "unknown flag '--wrkdir' (did you mean '--workdir'?); see `vlm-jax probe --help`"),
        (["probe", "--work", "x"], "unknown flag '--work'"),
        (["probe", "--workdir"], "expected one argument"),
        (["probe", "--config.optim.lr"], "--config.optim.lr needs a value"),
        (["probe", "--config.optim.lr", "--workdir", "x"], "needs a value"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_code_2(command, capsys, words, says):
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("vlm-jax: error: ") and says in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""


def test_a_command_without_config_takes_no_overrides(command, capsys):
    command.add_arguments = lambda parser: parser.add_argument("inputs", nargs="*")
    assert cli.main(["probe", "--config.seed=1"]) == 2
    assert "takes no --config" in capsys.readouterr().err
    assert cli.main(["probe", "x"]) == 0
    assert command.seen[0].overrides == []


def _raises(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UserError("give\n a path"), 2, "vlm-jax: error: give a path\n"),
        (EnvironmentFault("lost a peer"), 1, "vlm-jax: error: lost a peer\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 1, "the disk is full at 'f': free some space"),
        (OSError(errno.EDQUOT, "Quota"), 1, "the disk is full: "),
        (ValueError("tensorstore: No space left on device"), 1, "the disk is full: "),
        (PermissionError(errno.EACCES, "denied", "f"), 1, "no permission to read or write at 'f'"),
    ],
)
def test_what_a_person_can_mend_is_one_line(command, capsys, error, code, says):
    command.run = _raises(error)
    assert cli.main(["probe"]) == code
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("train", "--config.optim.accumulate"),
        ("predict", "smaller --batch_size"),
        ("evaluate", "--config.eval.batch_size smaller"),
        ("probe", "larger machine"),
    ],
)
def test_out_of_memory_names_what_the_command_takes(command, monkeypatch, capsys, name, says):
    monkeypatch.setitem(cli.COMMANDS, name, "tests_probe_command")
    command.run = _raises(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"))
    assert cli.main([name]) == 1
    err = capsys.readouterr().err
    assert "error: out of memory: " in err and says in err and ("accumulate" in err) == (name == "train")


def test_a_full_disk_behind_another_error_is_still_a_full_disk(command, capsys):
    def run(args):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("save failed") from error

    command.run = run
    assert cli.main(["probe"]) == 1
    assert "the disk is full" in capsys.readouterr().err


def test_a_bug_shows_its_traceback(command, capsys):
    command.run = _raises(ZeroDivisionError("oh"))
    assert cli.main(["probe"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_exit_codes_of_commands_are_handed_on(command):
    command.run = lambda args: 3
    assert cli.main(["probe"]) == 3


def test_a_closed_pipe_is_silent(command, monkeypatch, tmp_path):
    command.run = _raises(BrokenPipeError())
    with open(tmp_path / "out", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(["probe"]) == 1


def test_a_mistake_in_a_setting_reaches_the_shell_as_exit_code_2(repository):
    run = [sys.executable, "-m", "vlm_jax", "inspect", "--config", "configs/vlm.py:micro", "--config.data.imagesize=3"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=repository)
    assert done.returncode == 2 and "did you mean 'data.image_size'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_imports_no_tensorflow_no_torch_and_not_even_jax(repository):
    code = (
        "import sys, vlm_jax.cli as cli; cli.main(['--help']); "
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in ('tensorflow', 'torch', 'jax', 'flax')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_module_of_the_package_imports_tensorflow_or_torch(repository):
    """Every module at once, as a long run would have them."""
    code = (
        "import importlib, pkgutil, sys, vlm_jax\n"
        "for m in pkgutil.walk_packages(vlm_jax.__path__, 'vlm_jax.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "print([m for m in ('tensorflow', 'torch') if m in sys.modules])"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, cwd=repository, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
