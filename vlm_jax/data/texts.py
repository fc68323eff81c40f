"""The texts of a run's records, and whether they fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm_jax.config.parts import asks_for_places
from vlm_jax.config.schema import Config, DataConfig
from vlm_jax.contract import END, START
from vlm_jax.data.joins import NONE
from vlm_jax.data.records import SourceRecords
from vlm_jax.data.split_rules import SPLITS
from vlm_jax.data.splits import SourceSplit
from vlm_jax.tasks import TASK_TABLE
from vlm_jax.tasks.text_task import TextTask
from vlm_jax.text.tokenizer import Tokenizer

_ACTIVITY_TEXTS = ("previous", "description", "next_description")
_SENTENCE_TEXTS = ("keyword", "context", "report_sentence")


def texts_of(part: SourceRecords, rows: np.ndarray) -> set[str]:
    """Texts of these records, each activity and each sentence looked at once."""
    found: set[str | None] = set()
    for column, names in ((part.activity, _ACTIVITY_TEXTS), (part.sentence, _SENTENCE_TEXTS)):
        places, first = np.unique(column[rows], return_index=True)
        for place, i in zip(places.tolist(), first.tolist(), strict=True):
            if place != NONE:
                record = part.record(int(rows[i]), "", image=False)
                found |= {getattr(record, name) for name in names}
    return {text for text in found if text}


def untaught(parts: Sequence[SourceRecords], splits: Sequence[SourceSplit], config: Config) -> list[str]:
    """A line each where no training record has a target of some text tasks, or a mask for `model.region_width`."""
    found = _unanswered(parts, splits, config.tasks)
    if asks_for_places(config) and not any(
        "mask" in part.info.extras and (split.codes == SPLITS.index("train")).any()
        for part, split in zip(parts, splits, strict=True)
    ):
        found.append("model.region_width: no training set has masks; places are learned from the labels alone")
    return found


def _unanswered(parts: Sequence[SourceRecords], splits: Sequence[SourceSplit], tasks: Sequence[str]) -> list[str]:
    left = [name for name in tasks if isinstance(TASK_TABLE[name], TextTask)]
    for part, split in zip(parts, splits, strict=True):
        rows = np.flatnonzero(split.codes == SPLITS.index("train"))
        for column in (part.activity, part.sentence):
            _, first = np.unique(column[rows], return_index=True)
            for i in first.tolist() if left else ():
                record = part.record(int(rows[i]), "", image=False)
                left = [name for name in left if TASK_TABLE[name].target(record) in (None, START, END)]
    if not left:
        return []
    others = "+".join(name for name in tasks if name not in left)
    do = f"train the others alone, with `,tasks={others}` behind the preset" if others else "add texts to the data"
    return [f"no training record has a target of {', '.join(left)}: what the model says there means nothing; {do}"]


def train_descriptions(parts: Sequence[SourceRecords], splits: Sequence[SourceSplit]) -> list[str]:
    """Descriptions of the activities of training records, sorted, each once."""
    found: set[str | None] = set()
    for part, split in zip(parts, splits, strict=True):
        places = np.unique(part.activity[split.codes == SPLITS.index("train")])
        found |= {part.dataset.tables.activities[i].description for i in places.tolist() if i != NONE}
    return sorted(text for text in found if text)


def cut_texts(tokenizer: Tokenizer, texts: Sequence[str], data: DataConfig, *, foreign: bool = False) -> list[str]:
    """One line where training texts are longer than a target may be: their ends would be neither learned nor said.

    Args:
      foreign: the tokenizer was learned from other texts, and another could be.
    """
    room = data.target_length - 2  # the task token and [EOS]
    lengths = [len(tokenizer.encode(text)) for text in texts]
    long = sum(length > room for length in lengths)
    if not long:
        return []
    said = (
        f"{long} of {len(texts)} training texts are cut at data.target_length={data.target_length}; "
        f"the longest needs {max(lengths) + 2}"
    )
    words = sum(len(text.split()) for text in texts)
    # Descriptions and notes took 1.4 to 2.0 pieces a word by a tokenizer of their own, 2.8 to 4.7 by another's.
    spelt = foreign and sum(lengths) > 2.5 * max(words, 1)
    return [
        f"{said}. The tokenizer spells their words: --config.data.tokenizer=new learns one of them" if spelt else said
    ]
