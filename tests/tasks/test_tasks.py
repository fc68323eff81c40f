"""Masks and sums of the tasks: what a record does not carry costs nothing and weighs nothing."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.config.schema import LossConfig
from vlm_jax.contract import END, NO_REGIONS, START, TASKS, Batch, Record
from vlm_jax.tasks import TASK_TABLE, LossContext, loss

B, C, T, V = 4, 3, 6, 11
CONTEXT = LossContext(LossConfig(label_smoothing=0.0), ("describe", "report"), n_tokens=9)


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    target = rng.integers(1, 9, (B, len(TASKS), T))
    target[:, :, 4:] = 0
    return Batch(
        image=np.zeros((B, 1, 2, 2, 3), np.uint8),
        frame_mask=np.ones((B, 1), bool),
        landmarks=rng.integers(0, 2, (B, C)).astype(np.int8),
        landmarks_mask=np.ones((B, C), bool),
        prompt=np.zeros((B, len(TASKS), 5), np.int32),
        target=target.astype(np.int32),
        task_mask=np.ones((B, len(TASKS)), bool),
        valid=np.ones(B, bool),
        uid=np.arange(B, dtype=np.int32),
        regions=rng.integers(0, C + 1, (B, 4, 4)).astype(np.uint8),
    )


@pytest.fixture
def outputs() -> SimpleNamespace:
    rng = np.random.default_rng(1)
    return SimpleNamespace(
        landmark_logits=jnp.asarray(rng.normal(size=(B, C)), jnp.float32),
        token_logits=jnp.asarray(rng.normal(size=(B, 2, T - 1, V)), jnp.float32),
        region_logits=jnp.asarray(rng.normal(size=(B, 2, 2, C)), jnp.float32),
    )


@pytest.mark.parametrize("name", ["landmarks", "describe", "report"])
def test_masked_rows_do_not_count(batch, outputs, name):
    task = TASK_TABLE[name]
    full, _ = loss(task, outputs, batch, CONTEXT)
    for field, value in (("valid", np.array([True, True, False, False])), ("task_mask", batch.task_mask.copy())):
        if field == "task_mask":
            value[2:] = False
        masked = dataclasses.replace(batch, **{field: value})
        part, _ = loss(task, outputs, masked, CONTEXT)
        half_batch = dataclasses.replace(
            batch, **{f.name: getattr(batch, f.name)[:2] for f in dataclasses.fields(batch)}
        )
        half_outputs = SimpleNamespace(**{name: value[:2] for name, value in vars(outputs).items()})
        expected, _ = loss(task, half_outputs, half_batch, CONTEXT)
        np.testing.assert_allclose(part, expected, rtol=1e-6)
        assert abs(float(part) - float(full)) > 1e-6


def test_unknown_labels_do_not_count(batch, outputs):
    mask = batch.landmarks_mask.copy()
    mask[:, 1] = False
    masked = dataclasses.replace(batch, landmarks_mask=mask)
    task = TASK_TABLE["landmarks"]
    assert float(task.count(masked)) == B * (C - 1)
    flipped = dataclasses.replace(masked, landmarks=np.where(mask, batch.landmarks, 1 - batch.landmarks))
    assert loss(task, outputs, masked, CONTEXT)[0] == loss(task, outputs, flipped, CONTEXT)[0]


def test_nothing_carried_costs_nothing(batch, outputs):
    empty = dataclasses.replace(batch, task_mask=np.zeros_like(batch.task_mask))
    for name in ("landmarks", "describe", "report"):
        assert float(loss(TASK_TABLE[name], outputs, empty, CONTEXT)[0]) == 0.0


def test_padded_vocabulary_takes_no_part(batch, outputs):
    changed = SimpleNamespace(token_logits=outputs.token_logits.at[..., 9:].set(50.0))
    task = TASK_TABLE["describe"]
    context = dataclasses.replace(CONTEXT, config=LossConfig(label_smoothing=0.1))
    assert loss(task, outputs, batch, context)[0] == loss(task, changed, batch, context)[0]


def test_states_add_up(batch, outputs):
    task = TASK_TABLE["report"]
    _, whole = task.loss_sum(outputs, batch, CONTEXT)
    assert float(whole["loss"][1]) == B * 3  # three tokens behind the task token
    assert set(whole) == {"loss", "token_accuracy"}


def test_prompts_and_targets_of_a_record():
    record = Record(
        uid="a",
        source="s",
        procedure="p",
        group="g",
        image=b"x",
        landmarks=(1, 0, None),
        previous=START,
        description="now",
        next_description=END,
        keyword="antrostomy",
        context="before",
        report_sentence="said",
    )
    prompts = {name: task.prompt(record) for name, task in TASK_TABLE.items()}
    assert prompts == {
        "landmarks": (START,),
        "describe": (START,),
        "anticipate": ("now",),
        "report": ("antrostomy", "before"),
        "reconstruct": (),
        "mask_language": ("before", "said"),
    }
    assert [task.target(record) for task in TASK_TABLE.values()] == [None, "now", END, "said", None, None]
    assert all(task.carried(record) for task in TASK_TABLE.values())
    bare = Record(uid="a", source="s", procedure="p", group="g")
    assert not any(task.carried(bare) for task in TASK_TABLE.values())


def test_decode_reads_its_own_row():
    prediction = SimpleNamespace(probabilities=np.eye(2), texts={"describe": ["a", "b"]})
    assert TASK_TABLE["describe"].decode(prediction, 1) == "b"
    np.testing.assert_array_equal(TASK_TABLE["landmarks"].decode(prediction, 0), [1, 0])


@pytest.mark.parametrize("name", (*TASKS, "reconstruct"))
def test_a_task_reads_its_fields_and_no_other(name):
    """Prompt, target and whether it is carried follow from `fields` alone."""
    task = TASK_TABLE[name]
    whole = Record("u", "s", "p", "g", image=b"x", landmarks=(1,), visible=(1,), previous="before", description="now",
                   next_description="next", keyword="key", context="said", report_sentence="told")  # fmt: skip
    others = {
        f.name: None for f in dataclasses.fields(Record)[4:] if f.name not in task.fields and f.name != "references"
    }
    bare = dataclasses.replace(whole, **others)
    assert (task.prompt(bare), task.target(bare), task.carried(bare)) == (task.prompt(whole), task.target(whole), True)
    assert not task.carried(dataclasses.replace(whole, **{task.fields[-1]: None}))


def test_places_are_asked_where_there_is_a_mask_and_a_label(batch, outputs):
    task = TASK_TABLE["landmarks"]
    plain = dataclasses.replace(batch, regions=None)
    labels, _ = loss(task, outputs, plain, CONTEXT)
    whole, state = loss(task, outputs, batch, CONTEXT)
    places = state["regions"][0] / state["regions"][1]
    np.testing.assert_allclose(whole, labels + places, rtol=1e-6)  # as many labels as places' landmarks
    heavy = dataclasses.replace(CONTEXT, config=LossConfig(regions_weight=3.0))
    np.testing.assert_allclose(loss(task, outputs, batch, heavy)[0], labels + 3 * places, rtol=1e-6)
    regions, unknown = batch.regions.copy(), batch.landmarks_mask.copy()
    regions[1], unknown[:, 2] = NO_REGIONS, False
    _, fewer = loss(task, outputs, dataclasses.replace(batch, regions=regions, landmarks_mask=unknown), CONTEXT)
    assert fewer["regions"][1] == (B - 1) * (C - 1)
    other = regions.copy()
    other[other == 3] = 0  # the third landmark is not asked
    _, same = loss(task, outputs, dataclasses.replace(batch, regions=other, landmarks_mask=unknown), CONTEXT)
    assert same["regions"] == fewer["regions"] != state["regions"]
