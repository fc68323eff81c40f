"""Files that lines are added to: on a disk, and on storage that can only be written whole."""

from __future__ import annotations

import json

import pytest
from etils import epath

from vlm_jax.training import lines as module
from vlm_jax.training.lines import LineFile
from vlm_jax.training.writers import MetricWriter


class Bucket:
    """What gs:// takes: whole files, and no appending."""

    parent = None

    def __init__(self, text: str | None = None):
        self.text, self.uploads = text, 0

    def __fspath__(self) -> str:
        return "gs://bucket/run/metrics.jsonl"

    def exists(self) -> bool:
        return self.text is not None

    def read_text(self) -> str:
        assert self.text is not None
        return self.text

    def write_text(self, text: str) -> None:
        self.text, self.uploads = text, self.uploads + 1


@pytest.mark.parametrize("before", [None, "", "a\n", 'a\n{"torn'])
def test_a_bucket_gets_what_a_disk_gets(before, tmp_path):
    path, bucket = epath.Path(tmp_path / "lines"), Bucket(before)
    if before is not None:
        path.write_text(before)
    for place in (path, bucket):
        file = LineFile(place)
        file.write("b")
        file.write("c")
        file.close()
    assert (
        bucket.text
        == path.read_text()
        == {None: "", "": "", "a\n": "a\n", 'a\n{"torn': 'a\n{"torn\n'}[before] + "b\nc\n"
    )


def test_on_a_disk_a_line_is_there_at_once_and_in_a_bucket_after_a_while(tmp_path, monkeypatch):
    path, bucket = epath.Path(tmp_path / "lines"), Bucket()
    LineFile(path).write("a")
    assert path.read_text() == "a\n"
    file = LineFile(bucket)
    file.write("a")
    assert bucket.text is None
    file.sync()
    file.sync()
    assert bucket.text == "a\n" and bucket.uploads == 1
    monkeypatch.setattr(module, "REWRITE_EVERY", 0.0)
    file.write("b")
    assert bucket.text == "a\nb\n"


def test_a_run_that_goes_on_in_a_bucket_keeps_its_rows(monkeypatch):
    bucket = Bucket('{"step": 1}\n{"step": 2}\n{"step": 3}\n')

    class Folder:
        def __truediv__(self, name):
            return bucket

    monkeypatch.setattr("vlm_jax.training.writers.rewind", lambda path, step, validation=True: None)
    writer = MetricWriter(Folder(), step=3, tensorboard=False)
    writer.write(4, {"loss": 1.0})
    writer.sync()
    assert [json.loads(line)["step"] for line in bucket.text.splitlines()] == [1, 2, 3, 4]
    writer.write(5, {"loss": 1.0})
    writer.close()
    assert [json.loads(line)["step"] for line in bucket.text.splitlines()] == [1, 2, 3, 4, 5]
