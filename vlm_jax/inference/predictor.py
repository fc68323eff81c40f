"""`Predictor`: images and texts in, `Prediction`s out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from vlm_jax.config.rules import TEXT_ONLY
from vlm_jax.contract import Batch, Box, LandmarkPrediction, Prediction, TextPrediction
from vlm_jax.data.collate import make_batch
from vlm_jax.decoding.boxes import areas_and_boxes, box_of
from vlm_jax.decoding.system import RawPrediction, System
from vlm_jax.errors import UserError
from vlm_jax.inference.images import load_frames
from vlm_jax.inference.request import Request, make_requests, with_before

OnBad = Callable[[Request, UserError], None]


class Predictor:
    """Answers images one batch at a time; compiled once a batch size.

    Attributes:
      system: the model with its parameters, tokenizer, label names and thresholds.
      batch_size: rows of every batch, padded; None = the smallest power of two that holds the images, up to the run's
        `eval.batch_size`, so that one image does not pay for 32.
    """

    def __init__(self, system: System, batch_size: int | None = None) -> None:
        if batch_size is not None and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
            raise UserError(f"batch_size is {batch_size!r}; expected a whole number, at least 1")
        self.system = system
        self.batch_size = batch_size

    def __call__(
        self,
        images: Any,
        keyword: str | None | Sequence[str | None] = None,
        context: str | None | Sequence[str | None] = None,
        previous: str | None | Sequence[str | None] = None,
        current: str | None | Sequence[str | None] = None,
        before: Sequence[Sequence[Any]] = (),
    ) -> list[Prediction]:
        """Predicts for one image or many.

        Args:
          images: one, or a list, of paths, PIL images or uint8 arrays [H, W, 3].
          keyword: step code of the next report sentence. context: the most recent report sentence(s).
          previous: description of the previous activity. current: description of the current one; without it,
            anticipate reads the model's own description and its answer is marked `rolled_out`.
            Each text is one string for all images, or a list with one (or None) an image; `contract.START` says that
            the procedure or report starts here.
          before: for each image those of the frames before it, in the order of time: for a model of several frames.

        Returns:
          One `Prediction` an image, in order. `report` is None without keyword and context; with a keyword alone its
          context is `empty`.

        Raises:
          UserError: an image that cannot be read, or texts that do not fit the images; one line.
        """
        requests = make_requests(images, keyword=keyword, context=context, previous=previous, current=current)
        return list(self.stream(with_before(requests, before)))

    def stream(self, requests: Iterable[Request], on_bad: OnBad | None = None) -> Iterator[Prediction]:
        """Predicts lazily, a batch at a time, so that a folder need not fit into memory.

        Args:
          requests: any number of them (`vlm_jax.inference.request.Request`).
          on_bad: called with a request whose image cannot be read, which is then left out; None = raise.

        Raises:
          UserError: something else than a request, or, without `on_bad`, an image that cannot be read.
        """
        settings = self.system.config
        size = self.batch_size or settings.eval.batch_size
        pending = iter(requests)
        with ThreadPoolExecutor(max(1, settings.data.threads)) as pool:
            while chunk := list(itertools.islice(pending, size)):
                _check_requests(chunk)
                loaded = [(r, pool.submit(load_frames, r, settings.data)) for r in chunk]
                good = [pair for pair in (_result(*pair, on_bad) for pair in loaded) if pair is not None]
                if good:
                    yield from self._predict([r for r, _ in good], [frames for _, frames in good])

    def _predict(self, requests: list[Request], images: list[list[np.ndarray]]) -> list[Prediction]:
        rows = self.batch_size or min(1 << (len(requests) - 1).bit_length(), self.system.config.eval.batch_size)
        raw = self.system.predict(self._batch(requests, images, rows))
        ahead = raw
        if {"describe", "anticipate"} <= raw.texts.keys() and not all(r.current for r in requests):
            described = [r if r.current else r.with_current(raw.texts["describe"][i]) for i, r in enumerate(requests)]
            ahead = self.system.predict(self._batch(described, images, rows))
        return [self._prediction(request, raw, ahead, i) for i, request in enumerate(requests)]

    def _batch(self, requests: list[Request], images: list[list[np.ndarray]], rows: int) -> Batch:
        """What training and evaluation would make of the same frames, padded to `rows`; of each its own comes first."""
        s, padding = self.system, rows - len(requests)
        records = [*(r.record() for r in requests), *[None] * padding]
        own = [*(frames[0] for frames in images), *[None] * padding]
        before = [*(frames[1:] for frames in images), *[[]] * padding]
        return make_batch(records, s.tokenizer, s.labels, s.config, images=own, before=before)

    def _prediction(self, request: Request, raw: RawPrediction, ahead: RawPrediction, row: int) -> Prediction:
        can_roll_out = "describe" in raw.texts
        current = "gold" if request.current else "rolled_out" if can_roll_out else "empty"
        wants_report = bool(request.keyword or request.context)
        landmarks = self._landmarks(raw, row)
        report = self._text("report", request, raw, row, "gold" if request.context else "empty", landmarks)
        return Prediction(
            input=request.name,
            landmarks=landmarks,
            describe=self._text("describe", request, raw, row, "gold" if request.previous else "empty", landmarks),
            anticipate=self._text("anticipate", request, ahead, row, current),  # of what is not in view yet
            report=report if wants_report else None,
        )

    def _landmarks(self, raw: RawPrediction, row: int) -> tuple[LandmarkPrediction, ...] | None:
        if raw.probabilities is None:
            return None
        found = []
        places = None if raw.shares is None else areas_and_boxes(raw.shares[row])
        for c, name in enumerate(self.system.labels.names):
            threshold, score = self.system.thresholds.get(name), float(raw.probabilities[row, c])
            present = None if threshold is None else score >= threshold
            place = (None, None) if places is None else (float(places[c, 0]), box_of(places[c]))
            found.append(LandmarkPrediction(name, score, threshold, present, threshold is None, *place))
        return tuple(found)

    def _text(
        self,
        task: str,
        request: Request,
        raw: RawPrediction,
        row: int,
        context: str,
        landmarks: tuple[LandmarkPrediction, ...] | None = None,
    ) -> TextPrediction | None:
        if task not in raw.texts:
            return None
        score, threshold = float(raw.scores[task][row]), self.system.thresholds.get(task)
        abstained = threshold is not None and score < threshold
        text, sees = raw.texts[task][row], self.system.config.system not in TEXT_ONLY
        evidence = ((request.name, _named(text, landmarks or ())),) if sees else ()
        return TextPrediction(text, score, threshold, abstained, context, evidence)


def _named(text: str, landmarks: Sequence[LandmarkPrediction]) -> Box | None:
    """The box around the landmarks that a sentence names and the model found; None where there is none."""
    low, boxes = text.lower(), []
    for one in sorted(landmarks, key=lambda one: -len(one.name)):  # a name may hold another: the longer one is meant
        name = one.name.partition("/")[2].lower()
        if name in low and one.box and one.present:
            boxes.append(one.box)
        low = low.replace(name, "|")
    if not boxes:
        return None
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _check_requests(chunk: list[Request]) -> None:
    for other in chunk:
        if not isinstance(other, Request):
            kind = type(other).__name__
            raise UserError(f"stream got a {kind}; expected vlm_jax.inference.request.Request(image, name, ...)")


def _result(
    request: Request, future: Future[list[np.ndarray]], on_bad: OnBad | None
) -> tuple[Request, list[np.ndarray]] | None:
    try:
        return request, future.result()
    except UserError as error:
        # A machine's fault (a vanished mount) is nobody's bad image: it is never skipped.
        if on_bad is None or error.exit_code != UserError.exit_code:
            raise
        on_bad(request, error)
        return None
