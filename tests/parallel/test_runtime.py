"""Flags of the process: freed memory stays, compiled programs are kept, the environment has the last word."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vlm_jax.parallel import runtime

FAULTS = """
import ctypes, resource, sys
from vlm_jax.parallel import runtime
kept = runtime.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def touch():
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    touch()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(code, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "JAX_COMPILATION", "XDG_"))}
    done = subprocess.run([sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_not_asked_for_again():
    kept, faults = map(int, run(FAULTS))
    assert kept == 1 and faults < 1000
    untouched, faults = map(int, run(FAULTS, MALLOC_ARENA_MAX="2"))
    assert untouched == 0 and faults > 10_000


CACHE = """
import os
from vlm_jax.parallel import runtime
runtime.keep_compiled_programs()
print(os.environ.get("JAX_COMPILATION_CACHE_DIR", "none"))
"""


def test_compiled_programs_are_kept_for_the_user(tmp_path):
    (folder,) = run(CACHE, XDG_CACHE_HOME=str(tmp_path))
    assert folder.startswith(str(tmp_path / "vlm_jax" / "compiled-"))
    assert run(CACHE, JAX_COMPILATION_CACHE_DIR="mine") == ["mine"]
    assert run("import jax" + CACHE) == ["none"]


def test_prepare_is_idempotent(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # leave this process's allocator alone
    before = dict(os.environ)
    runtime.prepare()
    runtime.prepare()
    assert dict(os.environ) == before  # JAX runs already: too late for a cache
