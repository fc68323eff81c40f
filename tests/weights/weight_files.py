"""Small files of weights as others write them, and hostile ones. Imported by the tests beside it."""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

CANARY = "canary_that_no_reader_may_touch"


def make_arrays(seed=0):
    """Names, shapes and values that no two share."""
    rng = np.random.default_rng(seed)
    shapes = {"encoder.weight": (3, 5), "encoder.bias": (3,), "head.weight": (2, 3), "scale": (), "table": (7, 2, 2)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def tensors(arrays):
    return {name: torch.tensor(array) for name, array in arrays.items()}


def torch_bytes(value, zipped=True):
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def npz_bytes(arrays, compressed=False):
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def valid_files(arrays):
    """{kind: bytes}."""
    return {
        "safetensors": safetensors.numpy.save(arrays, {"format": "pt"}),
        "npz": npz_bytes(arrays),
        "npz deflated": npz_bytes(arrays, compressed=True),
        "torch": torch_bytes(tensors(arrays)),
        "torch legacy": torch_bytes(tensors(arrays), zipped=False),
    }


def training_checkpoint(arrays, zipped=True):
    """EndoViT's form: weights, optimiser, epoch, scaler and an argparse.Namespace."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    scaler = {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0}
    args = argparse.Namespace(model="mae_vit_base_patch16", lr=1e-3, output_dir="out")
    return torch_bytes(
        {"model": tensors(arrays), "optimizer": optimizer.state_dict(), "epoch": 14, "scaler": scaler, "args": args},
        zipped,
    )


class Call:
    """Pickles as a call of `function(*arguments)`, and then of `__setstate__` on what it returns."""

    def __init__(self, function, *arguments, state=None):
        self._reduced = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self):
        return self._reduced


def raw_call(module, name, *arguments):
    """A pickle that calls a function which need not be importable here, by GLOBAL and REDUCE."""
    body = pickle.dumps(arguments, 2)[2:-1]
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + body + b"R."


def malicious_pickles(place: Path):
    """{what: pickle}: each would make `place / CANARY` if it were loaded by pickle.load or torch.load."""
    file = str(place / CANARY)
    code = f"open({file!r}, 'w').close()"
    calls = {
        "os.system": raw_call("os", "system", f"touch {file}"),
        "posix.system": raw_call("posix", "system", f"touch {file}"),
        "subprocess": raw_call("subprocess", "check_call", ["touch", file]),
        "eval": raw_call("builtins", "eval", f"__import__('os').system('touch {file}')"),
        "exec": raw_call("builtins", "exec", code),
        "python 2 eval": raw_call("__builtin__", "eval", code),
        "open": raw_call("builtins", "open", file, "w"),
        "io.open": raw_call("io", "open", file, "w"),
        "runpy": raw_call("runpy", "_run_code", code, {}),
        "codecs": raw_call("codecs", "open", file, "w"),
        "pathlib": raw_call("pathlib", "Path.touch", file),
        "timeit": raw_call("timeit", "timeit", code),
        "torch.load": raw_call("torch", "load", file),
        "torch hub": raw_call("torch.hub", "load_state_dict_from_url", "file://" + file),
        "numpy load": raw_call("numpy", "load", file, None, True),
        "getattr": raw_call("builtins", "getattr", "os", "system"),
        "a dotted name": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + _short(f"touch {file}") + b"\x85R.",
        "inst": b"(S'touch " + file.encode() + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'touch " + file.encode() + b"'\no.",
        "newobj": b"\x80\x02cos\nsystem\nX" + _long(f"touch {file}") + b"\x85\x81.",
    }
    protocol_0 = pickle.dumps(Call(eval, code), 0)
    return {**calls, "protocol 0": protocol_0, "protocol 5": pickle.dumps(Call(exec, code), 5)}


def _short(text):
    return bytes([len(text)]) + text.encode()


def _long(text):
    return len(text).to_bytes(4, "little") + text.encode()


def torch_zip_with(pickled, storages=None, name="archive/data.pkl"):
    """A file in torch's zip form around any pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, pickled)
        for key, raw in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def legacy_with(pickled):
    """A file in torch's older form around any pickle."""
    head = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return head + pickled + pickle.dumps([], 2)


def beside(arrays, pickled):
    """The weights under `model`, and the hostile pickle as another item of the same dict."""
    whole = torch_bytes({"model": tensors(arrays)})
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    body = entries["archive/data.pkl"]
    call = pickled[2:-1] if pickled[:1] == b"\x80" else pickled[:-1]
    if call[:1] == b"\x95":  # a frame of protocol 4 and later
        call = call[9:]
    entries["archive/data.pkl"] = body[:-1] + b"X" + _long("args") + call + b"s."
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, raw in entries.items():
            archive.writestr(name, raw)
    return stream.getvalue()
