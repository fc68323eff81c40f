"""Run by test_minimum.py in a process of its own: steps of micro compiled for 4 fake devices, and what they send.

Arguments: sizes of data, fsdp and tensor as 2x1x2, or `planted`: from here on projections ask for their whole kernels.
Prints one JSON object a mesh: {mesh, ratio, unplanned}.
"""

from __future__ import annotations

import json
import sys

import jax

jax.config.update("jax_num_cpu_devices", 4)

from jax.sharding import PartitionSpec  # noqa: E402

from vlm_jax.config.load import load_config  # noqa: E402
from vlm_jax.models import attention  # noqa: E402
from vlm_jax.parallel.collectives import collectives  # noqa: E402
from vlm_jax.parallel.planned import unplanned_gathers  # noqa: E402
from vlm_jax.training import inspection  # noqa: E402
from vlm_jax.training.minimum import minimum  # noqa: E402
from vlm_jax.training.program import abstract_batch  # noqa: E402

RECORDS = 16


def sent(data: int, fsdp: int, tensor: int) -> dict:
    sizes = {"parallel.data": data, "parallel.fsdp": fsdp, "parallel.tensor": tensor}
    # A padded vocabulary: logits beyond the tokenizer's words must not be cut off across devices.
    settings = {"data.prompt_length": 16, "data.target_length": 9, "data.vocab_size": 200, "model.vocab_size": 256}
    words = {key: str(value) for key, value in (sizes | settings).items()}
    config = load_config("vlm:micro,tasks=landmarks+describe", words)
    subject = inspection.make_subject(config)
    batch = abstract_batch(config, RECORDS, subject.n_landmarks)
    found = collectives(inspection.compile_train_step(subject, batch).as_text())
    least = sum(term.sent for term in minimum(subject, RECORDS))
    return {
        "ratio": sum(one.sent for one in found) / least,
        "unplanned": unplanned_gathers(found, subject.abstract.params, dict(subject.mesh.shape)),
    }


def main() -> None:
    split = attention.heads_of_copies
    for word in sys.argv[1:]:
        if word == "planted":
            attention.heads_of_copies = lambda x, k: split(x, jax.lax.with_sharding_constraint(k, PartitionSpec()))
            continue
        print(json.dumps({"mesh": word, **sent(*map(int, word.split("x")))}), flush=True)


if __name__ == "__main__":
    main()
