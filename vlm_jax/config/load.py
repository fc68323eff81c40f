"""Where a run's settings come from and go to: config files, overrides, the work directory's config.json."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import traceback
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vlm_jax.config.rules import get, validate
from vlm_jax.config.schema import Config
from vlm_jax.config.values import coerce, leaves, parse, sections, suggest, unknown_key
from vlm_jax.errors import UserError

__all__ = [
    "build",
    "diff",
    "dump",
    "from_dict",
    "load_config",
    "read",
    "read_values",
    "to_dict",
    "validate",
    "with_overrides",
]

Overrides = Mapping[str, str] | Sequence[tuple[str, str]]

_PACKAGE = Path(__file__).resolve().parents[1]
PRESET_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
"""Where packaged presets lie: in an installed wheel, and in a checkout."""


def load_config(spec: str, overrides: Overrides = ()) -> Config:
    """The settings that `--config SPEC --config.key=value ...` asks for.

    Args:
      spec: `FILE.py`, `FILE.py:ARG` (handed to the file's get_config) or a `config.json`. A name that is no file is
        looked up among the packaged presets.
      overrides: dotted keys and raw values; of a repeated key the last one counts.

    Raises:
      UserError: a missing file, an unknown preset, ablation or key, a value of another type or out of its bounds.
    """
    return from_dict(read_values(spec, overrides, Config))


def read_values(spec: str, overrides: Overrides, schema: type) -> dict[str, Any]:
    """Nested plain values of a config file with the overrides in them, of a run's or a study's schema."""
    name, argument = split_spec(spec)
    values = _plain(_read_json(Path(name)) if name.endswith(".json") else _run_file(find(name), argument))
    return _overridden(values, overrides, schema)


def with_overrides(config: Config, overrides: Overrides) -> Config:
    """The same settings with some changed, by dotted keys and raw values; validated anew."""
    return from_dict(_overridden(to_dict(config), overrides, Config))


def _overridden(values: dict[str, Any], overrides: Overrides, schema: type) -> dict[str, Any]:
    known = leaves(schema)
    for key, raw in overrides.items() if isinstance(overrides, Mapping) else overrides:
        if key not in known:
            raise unknown_key(key, schema)
        _assign(values, key, parse(key, raw, known[key]))
    return values


def split_spec(spec: str) -> tuple[str, str]:
    """(file, argument) of FILE or FILE:ARG; a colon in the path of a file that is there belongs to the path."""
    file, _, argument = spec.rpartition(":")
    if Path(spec).is_file():
        return spec, ""
    if file and Path(file).is_file():
        return file, argument
    name, _, argument = spec.partition(":")
    return name, argument


def find(name: str) -> Path:
    """The config file that `name` means: a path first, then a packaged preset.

    Presets are named with or without `configs/` and `.py`: `configs/vlm.py`, `vlm`, `configs/pretrain/mae.py`.
    """
    path = Path(name)
    if path.is_file():
        return path
    inside = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    wanted = inside if inside.suffix == ".py" else inside.with_name(inside.name + ".py") if inside.name else inside
    if not inside.is_absolute() and ".." not in inside.parts:
        for folder in PRESET_FOLDERS:
            if (folder / wanted).is_file():
                return folder / wanted
    known = presets()
    raise UserError(f"no config file {name!r}{suggest(name, known)}: give a path, or one of {', '.join(known)}")


def presets() -> list[str]:
    """Every packaged config file, as `configs/vlm.py` or `configs/baselines/landmark_cnn.py`."""
    found = {file.relative_to(folder).as_posix() for folder in PRESET_FOLDERS for file in folder.rglob("*.py")}
    return sorted(f"configs/{name}" for name in found)


def from_dict(values: Mapping[str, Any]) -> Config:
    """Builds and validates a Config from nested plain values; what is left out keeps its default.

    Raises:
      UserError: an unknown key (with a suggestion), a value of another type or out of its bounds.
    """
    config = build(Config, values)
    validate(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Nested dict of plain JSON types (tuples as lists); `from_dict` turns it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def dump(config: Config, path: str | os.PathLike[str]) -> None:
    """Writes the settings as JSON, whole or not at all."""
    from etils import epath

    target = epath.Path(path)
    partial = target.with_name(target.name + ".partial")
    try:
        partial.write_text(json.dumps(to_dict(config), indent=2) + "\n")
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> Config:
    """The settings that `dump` wrote.

    Raises:
      UserError: no such file, not JSON, or not settings of this version.
    """
    return from_dict(_read_json(path))


def diff(a: Config, b: Config) -> list[str]:
    """Dotted keys whose values differ, in the order of the schema."""
    return [key for key in leaves() if get(a, key) != get(b, key)]


def build(cls: type, values: Mapping[str, Any], prefix: str = "", schema: type | None = None) -> Any:
    """A dataclass of the schema (or of a section of it, under `prefix`) from nested plain values, types checked."""
    kinds, schema = sections(cls), schema or cls
    built = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in kinds:
            raise unknown_key(key, schema)
        if not dataclasses.is_dataclass(kinds[name]):
            built[name] = coerce(key, value, kinds[name])
        elif isinstance(value, Mapping):
            built[name] = build(typing.cast(type, kinds[name]), value, f"{key}.", schema)
        else:
            raise UserError(f"config key {key!r} is a section and expects key-value pairs, got {value!r}")
    return cls(**built)


def _plain(values: Any) -> dict[str, Any]:
    """Nested dicts of a ConfigDict or a mapping, copied so that overrides change nothing of the caller's."""
    return {key: _plain(value) if hasattr(value, "items") else value for key, value in values.items()}


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for name in parents:
        values = values.setdefault(name, {})
    values[last] = value


def _read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    from etils import epath

    try:
        values = json.loads(epath.Path(path).read_text())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"no settings at '{path}': expected a config.json that `vlm-jax train` wrote") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not JSON ({error}): expected a config.json that `vlm-jax train` wrote") from None
    if not isinstance(values, dict):
        raise UserError(f"'{path}' holds no settings: expected a config.json that `vlm-jax train` wrote")
    return values


def _run_file(path: Path, argument: str) -> Mapping[str, Any]:
    """What the file's get_config(argument) returns. Config files are the user's own code, and are run as such."""
    try:
        module = _import_file(path)
        if not hasattr(module, "get_config"):
            raise UserError(f"config file '{path}' has no function get_config(arg)")
        values = module.get_config(argument)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"config file '{path}' failed{_line(error, path)}: {type(error).__name__}: {error}") from error
    if not hasattr(values, "items"):
        raise UserError(f"get_config of '{path}' must return a ConfigDict, got {type(values).__name__}")
    return values


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"vlm_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"config file '{path}' is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _line(error: BaseException, path: Path) -> str:
    """` in line N` of the config file, where the traceback passes through it."""
    if isinstance(error, SyntaxError):
        return f" in line {error.lineno}"
    frames: Iterable[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    return f" in line {lines[-1]}" if lines else ""
