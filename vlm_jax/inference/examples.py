"""A few test frames of a run as files for `vlm-jax predict`, and what was predicted for them as lines to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlm_jax.config.load import read
from vlm_jax.data.files import disk_faults, write_bytes
from vlm_jax.data.run_data import RunData
from vlm_jax.errors import UserError


def write_examples(workdir: Path, count: int) -> Path:
    """Writes `frames/*.jpg` and `frames.jsonl`, which holds only what is known of a frame before it is seen.

    Frames with a report sentence go first: they show every task.

    Raises:
      UserError: no run, no data, no image in the test split, or no permission to write.
      EnvironmentFault: the disk is full.
    """
    records = RunData.open(read(workdir / "config.json")).records("test")
    pictured = [(i, r) for i, r in enumerate(records) if r.image is not None]  # looked at without their images
    told = [i for i, r in pictured if r.report_sentence]
    chosen = told[:: max(1, len(told) // count)][:count] or [i for i, _ in pictured[:count]]
    if not chosen:
        raise UserError(f"the test split of {workdir} has no image to predict on: choose another data.split")
    path = workdir / "frames.jsonl"
    rows = []
    with disk_faults(workdir, again="run the same command again"):
        (workdir / "frames").mkdir(exist_ok=True)
        for number, record in enumerate(map(records.record, chosen)):
            image = f"frames/{number}.jpg"
            write_bytes(workdir / image, record.image or b"")
            known = {"keyword": record.keyword, "context": record.context, "previous": record.previous}
            rows.append({"image": image, **{key: value for key, value in known.items() if value}})
        write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return path


def read_predictions(path: Path) -> str:
    """The file that `vlm-jax predict --out` wrote, two to four lines an image.

    Raises:
      UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: write it with vlm-jax predict --out {path}")
    return "\n".join(line for row in path.read_text().splitlines() for line in _lines(json.loads(row)))


def _lines(prediction: Mapping[str, Any]) -> list[str]:
    present = [label["name"] for label in prediction.get("landmarks") or [] if label["present"]]
    lines = [f"  {Path(prediction['input']).name}: {', '.join(present) or 'no landmark above its threshold'}"]
    for task in ("describe", "anticipate", "report"):
        if prediction.get(task):
            lines.append(f"    {task}: {prediction[task]['text']}")
    return lines
