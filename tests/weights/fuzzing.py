"""Mutated and hostile files of weights, by the thousand and by a seed; what must hold of each is in `fuzz_outcome`."""

from __future__ import annotations

import collections
import io
import json
import pickletools
import struct
import zipfile

import numpy as np
import torch
import transformers
from weight_files import (
    CANARY,
    beside,
    legacy_with,
    malicious_pickles,
    npz_bytes,
    torch_zip_with,
    training_checkpoint,
    valid_files,
)


def bert_arrays():
    """A BERT of one layer of width 4, so that what was read can be imported."""
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 6}
    config = transformers.BertConfig(vocab_size=9, max_position_embeddings=5, **sizes)
    torch.manual_seed(0)
    model = transformers.BertModel(config, add_pooling_layer=False)
    return {name: tensor.numpy() + np.float32(i) for i, (name, tensor) in enumerate(model.state_dict().items())}


ARRAYS = bert_arrays()
HUGE = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)


# --- Kinds of files: fn(rng, place) -> (bytes, arrays that it may hold; None = it must be refused) ---


def structure_of(kind, raw):
    """How many bytes from the front are structure, not values of arrays (of which no format but zip has a checksum)."""
    if kind == "safetensors":
        return 8 + struct.unpack_from("<Q", raw)[0]
    if "legacy" in kind:
        stream = io.BytesIO(raw)
        for _ in range(5):
            collections.deque(pickletools.genops(stream), maxlen=0)
        return stream.tell()
    return len(raw)


_CACHE: dict[str, bytes] = {}


def _pick(rng):
    if not _CACHE:
        _CACHE.update(valid_files(ARRAYS))
        _CACHE["torch training"] = training_checkpoint(ARRAYS)
        _CACHE["torch legacy training"] = training_checkpoint(ARRAYS, zipped=False)
    kind = sorted(_CACHE)[int(rng.integers(len(_CACHE)))]
    return kind, bytearray(_CACHE[kind])


def flipped(rng, place):
    """One to four bytes of the structure are others."""
    kind, raw = _pick(rng)
    end = structure_of(kind, bytes(raw))
    for _ in range(int(rng.integers(1, 5))):
        raw[int(rng.integers(end))] = int(rng.integers(256))
    return bytes(raw), ARRAYS


def spliced(rng, place):
    """A piece of the structure is taken out, doubled, or moved."""
    kind, raw = _pick(rng)
    end = structure_of(kind, bytes(raw))
    at, length, to = (int(rng.integers(end)), int(rng.integers(1, 40)), int(rng.integers(end)))
    piece = raw[at : at + length]
    choice = rng.integers(3)
    if choice != 1:
        del raw[at : at + length]
    if choice != 0:
        raw[to:to] = piece
    return bytes(raw), ARRAYS


def truncated(rng, place):
    """The end, the beginning or the middle is missing."""
    _, raw = _pick(rng)
    at = int(rng.integers(1, len(raw)))
    choice = rng.integers(3)
    if choice == 0:
        return bytes(raw[:at]), None
    if choice == 1:
        return bytes(raw[at:]), ARRAYS  # a zip is read from its end: what lies before it may not matter
    return bytes(raw[: at // 2] + raw[at:]), ARRAYS


def huge_sizes(rng, place):
    """A number of the structure is gigantic, negative or zero."""
    kind, raw = _pick(rng)
    if kind == "safetensors" and rng.integers(2):
        return _huge_header(rng, bytes(raw)), ARRAYS
    form = ("<I", "<Q", "<H")[int(rng.integers(3))]
    width = struct.calcsize(form)
    at = int(rng.integers(max(1, structure_of(kind, bytes(raw)) - width)))
    raw[at : at + width] = struct.pack(form, HUGE[int(rng.integers(len(HUGE)))] % 256**width)
    return bytes(raw), ARRAYS


def _huge_header(rng, raw):
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    names = sorted(set(header) - {"__metadata__"})
    entry = header[names[int(rng.integers(len(names)))]]
    number = HUGE[int(rng.integers(len(HUGE)))] * (-1 if rng.integers(4) == 0 else 1)
    if rng.integers(2):
        entry["shape"] = [*entry["shape"], number]
    else:
        entry["data_offsets"][int(rng.integers(2))] = number
    text = json.dumps(header).encode()
    claimed = number % 2**64 if rng.integers(4) == 0 else len(text)
    return struct.pack("<Q", claimed) + text + raw[8 + length :]


def hostile_pickle(rng, place):
    """A call of something harmful: alone, in torch's zip and older form, as an item beside weights, in an array."""
    found = malicious_pickles(place)
    names = sorted(found)
    pickled = found[names[int(rng.integers(len(names)))]]
    choice = int(rng.integers(6))
    if choice == 0:
        return pickled, None
    if choice == 1:
        return torch_zip_with(pickled), None
    if choice == 2:
        return legacy_with(pickled), None
    if choice == 3:
        return beside(ARRAYS, pickled), ARRAYS
    if choice == 4:
        return _object_array(pickled), None
    mutated = bytearray(pickled)
    mutated[int(rng.integers(len(mutated)))] = int(rng.integers(256))
    return torch_zip_with(bytes(mutated)), None


def _object_array(pickled):
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    raw = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled
    return _zip({"weights.npy": raw})


def _zip(entries, deflate=False):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, raw in entries.items():
            archive.writestr(name, raw)
    return stream.getvalue()


def bad_storage(rng, place):
    """torch._utils's calls with storages, offsets, shapes and strides that cannot be."""
    numbers = [-1, 0, 1, 2, 3, 6, 7, 2**31, 2**62, 2**63, "x", None, 1.5, True]

    def number():
        return numbers[int(rng.integers(len(numbers)))]

    storage = [["'storage'", "storage", "module", ""][int(rng.integers(4))], number(), number()]
    shape, strides = [number() for _ in range(rng.integers(4))], [number() for _ in range(rng.integers(4))]
    functions = (
        "_rebuild_tensor_v2",
        "_rebuild_tensor",
        "_rebuild_parameter",
        "_rebuild_qtensor",
        "_rebuild_from_type",
    )
    function = functions[int(rng.integers(len(functions)))]
    pid = (
        b"(" + _value(storage[0]) + b"ctorch\nFloatStorage\n" + _value("0") + _value("cpu") + _value(storage[1]) + b"tQ"
    )
    given = [b"(", pid, _value(number())]
    given += [b"(", *map(_value, shape), b"t", b"(", *map(_value, strides), b"t", b"\x89", b"}", b"t"]
    body = b"\x80\x02}" + _value("w") + f"ctorch._utils\n{function}\n".encode() + b"".join(given) + b"Rs."
    return torch_zip_with(body, {"0": bytes(24)}), None


def _value(value):
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        raw = value.to_bytes(9, "little", signed=True)
        return b"\x8a\x09" + raw
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def nested_bomb(rng, place):
    """Containers in containers, shared so that they unfold to 2**n, circular, or as keys."""
    depth = int(rng.integers(10, 200)) * (15 if rng.integers(40) == 0 else 1)
    choice = int(rng.integers(6))
    if choice == 0:
        body = b"]" * depth + b"a" * (depth - 1)
    elif choice == 1:  # every level holds the one below twice
        body = b"]q\x00" + b"".join(b"]q" + bytes([i % 256]) + b"h" + bytes([(i - 1) % 256]) + b"a" + b"h"
                                    + bytes([(i - 1) % 256]) + b"a" for i in range(1, min(depth, 200)))  # fmt: skip
        body = b"(" + body + b"t"
    elif choice == 2:  # a list that holds itself
        body = b"]q\x00h\x00a"
    elif choice == 3:  # a deep tuple as a key: hashing it would overflow the stack
        body = b"}" + b")" + b"\x85" * depth * 30 + b"K\x01s"
    elif choice == 4:
        body = b"}" + _value("a") + b"}" * 1 + b"".join(_value("a") + b"}" for _ in range(depth)) + b"s" * (depth + 1)
    else:
        body = b"(" * depth * 10 + b"t" * depth * 10
    wrapped = torch_zip_with(b"\x80\x02" + body + b".")
    return (wrapped, None) if rng.integers(2) else (legacy_with(b"\x80\x02" + body + b"."), None)


def zip_bomb(rng, place):
    """Entries that unpack to far more than the file, that overlap, or that lie about their size."""
    choice = int(rng.integers(4))
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 70)
    n_bytes = 80 * 2**20
    if choice == 0:
        if "bomb" not in _CACHE_BOMB:
            text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({n_bytes},), }}".encode().ljust(70)
            _CACHE_BOMB["bomb"] = _zip({"a.npy": header + text + bytes(n_bytes)}, deflate=True)
        return _CACHE_BOMB["bomb"], None
    raw = bytearray(npz_bytes(ARRAYS, compressed=bool(rng.integers(2))))
    at = raw.index(b"PK\x01\x02")
    if choice == 1:  # the directory points every entry at the first one
        while at >= 0:
            raw[at + 42 : at + 46] = bytes(4)
            at = raw.find(b"PK\x01\x02", at + 4)
        return bytes(raw), None
    if choice == 2:
        raw[at + 24 : at + 28] = struct.pack("<I", 2**32 - 2)  # the size it claims to unpack to
        return bytes(raw), None
    raw[at + 20 : at + 24] = struct.pack("<I", 2**31)  # the size it claims to have in the file
    return bytes(raw), None


_CACHE_BOMB: dict[str, bytes] = {}


def escaping_name(rng, place):
    """Entries named to be written elsewhere, and twice."""
    names = ("../" * 5 + CANARY, "/tmp/" + CANARY, "..\\" + CANARY, "a/../../" + CANARY, str(place / CANARY))
    name = names[int(rng.integers(len(names)))]
    with zipfile.ZipFile(io.BytesIO(npz_bytes(ARRAYS))) as archive:
        entries = {n: archive.read(n) for n in archive.namelist()}
    return _zip({**entries, name + ".npy": next(iter(entries.values()))}), None


def noise(rng, place):
    """Random bytes behind the first bytes of every format."""
    heads = (b"", b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", struct.pack("<Q", 20) + b"{", b"\x80\x02")
    body = rng.integers(0, 256, int(rng.integers(400)), dtype=np.uint8).tobytes()
    return heads[int(rng.integers(len(heads)))] + body, None


KINDS = {
    kind.__name__: kind
    for kind in (
        flipped, spliced, truncated, huge_sizes, hostile_pickle, bad_storage, nested_bomb, zip_bomb, escaping_name,
        noise,
    )
}  # fmt: skip
