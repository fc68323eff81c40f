"""Files of torch.save, read without torch: the zip form (since 1.6) and the one before it. No code of the file runs.

The pickle inside describes tensors as views of storages; `pickle_machine` builds the description, and here the views
are checked against what the file really holds before they are made.
"""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.errors import UserError
from vlm_jax.weights.archive import Archive
from vlm_jax.weights.arrays import BFLOAT16, as_numbers, check_total, count_of
from vlm_jax.weights.pickle_machine import Global, Inert, Machine

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How every file before 1.6 begins: the pickle of one large number."""

WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "model_state", "net")
"""Under these a training program keeps the weights, beside its optimiser and settings."""

_PROTOCOL = 1001
_MAX_DEPTH = 16
_DTYPES = {
    "FloatStorage": np.dtype("<f4"), "DoubleStorage": np.dtype("<f8"), "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": BFLOAT16, "LongStorage": np.dtype("<i8"), "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"), "CharStorage": np.dtype("i1"), "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype(bool),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Storage:
    """`count` elements that lie in the file under `key`."""

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage; strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class Contents:
    """What one torch file holds: `arrays` by dotted key, and what of it is no array, each with the reason."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def read_torch_zip(archive: Archive) -> Contents:
    """Reads the form that torch writes since 1.6.

    Raises:
      UserError: a program (TorchScript), a whole pickled model, a big-endian file.
      ValueError and others of `arrays.FAULTS`: damaged.
    """
    pickled = [name for name in archive.entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise UserError("a zip archive, but neither arrays (.npz) nor what torch.save writes")
    root = pickled[0].removesuffix("data.pkl")
    if root + "constants.pkl" in archive.entries:
        raise UserError("a TorchScript program: save the state_dict() of the model in torch, and import that")
    if root + "byteorder" in archive.entries and archive.read(root + "byteorder").strip() != b"little":
        raise UserError("written on a big-endian machine, which is not read: save it again on another")
    storages = _Storages()
    tree = storages.machine().run(io.BytesIO(archive.read(pickled[0])))
    folder = root + "data/"
    stored = {n.removeprefix(folder): e for n, e in archive.entries.items() if n.startswith(folder) and n != folder}
    sizes = {key: entry.file_size for key, entry in stored.items()}
    return storages.contents(tree, sizes, lambda key: archive.read(folder + key), archive.size)


def read_torch_legacy(path: Path) -> Contents:
    """Reads the form before 1.6: five pickles, then one storage after the other.

    Raises:
      UserError: a whole pickled model, a big-endian file.
      ValueError and others of `arrays.FAULTS`: damaged.
    """
    with open(path, "rb") as file:
        raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    raw.seek(len(LEGACY_MAGIC))
    plain = Machine({}, _no_storage)
    if plain.run(raw) != _PROTOCOL:
        raise ValueError(f"not of protocol {_PROTOCOL}")
    system = Machine({}, _no_storage).run(raw)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UserError("written on a big-endian machine, which is not read: save it again on another")
    storages = _Storages()
    tree = storages.machine().run(raw)
    keys = Machine({}, _no_storage).run(raw)
    if not isinstance(keys, list) or len(set(keys)) < len(keys) or set(keys) != storages.by_key.keys():
        raise ValueError("its list of storages is not that of its tensors")
    places: dict[str, tuple[int, int]] = {}
    at = raw.tell()
    for key in keys:
        storage = storages.by_key[key]
        (count,) = struct.unpack_from("<q", raw, at)
        if count != storage.count:
            raise ValueError(f"storage {key} has {count:,} elements, not {storage.count:,}")
        n_bytes = count * storage.dtype.itemsize
        places[key] = (at + 8, n_bytes)
        at += 8 + n_bytes
    if at != len(raw):
        raise ValueError(f"it ends {abs(len(raw) - at):,} bytes {'late' if at < len(raw) else 'early'}")
    sizes = {key: size for key, (_, size) in places.items()}
    return storages.contents(tree, sizes, lambda key: raw[places[key][0] : sum(places[key])], len(raw))


def _no_storage(_: Any) -> Any:
    raise ValueError("a storage stands where none should")


class _Storages:
    """Gathers the storages and tensors of one pickle, and makes arrays of them when all is known to fit."""

    def __init__(self) -> None:
        self.by_key: dict[str, Storage] = {}
        self._n_tensors = 0
        self._inert: list[str] = []

    def machine(self) -> Machine:
        return Machine(
            {
                "collections.OrderedDict": lambda *pairs: _to_dict(*pairs),
                "collections.defaultdict": lambda *_: {},
                "torch.Size": lambda sizes=(): tuple(sizes),
                "torch._utils._rebuild_tensor": self._tensor,
                "torch._utils._rebuild_tensor_v2": self._tensor,
                "torch._utils._rebuild_parameter": self._parameter,
            },
            self._storage,
        )

    def _storage(self, given: Any) -> Any:
        """('storage', type, key, device, count[, view]) -> Storage; the source of a pickled class stays inert."""
        if isinstance(given, tuple) and given and given[0] == "module":
            return given[1]
        kind, cls, key, _, count, *view = given
        if kind != "storage" or not isinstance(cls, Global) or type(key) is not str or view not in ([], [None]):
            raise ValueError("a storage is not described as torch does")
        if cls.module != "torch" or cls.name not in _DTYPES:
            raise UserError(f"its tensors are of {cls}, which is not read: save them as float32 in torch")
        storage = Storage(key, _DTYPES[cls.name], count_of((count,)))
        known = self.by_key.setdefault(key, storage)
        if (known.dtype, known.count) != (storage.dtype, storage.count):
            raise ValueError(f"storage {key[:40]!r} is described twice, differently")
        return known

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
        if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise ValueError("a tensor is not described as torch does")
        count = count_of(shape)
        count_of((*strides, offset))  # whole numbers from 0 up, too
        if len(shape) != len(strides):
            raise ValueError("a tensor has more sizes than strides, or fewer")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else 0
        if count > storage.count or last >= max(storage.count, 1) or not _dense(shape, strides):
            raise ValueError(f"a tensor of shape {shape} does not lie in its storage of {storage.count:,}")
        self._n_tensors += 1
        return Tensor(storage, offset, shape, strides)

    def _parameter(self, data: Any, *_: Any) -> Tensor:
        if not isinstance(data, Tensor):
            raise ValueError("a parameter without a tensor")
        return data

    def contents(self, tree: Any, sizes: dict[str, int], read: Callable[[str], bytes], file_size: int) -> Contents:
        """The arrays of the tree.

        Args:
          tree: what the pickle describes.
          sizes: bytes of each storage that the file holds.
          read: the bytes of a storage.
          file_size: for the limit on what all arrays take together.
        """
        self._check_storages(sizes)
        if not isinstance(tree, dict):
            kind = f"an object of {tree.kind}" if isinstance(tree, Inert) else f"a {type(tree).__name__}"
            raise UserError(f"{kind} and no dict of tensors: save model.state_dict() in torch, and import that")
        reached = {id(value): value for _, value in walk(tree) if isinstance(value, Tensor)}
        used = {value.storage.key for value in reached.values()}
        if len(reached) < self._n_tensors or used != self.by_key.keys():
            kinds = sorted({value.kind for _, value in walk(tree) if isinstance(value, Inert)})
            what = f"objects of {', '.join(kinds[:4])}" if kinds else "objects that are no dicts"
            raise UserError(f"tensors lie inside {what}, which are not built: save model.state_dict(), and import that")
        found = Contents()
        tensors = _chosen(tree, found)
        check_total(sum(count_of(t.shape) * t.storage.dtype.itemsize for t in tensors.values()), file_size)
        raw = {key: read(key) for key in dict.fromkeys(t.storage.key for t in tensors.values())}
        found.arrays = {name: _array(tensor, raw[tensor.storage.key]) for name, tensor in tensors.items()}
        return found

    def _check_storages(self, sizes: dict[str, int]) -> None:
        if sizes.keys() != self.by_key.keys():
            odd = sorted(sizes.keys() ^ self.by_key.keys())[0]
            raise ValueError(f"storage {odd[:40]!r} is described and not there, or the other way round")
        for key, storage in self.by_key.items():
            if sizes[key] != storage.count * storage.dtype.itemsize:
                raise ValueError(f"storage {key[:40]!r} has {sizes[key]:,} bytes, not {storage.count:,} elements")


def _to_dict(pairs: Any = ()) -> dict[Any, Any]:
    table = {key: value for key, value in pairs if isinstance(key, str)}
    if len(table) < len(pairs):
        raise ValueError("a key is there twice, or is no string")
    return table


def _dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether no element is seen twice: each stride steps over all that the smaller ones reach."""
    reach = 1
    for stride, size in sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size != 1):
        if size and stride < reach:
            return False
        reach = stride * size
    return True


def _array(tensor: Tensor, raw: bytes) -> np.ndarray:
    dtype = tensor.storage.dtype
    flat = np.frombuffer(raw, np.uint8) != 0 if dtype == np.bool_ else np.frombuffer(raw, dtype)
    strides = tuple(stride * flat.itemsize for stride in tensor.strides)
    return as_numbers(np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False))


def walk(tree: Any, prefix: str = "", depth: int = 0, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is no container; a container seen before is not entered again."""
    seen = set() if seen is None else seen
    if not isinstance(tree, dict | list | tuple):
        yield prefix, tree
        return
    if id(tree) in seen and tree:
        return
    if depth > _MAX_DEPTH:
        raise UserError(f"its dicts lie over {_MAX_DEPTH} deep in one another: no weights file's do")
    seen.add(id(tree))
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        name = str(key) if not isinstance(key, Inert) else "?"
        yield from walk(value, f"{prefix}.{name}" if prefix else name, depth + 1, seen)


def _chosen(tree: dict[Any, Any], found: Contents) -> dict[str, Tensor]:
    """The tensors to read: those under a wrapper's key where there is one, else all. Lists the rest as skipped."""
    wrapper = next((key for key in WRAPPERS if isinstance(tree.get(key), dict) and _has_tensor(tree[key])), None)
    if wrapper is not None:
        for key, value in tree.items():
            if key != wrapper:
                found.skipped.append((str(key) if isinstance(key, str | int) else "?", _reason(value, wrapper)))
        tree = tree[wrapper]
    chosen: dict[str, Tensor] = {}
    for name, value in walk(tree):
        if not isinstance(value, Tensor):
            found.skipped.append((name, _reason(value, None)))
        elif name in chosen:
            raise ValueError(f"two tensors are called {name!r}")
        else:
            chosen[name] = value
    return chosen


def _has_tensor(tree: Any) -> bool:
    return any(isinstance(value, Tensor) for _, value in walk(tree))


def _reason(value: Any, wrapper: str | None) -> str:
    if isinstance(value, Inert | Global):
        return f"an object of {value.kind if isinstance(value, Inert) else value}, which is not built"
    if wrapper is not None:
        return f"beside the weights, which are under {wrapper!r}"
    return f"a {type(value).__name__}, no array"
