"""The work directory of a run that goes on: what may differ, and whose data lie there."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
from etils import epath

from vlm_jax.config.load import dump, load_config
from vlm_jax.errors import UserError
from vlm_jax.training import provenance
from vlm_jax.training.provenance import check_same_data
from vlm_jax.training.workdir import CONFIG_FILE, check_config


def test_data_may_lie_elsewhere_and_have_the_same_split(tmp_path):
    started = load_config("vlm:micro", {"data.path": "a,b"})
    dump(started, tmp_path / CONFIG_FILE)
    check_config(load_config("vlm:micro", {"data.path": "moved/a,b"}), epath.Path(tmp_path))
    with pytest.raises(UserError, match=r"another configuration \(data\.split differ\)"):
        check_config(load_config("vlm:micro", {"data.path": "a,b", "data.split": "loo:p"}), epath.Path(tmp_path))


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ({"fess": "1", "notes": "2"}, None),
        ({"fess": "1", "notes": "3"}, r"data changed since the run started \(source notes\)"),
        ({"notes": "2", "fess": "1"}, "the same data sets in the same order"),
        ({"fess": "1"}, "holds fess, and the run was started with fess, notes"),
        ({"fess": "1", "notes": "2", "larynx": "3"}, "the same data sets"),
    ],
)
def test_other_data_are_refused_wherever_they_lie(now, says, monkeypatch):
    def described(prints):
        return {name: {"fingerprint": value} for name, value in prints.items()}

    monkeypatch.setattr(provenance, "describe_sources", lambda data: described(now))
    meta = SimpleNamespace(sources=described({"fess": "1", "notes": "2"}))
    with pytest.raises(UserError, match=says) if says else contextlib.nullcontext():
        check_same_data(cast(Any, None), cast(Any, meta))
