"""Paths within settings, whatever signs they hold."""

from __future__ import annotations

import pytest

from vlm_jax.config.load import dump, load_config


@pytest.mark.parametrize("rule", ["list:/data/fold=0/split.json", "loo:p=1", "fess=list:a=b.json,vocalfolds=loo:p=1"])
def test_an_equals_sign_in_a_path_or_an_id_is_part_of_it(rule):
    assert load_config("vlm:micro", {"data.split": rule}).data.split == rule


def test_a_colon_in_the_path_of_a_file_is_part_of_it(tmp_path):
    folder = tmp_path / "2025-12-22T10:30:00"
    folder.mkdir()
    config = load_config("vlm:micro")
    dump(config, folder / "config.json")
    assert load_config(str(folder / "config.json")) == config
    (folder / "mine.py").write_text("def get_config(arg=''):\n    return {'name': arg}\n")
    assert load_config(f"{folder}/mine.py:one").name == "one"
