"""T2b: the description of the next activity, from the frame and the current description."""

from __future__ import annotations

from vlm_jax.contract import Record
from vlm_jax.tasks.text_task import TextTask


class Anticipate(TextTask):
    """The only task that reads the current description. The last activity's target is the end."""

    name = "anticipate"
    fields: tuple[str, ...] = ("image", "description", "next_description")

    def prompt(self, record: Record) -> tuple[str | None, ...]:
        return (record.description,)

    def target(self, record: Record) -> str | None:
        return record.next_description

    def carried(self, record: Record) -> bool:
        return record.next_description is not None
