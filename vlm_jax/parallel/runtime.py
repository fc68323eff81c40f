"""What a process asks of its machine before JAX starts: the one place for flags (docs/performance.md: what they bring).

Whoever sets the variable in question keeps it: nothing here overrides the environment.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from pathlib import Path

_M_ARENA_MAX, _M_MMAP_MAX, _M_TRIM_THRESHOLD = -8, -4, -1  # glibc's malloc.h
_NEVER = 2**31 - 1
CACHE = "JAX_COMPILATION_CACHE_DIR"


def prepare() -> None:
    """Commands call it first. Idempotent; imports nothing heavy."""
    keep_freed_memory()
    keep_compiled_programs()


def core_numbers() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def cores() -> int:
    """How many cores this process may use."""
    return len(core_numbers())


def keep_freed_memory() -> bool:
    """Has glibc keep large blocks that were freed; False where it can't or the environment has MALLOC_ settings.

    A step on the CPU takes and frees gigabytes for what it computes on the way. By default each of these blocks comes
    from the kernel and goes back to it, and every page of it is cleared anew in every step.
    One arena, for blocks above its 64 MB would else still come from the kernel. The process keeps its greatest size.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all([mallopt(_M_ARENA_MAX, 1), mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _NEVER)])


def keep_compiled_programs() -> None:
    """Names a folder of the user's for JAX's compilation cache, another one for each kind of CPU.

    A program that was compiled for a CPU's instructions may not run on another that shares the home directory.
    """
    if CACHE in os.environ or "jax" in sys.modules:
        return
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        return
    os.environ[CACHE] = str(home / "vlm_jax" / f"compiled-{_cpu()}")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        about = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        about = sys.platform
    return hashlib.sha256(about.encode()).hexdigest()[:8]
