"""Adapter: 536 in-vivo images of the larynx with masks (Laves et al., IJCARS 2019), as the public repository lays
them out: img/PATIENT/SEQUENCE/NUMBER[_l].{png,jpg} and annot/PATIENT/SEQUENCE/NUMBER[_l].png.

A procedure is a patient's operation, a video one sequence, an activity a run of frames in which the same structures
are in view (above 1 % of the area). The masks settle labels and descriptions; nothing else is invented.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vlm_jax.contract import Activity, DatasetInfo, Frame, Procedure, ProcedureBundle, Video
from vlm_jax.data.files import digest_of_files, files_below, local_path
from vlm_jax.data.sources import mask_language
from vlm_jax.data.sources.terms import licence_of
from vlm_jax.data.store import write_dataset
from vlm_jax.data.transforms import decode_pixels
from vlm_jax.errors import UserError

SOURCE = "vocalfolds"
VERSION = 2
CLASSES = ("void", "vocal folds", "other tissue", "glottal space", "pathology", "surgical tool", "intubation")
"""By grey value of the masks; void is dropped."""
LABELS = CLASSES[1:]
VISIBLE_ABOVE = 0.01
"""Share of the image's area above which a structure counts as in view."""
MS_PER_NUMBER = 40
"""The frame rate is not published; a frame number is taken for one tick of 25 Hz video, for order and distance only."""

ORDER = ("pathology", "surgical tool", "glottal space", "vocal folds", "intubation", "other tissue")
SUBJECTS = ("pathology", "surgical tool", "intubation")
ANCHORS = ("glottal space", "vocal folds")
BACKGROUND = ("other tissue",)

CITATION = (
    "M.-H. Laves, J. Bicker, L. A. Kahrs, T. Ortmaier: A dataset of laryngeal endoscopic images with comparative "
    "study on convolution neural network-based semantic segmentation. Int J CARS 14 (2019), arXiv:1807.06081"
)

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class _Shot:
    """One image with its mask: `number` orders the frames of a sequence."""

    number: int
    stem: str
    image: Path
    mask: Path


def build(
    input_dir: str | Path,
    out: str | Path,
    *,
    licence: str | None = None,
    citation: str | None = None,
    progress: bool = True,
) -> None:
    """Writes the data set into `out`; the same call again finishes a build that was cut off.

    `licence` and `citation` as in `BuildFn`; the published data's citation where its LICENSE file is there, too.

    Raises:
      UserError: the layout, an image or a mask is not as published; the message names the file.
      EnvironmentFault: the disk is full.
    """
    root = local_path(input_dir, "input")
    shots = {patient: _sequences(root, patient) for patient in _subdirectories(root / "img")}
    terms = licence_of(root, licence)
    published = CITATION if licence is None and terms else ""
    info = DatasetInfo(
        source=SOURCE,
        world="real",
        labels=LABELS,
        licence=terms,
        citation=published if citation is None else citation,
        generator={
            "adapter": SOURCE,
            "version": VERSION,
            "visible_above": VISIBLE_ABOVE,
            "ms_per_number": MS_PER_NUMBER,
            "files": _input_digest(root),
        },
        extras=("mask",),
    )
    write_dataset(out, info, list(shots), lambda patient: _bundle(patient, shots[patient]), progress=progress)


# --- Layout ----------------------------------------------------------------------------------------------------------


def _natural(path: Path) -> tuple[int | str, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name))


def _subdirectories(directory: Path) -> list[str]:
    inside = sorted(directory.iterdir(), key=_natural) if directory.is_dir() else []
    found = [path.name for path in inside if path.is_dir() and path.name[0] not in ".@"]
    if not found:
        raise UserError(f"'{directory}' has no folders: expected the layout img/PATIENT/SEQUENCE/NUMBER.png")
    return found


def _input_digest(root: Path) -> str:
    return digest_of_files(root, (path for part in ("img", "annot") for path in files_below(root / part)))


def _sequences(root: Path, patient: str) -> dict[str, list[_Shot]]:
    """Sequence name -> its shots in order of their number."""
    return {name: _shots(root, f"{patient}/{name}") for name in _subdirectories(root / "img" / patient)}


def _shots(root: Path, sequence: str) -> list[_Shot]:
    """The shots of one sequence. Of a stereo pair (`_l`, `_r`) the left view is taken: the masks belong to it."""
    shots: dict[int, _Shot] = {}
    for image in sorted((root / "img" / sequence).iterdir()):
        if image.suffix.lower() not in _IMAGE_SUFFIXES or image.name[0] == ".":
            continue
        match = re.fullmatch(r"(\d+)(_[lr])?", image.stem)
        if match is None:
            raise UserError(f"image '{image}': the name should be a frame number, with _l or _r for a stereo view")
        if match[2] == "_r":
            continue
        mask = root / "annot" / sequence / f"{image.stem}.png"
        if not mask.is_file():
            raise UserError(f"image '{image}' has no mask: expected '{mask}'")
        number = int(match[1])
        if number in shots:
            raise UserError(f"images '{shots[number].image}' and '{image}' have the same frame number: keep one")
        shots[number] = _Shot(number, image.stem, image, mask)
    stems = {shot.stem for shot in shots.values()}
    for mask in sorted((root / "annot" / sequence).glob("[!.]*.png")):
        if mask.stem not in stems and not mask.stem.endswith("_r"):
            raise UserError(f"mask '{mask}' has no image in '{root / 'img' / sequence}': fetch it, or remove the mask")
    if not shots:
        raise UserError(f"'{root / 'img' / sequence}' has no images (.png or .jpg)")
    return [shots[number] for number in sorted(shots)]


# --- Files -----------------------------------------------------------------------------------------------------------


def read_mask(path: Path) -> np.ndarray:
    """uint8[H, W] of label values. UserError names a file that is damaged, or holds a value without a class."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "1"):
                raise UserError(f"mask '{path}' is a {image.mode} image: expected one grey value a pixel (0-6)")
            mask = np.asarray(image, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"mask '{path}' can't be read ({error}): fetch it again") from error
    if (highest := int(mask.max())) >= len(CLASSES):
        raise UserError(
            f"mask '{path}' holds the value {highest}: expected 0-{len(CLASSES) - 1} ({', '.join(CLASSES)})"
        )
    return mask


def read_jpeg(path: Path, size: tuple[int, int]) -> bytes:
    """JPEG bytes of an image of `size` (width, height): a JPEG's own, after decoding it once, or re-encoded at 95."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"image '{path}' can't be read ({error.strerror}): fetch it again") from error
    pixels = decode_pixels(content, f"image '{path}'")
    if pixels.shape[1::-1] != size:
        raise UserError(f"image '{path}' is {pixels.shape[1::-1]} pixels, its mask {size}: they must agree")
    if content.startswith(b"\xff\xd8"):
        return content
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _png(mask: np.ndarray) -> bytes:
    """Void is 0 and the labels count from 1 in `CLASSES`, as `Frame.mask` wants them."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


# --- Rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """One shot and what its mask shows; `present` follows LABELS."""

    shot: _Shot
    size: tuple[int, int]
    regions: list[mask_language.Region]
    present: tuple[bool, ...]


def _look(shot: _Shot) -> _Seen:
    mask = read_mask(shot.mask)
    found = mask_language.regions(mask, len(CLASSES))[1:]
    return _Seen(shot, (mask.shape[1], mask.shape[0]), found, tuple(r.fraction > VISIBLE_ABOVE for r in found))


def _description(seen: _Seen) -> str:
    visible = {name: r for name, r, here in zip(LABELS, seen.regions, seen.present, strict=True) if here}
    return mask_language.describe(visible, ORDER, SUBJECTS, ANCHORS, BACKGROUND)


def _bundle(patient: str, sequences: dict[str, list[_Shot]]) -> ProcedureBundle:
    """All rows of one patient's operation. The masks are read now, the images as the store asks for them."""
    videos, activities, frames = [], [], []
    for name, shots in sequences.items():
        video = f"{patient}/{name}"
        videos.append(Video(id=video, procedure=patient))
        runs = itertools.groupby(map(_look, shots), key=lambda seen: seen.present)
        for number, (present, members) in enumerate(runs):
            run = list(members)
            activity = Activity(
                id=f"{video}/{number:03d}",
                procedure=patient,
                video=video,
                t0=run[0].shot.number * MS_PER_NUMBER,
                t1=(run[-1].shot.number + 1) * MS_PER_NUMBER,
                landmarks=tuple(1 if here else 0 for here in present),
                description=_description(run[len(run) // 2]),  # the reference view is the middle frame
            )
            activities.append(activity)
            frames += [partial(_frame, seen, activity) for seen in run]
    return ProcedureBundle(
        procedure=Procedure(id=patient, patient=patient, source=SOURCE),
        videos=tuple(videos),
        activities=tuple(activities),
        frames=_each(frames),
    )


def _each(makers: list[partial[Frame]]) -> Iterator[Frame]:
    return (make() for make in makers)


def _frame(seen: _Seen, activity: Activity) -> Frame:
    return Frame(
        uid=f"{activity.video}/{seen.shot.stem}",
        procedure=activity.procedure,
        video=activity.video,
        pts_ms=seen.shot.number * MS_PER_NUMBER,
        activity=activity.id,
        assessable=True,
        image=read_jpeg(seen.shot.image, seen.size),
        visible=activity.landmarks,
        fractions=tuple(region.fraction for region in seen.regions),
        mask=_png(read_mask(seen.shot.mask)),
    )
