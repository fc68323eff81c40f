"""T2a: the structured description of the current activity, from the frame and the previous description."""

from __future__ import annotations

from vlm_jax.contract import Record
from vlm_jax.tasks.text_task import TextTask


class Describe(TextTask):
    """Shares its prompt with the landmarks task, word for word, so that it is encoded once."""

    name = "describe"
    fields: tuple[str, ...] = ("image", "previous", "description")

    def prompt(self, record: Record) -> tuple[str | None, ...]:
        return (record.previous,)

    def target(self, record: Record) -> str | None:
        return record.description

    def carried(self, record: Record) -> bool:
        return record.description is not None
