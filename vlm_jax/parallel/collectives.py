"""What a compiled program sends between devices, read from its HLO text.

Bytes are those that one device sends with a ring, the cheapest way known on the links of TPUs and GPUs: all-reduce
2 (n - 1) / n of its operand, all-gather and reduce-scatter (n - 1) / n of the whole, all-to-all (n - 1) / n of its
operand, collective-permute all of it, in groups of n devices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

_ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
_ITEM_BYTES |= {"s64": 8, "u64": 8, "f64": 8}
_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPERATION = re.compile(r"(?:^|\s)([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_BODIES = "calls|to_apply|body|condition|true_computation|false_computation|branch_computations"
_CALLED = re.compile(rf"\b(?:{_BODIES})=(?:\{{([^}}]*)\}}|(%?[\w.\-]+))")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}")
_LISTED = re.compile(r"replica_groups=\{(\{[\d,{} ]*\})\}")
_PAIRS = re.compile(r"source_target_pairs=\{(\{[\d,{} ]*\})\}")
_FROM = re.compile(r'op_name="([^"]*)"')


@dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
      kind: all-reduce, all-gather, reduce-scatter, all-to-all or collective-permute.
      arrays: ((dtype, shape), ...) of the result before scattering or after gathering: the whole.
      groups: device numbers that take part together, int[n_groups, n]; of a permutation the pairs.
      times: how often it runs in one execution (the trips of the loops around it).
      source: the operation of the model that it belongs to, as the compiler kept it.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    groups: tuple[tuple[int, ...], ...]
    times: int
    source: str

    @property
    def size(self) -> int:
        """Devices in a group."""
        return len(self.groups[0]) if self.groups else 1

    @property
    def payload(self) -> int:
        """Bytes of the whole arrays, once."""
        return sum(_ITEM_BYTES[dtype] * prod(shape) for dtype, shape in self.arrays)

    @property
    def sent(self) -> float:
        """Bytes that a device sends in one execution of the program."""
        if self.kind == "collective-permute":
            return float(self.payload * self.times)
        factor = 2.0 if self.kind == "all-reduce" else 1.0
        return factor * (self.size - 1) / self.size * self.payload * self.times


def collectives(hlo: str) -> list[Collective]:
    """Every collective of an optimised module in which more than one device takes part.

    An all-reduce whose computation is named all-reduce-scatter (TPU), or of whose result each of n devices goes on with
    an nth alone, by a dynamic-slice of its own or a fusion's (the form that CPU leaves, and GPU compilers rewrite), is
    counted as the reduce-scatter that it is; of several arrays reduced together each for itself.

    Raises:
      ValueError: the text has no entry computation.
    """
    bodies = _computations(hlo)
    times = _executions(bodies, hlo)
    found = []
    for name, lines in bodies.items():
        if times.get(name):
            found += [c for c in _of_computation(name, lines, bodies, times[name]) if c.size > 1]
    return found


def _computations(hlo: str) -> dict[str, list[tuple[str, str]]]:
    """{computation: [(instruction, its text)]}."""
    bodies: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] | None = None
    for line in hlo.splitlines():
        if head := _COMPUTATION.match(line):
            current = bodies.setdefault(head[1], [])
        elif current is not None and (match := _INSTRUCTION.match(line)):
            current.append((match[1], match[2]))
    return bodies


def _executions(bodies: dict[str, list[tuple[str, str]]], hlo: str) -> dict[str, int]:
    """How often each computation runs: 1 for the entry, times the trips of every loop on the way to it."""
    entry = re.search(r"^ENTRY %?([\w.\-]+)", hlo, re.MULTILINE)
    if entry is None:
        raise ValueError("no ENTRY in the module's text: expected what `compiled.as_text()` gives")
    times: dict[str, int] = {}

    def visit(name: str, n: int) -> None:
        times[name] = times.get(name, 0) + n
        for _, text in bodies.get(name, ()):
            trips = _trips(text, bodies)
            for called in _called(text):
                visit(called, n * trips)

    visit(entry[1], 1)
    return times


def _trips(text: str, bodies: dict[str, list[tuple[str, str]]]) -> int:
    """Of a loop, by its own note or, where the compiler leaves none (TPU), by the bound of its condition; else 1."""
    if found := _TRIPS.search(text):
        return int(found[1])
    condition = re.search(r"\bcondition=%?([\w.\-]+)", text)
    lines = dict(bodies.get(condition[1], [])) if condition else {}
    for line in lines.values():
        if re.search(r"\bcompare\(.*direction=LT", line):
            bounds = [re.search(r"\bconstant\((\d+)\)", lines.get(name, "")) for name in _operands(line)]
            return next((int(bound[1]) for bound in bounds if bound), 1)
    return 1


def _called(text: str) -> Iterator[str]:
    for match in _CALLED.finditer(text):
        yield from (name.strip().lstrip("%") for name in (match[1] or match[2]).split(","))


def _of_computation(
    name: str, lines: list[tuple[str, str]], bodies: dict[str, list[tuple[str, str]]], times: int
) -> Iterator[Collective]:
    uses = _Uses(bodies)
    for instruction, text in lines:
        operation = _OPERATION.search(text)
        kind = operation[1].removesuffix("-start") if operation else ""
        if kind not in _KINDS or operation is None:
            continue
        arrays = tuple(
            (d, tuple(int(n) for n in s.split(",") if n)) for d, s in _ARRAY.findall(text[: operation.start()])
        )
        if operation[1].endswith("-start") and kind in ("all-gather", "collective-permute"):
            arrays = arrays[1:2]  # (operand, result, context ...)
        groups = _groups(text)
        if kind == "reduce-scatter":
            n = len(groups[0]) if groups else 1
            arrays = tuple((dtype, (n, *shape)) for dtype, shape in arrays)
        source = found[1] if (found := _FROM.search(text)) else ""
        if kind != "all-reduce":
            yield Collective(kind, arrays, groups, times, source)
            continue
        n = len(groups[0]) if groups else 1
        sliced = [
            "all-reduce-scatter" in name or uses.only_sliced(name, instruction, prod(shape) / n, i)
            for i, (_, shape) in enumerate(arrays)
        ]
        for kind, wanted in (("all-reduce", False), ("reduce-scatter", True)):
            if some := tuple(array for array, found in zip(arrays, sliced, strict=True) if found is wanted):
                yield Collective(kind, some, groups, times, source)


class _Uses:
    """Who reads an instruction's result, and whether each device goes on with only its part of it."""

    def __init__(self, bodies: dict[str, list[tuple[str, str]]]):
        self._bodies = bodies
        self._index: dict[str, dict[str, list[tuple[str, str]]]] = {}

    def only_sliced(self, computation: str, instruction: str, size: float, element: int = 0) -> bool:
        """Whether all uses are slices of `size` numbers, of the result or of one element of several arrays."""
        uses = self._of(computation).get(instruction, [])
        if len(uses) == 1 and "-done(" in uses[0][1]:
            return self.only_sliced(computation, uses[0][0], size, element)
        elements = [name for name, text in uses if f", index={element}" == _element_of(text)]
        if elements:
            return all(self.only_sliced(computation, name, size) for name in elements)
        return bool(uses) and all(self._slices(instruction, text, size) for _, text in uses)

    def _of(self, computation: str) -> dict[str, list[tuple[str, str]]]:
        """{instruction: [(who reads it, its text)]} of a computation, read once."""
        if computation not in self._index:
            lines = self._bodies.get(computation, [])
            index: dict[str, list[tuple[str, str]]] = {name: [] for name, _ in lines}
            for name, text in lines:
                for word in set(_operands(text)) & index.keys():
                    index[word].append((name, text))
            self._index[computation] = index
        return self._index[computation]

    def _slices(self, instruction: str, use: str, size: float) -> bool:
        operation, operands = _OPERATION.search(use), _operands(use)
        if operation is None:
            return False
        if operation[1] == "dynamic-slice":
            kept = _ARRAY.search(use)
            return operands[0] == instruction and kept is not None and prod(_numbers(kept[2])) == size
        if operation[1] != "fusion":
            return False
        called = next(_called(use), "")
        inner = self._bodies.get(called, [])
        place = [i for i, operand in enumerate(operands) if operand == instruction]
        parameters = [n for n, text in inner for i in place if re.search(rf"\bparameter\({i}\)", text)]
        return bool(parameters) and all(self.only_sliced(called, parameter, size) for parameter in parameters)


def _operands(text: str) -> list[str]:
    """Names of what an instruction reads, in order."""
    operation = _OPERATION.search(text)
    if operation is None:
        return []
    inside = text[operation.end() :].split(")")[0]
    return [part.strip().split(" ")[-1].lstrip("%") for part in inside.split(",")]


def _element_of(text: str) -> str:
    """ ", index=3" of a get-tuple-element, else ""."""
    found = re.search(r"get-tuple-element\([^)]*\)(, index=\d+)", text)
    return found[1] if found else ""


def _groups(text: str) -> tuple[tuple[int, ...], ...]:
    if match := _IOTA.search(text):
        return _rows(_iota(match[2], match[3]).reshape(_numbers(match[1])[0], -1))
    if match := _MESH.search(text):
        sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", match[1])}
        inside = re.findall(r"'(\w+)'", match[4])
        if ":" in match[4]:
            raise ValueError(f"replica groups over a part of a mesh axis are not understood: {match[0]}")
        ids = _iota(match[2] or str(prod(sizes.values())), match[3]).reshape(tuple(sizes.values()))
        order = [i for i, name in enumerate(sizes) if name not in inside]
        order += [i for i, name in enumerate(sizes) if name in inside]
        return _rows(ids.transpose(order).reshape(-1, prod(sizes[name] for name in inside)))
    match = _LISTED.search(text) or _PAIRS.search(text)
    return tuple(_numbers(group) for group in re.findall(r"\{([\d, ]+)\}", match[1])) if match else ()


def _iota(shape: str, order: str | None) -> np.ndarray:
    ids = np.arange(prod(_numbers(shape))).reshape(_numbers(shape))
    return ids.transpose(_numbers(order)) if order else ids


def _rows(ids: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(i) for i in row) for row in ids)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.replace(" ", "").split(",") if n)
