"""`bench data`: images from bytes to pixels on one core, and batches from a data set with all its threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import jax
import numpy as np

from vlm_jax.bench.peers import load_peers
from vlm_jax.bench.results import OURS, result, timed_rows
from vlm_jax.bench.timing import interleave
from vlm_jax.config.schema import Config
from vlm_jax.data.transforms import decode_image, resize_image

STORED = 256
"""Side of the stored images, in pixels."""


@dataclass(frozen=True)
class Images:
    """What is decoded, and to what side."""

    jpegs: list[bytes]
    size: int
    threads: int


def measure(config: Config, *, rounds: int, warmup: int, peers: list[str], n_images: int = 64) -> dict[str, Any]:
    """Times decoding and resizing of JPEGs of 256 pixels, on one core, beside the peers; then whole batches.

    Batches are timed where `data.path` names data sets.

    Raises:
      UserError: a peer that cannot run, or data that cannot be read.
    """
    pixels = smooth_noise(n_images)
    jpegs = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for image in pixels]
    size = config.data.image_size
    images = Images(jpegs, size, config.data.threads)
    others = load_peers(peers, "data", images)
    calls: dict[str, Callable[[], Any]] = {
        OURS: lambda: [decode_image(jpeg, size) for jpeg in jpegs],
        f"{OURS}, raw pixels": lambda: [resize_image(image, size) for image in pixels],
        **{peer.name: peer.call for peer in others},
    }
    seconds = interleave(calls, rounds=rounds, warmup=warmup)
    extra = {peer.name: {"note": peer.note} for peer in others}
    rows = timed_rows(seconds, per_call=n_images, unit="images_per_second", extra=extra)
    if config.data.path:
        rows.append(_batches(config, rounds))
    setting = {
        "image_size": size,
        "stored_size": STORED,
        "bytes_an_image": int(np.mean([len(jpeg) for jpeg in jpegs])),
        "threads": config.data.threads,
        "rounds": rounds,
    }
    return result("data", setting, rows)


def smooth_noise(n: int) -> list[np.ndarray]:
    """uint8[256, 256, 3] each, of which a JPEG is about as large as of an endoscopic frame."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (n, 48, 48, 3), dtype=np.uint8)
    return [cv2.resize(image, (STORED, STORED), interpolation=cv2.INTER_CUBIC) for image in coarse]


def _batches(config: Config, rounds: int) -> dict[str, Any]:
    """Examples a second of the pipeline alone: read, decoded, augmented, tokenised, placed on the devices."""
    from vlm_jax.data.run_data import RunData
    from vlm_jax.parallel.mesh import make_mesh

    batches = RunData.open(config).train_batches(make_mesh(config.parallel), start_step=0)
    for _ in range(3):
        jax.block_until_ready(next(batches).image)
    began = time.perf_counter()
    for _ in range(rounds):
        jax.block_until_ready(next(batches).image)
    spent = time.perf_counter() - began
    return {"name": f"{OURS}, batches", "examples_per_second": rounds * config.train.batch_size / spent}
