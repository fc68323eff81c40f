"""A pickle interpreter that builds plain data and nothing else.

Python's own unpickler calls whatever a file names. This one never imports, calls or looks up anything: a name in the
file stays a `Global`, and a call of it becomes what the caller's table of builders makes of it, or an `Inert` record
that the file asked for it. `pickletools.genops` splits the bytes into opcodes and checks every declared length.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from vlm_jax.errors import UserError

MAX_OPCODES = 5_000_000
"""A state dict takes about 50 opcodes a tensor; more than this is no weights file, and would take minutes."""


@dataclass(frozen=True, eq=False)
class Global:
    """A name that the pickle refers to; never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Inert:
    """What a pickle wanted built and was not: an object of `kind`."""

    kind: str


Builder = Callable[..., Any]
_MARK = object()
_KEYS = (str, int, float, bool, bytes, type(None))
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_LITERALS = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    ]
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Machine:
    """One run over one pickle.

    Attributes:
      builders: {"module.name": fn(*args)} for the calls that mean data, such as torch's rebuilding of a tensor.
      persistent: what a persistent id (torch: a storage) stands for.
    """

    def __init__(self, builders: Mapping[str, Builder], persistent: Callable[[Any], Any]) -> None:
        self._builders = builders
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: Any) -> Any:
        """The object of the next pickle in `stream` (a binary file or an mmap), which is left just behind it.

        Raises:
          UserError: more opcodes than any weights file has, or an opcode that none uses.
          ValueError, IndexError, KeyError, TypeError: damaged.
        """
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= MAX_OPCODES:
                raise UserError(f"its pickle has over {MAX_OPCODES:,} instructions: no weights file has")
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        if len(self._stack) != 1 or self._stack[0] is _MARK:
            raise ValueError(f"{len(self._stack)} objects are left at the end of the pickle")
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._stack.append(tuple(self._take(_TUPLES[name])))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        else:
            method = getattr(self, "_op_" + name.lower(), None)
            if method is None:
                raise UserError(f"its pickle uses the instruction {name}, which no weights file needs")
            method(argument)

    # --- The stack ---------------------------------------------------------------------------------------------------

    def _top(self) -> Any:
        if self._stack[-1] is _MARK:
            raise ValueError("a mark stands where a value should")
        return self._stack[-1]

    def _pop(self) -> Any:
        self._top()
        return self._stack.pop()

    def _take(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("the stack of the pickle is empty")
        values = self._stack[-count:]
        if any(value is _MARK for value in values):
            raise ValueError("a mark stands where a value should")
        del self._stack[-count:]
        return values

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        values: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    # --- Containers --------------------------------------------------------------------------------------------------

    def _op_proto(self, version: int) -> None:
        if not 0 <= version <= 5:
            raise ValueError(f"pickle protocol {version}")

    def _op_frame(self, _: int) -> None:
        pass

    def _op_mark(self, _: None) -> None:
        self._stack.append(_MARK)

    def _op_pop(self, _: None) -> None:
        self._stack.pop()

    def _op_pop_mark(self, _: None) -> None:
        self._marked()

    def _op_dup(self, _: None) -> None:
        self._stack.append(self._top())

    def _op_memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._top()

    def _op_tuple(self, _: None) -> None:
        self._stack.append(tuple(self._marked()))

    def _op_list(self, _: None) -> None:
        self._stack.append(self._marked())

    _op_frozenset = _op_list

    def _op_dict(self, _: None) -> None:
        values: dict[Any, Any] = {}
        _fill(values, self._marked())
        self._stack.append(values)

    def _op_append(self, _: None) -> None:
        value = self._pop()
        _extend(self._top(), [value])

    def _op_appends(self, _: None) -> None:
        values = self._marked()
        _extend(self._top(), values)

    _op_additems = _op_appends

    def _op_setitem(self, _: None) -> None:
        pair = self._take(2)
        _fill(self._top(), pair)

    def _op_setitems(self, _: None) -> None:
        values = self._marked()
        _fill(self._top(), values)

    # --- What names code: nothing is called --------------------------------------------------------------------------

    def _op_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Global(module, name))

    def _op_stack_global(self, _: None) -> None:
        module, name = self._take(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("a global's name is no string")
        self._stack.append(Global(module, name))

    def _op_reduce(self, _: None) -> None:
        function, arguments = self._take(2)
        self._stack.append(self._call(function, arguments))

    _op_newobj = _op_reduce

    def _op_newobj_ex(self, _: None) -> None:
        cls, _, _ = self._take(3)
        self._stack.append(Inert(str(cls) if isinstance(cls, Global) else "unknown"))

    def _op_obj(self, _: None) -> None:
        cls, *arguments = self._marked()
        self._stack.append(self._call(cls, tuple(arguments)))

    def _op_inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._call(Global(module, name), tuple(self._marked())))

    def _op_build(self, _: None) -> None:
        """The state of an object that was not built is dropped; a dict's attributes (`_metadata`) are not its items."""
        self._pop()
        self._top()

    def _op_persid(self, argument: str) -> None:
        self._stack.append(self._persistent(argument))

    def _op_binpersid(self, _: None) -> None:
        self._stack.append(self._persistent(self._pop()))

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global):
            return Inert(function.kind if isinstance(function, Inert) else "unknown")
        builder = self._builders.get(str(function))
        if builder is None:
            return Inert(str(function))
        if not isinstance(arguments, tuple):
            raise TypeError(f"{function} is called without a tuple of arguments")
        return builder(*arguments)


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Inert):
        _refuse(target)


def _fill(target: Any, values: list[Any]) -> None:
    """Keys and values in turn. A key that is no plain value (hashing it could recurse for ever) gets a stand-in."""
    if isinstance(target, Inert):
        return
    if not isinstance(target, dict):
        _refuse(target)
    if len(values) % 2:
        raise ValueError("a key without its value")
    for key, value in zip(values[::2], values[1::2], strict=True):
        plain = isinstance(key, _KEYS)
        if plain and key in target:
            raise ValueError(f"the key {str(key)[:80]!r} is there twice")
        target[key if plain else Inert("key")] = value


def _refuse(target: Any) -> NoReturn:
    raise TypeError(f"a {type(target).__name__} cannot take items")
