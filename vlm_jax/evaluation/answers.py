"""What a system answers to units, under gold, rolled-out or empty contexts, and with inputs taken away or exchanged.

Gold: the prompts of the records (the paper's comparison). Empty: no text but the keyword. Rolled out: what would happen
in an operating theatre: the system's own earlier sentences stand for the previous and the current description and for
the report so far. Activities follow in time within a video, sentences as the report has them; chains are answered
side by side. Where a system describes nothing it has nothing to roll out: no such answers of landmarks and anticipate
then. Without keyword, without context: of reports alone, one part of the prompt taken away. Shuffled texts, shuffled
images: the earlier texts, or the pictures, of another unit of the same source; what a system takes from them shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlm_jax.config.parts import asks_for_places
from vlm_jax.config.rules import LISTS
from vlm_jax.contract import START, TEXT_TASKS, Batch
from vlm_jax.data.joins import join_context
from vlm_jax.data.progress import Progress
from vlm_jax.data.run_data import RunData
from vlm_jax.decoding.boxes import areas_and_boxes
from vlm_jax.decoding.system import System
from vlm_jax.evaluation.place_scores import Usual, compare, true_shares, usual_shares
from vlm_jax.evaluation.text_scores import shuffled
from vlm_jax.evaluation.units import Unit

TAKEN_AWAY = {"no_keyword": "keyword", "no_context": "context"}
"""Context -> the field of a report's prompt that it lacks."""
CONTEXTS = LISTS["eval.contexts"]

EARLIER = ("previous", "description", "context")
"""The fields of a record that prompts read, but for the keyword."""
SEED = 0
"""Of the deal of shuffled inputs."""
Overrides = dict[int, dict[str, str | None]]
"""{row: {field of the record: what stands there instead}}."""
Address = tuple[str, str, str]
"""(source, procedure, activity or sentence)."""


@dataclass
class Answers:
    """Of one context. Keys are rows of the record table.

    Attributes:
      probabilities: {row: float32[C]} for rows of landmark units.
      truth, known: {row: bool[C]}: the labels that the batch carried (`data.landmark_labels` decides which).
      boxes, true_boxes: {row: `areas_and_boxes`} of models that mark places; true ones where there is a mask.
      places: {row: `compare` of the answer and of the constant one, f32[2, 7, C]}, where there is a mask.
      constant: bool[C], the landmarks for which training frames with masks give a constant answer.
      unread_masks: how many frames have a mask that cannot be read.
      texts: {text task: {row: text}}. scores: {text task: {row: mean log-probability a token}}.
    """

    probabilities: dict[int, np.ndarray] = field(default_factory=dict)
    truth: dict[int, np.ndarray] = field(default_factory=dict)
    known: dict[int, np.ndarray] = field(default_factory=dict)
    boxes: dict[int, np.ndarray] = field(default_factory=dict)
    true_boxes: dict[int, np.ndarray] = field(default_factory=dict)
    places: dict[int, np.ndarray] = field(default_factory=dict)
    constant: np.ndarray | None = None
    unread_masks: int = 0
    texts: dict[str, dict[int, str]] = field(default_factory=lambda: {task: {} for task in TEXT_TASKS})
    scores: dict[str, dict[int, float]] = field(default_factory=lambda: {task: {} for task in TEXT_TASKS})


class Answerer:
    """Runs a system over rows of a split."""

    def __init__(
        self, system: System, data: RunData, split: str, *, progress: bool = False, reference: RunData | None = None
    ) -> None:
        """`reference`: whose training frames give the constant answer to where landmarks are; `data`, by default."""
        self.system, self.data, self.reference = system, data, reference or data
        self.view = data.records(split)
        self._row_of = {int(row): i for i, row in enumerate(self.view.rows)}
        self.batch_size = system.config.eval.batch_size
        self.progress = progress
        self.tasks: tuple[str, ...] = tuple(system.config.tasks)
        self._pictures: dict[int, int] = {}  # row -> whose picture is shown in its place
        self._usual: Usual | None = None

    def answer(self, units: Mapping[str, Sequence[Unit]], context: str) -> Answers:
        """Answers to all units of the system's tasks that can be answered in this context."""
        answers = Answers()
        overrides: Overrides = {}
        frames = list(units["landmarks"]) if "landmarks" in self.tasks else []
        texts = {task: units[task] for task in TEXT_TASKS if task in self.tasks}
        if context in TAKEN_AWAY:
            frames, texts = [], {task: some for task, some in texts.items() if task == "report"}
        self._pictures = exchanged(units) if context == "shuffled_images" else {}
        if context == "rolled_out":
            described = {u.record.source for u in texts.get("describe", ())}
            frames = [u for u in frames if u.record.source in described]
            if "anticipate" in texts:
                texts["anticipate"] = [u for u in texts["anticipate"] if u.record.source in described]
            overrides = self._roll_out(frames, texts, answers)
        else:
            overrides = _changed_texts(units, context)
            self._write(texts, overrides, answers, context)
        if frames:
            self._classify([u.row for u in frames], overrides, answers, context, locate=context == "gold")
        return answers

    def classify(self, frames: Sequence[Unit]) -> Answers:
        """Landmarks alone, with gold prompts."""
        answers, self._pictures = Answers(), {}
        self._classify([u.row for u in frames], {}, answers, "gold")
        return answers

    # --- Rolling out ------------------------------------------------------------------------------------------------

    def _roll_out(self, frames: Sequence[Unit], texts: Mapping[str, Sequence[Unit]], answers: Answers) -> Overrides:
        """Answers the text tasks one after the other; returns what stands for `previous` in the frames' prompts."""
        own: dict[Address, str] = {}
        before: dict[Address, str] = {}
        if "describe" in texts:
            own, before = self._chain("describe", texts["describe"], "previous", _last, answers)
        if "report" in texts:
            self._chain("report", texts["report"], "context", join_context, answers)
        if "anticipate" in texts:
            now = {u.row: {"description": own.get(_address(u))} for u in texts["anticipate"]}
            self._write({"anticipate": texts["anticipate"]}, now, answers, "rolled_out")
        return {u.row: {"previous": _earlier(u.record.previous, before.get(_activity(u)))} for u in frames}

    def _chain(
        self,
        task: str,
        units: Sequence[Unit],
        prompt_field: str,
        join: Callable[[Sequence[str]], str],
        answers: Answers,
    ) -> tuple[dict[Address, str], dict[Address, str]]:
        """Step k of all chains at once. Returns ({unit: own text}, {unit: own text that stood in its prompt})."""
        own: dict[Address, str] = {}
        before: dict[Address, str] = {}
        written: dict[tuple[str, ...], list[str]] = {}
        steps: dict[int, list[Unit]] = {}
        for unit in units:
            steps.setdefault(unit.order, []).append(unit)
        width = min(self.batch_size, max(map(len, steps.values()), default=1))
        with Progress(f"{task}, rolled out", 1, "units", self.progress) as bar:
            for order in sorted(steps):
                overrides: Overrides = {}
                for unit in steps[order]:
                    if unit.chain in written:
                        before[_address(unit)] = join(written[unit.chain])
                    given = _earlier(getattr(unit.record, prompt_field), before.get(_address(unit)))
                    overrides[unit.row] = {prompt_field: given}
                self._generate([u.row for u in steps[order]], (task,), overrides, answers, width, bar)
                for unit in steps[order]:
                    if unit.row in answers.texts[task]:
                        own[_address(unit)] = answers.texts[task][unit.row]
                        written.setdefault(unit.chain, []).append(own[_address(unit)])
            bar.step(f"{len(units)} units in {len(steps)} steps")
        return own, before

    # --- Batches ----------------------------------------------------------------------------------------------------

    def _write(self, texts: Mapping[str, Sequence[Unit]], overrides: Overrides, answers: Answers, what: str) -> None:
        """Generates the texts of units; a row that is a unit of two tasks is answered once.

        In a mixture whose sources carry different tasks, each is asked for its own alone.
        """
        asked: dict[str, list[str]] = {}
        rows: dict[str, set[int]] = {}
        for task, some in texts.items():
            for unit in some:
                rows.setdefault(unit.record.source, set()).add(unit.row)
                if task not in asked.setdefault(unit.record.source, []):
                    asked[unit.record.source].append(task)
        groups: dict[tuple[str, ...], set[int]] = {}
        for source, tasks in asked.items():
            groups.setdefault(tuple(tasks), set()).update(rows[source])
        with Progress(f"text, {what}", 1, "units", self.progress) as bar:
            for tasks, some in groups.items():
                only = tasks if len(groups) > 1 else None
                self._generate(sorted(some), tasks, overrides, answers, self.batch_size, bar, only)
            bar.step(f"{sum(map(len, rows.values()))} units")

    def _generate(
        self,
        rows: Sequence[int],
        tasks: Sequence[str],
        overrides: Overrides,
        answers: Answers,
        size: int,
        bar: Progress,
        only: Sequence[str] | None = None,
    ) -> None:
        for batch in self._batches(rows, size, overrides):
            prediction = self.system.predict(batch, only)
            for i, row in self._valid(batch):
                for task in tasks:
                    answers.texts[task][row] = prediction.texts[task][i]
                    answers.scores[task][row] = float(prediction.scores[task][i])
                bar.tick()

    def _classify(
        self, rows: Sequence[int], overrides: Overrides, answers: Answers, what: str, *, locate: bool = False
    ) -> None:
        """Landmark probabilities alone: nothing is generated. With `locate` their places, if the model marks them."""
        located = locate and asks_for_places(self.system.config)
        look = self.system.places if located else lambda batch: (self.system.probabilities(batch), None)
        with Progress(f"landmarks, {what}", 1, "frames", self.progress) as bar:
            for batch in self._batches(rows, self.batch_size, overrides):
                probabilities, shares = look(batch)
                truth, known = np.asarray(batch.landmarks) > 0, np.asarray(batch.landmarks_mask)
                for i, row in self._valid(batch):
                    answers.probabilities[row] = probabilities[i]
                    answers.truth[row], answers.known[row] = truth[i], known[i]
                    bar.tick()
                if shares is not None:
                    self._locate(batch, shares, answers)
            bar.step(f"{len(rows)} frames")

    def _locate(self, batch: Batch, shares: np.ndarray, answers: Answers) -> None:
        """Boxes of every frame, and how far those with masks are off, beside the constant answer."""
        found = true_shares(batch, shares.shape)
        for i, row in self._valid(batch):
            answers.boxes[row] = areas_and_boxes(shares[i])
            if i in found:
                self._usual = self._usual or usual_shares(self.reference, shares.shape[1:3], self.batch_size)
                answers.constant = self._usual.known
                answers.true_boxes[row] = areas_and_boxes(found[i])
                both = (compare(shares[i], found[i]), compare(self._usual.shares, found[i]))
                answers.places[row] = np.stack(both)
            elif self.view.record(row, image=False).mask is not None:
                answers.unread_masks += 1

    def _batches(self, rows: Sequence[int], size: int, overrides: Overrides) -> Iterator[Any]:
        replaced = {
            row: dataclasses.replace(self.view.record(row, image=False), **overrides[row])  # pyright: ignore
            for row in rows
            if row in overrides
        }
        return self.data.batches(self.view, size, rows=np.array(rows, np.int64), overrides=replaced,
                                 pictures=self._pictures)  # fmt: skip

    def _valid(self, batch: Batch) -> list[tuple[int, int]]:
        """(index in the batch, row) of what is neither padding nor broken."""
        valid = np.asarray(batch.valid)
        return [(i, self._row_of[int(uid)]) for i, uid in enumerate(np.asarray(batch.uid)) if valid[i]]


def exchanged(units: Mapping[str, Sequence[Unit]]) -> dict[int, int]:
    """{row: another row of the same source whose picture is shown}; the same deal for systems of the same tasks."""
    pictured = [u for some in units.values() for u in some if u.record.image is not None]
    return _dealt(pictured)


def _dealt(units: Iterable[Unit]) -> dict[int, int]:
    """{row: another row}, each once, within each source; a row alone keeps its own."""
    rows: dict[str, set[int]] = {}
    for unit in units:
        rows.setdefault(unit.record.source, set()).add(unit.row)
    found: dict[int, int] = {}
    for some in map(sorted, rows.values()):
        found |= {row: some[int(i)] for row, i in zip(some, shuffled(len(some), SEED), strict=True)}
    return found


def _changed_texts(units: Mapping[str, Sequence[Unit]], context: str) -> Overrides:
    """What stands in the prompts in place of the records' own texts; nothing where the context leaves them."""
    everyone = {u.row: u for some in units.values() for u in some}
    if context == "empty":
        return {row: dict.fromkeys(EARLIER) for row in everyone}
    if context in TAKEN_AWAY:
        return {u.row: {TAKEN_AWAY[context]: None} for u in units["report"]}
    found: Overrides = {}
    if context == "shuffled_texts":
        others = [u for task, some in units.items() if task != "report" for u in some]
        for some, fields in ((units["report"], ("context",)), (others, ("previous", "description"))):
            for row, other in _dealt(some).items():
                texts = {name: getattr(everyone[other].record, name) for name in fields}
                found.setdefault(row, {}).update(texts)
    return found


def _earlier(gold: str | None, own: str | None) -> str | None:
    """The beginning of a procedure stays one; elsewhere the own text, or nothing where there is none."""
    return gold if gold is None or gold == START else own


def _last(texts: Sequence[str]) -> str:
    return texts[-1]


def _activity(unit: Unit) -> Address:
    """Where the frame's activity is found among the described ones."""
    return unit.record.source, unit.record.procedure, unit.record.activity or unit.record.uid


def _address(unit: Unit) -> Address:
    return unit.record.source, unit.record.procedure, unit.key
