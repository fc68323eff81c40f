"""Thousands of damaged and hostile files: no code runs, nothing hangs, nothing is loaded in part."""

from __future__ import annotations

import collections
import importlib.util
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from vlm_jax.errors import UserError
from vlm_jax.weights import pickle_machine
from vlm_jax.weights.readers import read_weights


def _load(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


files, fuzzing, fuzz_outcome = _load("weight_files"), _load("fuzzing"), _load("fuzz_outcome")


@pytest.fixture(scope="module")
def watch():
    return fuzz_outcome.Watch()


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory):
    """What readers import on first use is not to be taken for what a file made them do."""
    path = tmp_path_factory.mktemp("warm") / "weights"
    for raw in files.valid_files(fuzzing.ARRAYS).values():
        path.write_bytes(raw)
        read_weights(path)
    for name in ("raw_unicode_escape", "latin-1", "cp437", "utf-8"):  # which pickle and zip look up by name
        "".encode(name)


def run(kind, count, place, watch, seed=0):
    """{outcome: how many} of files of a kind."""
    outcomes = collections.Counter()
    path = place / "weights"
    for i in range(count):
        rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), i])
        raw, allowed = fuzzing.KINDS[kind](rng, place)
        path.write_bytes(raw)
        try:
            outcomes[fuzz_outcome.outcome(path, allowed, watch)] += 1
        except BaseException as error:
            raise AssertionError(f"{kind} number {i}: {type(error).__name__}: {error}") from error
        assert not (place / fuzzing.CANARY).exists(), f"{kind} number {i} ran code"
        assert watch.events == [], f"{kind} number {i} ran code: {watch.events}"
    return outcomes


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_files_of_each_kind(kind, tmp_path, watch):
    outcomes = run(kind, 150, tmp_path, watch)
    assert outcomes["refused"] > 50, outcomes


@pytest.mark.slow
def test_ten_thousand_files(tmp_path, watch):
    total = collections.Counter()
    for kind in fuzzing.KINDS:
        outcomes = run(kind, 1000, tmp_path, watch, seed=1)
        print(f"{kind:16}{dict(outcomes)}")
        total += outcomes
    assert len(fuzzing.KINDS) == 10, "or it is not ten thousand"
    assert total["refused"] > total["exact"] > 100 and total["refused by the importer"] > 0, total


def test_the_watch_sees_what_a_reader_would_do(tmp_path, watch):
    """Python's own unpickler on the same files: the canary and the audit both tell."""
    import pickle

    path = tmp_path / fuzzing.CANARY
    seen = 0
    for name in ("exec", "eval", "open", "protocol 5"):
        path.unlink(missing_ok=True)
        watch.active = True
        try:
            pickle.loads(files.malicious_pickles(tmp_path)[name])  # noqa: S301
        finally:
            watch.active = False
        seen += path.exists()
    assert seen == 4 and watch.events
    watch.events.clear()


def test_a_pickle_without_end_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_machine, "MAX_OPCODES", 1000)
    path = tmp_path / "long"
    path.write_bytes(files.torch_zip_with(b"\x80\x02" + b"N0" * 2000 + b"N."))
    with pytest.raises(UserError, match="instructions"):
        read_weights(path)
