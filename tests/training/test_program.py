"""The step's program: compiled in a thread where nothing can be refused any more, for the shapes that batches have."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.config.load import load_config
from vlm_jax.parallel.mesh import make_mesh
from vlm_jax.training import program as module
from vlm_jax.training.program import StepProgram, abstract_batch, compiles_ahead

CONFIG = load_config("vlm:micro")


@pytest.fixture
def toy(monkeypatch):
    """(program of a step that counts valid rows, names of the threads that traced it)."""
    threads = []

    def step(state, batch):
        threads.append(threading.current_thread().name)
        return state + batch.valid.sum(), {}

    monkeypatch.setattr(module, "make_train_step", lambda *_: jax.jit(step))
    monkeypatch.setattr(module, "state_shardings", lambda *_: None)
    state = jax.ShapeDtypeStruct((), jnp.int32)
    return StepProgram.of(CONFIG, None, None, None, make_mesh(CONFIG.parallel), state, n_landmarks=3), threads


def batch_of(rows):
    return jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), abstract_batch(CONFIG, rows, 3))


def test_it_compiles_in_a_thread_and_is_compiled_once(toy):
    program, threads = toy
    program.begin()
    size = CONFIG.train.batch_size
    compiled = program.compiled(batch_of(size))
    assert program.compiled(batch_of(size)) is compiled and threads == ["step_0"]
    assert int(compiled(jnp.int32(1), batch_of(size))[0]) == 1 + size


def test_batches_of_another_shape_get_a_program_of_their_own(toy):
    program, threads = toy
    program.begin()
    assert int(program.compiled(batch_of(2))(jnp.int32(0), batch_of(2))[0]) == 2
    assert sorted(threads) == ["MainThread", "step_0"]


def test_nothing_is_compiled_before_it_is_asked_for(toy):
    program, threads = toy
    assert not threads
    program.compiled(batch_of(CONFIG.train.batch_size))
    assert threads == ["MainThread"]


def test_what_fails_in_the_thread_is_raised_where_it_is_needed(toy, monkeypatch):
    program, _ = toy
    monkeypatch.setattr(StepProgram, "_compile", lambda *_: (_ for _ in ()).throw(MemoryError("too large")))
    program.begin()
    with pytest.raises(MemoryError, match="too large"):
        program.compiled(batch_of(CONFIG.train.batch_size))


def test_a_run_that_may_be_refused_or_has_nothing_to_do_waits(monkeypatch):
    steps = CONFIG.train.steps
    assert compiles_ahead(CONFIG, None) and compiles_ahead(CONFIG, steps - 1)
    assert not compiles_ahead(CONFIG, steps)
    part = SimpleNamespace(init="")
    model = SimpleNamespace(image_encoder=part, text_encoder=part, backbone=part, gpt=SimpleNamespace(init="runs/mae"))
    assert not compiles_ahead(SimpleNamespace(model=model, train=CONFIG.train), None)  # pyright: ignore
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert not compiles_ahead(CONFIG, None)
