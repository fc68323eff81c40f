"""The table of frames on disk, whole and damaged."""

from __future__ import annotations

from vlm_jax.data.frame_index import FrameIndex
from vlm_jax.errors import UserError


def test_any_changed_byte_of_the_frames_table_is_one_line(toy, tmp_path):
    """In the archive, in its compression, in an array's header; some bytes mean nothing, and may change."""
    path = toy.write(tmp_path / "d") / "frames.npz"
    whole = path.read_bytes()
    kinds = set()
    for i in range(0, len(whole), 3):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])
        try:
            FrameIndex.read(path, 2)
        except UserError as error:
            kinds.add(type(error.__cause__).__name__)
    assert {"BadZipFile", "error"} <= kinds, "zlib's error was among them"
