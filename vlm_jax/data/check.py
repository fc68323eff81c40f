"""The data doctor: what is wrong with a data set, in a list that a person can act on.

An error is something that training would stumble over or silently learn wrong; a warning is worth a look. Nothing is
changed on disk.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vlm_jax.data.check_rows import row_findings
from vlm_jax.data.files import sha256_file
from vlm_jax.data.findings import Finding
from vlm_jax.data.progress import Progress
from vlm_jax.data.store import Dataset, open_dataset
from vlm_jax.data.tfds_layout import parse
from vlm_jax.data.transforms import decode_image
from vlm_jax.errors import EnvironmentFault, UserError

SHOWN = 5
"""Findings of one kind that the readable list spells out; `--json` has them all."""
_SIDE = 9
_FLAT = 8
"""Grey levels between the darkest and the brightest part below which an image shows nothing: black frames are alike."""
_NEAR = 4
"""Bits of 72 in which the hashes of the same picture may differ after it was encoded again."""
_BUCKET = 256
"""Frames kept of one band: a standing picture fills its bucket with itself."""


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
      images: decode every image (the slow part).
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
    """Decodes every image; finds broken ones, and equal or near-equal ones."""
    findings: list[Finding] = []
    digests: dict[bytes, list[int]] = defaultdict(list)
    looks: dict[int, bytes] = {}
    with Progress("images", 1, "frames", progress) as bar:
        for i, uid in enumerate(dataset.frames.uid.tolist()):
            bar.tick()
            try:
                example = parse(dataset.reader[i])
                small = decode_image(example.image, _SIDE, uid)
            except EnvironmentFault:  # the disk went away: no fault of the image's
                raise
            except UserError as error:
                findings.append(Finding("error", "image", uid, str(error).removeprefix(f"{uid}: ")))
                continue
            if example.uid != uid:
                findings.append(Finding("error", "order", uid, f"the shard holds '{example.uid}' in its place"))
            if not dataset.frames.assessable[i]:
                continue  # black frames are alike everywhere, and no run learns from them
            digests[hashlib.sha256(example.image).digest()].append(i)
            if (look := _difference_hash(small)) is not None:
                looks[i] = look
        bar.step(f"{len(dataset.frames)} decoded")
    return findings + _duplicates(dataset, digests, looks)


def _difference_hash(small: np.ndarray) -> bytes | None:
    """Which neighbour is brighter, over a 9 x 9 thumbnail (72 bits); None for an image that shows nothing."""
    grey = small.astype(np.int32).sum(-1) // 3
    if np.ptp(grey) < _FLAT:
        return None
    return np.packbits(grey[:, 1:] - grey[:, :-1] > 2).tobytes()


def _duplicates(dataset: Dataset, digests: dict[bytes, list[int]], looks: dict[int, bytes]) -> list[Finding]:
    """The same image in two groups is a leak wherever a split runs between them."""
    patient_of = {row.id: row.patient for row in dataset.tables.procedures}
    procedures: list[str] = dataset.frames.procedure.tolist()
    patients = [patient_of.get(procedure, procedure) for procedure in procedures]
    uids: list[str] = dataset.frames.uid.tolist()
    leak = "of another patient: it would lie on both sides of a split"
    findings, known = [], set[int]()
    for j, own, other in _companions(digests, patients):
        known.add(j)
        if other is not None:
            findings.append(Finding("error", "duplicate", uids[j], f"the same bytes as '{uids[other]}' {leak}"))
        elif own is not None:
            findings.append(Finding("warning", "duplicate", uids[j], f"the same bytes as '{uids[own]}'"))
    for j, other in _lookalikes(looks, patients):
        if j not in known:
            findings.append(Finding("warning", "near-duplicate", uids[j], f"looks like '{uids[other]}' {leak}"))
    return findings


def _lookalikes(looks: dict[int, bytes], patients: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(frame, an earlier one of another patient whose hash differs in few bits).

    Hashes that differ in two bits agree in one of three bands at least; only those that share a band are compared, so
    that the time grows with the number of frames and not with its square.
    """
    bands: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for j, look in looks.items():
        number, found = int.from_bytes(look), None
        for band in range(3):
            bucket = bands[band, look[3 * band : 3 * band + 3]]
            for i in bucket if found is None else ():
                near = (number ^ int.from_bytes(looks[i])).bit_count() <= _NEAR
                found = i if near and patients[i] != patients[j] else found
            if len(bucket) < _BUCKET:
                bucket.append(j)
        if found is not None:
            yield j, found


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
