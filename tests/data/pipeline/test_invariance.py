"""The current description names the landmarks in view: T1, describe and report must never see what they predict."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest

from vlm_jax.contract import TASKS
from vlm_jax.data.run_data import RunData
from vlm_jax.tasks import TASK_TABLE

BLIND = tuple(TASKS.index(name) for name in ("landmarks", "describe", "report"))


@pytest.fixture
def data(make_config) -> RunData:
    return RunData.open(make_config())


def shuffled(text: str | None, rng: random.Random) -> str | None:
    return None if text is None else " ".join(rng.choices(["left", "tool", "fold", "seen", "history", "7"], k=9))


def prompts_change(data: RunData) -> bool:
    """Whether random targets change any prompt (or label) of the tasks that must not see them, bit for bit."""
    rng = random.Random(0)
    view = data.records("all")
    replaced = {
        i: dataclasses.replace(
            record,
            description=shuffled(record.description, rng),
            next_description=shuffled(record.next_description, rng),
            report_sentence=shuffled(record.report_sentence, rng),
        )
        for i, record in enumerate(view)
    }
    for plain, random_targets in itertools.zip_longest(
        data.batches(view, 32), data.batches(view, 32, overrides=replaced)
    ):
        assert (plain.target != random_targets.target).any()
        same = [np.array_equal(plain.prompt[:, k], random_targets.prompt[:, k]) for k in BLIND]
        same += [np.array_equal(getattr(plain, name), getattr(random_targets, name)) for name in ("landmarks", "image")]
        if not all(same):
            return True
    return False


def test_no_prompt_holds_what_its_task_predicts(data):
    assert not prompts_change(data)


@pytest.mark.parametrize(
    ("task", "field"),
    [("landmarks", "description"), ("describe", "description"), ("describe", "next_description"),
     ("report", "report_sentence"), ("report", "description")],
)  # fmt: skip
def test_a_planted_leak_is_found(data, monkeypatch, task, field):
    kind = type(TASK_TABLE[task])
    honest = kind.prompt

    def leaking(self, record):
        return (*honest(self, record), getattr(record, field))

    monkeypatch.setattr(kind, "prompt", leaking)
    assert prompts_change(data)


def test_the_anticipate_prompt_is_the_current_description_alone(data):
    """It must change with the description (so that the test above could fail), and with nothing else."""
    record = next(r for r in data.records("all") if r.description and r.next_description)
    prompt = TASK_TABLE["anticipate"].prompt
    assert prompt(dataclasses.replace(record, next_description="x", report_sentence="y")) == prompt(record)
    assert prompt(dataclasses.replace(record, description="x")) != prompt(record)
