"""Images that would be read wrongly without a word, and disks that do not answer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from vlm_jax.data import tfds_layout
from vlm_jax.data.store import open_dataset
from vlm_jax.data.transforms import decode_image, decode_pixels
from vlm_jax.errors import EnvironmentFault, UserError


def test_a_tiff_of_16_bits_is_refused_and_one_of_8_is_read():
    deep = np.full((8, 8, 3), 1000, np.uint16)
    with pytest.raises(UserError, match="more than 8 bits a channel"):
        decode_pixels(cv2.imencode(".tif", deep)[1].tobytes(), "x.tif")
    shallow = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(decode_pixels(cv2.imencode(".tif", shallow)[1].tobytes(), "x"), shallow[..., ::-1])


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_does_not_answer_is_no_bad_image(tmp_path, monkeypatch, number):
    def gone(self):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", gone)
    with pytest.raises(EnvironmentFault, match="just now"):
        decode_image(tmp_path / "a.jpg", 8)


def test_a_disk_that_does_not_answer_is_no_damaged_shard(toy, tmp_path, monkeypatch):
    dataset = open_dataset(toy.write(tmp_path / "d"))

    def gone(*_, **__):
        raise RuntimeError(f"open(): {os.strerror(errno.EMFILE)}")

    monkeypatch.setattr(tfds_layout.array_record_module, "ArrayRecordReader", gone)
    with pytest.raises(EnvironmentFault, match="just now"):
        dataset.read_image(0)


def test_shards_are_closed_again(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_layout, "most_open", lambda: 1)
    dataset = open_dataset(toy.write(tmp_path / "d"))
    expected = [dataset.read_image(i) for i in range(12)]
    before = len(os.listdir("/proc/self/fd"))
    order = np.random.default_rng(0).integers(0, 12, 60).tolist()
    assert [dataset.read_image(i) for i in order] == [expected[i] for i in order]
    assert len(os.listdir("/proc/self/fd")) <= before
