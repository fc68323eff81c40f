"""Writing whole files or none, full disks, and what progress says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from vlm_jax.contract import Video
from vlm_jax.data import files
from vlm_jax.data.files import alone_in, files_below, hold
from vlm_jax.data.store import open_dataset, write_dataset
from vlm_jax.data.tables import dump_rows, read_rows
from vlm_jax.errors import EnvironmentFault, UserError


def _limited(toy_dir, out):
    """Runs a build under a limit on the size of a file, which answers as a full disk does."""
    script = f"""
import resource, signal, sys, importlib.util
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spec = importlib.util.spec_from_file_location('toy', {str(toy_dir)!r}); toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)
from vlm_jax.errors import EnvironmentFault
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, unlimited[1]))
try:
    toy.Toy().write({str(out)!r})
except EnvironmentFault as error:
    print(error); sys.exit(error.exit_code)
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)  # what measures coverage writes its own file on leaving
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(toy, tmp_path, request):
    out = tmp_path / "d"
    done = _limited(request.path.parent / "conftest.py", out)
    assert done.returncode == 1, done.stderr
    assert "no space left" in done.stdout and "Traceback" not in done.stderr
    assert not list(out.rglob("*.partial")) and not list(out.glob("*.array_record*"))
    toy.write(out)
    assert toy.contents(out) == toy.contents(toy.write(tmp_path / "whole"))


def test_disk_faults(tmp_path):
    from vlm_jax.data.files import disk_faults

    def fails(error):
        with disk_faults(tmp_path):
            raise error

    with pytest.raises(EnvironmentFault, match="no space left"):
        fails(OSError(28, os.strerror(28)))
    with pytest.raises(EnvironmentFault):
        fails(RuntimeError("write() failed: No space left on device; writing x"))
    with pytest.raises(UserError, match="no permission"):
        fails(PermissionError(13, "denied"))
    with pytest.raises(RuntimeError, match="else"):
        fails(RuntimeError("something else"))


def test_writing_a_whole_file_or_nothing(tmp_path, monkeypatch):
    from vlm_jax.data import files

    file = tmp_path / "f"
    files.write_bytes(file, b"old")
    monkeypatch.setattr(files, "publish", lambda *_: (_ for _ in ()).throw(InterruptedError))
    with pytest.raises(InterruptedError):
        files.write_bytes(file, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["f"] and file.read_bytes() == b"old"


def test_progress_speaks_on_stderr_only(toy, tmp_path, capsys, monkeypatch):
    write_dataset(tmp_path / "a", toy.INFO, toy.IDS, toy.bundle)
    out, err = capsys.readouterr()
    assert out == "" and "procedure 3/3: 4 frames, 2 activities, 1 sentences" in err

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    write_dataset(tmp_path / "b", toy.INFO, toy.IDS, toy.bundle)
    out, err = capsys.readouterr()
    assert out == "" and "procedure 3/3" in err and "frames" in err


def test_progress_of_many_steps_says_little(capsys):
    from vlm_jax.data.progress import Progress

    with Progress("thing", 100, "bits") as bar:
        for _ in range(100):
            bar.step("done")
    assert capsys.readouterr().err.count("\n") == 1


def test_two_at_the_same_directory_are_one_line(toy, tmp_path):
    with alone_in(tmp_path / "d"), pytest.raises(UserError, match="another process is writing"):
        toy.write(tmp_path / "d")
    open_dataset(toy.write(tmp_path / "d"))


def test_on_a_network_disk_a_file_is_locked(toy, tmp_path, monkeypatch):
    """There a directory's lock is of this machine alone, and only what is open for writing can be locked for others."""
    flock = files.fcntl.flock

    def nfs(handle, how):
        if files.fcntl.fcntl(handle, files.fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            flock(handle, how)

    assert files.disk_kind(tmp_path) and files.disk_kind(tmp_path) not in files.NETWORK_DISKS
    monkeypatch.setattr(files, "disk_kind", lambda _: "nfs4")
    monkeypatch.setattr(files.fcntl, "flock", nfs)
    with alone_in(tmp_path / "d"), pytest.raises(UserError, match="another process is writing"):
        toy.write(tmp_path / "d")
    assert len(open_dataset(toy.write(tmp_path / "d")).frames) == 12
    monkeypatch.setattr(files.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOTSUP, "no locks")))
    assert hold(tmp_path) is None


def test_line_separators_within_a_text_end_no_row(tmp_path):
    path = tmp_path / "videos.jsonl"
    rows = (Video(id="a\u2028b\u0085c", procedure="p", fps=5.0), Video(id="d", procedure="p", fps=5.0))
    path.write_bytes(b"\xef\xbb\xbf" + dump_rows(rows).replace(b"\n", b"\r\n"))
    assert read_rows(path, Video) == rows


def test_files_below_follows_links_and_leaves_out_what_systems_keep(tmp_path):
    for name in ("case/1.jpg", "case/._1.jpg", "case/@eaDir/1.jpg", ".trash/2.jpg", "notes.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    (tmp_path / "nas").mkdir()
    (tmp_path / "nas/3.jpg").write_text("3")
    (tmp_path / "in/linked").symlink_to(tmp_path / "nas")
    (tmp_path / "nas/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = files_below(tmp_path / "in", lambda path: path.suffix == ".jpg")
    assert [p.relative_to(tmp_path / "in").as_posix() for p in found] == ["case/1.jpg", "linked/3.jpg"]


def test_a_folder_that_cannot_be_read_is_no_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "case").mkdir()
    scan = os.scandir

    def guarded(path):
        if os.fspath(path).endswith("case"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(UserError, match=r"case' can't be read .Permission denied"):
        files_below(tmp_path)
