"""The command line: `vlm-jax COMMAND ... --config FILE:ARG --config.a.b=value`, and `python -m vlm_jax`, the same.

Exit codes: 0 done, 1 anything else (a full disk, a lost peer), 2 usage or bad input, 3 preempted and saved, 130
interrupted (Ctrl-C). A command is one file of `vlm_jax/commands/` with HELP, add_arguments(parser) and run(args), and
one row of the table here. Nothing heavy is imported before the command runs.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import vlm_jax
from vlm_jax.config.reference import meanings
from vlm_jax.config.schema import Config
from vlm_jax.config.values import leaves, suggest, type_name
from vlm_jax.errors import UserError, is_out_of_memory
from vlm_jax.parallel import runtime

COMMANDS: dict[str, str] = {
    "demo": "vlm_jax.commands.demo",
    "data simulate": "vlm_jax.commands.data_simulate",
    "data build": "vlm_jax.commands.data_build",
    "data check": "vlm_jax.commands.data_check",
    "data stats": "vlm_jax.commands.data_stats",
    "data information": "vlm_jax.commands.data_information",
    "train": "vlm_jax.commands.train",
    "evaluate": "vlm_jax.commands.evaluate",
    "predict": "vlm_jax.commands.predict",
    "study": "vlm_jax.commands.study",
    "inspect": "vlm_jax.commands.inspect",
    "bench": "vlm_jax.commands.bench",
    "doctor": "vlm_jax.commands.doctor",
    "checkpoint verify": "vlm_jax.commands.checkpoint_verify",
    "weights import": "vlm_jax.commands.weights_import",
    "weights export": "vlm_jax.commands.weights_export",
    "weights verify": "vlm_jax.commands.weights_verify",
}
"""Command -> the module that is it."""

_GO_ON = ("demo", "data simulate", "data build", "data information", "study")  # training is preempted, and says so
_LESS_TO_TRAIN = (
    "make --config.train.batch_size or --config.eval.batch_size smaller, raise --config.optim.accumulate, or set "
    "--config.model.remat=true"
)
_LESS_MEMORY = {
    **dict.fromkeys(("demo", "train", "bench", "inspect"), _LESS_TO_TRAIN),
    "evaluate": "make --config.eval.batch_size smaller",
    "predict": "give a smaller --batch_size",
}
_PREFIX = "--config."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Parser(argparse.ArgumentParser):
    """argparse whose mistakes are UserErrors, with no abbreviation of flags."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; what a person can mend is one line on stderr."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(argv)
    except UserError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        goes_on = " ".join(argv).startswith(_GO_ON)
        return _fail("interrupted" + ("; the same command goes on from what was saved" if goes_on else ""), 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # the last handler before the shell: a full disk is a line, a bug its traceback
        message = _machine_fault(error, argv[0])
        if message is None:
            traceback.print_exc()
            return 1
        return _fail(message, 1)


def parse(argv: Sequence[str]) -> tuple[ModuleType, argparse.Namespace]:
    """The command's module and its arguments, with `overrides` [(key, raw value)] from `--config.key=value`.

    Raises:
      UserError: an unknown command or flag (with a suggestion), a flag without its value.
      SystemExit: after `--help`.
    """
    name, rest = _split_command(list(argv))
    module = importlib.import_module(COMMANDS[name])
    parser = _parser(name, module)
    plain, overrides = _split_overrides(rest)
    args, unknown = parser.parse_known_intermixed_args(plain)
    if unknown:
        flag = unknown[0].partition("=")[0]
        what = "flag" if flag.startswith("-") else "argument"
        raise UserError(f"unknown {what} {flag!r}{suggest(flag, _flags(parser))}; see `{parser.prog} --help`")
    if overrides and not _settings(module, hasattr(args, "config")):
        raise UserError(f"`{parser.prog}` takes no --config: drop {_PREFIX}{overrides[0][0]}")
    args.overrides = overrides
    args.run_command = run_command
    return module, args


def run_command(argv: Sequence[str]) -> int:
    """Runs one command in this process; what fails is raised. Commands get it as `args.run_command`."""
    module, args = parse(argv)
    return int(module.run(args) or 0)


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"vlm-jax {vlm_jax.__version__}")
        return 0
    if len(argv) == 2 and argv[1] in ("-h", "--help") and argv[0] not in COMMANDS and _group(argv[0]):
        print(_overview(argv[0] + " "))
        return 0
    runtime.prepare()
    try:
        return run_command(argv)
    except SystemExit as stop:  # argparse leaves so after --help
        return int(stop.code or 0)


def _group(word: str) -> list[str]:
    return [name for name in COMMANDS if name.startswith(word + " ")]


def _split_command(argv: list[str]) -> tuple[str, list[str]]:
    for words in (2, 1):
        name = " ".join(argv[:words])
        if len(argv) >= words and name in COMMANDS:
            return name, argv[words:]
    first = argv[0] if argv else ""
    if _group(first):
        known = ", ".join(_group(first))
        given = " ".join(argv[:2])
        raise UserError(f"unknown command {given!r}{suggest(given, _group(first))}: choose one of {known}")
    raise UserError(f"unknown command {first!r}{suggest(first, COMMANDS)}; see `vlm-jax --help`")


def _split_overrides(argv: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Takes `--config.key=value` and `--config.key value` out of the words of a command."""
    plain: list[str] = []
    overrides: list[tuple[str, str]] = []
    words = iter(range(len(argv)))
    for i in words:
        if not argv[i].startswith(_PREFIX):
            plain.append(argv[i])
            continue
        key, equals, value = argv[i].removeprefix(_PREFIX).partition("=")
        if not equals:
            if i + 1 == len(argv) or argv[i + 1].startswith("--"):
                raise UserError(f"{argv[i]} needs a value: {argv[i]}=VALUE")
            value = argv[next(words)]
        overrides.append((key, value))
    return plain, overrides


def _parser(name: str, module: ModuleType) -> _Parser:
    parser = _Parser(
        prog=f"vlm-jax {name}",
        description=module.HELP.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    if settings := _settings(module, "--config" in _flags(parser)):
        meant = meanings(_schema(module))
        keys = "\n".join(f"  --config.{key}=  {type_name(kind)}: {meant[key]}" for key, kind in settings.items())
        over = "those of --config" if "--config" in _flags(parser) else "the checkpoint's"
        parser.epilog = f"settings, over {over}:\n{keys}"
    return parser


def _settings(module: ModuleType, config: bool) -> dict[str, object]:
    """{key: type} of what --config.KEY may set: all with --config, else what the module's SETTINGS names."""
    found = leaves(_schema(module))
    return found if config else {key: kind for key, kind in found.items() if key in getattr(module, "SETTINGS", ())}


def _schema(module: ModuleType) -> type:
    return module.schema() if hasattr(module, "schema") else Config


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings]


def _overview(prefix: str = "") -> str:
    """The list of commands, each with the first line of its help."""
    names = [name for name in COMMANDS if name.startswith(prefix)]
    width = max(map(len, names)) + 2
    rows = [f"  {n:{width}}{importlib.import_module(COMMANDS[n]).HELP.strip().splitlines()[0]}" for n in names]
    head = (
        [] if prefix else [f"vlm-jax {vlm_jax.__version__}: {(vlm_jax.__doc__ or '').partition(': ')[2].strip()}", ""]
    )
    tail = [
        "",
        "`vlm-jax COMMAND --help` shows flags, settings and an example.",
        "Exit codes: 0 done, 1 anything else, 2 bad input or usage, 3 preempted and saved, 130 interrupted (Ctrl-C).",
    ]
    return "\n".join([*head, f"usage: vlm-jax {prefix}COMMAND ...", "", *rows, *tail])


def _machine_fault(error: BaseException, command: str) -> str | None:
    """One line where the machine failed (memory, a full disk, no permission), anywhere in the chain of causes."""
    seen: BaseException | None = error
    while seen is not None:
        number = seen.errno if isinstance(seen, OSError) else None
        where = f" at '{seen.filename}'" if isinstance(seen, OSError) and seen.filename else ""
        if is_out_of_memory(seen):
            return f"out of memory: {_LESS_MEMORY.get(command, 'end other programs, or take a larger machine')}"
        if number in _FULL or "No space left on device" in str(seen):
            return f"the disk is full{where}: free some space, then run the same command again"
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"no permission to read or write{where}: choose another directory or change its permissions"
        seen = seen.__cause__ or seen.__context__
    return None


def _fail(message: str, code: int) -> int:
    print(f"vlm-jax: error: {' '.join(message.split())}", file=sys.stderr)
    return code
