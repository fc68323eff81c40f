"""What every test shares: the CPU as the platform, one seed, and where real data lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before JAX starts anywhere: tests run on the CPU unless they are asked to run elsewhere (-m gpu).
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[1]

# Most of a test's time on two cores is XLA's: what one worker, or the run before, has compiled is not compiled again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

QUICK_OPTIONS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
"""What takes XLA half of its time where it does not optimise. Where it does, the old emitters take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begin: left to the end, one would keep one core busy and the other waiting."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session")
def quick_flags() -> str:
    """XLA_FLAGS of a process that does not optimise: `QUICK_OPTIONS`, beside those of this one."""
    ours = [f"--{name}={str(value).lower()}" for name, value in QUICK_OPTIONS.items()]
    return " ".join([os.environ.get("XLA_FLAGS", ""), *ours]).strip()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets beside the checkout; tests that need it are skipped where it is absent."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no ../shared/data beside the checkout")
    return path


@pytest.fixture(scope="module", autouse=True)
def quick_compiler(request: pytest.FixtureRequest) -> Iterator[None]:
    """XLA leaves out its optimisations: a test of a few steps is all compilation. Not where slow tests are asked for.

    Nor in the simulator, whose bytes are compared; its ray tracer, which has compiler options of its own, runs for long
    and is optimised everywhere.
    """
    slow = "not slow" not in request.config.getoption("markexpr")
    if slow or request.path.parent.name == "simulator":
        yield
        return
    from jax._src import compiler

    plain = compiler.get_compile_options

    def quick(*args: Any, env_options_overrides: Any = None, **keywords: Any) -> Any:
        if env_options_overrides:
            return plain(*args, env_options_overrides=env_options_overrides, **keywords)
        options = plain(*args, env_options_overrides=QUICK_OPTIONS, **keywords)
        debug = options.executable_build_options.debug_options
        debug.xla_backend_optimization_level = 0
        debug.xla_llvm_disable_expensive_passes = True
        return options

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", quick)
        yield
