"""What is kept, what goes, and what is done with a disk that fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from vlm_jax.checkpoint import manifest, retention
from vlm_jax.checkpoint.faults import disk_errors
from vlm_jax.errors import EnvironmentFault

LOSSES = st.dictionaries(st.integers(1, 50), st.none() | st.floats(0, 10) | st.just(float("nan")), max_size=12)


@given(LOSSES, st.integers(1, 4), st.integers(0, 3))
def test_the_newest_two_and_the_best_are_always_kept(losses, last, best):
    kept = retention.kept(losses, last=last, best=best)
    assert set(sorted(losses)[-max(2, last) :]) <= kept <= set(losses)
    finite = {step: loss for step, loss in losses.items() if loss is not None and loss == loss}
    if best and finite:
        assert any(finite[step] == min(finite.values()) for step in kept & finite.keys())
    assert len(kept) <= max(2, last) + best


def test_where_a_run_may_go_back_to_is_kept():
    """It goes back to a scheduled step before the first of the skipped updates, a window ago at most."""
    preempted = dict.fromkeys((4000, 5000, 5300, 5600))
    assert retention.kept(preempted, last=2, best=0, every=1000, window=64) == {4000, 5000, 5300, 5600}
    assert retention.kept(preempted, last=2, best=0) == {5300, 5600}
    close = dict.fromkeys((25, 50, 75, 100, 125))
    assert retention.kept(close, last=2, best=0, every=25, window=64) == {50, 100, 125}


def test_equally_good_steps_keep_the_later():
    assert retention.kept({1: 0.5, 2: 0.5, 3: 0.9, 4: 0.9}, last=1, best=1) == {2, 3, 4}


def test_a_half_deleted_step_is_no_step(tmp_path, monkeypatch):
    step = epath.Path(tmp_path / "3")
    step.mkdir()
    (step / "a").write_text("x")
    manifest.write(step)

    def held(self):
        raise OSError(errno.EBUSY, "still open")

    monkeypatch.setattr(type(step), "rmtree", held)
    retention.delete(step)
    assert not manifest.exists(step) and (step / "a").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x"), "the disk is full"),
        (ValueError("RESOURCE_EXHAUSTED: write"), "the disk is full"),
        (OSError(errno.EROFS, "x"), "read-only"),
        (OSError(errno.EDQUOT, "x"), "quota"),
        (OSError(errno.ESTALE, "x"), "the disk or its mount is gone"),
        (ValueError("Error writing: Transport endpoint is not connected"), "its mount is gone"),
        (PermissionError(errno.EACCES, "x"), "not permitted"),
    ],
)
def test_disk_faults_are_one_line(error, words):
    with (
        pytest.raises(EnvironmentFault, match=f"saving step 3 failed: .*{words}") as caught,
        disk_errors("saving step 3"),
    ):
        raise RuntimeError("outer") from error
    assert caught.value.exit_code == 1


def test_a_vanished_directory_is_said(tmp_path):
    with pytest.raises(EnvironmentFault, match="has vanished"), disk_errors("saving", epath.Path(tmp_path / "gone")):
        raise FileNotFoundError(errno.ENOENT, "x")
    with pytest.raises(FileNotFoundError), disk_errors("saving", epath.Path(tmp_path)):
        raise FileNotFoundError(errno.ENOENT, "x")


SMALL_DISK = """
import sys
from pathlib import Path
import jax.numpy as jnp
from vlm_jax.checkpoint.meta import Meta
from vlm_jax.checkpoint.store import Store, restore_for_inference
from vlm_jax.config.schema import Config
from vlm_jax.errors import EnvironmentFault
import numpy as np
path = Path(sys.argv[1])
store = Store(path)
big = lambda n: {"a": jnp.asarray(np.random.default_rng(0).normal(size=n), jnp.float32)}
meta = lambda step: Meta(Config(), (), "{}", batches=step)
store.save(1, params=big(1000), ema=None, train={"step": jnp.asarray(1)}, meta=meta(1))
store.finish()
try:
    store.save(2, params=big(2_000_000), ema=None, train={"step": jnp.asarray(2)}, meta=meta(2))
    store.finish()
except EnvironmentFault as error:
    print(error)
try:
    store.close()
except Exception as error:
    print("close", error)
store = Store(path)
assert store.steps() == [1], store.steps()
store.save(2, params=big(1000), ema=None, train={"step": jnp.asarray(2)}, meta=meta(2))
store.close()
assert restore_for_inference(path, "last").step == 2
print("made room, saved")
"""


def test_a_disk_that_is_really_full(tmp_path):
    """A file system of 3 MB of its own, where the machine allows one."""
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=3M none "$0" && shift 0 && exec "$@"', str(tmp_path)]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no private mounts on this machine")
    done = subprocess.run(
        [*mount, sys.executable, "-c", SMALL_DISK, str(tmp_path / "run")], capture_output=True, text=True, check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu"}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "saving step 2 failed: the disk is full" in done.stdout and "made room, saved" in done.stdout


def test_a_full_memory_is_no_full_disk():
    memory = RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes")
    with pytest.raises(RuntimeError, match="Out of memory"), disk_errors("saving step 3"):
        raise memory
    with pytest.raises(RuntimeError, match="outer"), disk_errors("saving step 3"):
        raise RuntimeError("outer") from memory
