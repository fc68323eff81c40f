"""The data doctor: what is wrong with a data set, in a list that a person can act on.

An error is something that training would stumble over or silently learn wrong; a warning is worth a look. Nothing is
changed on disk.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from vlm_jax.data.check_rows import row_findings
from vlm_jax.data.files import sha256_file
from vlm_jax.data.findings import Finding
from vlm_jax.data.lookalikes import SIDE, Lookalikes
from vlm_jax.data.progress import Progress
from vlm_jax.data.store import Dataset, open_dataset
from vlm_jax.data.tfds_layout import parse
from vlm_jax.data.transforms import decode_image, read_mask
from vlm_jax.errors import EnvironmentFault, UserError

SHOWN = 5
"""Findings of one kind that the readable list spells out; `--json` has them all."""


@dataclass(frozen=True)
class Diagnosis:
    """All that was found in one data set.

    Attributes:
      frames, sentences: how much was looked at.
      findings: errors first, in the order of the checks.
    """

    path: Path
    frames: int
    sentences: int
    findings: tuple[Finding, ...]

    def count(self, level: Literal["error", "warning"]) -> int:
        """How many findings have that level."""
        return sum(finding.level == level for finding in self.findings)


def check_dataset(path: str | Path, *, images: bool = True, progress: bool = True) -> Diagnosis:
    """Looks a data set over.

    Args:
      path: its directory.
      images: decode every image and mask (the slow part).
      progress: say on stderr how far it is.

    Raises:
      UserError: there is no data set to look at, or its tables can't be read.
    """
    dataset = open_dataset(path)
    findings = [*_empty(dataset), *_shards(dataset), *row_findings(dataset)]
    if images and len(dataset.frames) and not any(finding.code == "shard" for finding in findings):
        findings += _images(dataset, progress)
    findings.sort(key=lambda finding: finding.level != "error")
    return Diagnosis(dataset.path, len(dataset.frames), len(dataset.tables.sentences), tuple(findings))


def render(diagnosis: Diagnosis) -> str:
    """The readable list: one block a kind of finding, one line a finding, then the sum."""
    kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in diagnosis.findings:
        kinds[finding.level, finding.code].append(finding)
    lines = []
    for (level, code), found in kinds.items():
        lines.append(f"{level}: {code} ({len(found)})")
        lines += [f"  {finding.where}: {finding.message}" for finding in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"  ... and {len(found) - SHOWN} more (--json lists all)")
    size = f"{diagnosis.frames} frames, {diagnosis.sentences} sentences"
    lines.append(f"{size}: {diagnosis.count('error')} errors, {diagnosis.count('warning')} warnings")
    return "\n".join(lines)


# --- Files -----------------------------------------------------------------------------------------------------------


def _empty(dataset: Dataset) -> Iterator[Finding]:
    if not len(dataset.frames) and not dataset.tables.sentences:
        yield Finding("error", "empty", dataset.info.source, "has neither frames nor sentences: nothing to train on")


def _shards(dataset: Dataset) -> Iterator[Finding]:
    for shard in dataset.shards:
        file = dataset.path / shard["file"]
        if not shard["records"]:
            continue
        if not file.is_file():
            yield Finding("error", "shard", shard["file"], "is missing: build the data set again")
        elif file.stat().st_size != shard["bytes"] or sha256_file(file) != shard["sha256"]:
            yield Finding("error", "shard", shard["file"], "is not what was written: build the data set again")


# --- Images ----------------------------------------------------------------------------------------------------------


def _images(dataset: Dataset, progress: bool) -> list[Finding]:
    """Decodes every image and mask; finds broken ones, and equal or near-equal images."""
    findings: list[Finding] = []
    digests: dict[bytes, list[int]] = defaultdict(list)
    looks, patients = Lookalikes(), _patients(dataset)
    with Progress("images", 1, "frames", progress) as bar:
        for i, uid in enumerate(dataset.frames.uid.tolist()):
            bar.tick()
            try:
                example = parse(dataset.reader[i])
                small = decode_image(example.image, SIDE, uid)
            except EnvironmentFault:  # the disk went away: no fault of the image's
                raise
            except UserError as error:
                findings.append(Finding("error", "image", uid, str(error).removeprefix(f"{uid}: ")))
                continue
            if example.mask:
                findings += _mask(example.mask, uid, dataset.info.labels, example.image)
            if example.uid != uid:
                findings.append(Finding("error", "order", uid, f"the shard holds '{example.uid}' in its place"))
            if not dataset.frames.assessable[i]:
                continue  # black frames are alike everywhere, and no run learns from them
            digests[hashlib.sha256(example.image).digest()].append(i)
            looks.add(patients[i], i, small)
        bar.step(f"{len(dataset.frames)} decoded")
    return findings + _duplicates(dataset, digests, looks.pairs(progress), patients)


def _mask(mask: bytes, uid: str, labels: Sequence[str], image: bytes) -> Iterator[Finding]:
    """What is wrong with a frame's mask."""
    try:
        values = read_mask(mask, uid)
    except UserError as error:
        yield Finding("error", "mask", uid, str(error).removeprefix(f"{uid}: "))
        return
    if (most := int(np.max(values, initial=0))) > len(labels):
        count = f"the {len(labels)} labels count from 1, anything else is 0"
        yield Finding("error", "mask", uid, f"its mask holds the value {most}: {count}")
    with Image.open(io.BytesIO(image)) as opened:  # the head alone; it was decoded before
        width, height = opened.size
    if abs(values.shape[0] * width - values.shape[1] * height) > max(height, width):
        size = f"{values.shape[1]} x {values.shape[0]}"
        yield Finding(
            "warning", "mask", uid, f"its mask is {size} pixels, the image {width} x {height}: give both one shape"
        )


def _patients(dataset: Dataset) -> list[str]:
    """The patient of each frame; the procedure where none is known."""
    patient_of = {row.id: row.patient for row in dataset.tables.procedures}
    return [patient_of.get(procedure) or procedure for procedure in dataset.frames.procedure.tolist()]


def _duplicates(
    dataset: Dataset,
    digests: dict[bytes, list[int]],
    alike: Iterable[tuple[str, int, str, int]],
    patients: Sequence[str],
) -> list[Finding]:
    """The same image in two groups is a leak wherever a split runs between them."""
    uids: list[str] = dataset.frames.uid.tolist()
    leak = "of another patient: it would lie on both sides of a split"
    findings, known = [], set[int]()
    for j, own, other in _companions(digests, patients):
        known.add(j)
        if other is not None:
            findings.append(Finding("error", "duplicate", uids[j], f"the same bytes as '{uids[other]}' {leak}"))
        elif own is not None:
            findings.append(Finding("warning", "duplicate", uids[j], f"the same bytes as '{uids[own]}'"))
    for _, other, _, j in alike:
        if j not in known:
            known.add(j)
            findings.append(Finding("warning", "near-duplicate", uids[j], f"looks like '{uids[other]}' {leak}"))
    return findings


def _companions(
    buckets: dict[bytes, list[int]], patients: Sequence[str]
) -> Iterator[tuple[int, int | None, int | None]]:
    """Each frame that is not the first of its bucket, with the first of its own patient and of another one there."""
    for members in buckets.values():
        first: dict[str, int] = {}
        for j in members:
            if first:
                other = next((i for patient, i in first.items() if patient != patients[j]), None)
                yield j, first.get(patients[j]), other
            first.setdefault(patients[j], j)
