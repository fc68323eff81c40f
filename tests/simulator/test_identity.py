"""The simulator's version and hash: what they hear and what not, and that a frozen version stays as it is."""

from __future__ import annotations

import dataclasses
import functools
import shutil

import pytest

from vlm_jax.simulator import SimulatorConfig, freeze, version
from vlm_jax.simulator.version import code_hash, identity, substance

SOURCE = '''"""Doc."""

import math  # why

TABLE = {"a": 1}
"""What it is."""


class Thing:
    """Doc of
    two lines."""

    def area(self, r):
        """Doc."""
        text = "# not a comment"
        return math.pi * r**2  # area
'''


def test_the_frozen_simulator_is_unchanged():
    """Fails where the code that makes data changed under a frozen version: its message says what to do."""
    assert version.complaint() is None, version.complaint()


def test_comments_and_docstrings_are_not_heard_and_code_is():
    same = SOURCE.replace("# why", "").replace('"""Doc of\n    two lines."""', '"""Other."""').replace("\n\n\n", "\n\n")
    assert substance(same) == substance(SOURCE) and "not a comment" in substance(SOURCE)
    assert "Doc" not in substance(SOURCE) and "area\n" not in substance(SOURCE)
    for old, new in (("r**2", "r**3"), ('{"a": 1}', '{"a": 2}'), ("# not a", "not a")):
        assert substance(SOURCE.replace(old, new)) != substance(SOURCE)


def test_every_module_of_the_generator_is_hashed(repository, tmp_path, monkeypatch):
    """In a copy: code that is added to a file is heard, but for the files that no data set depends on."""
    source, copy = repository / "vlm_jax" / "simulator", tmp_path / "simulator"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(version, "__file__", str(copy / "version.py"))
    monkeypatch.setattr(version, "substance", functools.cache(substance))  # of the same source it is the same
    read = code_hash.__wrapped__
    assert read() == code_hash()
    unheard = set()
    for path in sorted(copy.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        path.write_text(f"{text}\nADDED = 1\n", encoding="utf-8")
        if read() == code_hash():
            unheard.add(path.relative_to(copy).as_posix())
        path.write_text(text, encoding="utf-8")
    assert unheard == {"version.py", "freeze.py", "forks.py", "fork_reports.py"}
    (copy / "anatomy.py").rename(copy / "anatomies.py")
    assert read() != code_hash(), "a name is heard, too"


def test_identity_names_version_code_and_settings(monkeypatch):
    plain = identity(SimulatorConfig())
    assert plain.startswith(version.version_name()) and len(plain.rpartition("-")[2]) == 12
    others = [identity(dataclasses.replace(SimulatorConfig(), **{key: value})) for key, value in
              (("seed", 1), ("world", "reports_independent"), ("image_size", 64))]  # fmt: skip
    assert len({plain, *others}) == 4
    monkeypatch.setattr(version, "code_hash", lambda: "other")
    assert identity(SimulatorConfig()) != plain


def test_a_change_of_a_frozen_version_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(version, "FROZEN", {version.SIMULATOR_VERSION: "0123"})
    assert version.version_name() == version.SIMULATOR_VERSION
    assert "raise SIMULATOR_VERSION" in (version.complaint() or "")
    assert freeze.main() == 2 and "is frozen as 0123" in capsys.readouterr().err
    monkeypatch.setattr(version, "FROZEN", {version.SIMULATOR_VERSION: code_hash()})
    assert version.complaint() is None and freeze.main() == 0
    monkeypatch.setattr(version, "FROZEN", {})
    assert version.version_name() == f"{version.SIMULATOR_VERSION}-draft" and version.complaint() is None


def test_freezing_writes_the_table(monkeypatch, tmp_path, capsys):
    copy = tmp_path / "version.py"
    with open(version.__file__, encoding="utf-8") as own:
        copy.write_text(own.read(), encoding="utf-8")
    monkeypatch.setattr(version, "__file__", str(copy))
    monkeypatch.setattr(version, "FROZEN", {"v0": "ab"})
    assert freeze.main() == 0 and code_hash() in capsys.readouterr().out
    row = f'FROZEN: dict[str, str] = {{"v0": "ab", "{version.SIMULATOR_VERSION}": "{code_hash()}"}}'
    assert row in copy.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="FROZEN"):
        freeze.frozen_source("x = 1\n", {})
