"""Processes beside a study: their cores, their log, their end."""

from __future__ import annotations

import os
import sys
import time

import pytest

from vlm_jax.errors import UserError
from vlm_jax.study import processes
from vlm_jax.study.processes import companions

needs_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one core, or none to be chosen"
)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """In place of Python: says what it was given and on which cores it is, then stays until it is asked to stop."""
    file = tmp_path / "program"
    body = "import os, sys, time; print(sys.argv[1:], sorted(os.sched_getaffinity(0)), flush=True); time.sleep(120)"
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{body}" "$@"\n')
    file.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(file))


@pytest.mark.parametrize("n", [0, -1, 10**6])
def test_as_many_as_there_are_cores(tmp_path, n):
    with pytest.raises(UserError, match=f"--processes is {n}"), companions(["study"], tmp_path, n):
        pass


def test_one_is_this_one(tmp_path):
    with companions(["study"], tmp_path, 1):
        assert list(tmp_path.iterdir()) == []


def test_one_that_failed_is_named(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(processes, "core_numbers", lambda: [0, 0])
    with companions(["no-such-command"], tmp_path, 2):
        start = time.monotonic()
        while time.monotonic() - start < 30 and "no-such-command" not in (tmp_path / "process-1.log").read_text():
            time.sleep(0.05)
        time.sleep(1)
    assert f"ended with code 2: see {tmp_path / 'process-1.log'}" in capfd.readouterr().err


@needs_cores
def test_each_has_cores_of_its_own_and_ends_with_this_one(tmp_path, program):
    before = os.sched_getaffinity(0)
    log = tmp_path / "process-1.log"
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError), companions(["study", "--runs_only"], tmp_path, 2):
        mine = os.sched_getaffinity(0)
        while time.monotonic() - start < 30 and "]" not in log.read_text():
            time.sleep(0.05)
        raise ZeroDivisionError
    assert time.monotonic() - start < 60, "it was asked to stop"
    theirs = sorted(before - mine)
    assert log.read_text() == f"['-m', 'vlm_jax', 'study', '--runs_only'] {theirs}\n"
    assert theirs and mine and os.sched_getaffinity(0) == before
