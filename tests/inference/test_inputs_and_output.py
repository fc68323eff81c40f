from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import pytest

from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.inference import output
from vlm_jax.inference.inputs import collect
from vlm_jax.inference.output import json_lines, track

NONE = {"keyword": None, "context": None, "previous": None, "current": None}


def test_folders_are_searched_deeply_and_sorted(folder):
    found = collect([str(folder), str(folder / "b.png")], NONE)
    assert [Path(r.name).name for r in found] == ["a.png", "b.png", "c.JPG", "b.png"]


def test_json_lines_give_texts_and_defaults_fill_what_is_missing(folder):
    rows = [{"image": "b.png", "keyword": "k", "previous": None}, {"image": "deep/c.JPG", "current": "now"}]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows) + "\n\n")
    first, second = collect([str(path)], {**NONE, "keyword": "default", "previous": "before"})
    assert (first.image, first.keyword, first.previous) == (folder / "b.png", "k", "before")
    assert (second.keyword, second.current, second.context) == ("default", "now", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("{", "line 1 is not JSON"),
        ('{"image": "a.png"}\n[1]', 'line 2 has no "image"'),
        ('{"keyword": "a"}', 'has no "image"'),
        ('{"image": "a.png", "keywrod": "a"}', 'unknown key "keywrod"; did you mean "keyword"?'),
        ('{"image": "a.png", "zzz": "a"}', 'unknown key "zzz"; expected image'),
        ('{"image": "a.png", "context": "\\ud83d"}', "half of a character"),
        ('{"image": "a.png", "before": ["\\ud83d.png"]}', "half of a character"),
        ('{"image": "a.png", "context": 3}', '"context" is a number; expected a string'),
        ('{"image": "a.png", "context": ["Mrs. Secret"]}', '"context" is a list; expected a string'),
    ],
)
def test_json_lines_that_say_nothing_clear(tmp_path, content, said):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        collect([str(path)], NONE)
    assert said in str(error.value) and str(path) in str(error.value) and "Secret" not in str(error.value)


def test_json_lines_in_another_encoding(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match="not UTF-8"):
        collect([str(tmp_path / "rows.jsonl")], NONE)


def test_inputs_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="holds no image"):
        collect([str(tmp_path)], NONE)
    with pytest.raises(UserError, match="does not exist"):
        collect([str(tmp_path / "no.png")], NONE)
    with pytest.raises(UserError, match="is remote"):
        collect(["gs://bucket/a.png"], NONE)


def test_videos_and_tables_are_told_what_to_become(tmp_path):
    for name in ("case 07.mp4", "rows.csv"):
        (tmp_path / name).write_bytes(b"x")
    for given in (tmp_path, tmp_path / "case 07.mp4"):
        with pytest.raises(UserError, match=r"case 07.mp4 is a video: .*ffmpeg -i 'case 07.mp4' -vf fps=5"):
            collect([str(given)], NONE)
    with pytest.raises(UserError, match="rows.csv is a table; give a .jsonl, one object a line with keys image"):
        collect([str(tmp_path / "rows.csv")], NONE)
    with (
        pytest.raises(UserError, match=r"p.csv: predictions are JSON lines, not a table; give p.jsonl"),
        json_lines(str(tmp_path / "p.csv")),
    ):
        pass


def test_a_file_appears_whole_with_its_folders(tmp_path):
    out = tmp_path / "new" / "p.jsonl"
    with json_lines(str(out)) as write:
        write({"a": "ä"})
        assert not out.exists()
        write({"b": 1})
    assert out.read_text(encoding="utf-8") == '{"a": "ä"}\n{"b": 1}\n'
    assert os.listdir(out.parent) == ["p.jsonl"]
    mask = os.umask(0)
    os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o666 & ~mask


def test_an_error_leaves_what_was_there(tmp_path):
    out = tmp_path / "p.jsonl"
    out.write_text("old\n")
    with pytest.raises(UserError, match="bad image"), json_lines(str(out)) as write:
        write({"a": 1})
        raise UserError("bad image")
    assert out.read_text() == "old\n" and os.listdir(tmp_path) == ["p.jsonl"]


def test_a_link_is_written_through_and_stays(tmp_path):
    """As /dev/stdout, which leads to a regular file where the shell redirects to one."""
    (tmp_path / "p.jsonl").write_text("old\n")
    (tmp_path / "stdout").symlink_to(tmp_path / "p.jsonl")
    with json_lines(str(tmp_path / "stdout")) as write:
        write({"a": 1})
    assert (tmp_path / "stdout").is_symlink() and (tmp_path / "p.jsonl").read_text() == '{"a": 1}\n'


def test_stdout_gets_all_or_nothing(capsys):
    with json_lines(None) as write:
        write({"a": 1})
    assert capsys.readouterr().out == '{"a": 1}\n'
    with pytest.raises(UserError), json_lines(None) as write:
        write({"a": 1})
        raise UserError("bad")
    assert capsys.readouterr().out == ""


def test_a_name_that_is_not_utf_8_costs_no_answer(tmp_path):
    with json_lines(str(tmp_path / "p.jsonl")) as write:
        write({"image": os.fsdecode(b"N\xe4se.jpg"), "report": "Näse"})
    assert (tmp_path / "p.jsonl").read_text(encoding="utf-8") == '{"image": "N?se.jpg", "report": "Näse"}\n'


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_device_is_the_machines_fault():
    with pytest.raises(EnvironmentFault, match="disk is full"), json_lines("/dev/full") as write:
        write({"a": 1})
    assert not os.path.isfile("/dev/full"), "the device itself must never be replaced"


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output.os, "fsync", full)
    with pytest.raises(EnvironmentFault, match="make room"), json_lines(str(tmp_path / "p.jsonl")) as write:
        write({"a": 1})
    assert os.listdir(tmp_path) == []


def test_other_faults_of_the_disk_are_not_called_full(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(output.os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"), json_lines(str(tmp_path / "p.jsonl")) as write:
        write({"a": 1})


def test_outputs_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a folder"), json_lines(str(tmp_path)):
        pass
    with pytest.raises(UserError, match="a part of its path is a file"), json_lines(str(tmp_path / "file" / "p.jsonl")):
        pass

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(output.tempfile, "NamedTemporaryFile", denied)
    with pytest.raises(UserError, match="no permission"), json_lines(str(tmp_path / "p.jsonl")):
        pass


def test_numbers_that_json_lacks_are_refused(tmp_path):
    with pytest.raises(ValueError), json_lines(str(tmp_path / "p.jsonl")) as write:
        write({"a": float("nan")})
    assert os.listdir(tmp_path) == []


def test_progress_is_plain_lines_off_a_terminal_and_a_bar_on_one():
    plain = io.StringIO()
    assert list(track(range(25), 25, "predict", plain)) == list(range(25))
    assert plain.getvalue().splitlines()[0] == "predict 3/25" and plain.getvalue().splitlines()[-1] == "predict 25/25"

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    bar = Terminal()
    assert list(track(range(3), 3, "predict", bar)) == [0, 1, 2]
    assert "3/3" in bar.getvalue()
