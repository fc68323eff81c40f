"""Typed values of the schema: from the text of an override, and from the plain values of a file or a JSON object."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import typing
from collections.abc import Iterable
from typing import Any

from vlm_jax.config.schema import Config
from vlm_jax.errors import UserError

_BOOLS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@functools.cache
def sections(cls: type = Config) -> dict[str, Any]:
    """{field name: its type} of one dataclass of the schema, annotations resolved."""
    return typing.get_type_hints(cls)


@functools.cache
def leaves(cls: type = Config, prefix: str = "") -> dict[str, Any]:
    """{dotted key: type} of every setting, in the order of the schema."""
    found: dict[str, Any] = {}
    for name, kind in sections(cls).items():
        key = prefix + name
        if dataclasses.is_dataclass(kind):
            found.update(leaves(typing.cast(type, kind), key + "."))
        else:
            found[key] = kind
    return found


def by_source(text: str) -> dict[str, str]:
    """{source: rule} of `source=rule,source=rule`; a rule before them that names no source is for all others, as "".

    Commas and = may stand in a rule, in a path or an id: a rule ends where `,name=` follows.
    """
    found: dict[str, str] = {}
    for part in re.split(r",\s*(?=[\w-]+=)", text.strip()):
        source, rule = part.split("=", 1) if re.match(r"[\w-]+=", part) else ("", part)
        found[source] = rule.strip()
    return found


def suggest(given: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or the empty string where nothing is near."""
    known = list(known)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    if not near:
        last = given.rsplit(".", 1)[-1]
        ends = {name.rsplit(".", 1)[-1]: name for name in known}
        near = [ends[end] for end in difflib.get_close_matches(last, ends, n=1, cutoff=0.75)]
    return f" (did you mean {near[0]!r}?)" if near else ""


def unknown_key(key: str, cls: type = Config) -> UserError:
    """The error for a key that the schema (a run's, or a study's) does not have."""
    inside = [leaf for leaf in leaves(cls) if leaf.startswith(key + ".")]
    if inside:
        return UserError(f"config key {key!r} is a section, not a setting: use one of {', '.join(inside[:4])} ...")
    command = "inspect" if cls is Config else "study"
    last = key.rsplit(".", 1)[-1]
    same_end = [repr(leaf) for leaf in leaves(cls) if leaf.rsplit(".", 1)[-1] == last]  # train.lr: optim.lr
    hint = f" (did you mean {' or '.join(same_end)}?)" if same_end else suggest(key, leaves(cls))
    return UserError(f"unknown config key {key!r}{hint}; `vlm-jax {command} --help` lists all keys")


def type_name(kind: Any) -> str:
    """How a type is called in an error: `int`, `str`, `comma-separated list of float`."""
    if typing.get_origin(kind) is tuple:
        arguments = typing.get_args(kind)
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"comma-separated list of {count}{arguments[0].__name__}"
    return "true or false" if kind is bool else kind.__name__


def parse(key: str, raw: str, kind: Any = None) -> Any:
    """The value that `--config.KEY=raw` gives, by the type of the field.

    Raises:
      UserError: an unknown key, or text that is not of the field's type.
    """
    if kind is None:
        if key not in leaves():
            raise unknown_key(key)
        kind = leaves()[key]
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        parts = [_unquoted(part.strip()) for part in _unbracketed(raw.strip()).split(",")]
        return coerce(key, [parse(key, part, inner) for part in parts if part], kind)
    if kind is str:
        return raw
    try:
        return _BOOLS[raw.strip().lower()] if kind is bool else coerce(key, kind(raw.strip()), kind)
    except (ValueError, KeyError):
        raise UserError(f"config key {key!r} expects {type_name(kind)}, got {raw!r}") from None


def _unbracketed(text: str) -> str:
    """`(a,b)` and `[a,b]` as Python prints them are `a,b`; a bracket without its partner belongs to the value."""
    return text[1:-1] if (text[:1], text[-1:]) in (("(", ")"), ("[", "]")) else text


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def coerce(key: str, value: Any, kind: Any) -> Any:
    """`value` as the schema's type; only an int for a float and a list for a tuple are converted.

    Raises:
      UserError: a value of another type, a tuple of another length, a float that is not finite.
    """
    if typing.get_origin(kind) is tuple:
        arguments = typing.get_args(kind)
        fixed = arguments[-1] is not Ellipsis
        if not isinstance(value, list | tuple) or (fixed and len(value) != len(arguments)):
            raise UserError(f"config key {key!r} expects a {type_name(kind)}, got {value!r}")
        return tuple(coerce(key, item, arguments[0]) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise UserError(f"config key {key!r} expects {type_name(kind)}, got {value!r}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"config key {key!r} expects a finite number, got {value!r}")
    return value
