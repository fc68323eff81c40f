"""Saving, keeping, refusing and reading back."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax.sharding import SingleDeviceSharding

from vlm_jax.checkpoint import compare, manifest
from vlm_jax.checkpoint.meta import Meta, versions
from vlm_jax.checkpoint.store import Store, complete_steps, read_meta, restore_for_inference
from vlm_jax.checkpoint.verify import verify
from vlm_jax.config.schema import Config
from vlm_jax.errors import EnvironmentFault, UserError


def _meta(loss: float | None = 1.0, step: int = 5) -> Meta:
    return Meta(
        Config(),
        ("fess/nasal septum",),
        "{}",
        {"fess/nasal septum": 0.4},
        batches=step,
        metrics={} if loss is None else {"loss": loss},
        versions=versions(),
    )


def _params(value: float = 1.0):
    return {"a": {"kernel": jnp.full((3, 2), float(value))}, "b": jnp.arange(4.0) * value}


def _save(store: Store, step: int, *, loss: float | None = 1.0, ema: bool = False):
    params = _params(step)
    train = {"step": jnp.asarray(step), "key": jnp.zeros(2, jnp.uint32)}
    store.save(step, params=params, ema=_params(-step) if ema else None, train=train, meta=_meta(loss, step))


def _abstract(tree):
    place = SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)


@pytest.fixture
def saved(tmp_path):
    store = Store(tmp_path)
    _save(store, 5, ema=True)
    store.close()
    return tmp_path


def test_round_trip(saved):
    store = Store(saved)
    train = {"step": jnp.asarray(0), "key": jnp.zeros(2, jnp.uint32)}
    params, ema, train, meta = store.restore(
        5, params=_abstract(_params()), ema=_abstract(_params()), train=_abstract(train)
    )
    jax.tree.map(np.testing.assert_array_equal, params, _params(5))
    jax.tree.map(np.testing.assert_array_equal, ema, _params(-5))
    assert int(train["step"]) == 5 and meta == _meta()
    store.close()


def test_inference_reads_the_average_as_numpy(saved):
    restored = restore_for_inference(saved)
    assert restored.step == 5 and restored.meta.labels == ("fess/nasal septum",)
    assert isinstance(restored.params["b"], np.ndarray)
    jax.tree.map(np.testing.assert_array_equal, restored.params, _params(-5))
    for path in (saved / "checkpoints", saved / "checkpoints/5"):
        assert restore_for_inference(path, "last").step == 5


def test_a_steps_own_directory_may_have_any_name(saved):
    (saved / "checkpoints/5").rename(saved / "the_good_one")
    for step in ("best", "5", 5):
        assert restore_for_inference(saved / "the_good_one", step).step == 5
    with pytest.raises(UserError, match="is step 5, not 7"):
        restore_for_inference(saved / "the_good_one", 7)


def test_last_and_best_are_kept_and_found(tmp_path):
    store = Store(tmp_path, keep_last=2, keep_best=1)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (5, 2.6)):
        _save(store, step, loss=loss)
    store.close()
    assert complete_steps(tmp_path / "checkpoints") == [2, 4, 5]
    assert restore_for_inference(tmp_path).step == 2
    assert restore_for_inference(tmp_path, "last").step == 5
    assert restore_for_inference(tmp_path, "4").step == 4
    with pytest.raises(UserError, match="it has 2, 4, 5"):
        restore_for_inference(tmp_path, 3)


def test_a_step_without_manifest_does_not_exist(saved):
    (saved / "checkpoints/5" / manifest.NAME).unlink()
    with pytest.raises(UserError, match="no complete checkpoint"):
        restore_for_inference(saved)
    store = Store(saved)
    assert store.steps() == []
    _save(store, 5)
    store.close()
    assert store.steps() == [5]


def test_a_step_cut_off_after_a_complete_one_is_removed_and_saved_again(tmp_path):
    """Orbax would take it for the latest step, and silently refuse what comes before it."""
    store = Store(tmp_path)
    _save(store, 2)
    _save(store, 4)
    store.close()
    (tmp_path / "checkpoints/4" / manifest.NAME).unlink()
    store = Store(tmp_path)
    assert not (tmp_path / "checkpoints/4").exists()
    _save(store, 3)
    _save(store, 4)
    store.close()
    assert store.steps() == [3, 4], "the last two"


def test_a_refused_save_is_an_error(saved):
    store = Store(saved)
    with pytest.raises(UserError, match="step 4 was not saved: .* at step 5 already"):
        _save(store, 4)
    store.close()


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_a_step_without_a_finite_loss_is_never_the_best(tmp_path, loss):
    store = Store(tmp_path, keep_last=2, keep_best=1)
    for step, value in ((1, 1.5), (2, loss), (3, 2.0), (4, loss), (5, 3.0)):
        _save(store, step, loss=value)
    store.close()
    assert complete_steps(tmp_path / "checkpoints") == [1, 4, 5]
    assert restore_for_inference(tmp_path).step == 1
    assert restore_for_inference(tmp_path, "last").step == 5


def test_best_is_the_last_where_no_step_has_a_loss(tmp_path):
    store = Store(tmp_path)
    for step in (1, 2):
        _save(store, step, loss=None)
    store.close()
    assert restore_for_inference(tmp_path).step == 2


def test_a_complete_step_exists_while_the_next_is_written(tmp_path):
    store = Store(tmp_path, keep_last=1, keep_best=0)
    for step in (1, 2):
        _save(store, step)
    store._manager.wait_until_finished()  # arrays are there, the manifest is not: the moment of a kill
    assert store.steps() == [1]
    store.close()


def test_amended_scores_count_as_if_saved_with_the_step(tmp_path):
    store = Store(tmp_path)
    _save(store, 1, loss=None)
    store.amend(1, _meta(0.5, 1))
    store.close()
    assert manifest.problems(_epath(tmp_path / "checkpoints/1")) == []
    store = Store(tmp_path, keep_last=2, keep_best=1)
    for step in (2, 3, 4):
        _save(store, step, loss=2.0)
    store.close()
    assert store.steps() == [1, 3, 4] and restore_for_inference(tmp_path).step == 1
    assert read_meta(_epath(tmp_path / "checkpoints/1")).thresholds == {"fess/nasal septum": 0.4}


def test_a_damaged_array_is_one_line_that_names_the_file(saved):
    victims = [p for p in sorted((saved / "checkpoints/5/ema").rglob("*")) if p.is_file() and "/d/" in str(p)]
    for path in victims:
        path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(UserError, match="ema/.*has changed.*restore another --step or train again"):
        restore_for_inference(saved)
    store = Store(saved)
    train = {"step": jnp.asarray(0), "key": jnp.zeros(2, jnp.uint32)}
    with pytest.raises(UserError, match="is damaged: ema/"):
        store.restore(5, params=_abstract(_params()), ema=_abstract(_params()), train=_abstract(train))
    store.close()


def test_no_directory_is_one_line(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        restore_for_inference(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no complete checkpoint"):
        restore_for_inference(tmp_path)


@pytest.mark.parametrize(
    "tree, message",
    [
        ({"a": {"kernel": jnp.zeros((2, 3))}, "b": jnp.zeros(4)}, r"a/kernel is \(3, 2\)"),
        ({"a": {"kernel": jnp.zeros((3, 2))}}, "b is not part of this model"),
        ({"a": {"kernel": jnp.zeros((3, 2))}, "b": jnp.zeros(4), "c": jnp.zeros(1)}, "c is missing"),
        ({"a": {"kernel": jnp.zeros((3, 2), jnp.bfloat16)}, "b": jnp.zeros(4)}, "bfloat16"),
    ],
)
def test_another_shape_is_refused_by_name(saved, tree, message):
    store = Store(saved)
    with pytest.raises(UserError, match=message):
        store.restore(5, params=_abstract(tree), ema=None, train={})
    store.close()


def test_many_differences_are_counted():
    stored = {f"p{i}": jnp.zeros(1) for i in range(12)}
    with pytest.raises(UserError, match="and 4 more"):
        compare.require_same(stored, {}, item="params", where="x")


def test_manifest_names_what_is_wrong(saved):
    step = saved / "checkpoints/5"
    assert manifest.problems(_epath(step)) == []
    victim = next(p for p in sorted((step / "params").rglob("*")) if p.is_file() and p.stat().st_size > 0)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    (step / "stray").write_text("x")
    (step / "meta/metadata").unlink()
    found = " ".join(manifest.problems(_epath(step)))
    assert "has changed" in found and "stray is not in" in found and "meta/metadata is missing" in found
    (step / manifest.NAME).write_text("{")
    assert manifest.problems(_epath(step)) == [f"{manifest.NAME} can't be read"]
    (step / manifest.NAME).unlink()
    assert "was not written to its end" in manifest.problems(_epath(step))[0]


def _epath(path):
    from etils import epath

    return epath.Path(path)


def test_meta_that_is_not_ours_is_one_line(saved):
    path = saved / "checkpoints/5/meta/metadata"
    values = json.loads(path.read_text())
    del values["labels"]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="labels"):
        read_meta(_epath(saved / "checkpoints/5"))
    path.write_text("{")
    with pytest.raises(UserError, match="no readable meta"):
        read_meta(_epath(saved / "checkpoints/5"))


def test_full_disk_is_one_line_and_exit_code_1(tmp_path, monkeypatch):
    store = Store(tmp_path)
    _save(store, 1)
    store.finish()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._manager, "save", full)
    with pytest.raises(EnvironmentFault, match="disk is full") as caught:
        _save(store, 2)
    assert caught.value.exit_code == 1
    store.close()
    assert restore_for_inference(tmp_path).step == 1


def test_other_errors_are_not_dressed_up(tmp_path, monkeypatch):
    store = Store(tmp_path)
    monkeypatch.setattr(store._manager, "save", lambda *_, **__: (_ for _ in ()).throw(ValueError("odd")))
    with pytest.raises(ValueError, match="odd"):
        _save(store, 1)
    store.close()


def test_one_step_is_verified_by_its_own_directory_also_one_that_was_not_written_to_its_end(tmp_path):
    step = epath.Path(tmp_path / "checkpoints" / "5")
    step.mkdir(parents=True)
    [problem] = verify(step)["5"]
    assert manifest.NAME in problem
    with pytest.raises(UserError, match="is one step: leave out --step"):
        verify(step, 6)
