"""Adapter: any folder of images without labels, for pre-training (docs/tutorials/pretraining.md).

A file is VIDEO-frame-NUMBER.jpg, VIDEO_NUMBER.png or VIDEO/NUMBER.jpg: the last number of the name orders the frames,
what stands before it (and the folder) names the video. Nothing is known of patients, so a video is a procedure, and
what a split keeps together. Frames that are black or look out of the body are kept, marked as not assessable.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vlm_jax.contract import DatasetInfo, Frame, Procedure, ProcedureBundle, Video
from vlm_jax.data.files import digest_of_files, files_below, frames_first, local_path
from vlm_jax.data.sources.terms import licence_of, source_name
from vlm_jax.data.store import write_dataset
from vlm_jax.data.transforms import SUFFIXES, is_image, read_as_jpeg, resize_image
from vlm_jax.errors import UserError

ADAPTER = "unlabelled_frames"
VERSION = 1
MS_PER_NUMBER = 40
"""A frame number is taken for one tick of 25 Hz video, for order and distance only."""

_END_OF_TIME = 2**63  # in milliseconds, as tables hold it

BLACK_BELOW = 20.0
"""Mean brightness (0-255) under which a frame is black."""
RED_SHARE = 0.3
"""Of the lit pixels: with fewer red ones a frame is taken for one from outside the body, or of no image at all."""
LIT_ABOVE = 32.0
RED_FACTOR = 1.1
_SIDE = 64
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_NAME = re.compile(r"(?P<video>.*?)[-_ .]*(?:frame|image|img)?[-_ .]*(?P<number>\d+)", re.IGNORECASE)


def build(
    input_dir: str | Path,
    out: str | Path,
    *,
    licence: str | None = None,
    citation: str | None = None,
    progress: bool = True,
) -> None:
    """Writes the data set into `out`; the same call again finishes a build that was cut off.

    The source is named after the folder. `licence` and `citation` as in `BuildFn`.

    Raises:
      UserError: no images, a name without a number, two frames of one place, or an image that can't be read.
      EnvironmentFault: the disk is full.
    """
    root = local_path(input_dir, "input")
    videos = find_videos(root)
    info = DatasetInfo(
        source=source_name(root, ADAPTER),
        world="real",
        licence=licence_of(root, licence),
        citation=citation or "",
        generator={
            "adapter": ADAPTER,
            "version": VERSION,
            "ms_per_number": MS_PER_NUMBER,
            "black_below": BLACK_BELOW,
            "red_share": RED_SHARE,
            "files": digest_of_files(root, [path for frames in videos.values() for path in frames.values()]),
        },
    )
    write_dataset(out, info, list(videos), lambda name: _bundle(name, info.source, videos[name]), progress=progress)


def find_videos(root: Path) -> dict[str, dict[int, Path]]:
    """Video -> frame number -> image. Folders above all images say nothing and stand in no name."""
    images = files_below(root, is_image)
    if not images:
        expected = f"({' '.join(SUFFIXES)}): expected VIDEO-frame-12.jpg or VIDEO/0012.png"
        raise UserError(f"'{root}' has no images {expected}{frames_first(root)}")
    top = Path(os.path.commonpath([p.parent for p in images]))
    videos: dict[str, dict[int, Path]] = defaultdict(dict)
    for image in images:
        match = _NAME.fullmatch(image.stem)
        if match is None:
            raise UserError(f"image '{image}': the name should end in the frame's number, as in VIDEO-frame-12.jpg")
        parts = [*image.parent.relative_to(top).parts, match["video"]]
        name = "/".join(part for part in parts if part) or top.name
        number = int(match["number"])
        if number * MS_PER_NUMBER >= _END_OF_TIME:
            raise UserError(f"image '{image}': the number of its frame is too large: number the frames from 0 or 1")
        if number in videos[name]:
            raise UserError(f"images '{videos[name][number]}' and '{image}' are the same frame of a video: keep one")
        videos[name][number] = image
    return {name: dict(sorted(frames.items())) for name, frames in sorted(videos.items())}


def assessable(pixels: np.ndarray) -> bool:
    """Whether uint8[H, W, 3] is neither black nor, by its colour, of something else than the inside of a body.

    OURS, and coarse: tissue is red under an endoscope's light, drapes, rooms and screens are not. A frame passes where
    it is bright enough and RED_SHARE of its lit pixels have more red than green and blue, by RED_FACTOR.
    """
    small = resize_image(pixels, _SIDE).astype(np.float32)
    brightness = small @ _LUMA
    if brightness.mean() < BLACK_BELOW:
        return False
    lit = brightness > LIT_ABOVE
    red = small[..., 0] > RED_FACTOR * np.maximum(small[..., 1], small[..., 2])
    return bool((red & lit).sum() >= RED_SHARE * max(int(lit.sum()), 1))


def _bundle(name: str, source: str, frames: dict[int, Path]) -> ProcedureBundle:
    return ProcedureBundle(
        procedure=Procedure(id=name, patient=name, source=source),
        videos=(Video(id=name, procedure=name),),
        frames=_frames(name, frames),
    )


def _frames(video: str, frames: dict[int, Path]) -> Iterator[Frame]:
    for number, path in frames.items():
        image, pixels = read_as_jpeg(path)
        yield Frame(
            uid=f"{video}/{number:08d}",
            procedure=video,
            video=video,
            pts_ms=number * MS_PER_NUMBER,
            activity=None,
            assessable=assessable(pixels),
            image=image,
            visible=(),
            fractions=(),
        )
