"""The one check of --workdir and --checkpoint, by itself and through every command that takes a place."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from etils import epath

from vlm_jax import cli
from vlm_jax.checkpoint.work_directory import work_directory
from vlm_jax.commands.evaluate import _base
from vlm_jax.errors import EnvironmentFault, UserError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("kept")
    return path


@pytest.fixture
def no_gcs(monkeypatch):
    """gs:// as on a machine without the extra `gcs`."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)


def _refused(words, capsys, code=2):
    assert cli.main(words) == code
    err = capsys.readouterr().err
    assert err.startswith("vlm-jax: error: ") and err.count("\n") == 1, err
    return err


def _commands(place):
    """Every command that takes a place, with `place` as that."""
    train = ["train", "--config", "vlm:micro", "--config.data.path=nowhere"]
    return {
        "train": [*train, "--workdir", place],
        "evaluate": ["evaluate", "--workdir", place],
        "evaluate --checkpoint": ["evaluate", "--checkpoint", place],
        "demo": ["demo", "--workdir", place],
        "predict": ["predict", "x.jpg", "--checkpoint", place],
    }


NAMES = tuple(_commands(""))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_no_directory(name, file, capsys):
    for place in (file, file / "below"):
        err = _refused(_commands(str(place))[name], capsys)
        assert f"'{file}' is a file" in err
    assert file.read_text() == "kept"


@pytest.mark.parametrize("name", NAMES)
def test_a_bucket_without_its_extra_is_one_line(name, no_gcs, capsys):
    err = _refused(_commands("gs://bucket/run")[name], capsys)
    assert "is remote" in err if name == "demo" else "pip install -e '.[gcs]'" in err


@pytest.mark.parametrize("name", NAMES)
def test_other_addresses_and_nothing_are_refused(name, capsys):
    assert "expected a local directory" in _refused(_commands("https://host/run")[name], capsys)
    assert "is empty" in _refused(_commands(" ")[name], capsys)


@pytest.mark.parametrize("path", ["runs/run[1]", "a*/b", "gs://bucket/run?"])
def test_names_that_checkpoints_could_not_be_read_under_are_refused(path):
    with pytest.raises(UserError, match="rename it, or give another --workdir"):
        work_directory(path)


def test_the_folders_above_count_too(tmp_path, monkeypatch):
    (tmp_path / "all [new]").mkdir()
    monkeypatch.chdir(tmp_path / "all [new]")
    with pytest.raises(UserError, match="rename it"):
        work_directory("runs/a")


class _Bucket:
    """A remote path whose storage answers as told."""

    def __init__(self, exists):
        self._exists = exists

    def exists(self):
        if isinstance(self._exists, Exception):
            raise self._exists
        return self._exists

    def is_dir(self):
        return False


def test_what_a_bucket_answers(monkeypatch):
    def with_bucket(exists):
        monkeypatch.setattr(epath, "Path", lambda path: _Bucket(exists))
        return work_directory("gs://bucket/run")

    with pytest.raises(EnvironmentFault, match="cannot be reached .no credentials.*credentials"):
        with_bucket(RuntimeError("no\ncredentials"))
    with pytest.raises(UserError, match="is a file"):
        with_bucket(True)
    assert isinstance(with_bucket(False), _Bucket)


def test_directories_that_can_be_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("runs/new", str(tmp_path), "./x", ".."):
        assert str(work_directory(path)) == str(epath.Path(path))
    assert list(tmp_path.iterdir()) == []


def test_the_work_directory_of_a_checkpoint_keeps_its_address():
    for path in ("gs://bucket/run", "gs://bucket/run/checkpoints", "gs://bucket/run/checkpoints/20"):
        assert str(_base(epath.Path(path))) == "gs://bucket/run"
    assert str(_base(epath.Path("runs/a/checkpoints/20"))) == "runs/a"


def test_results_and_predictions_go_to_a_local_disk(tmp_path, file, monkeypatch, capsys):
    """Refused before anything is read: the work directory here is empty."""
    evaluate = ["evaluate", "--workdir", str(tmp_path)]
    assert "is remote" in _refused([*evaluate, "--out", "gs://bucket/out"], capsys)
    assert "is a file" in _refused([*evaluate, "--out", str(file)], capsys)
    predict = ["predict", "x.jpg", "--checkpoint", str(tmp_path), "--out", "gs://bucket/p.jsonl"]
    assert "is remote" in _refused(predict, capsys)
    monkeypatch.setattr("vlm_jax.checkpoint.work_directory.work_directory", lambda path, *_, **__: epath.Path(path))
    assert "give --out DIR" in _refused(["evaluate", "--workdir", "gs://bucket/run"], capsys)


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="the extra gcs is installed")
def test_the_extra_is_really_what_is_missing():
    with pytest.raises(UserError, match="extra gcs"):
        work_directory("gs://bucket/run")
