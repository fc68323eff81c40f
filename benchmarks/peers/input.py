"""Other ways from JPEG bytes to pixels: a peer for `vlm-jax bench data`.

--peer benchmarks/peers/input.py:pil       Pillow decodes and resizes, one image after another
--peer benchmarks/peers/input.py:opencv    OpenCV does
--peer benchmarks/peers/input.py:torch     torch's DataLoader, as many workers as our pipeline has threads, on Pillow
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from vlm_jax.bench.peers import Peer

BATCH = 4


def make_peer(kind: str, variant: str, images: Any) -> Peer:
    """`kind`: data."""
    if kind != "data" or variant not in ("pil", "opencv", "torch"):
        raise ValueError("this peer reads images, by pil, opencv or torch")
    if variant == "torch":
        note = f"{images.threads} processes, Pillow; batches of {BATCH}, one a process ready when its turn begins"
        return Peer("torch DataLoader", _loader(images), None, note)
    decode = _pil if variant == "pil" else _opencv
    name = {"pil": "Pillow", "opencv": "OpenCV"}[variant]
    return Peer(name, lambda: [decode(jpeg, images.size) for jpeg in images.jpegs])


def _pil(jpeg: bytes, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def _opencv(jpeg: bytes, size: int) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


class _Endless(torch.utils.data.Dataset):
    def __init__(self, jpegs: list[bytes], size: int) -> None:
        self.jpegs, self.size = jpegs, size

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(_pil(self.jpegs[i % len(self.jpegs)], self.size).copy())


def _loader(images: Any) -> Callable[[], Any]:
    """One call takes as many images as the others decode.

    What the workers have ready was decoded in the others' turns: hence small batches, and one ahead.
    """
    here = Path(__file__)
    sys.path.append(str(here.parent))  # a worker imports this file by its own name
    data = importlib.import_module(here.stem)._Endless(images.jpegs, images.size)
    context = torch.multiprocessing.get_context("spawn")  # a fork after JAX has started may hang
    loader = iter(
        torch.utils.data.DataLoader(
            data, BATCH, num_workers=images.threads, prefetch_factor=1, multiprocessing_context=context
        )
    )
    return lambda: [next(loader) for _ in range(len(images.jpegs) // BATCH)]
