"""What a figure was measured on: machine, versions, flags, commit."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

import vlm_jax
from vlm_jax.parallel.runtime import cores

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers", "grain", "simplejpeg", "pillow")
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "OMP_NUM_THREADS", "GLIBC_TUNABLES")
FLAG_PREFIXES = ("JAX_", "XLA_", "MALLOC_", "OMP_", "TORCH_")

PEAK_FLOPS = {
    "H100": {"bfloat16": 989e12, "float32": 67e12},
    "H200": {"bfloat16": 989e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "float32": 19.5e12},
}
"""Published dense peak by a part of the device's name (NVIDIA's data sheets, SXM, without sparsity); float32 without
TF32."""


def describe() -> dict[str, Any]:
    """Everything that a figure depends on and that this process can see, as JSON values; no path, no host's name."""
    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": {
            "cpu": _cpu_name(),
            "cores": cores(),
            "load_1min": os.getloadavg()[0],
            "device": device.device_kind,
            "platform": device.platform,
            "n_devices": jax.device_count(),
        },
        "versions": {"vlm_jax": vlm_jax.__version__, "python": platform.python_version(), **_versions()},
        "flags": {name: os.environ[name] for name in sorted(os.environ) if _is_flag(name)},
    }


def peak_flops(dtype: str) -> float | None:
    """Published peak of this device a second, or None where the table does not have it (every CPU)."""
    kind = jax.devices()[0].device_kind
    return next((peaks.get(dtype) for name, peaks in PEAK_FLOPS.items() if name in kind), None)


def commit() -> str | None:
    """The commit of the source that runs, `+` behind it where files were changed; None outside a checkout."""
    root = Path(vlm_jax.__file__).resolve().parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "vlm_jax", "configs")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _is_flag(name: str) -> bool:
    """Settings that change speed; none that may hold a path or a name."""
    return (name in FLAGS or name.startswith(FLAG_PREFIXES)) and "/" not in os.environ[name]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
