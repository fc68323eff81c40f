"""`bench train`: the training step, or its forward pass alone."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from vlm_jax.bench import machine
from vlm_jax.bench.ceiling import matmul_flops
from vlm_jax.bench.peers import check_same, load_peers
from vlm_jax.bench.results import OURS, result, timed_rows
from vlm_jax.bench.timing import Seconds, interleave, ratio
from vlm_jax.bench.trial import DEFAULT_LANDMARKS, Trial, make_trial
from vlm_jax.config.schema import Config
from vlm_jax.data.run_data import RunData
from vlm_jax.errors import UserError
from vlm_jax.models.build import resolve_dtype
from vlm_jax.training.provenance import open_fresh

FROM_FILES = f"{OURS}, from files"
CHUNK = 5
"""Steps a timing where steps only start work on a device: the host waits for the last of them."""


def measure(config: Config, *, steps: int, warmup: int, peers: list[str], forward: bool = False) -> dict[str, Any]:
    """Times `steps` steps of a batch that already lies on the device, beside the peers'.

    Where `data.path` names data sets, steps that are fed from them follow.

    Raises:
      UserError: a setting, or a peer that cannot run or computes something else.
    """
    data = _open_data(config) if config.data.path and not forward else None
    trial = make_trial(config)
    kind = "forward" if forward else "train"
    others = load_peers(peers, kind, trial)
    with jax.set_mesh(trial.mesh):
        logits = np.asarray(trial.forward(trial.state.params, trial.placed).landmark_logits)
        differences = {peer.name: check_same(peer, logits) for peer in others}
        calls = {OURS: _forward(trial) if forward else _step(trial), **{peer.name: peer.call for peer in others}}
        repeat = 1 if jax.default_backend() == "cpu" else CHUNK
        whole = -(-warmup // repeat) * repeat  # our steps are awaited chunk by chunk, from the first call on
        seconds = interleave(calls, rounds=-(-steps // repeat), warmup=whole, repeat=repeat)
        if data is not None:
            seconds[FROM_FILES] = from_files(trial, data, steps)
    counted = trial.flops(train=not forward)
    dtype = resolve_dtype(config.model.dtype).name
    ceiling, peak = matmul_flops(dtype), machine.peak_flops(dtype)
    extra: dict[str, dict[str, Any]] = {}
    for name, values in seconds.items():
        rate = counted / float(np.median(values.wall))
        own = rate / trial.mesh.size  # of one device, as ceiling and peak are
        shares = {"share_of_matmul": own / ceiling} | ({"share_of_peak": own / peak} if peak else {})
        extra[name] = {"flops_per_second": rate, **shares}
    if FROM_FILES in seconds:
        extra[FROM_FILES]["over_synthetic"] = ratio(seconds[FROM_FILES].wall, seconds[OURS].wall)["median"]
    for peer in others:
        extra[peer.name] |= {"greatest_difference": differences[peer.name], "note": peer.note}
    extra[OURS] |= memory(trial) if not forward else {}
    counts = {"counted_flops": counted, "matmul_flops_per_second": ceiling}
    setting = {**describe(config), "steps": steps, "warmup": warmup, **counts}
    batch = config.train.batch_size
    return result(kind, setting, timed_rows(seconds, per_call=batch, unit="examples_per_second", extra=extra))


def _open_data(config: Config) -> RunData:
    data = open_fresh(config)
    if len(data.labels.names) != DEFAULT_LANDMARKS:
        raise UserError(
            f"bench times a model of {DEFAULT_LANDMARKS} landmarks, and data.path has {len(data.labels.names)}: give "
            "simulated data, or leave data.path out"
        )
    return data


def from_files(trial: Trial, data: RunData, steps: int) -> Seconds:
    """Steps fed by the pipeline, one after the other as in training: JPEGs decoded, cut, tokenised, sent to the device.

    The data give the batches alone; the model stays the trial's.
    """
    batches = data.train_batches(trial.mesh, start_step=0)
    for _ in range(CHUNK):
        trial.state, metrics = trial.train_step(trial.state, next(batches))
    jax.block_until_ready(metrics["loss"])
    timings = []
    for _ in range(-(-steps // CHUNK)):
        began, began_cpu = time.perf_counter(), time.process_time()
        for _ in range(CHUNK):
            trial.state, metrics = trial.train_step(trial.state, next(batches))
        jax.block_until_ready(metrics["loss"])
        timings.append((time.perf_counter() - began, time.process_time() - began_cpu))
    wall, cpu = np.array(timings).T / CHUNK
    return Seconds(wall=wall, cpu=cpu)


def describe(config: Config) -> dict[str, Any]:
    """The settings that a time depends on most; the rest is in the config that `config` names."""
    return {
        "config": config.name,
        "batch_size": config.train.batch_size,
        "image_size": config.data.image_size,
        "prompt_length": config.data.prompt_length,
        "target_length": config.data.target_length,
        "dtype": resolve_dtype(config.model.dtype).name,
        "dropout": config.model.dropout,
        "remat": config.model.remat_keep if config.model.remat else False,
        "scan_layers": config.model.scan_layers,
        "attention": config.model.attention,
    }


def _step(trial: Trial) -> Any:
    wait = jax.default_backend() == "cpu"
    turns = iter(range(1, 1 << 60))

    def call() -> None:
        trial.state, metrics = trial.train_step(trial.state, trial.placed)
        if wait or next(turns) % CHUNK == 0:
            jax.block_until_ready(metrics["loss"])

    return call


def _forward(trial: Trial) -> Any:
    return lambda: jax.block_until_ready(trial.forward(trial.state.params, trial.placed))


def memory(trial: Trial) -> dict[str, int]:
    """Bytes of the step: the peak that compilation predicts, and the one that the device saw where it tells."""
    compiled = trial.train_step.lower(trial.state, trial.placed).compile()  # pyright: ignore[reportFunctionMemberAccess]
    sizes = compiled.memory_analysis()
    if sizes is None:
        return {}
    found = {"predicted_peak_bytes": int(sizes.temp_size_in_bytes + sizes.argument_size_in_bytes)}
    seen = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return found if seen is None else found | {"peak_bytes": int(seen)}


def with_batch(config: Config, size: int) -> Config:
    """The same run with another batch."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=size))
