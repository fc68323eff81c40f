"""One question to the model: an image and the texts that go with it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlm_jax.contract import START, Record
from vlm_jax.data.files import whole_text
from vlm_jax.errors import UserError

TEXTS = ("keyword", "context", "previous", "current")


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of one frame. A text that is not known is None; a blank one means the same.

    Attributes:
      image: a path, a PIL image, or uint8[H, W, 3].
      name: what the image is called in answers and errors.
      keyword: step code of the next report sentence. context: the most recent report sentence(s).
      before: images of the frames before it, in the order of time, for a model that sees several.
      previous: description of the previous activity. current: description of the current activity.
        `contract.START` in `previous` or `context` says that there is none because the procedure starts here.
    """

    image: Any
    name: str
    keyword: str | None = None
    context: str | None = None
    previous: str | None = None
    current: str | None = None
    before: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        for field in TEXTS:
            object.__setattr__(self, field, _text(getattr(self, field), f"{self.name}: {field}"))

    def record(self) -> Record:
        """The same, as the tasks' prompts read it; the image stays behind."""
        return Record(
            uid=self.name, source="", procedure="", group="", keyword=self.keyword,
            context=self.context, previous=self.previous, description=self.current,
        )  # fmt: skip

    def with_current(self, current: str) -> Request:
        """The same request, with a description of the current activity."""
        return dataclasses.replace(self, current=current)


def make_requests(images: Any, **texts: str | None | Sequence[str | None]) -> list[Request]:
    """Requests for one image or a sequence of them.

    Args:
      images: one, or a list or tuple of: path, PIL image, uint8[H, W, 3]; or one array uint8[n, H, W, 3].
      **texts: keyword, context, previous, current: one string for all images, or one (or None) an image.

    Raises:
      UserError: a list of texts of another length than the images, or something that is no text.
    """
    several = isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4)
    sources = list(images) if several else [images]
    columns = {name: _spread(name, value, len(sources)) for name, value in texts.items()}
    return [
        dataclasses.replace(Request(image, _name(image, i)), **{name: column[i] for name, column in columns.items()})  # pyright: ignore[reportArgumentType]
        for i, image in enumerate(sources)
    ]


def with_before(requests: list[Request], before: Sequence[Sequence[Any]]) -> list[Request]:
    """The requests with the frames before each; one list an image.

    Raises:
      UserError: another number of lists than of images.
    """
    if not isinstance(before, list | tuple):
        raise UserError(f"before is a {type(before).__name__}; give a list with a list of frames for each image")
    if not before:
        return requests
    if len(before) != len(requests):
        raise UserError(f"before has {len(before)} lists of frames for {len(requests)} images; give one an image")
    for request, some in zip(requests, before, strict=True):
        if not isinstance(some, list | tuple):
            raise UserError(f"{request.name}: before is a {type(some).__name__}; give a list of frames for each image")
    return [dataclasses.replace(r, before=tuple(some)) for r, some in zip(requests, before, strict=True)]


def _spread(name: str, value: str | None | Sequence[str | None], n: int) -> list[str | None]:
    if value is None or isinstance(value, str):
        return [value] * n
    if not isinstance(value, list | tuple):
        raise UserError(f"{name} is a {type(value).__name__}; expected a string, or a list with one an image")
    values = list(value)
    if len(values) != n:
        raise UserError(f"{name} has {len(values)} texts for {n} images; give one string for all, or one an image")
    return values


def _text(value: Any, where: str) -> str | None:
    """A text as prompts take it: None where there is none, `contract.START` however it is written."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(f"{where} is a {type(value).__name__}; expected a string or None")
    text = whole_text(value, where).strip()
    return START if text.upper() == START else text or None


def _name(image: Any, index: int) -> str:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"image[{index}]"
