"""A training run with one slow spot planted in it: `python planted.py PLANT train ARGUMENTS...`, for test_doctor.py.

Plants change the program or its surroundings, never the ledger. Those of PLANTS were known when `doctor` was written,
but for host_work and slow_prompts, which were chosen afterwards.
"""

from __future__ import annotations

import os
import sys
import time

import jax

from vlm_jax import cli
from vlm_jax.data import collate, store
from vlm_jax.training import loop, step

DELAY = float(os.environ.get("PLANT_SECONDS", "0.1"))
"""Seconds; a machine that is busy with other things needs more of them for the plant to be felt at all."""


def slow_disk() -> None:
    """A delay before every image, as a busy network disk has it."""
    read = store.Dataset.read_frame

    def late(self, i):
        time.sleep(DELAY)
        return read(self, i)

    store.Dataset.read_frame = late


def slow_decode() -> None:
    """Work on every image, as pictures of many megapixels need it."""
    decode = collate.decode_image

    def heavy(*args):
        end = time.thread_time() + DELAY
        while time.thread_time() < end:
            pass
        return decode(*args)

    collate.decode_image = heavy


def host_sync() -> None:
    """A print left in the step."""
    flat = step.flat_metrics

    def printing(means, states):
        jax.debug.callback(lambda value: time.sleep(DELAY), sum(means.values()))
        return flat(means, states)

    step.flat_metrics = printing


def host_work() -> None:
    """A look at every step's loss, written somewhere slow: host work with the device idle."""
    one = loop.Loop._one_step

    def looking(self, number, *rest):
        one(self, number, *rest)
        jax.block_until_ready(self.run.state.params)
        time.sleep(DELAY)

    loop.Loop._one_step = looking


def slow_prompts() -> None:
    """Work on the texts of every record, as a slow tokenizer or a heavy augmentation has it."""
    prepare = collate.Collator.row

    def heavy(*args, **keywords):
        end = time.thread_time() + DELAY
        while time.thread_time() < end:
            pass
        return prepare(*args, **keywords)

    collate.Collator.row = heavy


def slow_process() -> None:
    """A delay before every image, on process 1 alone."""
    if os.environ.get("JAX_PROCESS_ID") == "1":
        slow_disk()


PLANTS = {
    "healthy": lambda: None,  # and those that are settings: small batch, frequent saves
    "slow_disk": slow_disk,
    "slow_decode": slow_decode,
    "host_sync": host_sync,
    "host_work": host_work,
    "slow_prompts": slow_prompts,
    "slow_process": slow_process,
}


if __name__ == "__main__":
    PLANTS[sys.argv[1]]()
    sys.exit(cli.main(sys.argv[2:]))
