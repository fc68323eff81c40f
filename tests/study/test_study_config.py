"""What a study may be configured as, and what its systems are called."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vlm_jax.config.study import BOUNDS, StudyConfig, load_study, names_of, rows_of
from vlm_jax.errors import UserError
from vlm_jax.evaluation.intervals import Samples
from vlm_jax.study.contrasts import ALPHA, PRIMARY, holm, p_value
from vlm_jax.study.systems import TRIVIAL, check_settings, run_config, shown_name, slug, study_systems

PRESETS = ("smoke", "small", "full", "null")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_names_runs_that_exist(preset):
    study = load_study(f"configs/study.py:{preset}")
    check_settings(study)
    systems = study_systems(study)
    assert [s.name for s in systems] == [*names_of(study), TRIVIAL]
    for system in (s for s in systems if s.trained):
        config = run_config(study, system.name, system.spec)
        assert config.name == system.name and config.eval.contexts == study.contexts
        if preset != "full":
            assert "@" in system.shown and config.data.image_size <= 96


def test_the_issue_s_systems_are_there():
    names = [name.removesuffix("@tiny") for name in rows_of(load_study("configs/study.py"))]
    assert names == [
        "light", "base", "no_image", "no_text", "no_cross_attention", "pooled", "base_landmarks_only",
        "base_structured_only", "base_report_only", "landmark_cnn", "navigation_transformer", "navigation_lstm",
        "navigation_encoder_decoder", "hmm", "keyword_report", "endovit", "surgical_gpt", "template_filler",
    ]  # fmt: skip


def test_base_is_wider_than_light_and_its_ablations_are_its_size():
    study = load_study("configs/study.py:small")
    rows = rows_of(study)
    light, base, ablated = (run_config(study, n, rows[n]) for n in ("light@tiny", "base@tiny", "no_text@tiny"))
    assert light.model.image_encoder.width < base.model.image_encoder.width == 160
    changed = dataclasses.replace(ablated.model, no_text=False)
    assert ablated.model.no_text and changed == base.model and ablated.optim == base.optim


def test_external_systems_without_their_weights_are_an_architecture():
    assert shown_name("endovit@tiny", "random") == "endovit_arch@tiny (random init)"
    assert shown_name("surgical_gpt", "random") == "surgical_gpt_arch (random init)"
    assert shown_name("endovit", "image_encoder: endovit") == "endovit"
    assert shown_name("base@tiny", "random") == "base@tiny"
    systems = {s.name: s.shown for s in study_systems(load_study("configs/study.py"))}
    assert systems["endovit@tiny"] == "endovit_arch@tiny (random init)"


def test_the_column_init_says_which_weights_a_system_started_from():
    row = "mine=configs/vlm.py:micro"
    study = dataclasses.replace(StudyConfig(), table=(row,), settings=("mine:model.image_encoder.init=weights/mae",))
    assert study_systems(study)[0].init == "image_encoder: mae"


def test_folders_are_safe_and_different():
    assert slug("world=reports independent/x") == "world=reports_independent_x" and slug("base@tiny") == "base@tiny"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"folds": "1"}, "'folds' must be from 2"),
        ({"fold": "3"}, "unknown config key 'fold' .did you mean 'folds'"),
        ({"systems": "bas@tiny"}, "did you mean 'base@tiny'"),
        ({"systems": "template_filler@tiny"}, "add it to 'systems'"),
        ({"seeds": "1,1"}, "different numbers"),
        ({"trials": "0"}, "factors above 0"),
        ({"contexts": "golden"}, "did you mean 'gold'"),
        ({"contexts": ""}, "'contexts' is empty"),
        ({"data.validation_fraction": "5"}, "'data.validation_fraction' must be from 0.0 to 0.9, got 5.0"),
        ({"folds": "50"}, r"'folds' \(50\) must be at most simulate.procedures \(6\)"),
        ({"data.group_by": "sequence"}, "patient or procedure"),
        ({"variants": "normal", "data.path": "x"}, "exclude one another"),
        ({"bootstrap": "many"}, "expects int"),
        ({"bootstrap": "279"}, "'bootstrap' must be from 280 .* no contrast could have a verdict"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(overrides, says):
    with pytest.raises(UserError, match=says):
        load_study("configs/study.py:smoke", overrides)


def test_the_fewest_resamples_are_those_by_which_a_verdict_can_be_given():
    """The surest difference that there is: 1 in every group, and none of the other contrasts run."""

    def least(resamples):
        sure = Samples(("f1_macro",), np.ones(1), np.ones((resamples, 1)), np.ones((12, 1)))
        return holm([p_value(sure, PRIMARY[0]), *[None] * (len(PRIMARY) - 1)])[0]

    fewest = int(load_study("configs/study.py:smoke", {"bootstrap": str(BOUNDS["bootstrap"][0])}).bootstrap)
    assert least(fewest) < ALPHA - 1e-9 < least(fewest - 1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"table": ("base",)}, "NAME=FILE:ARG"),
        ({"table": ("a=configs/vlm.py:micro", "a=configs/vlm.py:tiny")}, "twice"),
        ({"settings": ("nobody:train.steps=1",)}, "the table does not have"),
        ({"settings": ("train.steps",)}, "KEY=VALUE"),
        ({"settings": ("data.split=kfold:2:0",)}, "cannot set data.path or data.split"),
        ({"settings": ("train.stepz=1",)}, "train.steps"),
    ],
)
def test_tables_and_settings_that_mean_nothing_are_refused(changes, says):
    study = dataclasses.replace(StudyConfig(), **({"table": ("a=configs/vlm.py:micro",)} | changes))
    with pytest.raises(UserError, match=says):
        check_settings(study)
        study_systems(study)
