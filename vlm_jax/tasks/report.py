"""T3: the next sentence of the surgical report, from the frame, a keyword and the most recent sentences."""

from __future__ import annotations

from vlm_jax.contract import Record
from vlm_jax.tasks.text_task import TextTask


class Report(TextTask):
    """Keyword-augmented report generation (Bieck et al. 2021; Kunz et al. 2022), with the image beside it."""

    name = "report"
    fields: tuple[str, ...] = ("image", "keyword", "context", "report_sentence")

    def prompt(self, record: Record) -> tuple[str | None, ...]:
        return (record.keyword, record.context)

    def target(self, record: Record) -> str | None:
        return record.report_sentence

    def carried(self, record: Record) -> bool:
        return record.report_sentence is not None
