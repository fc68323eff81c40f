"""The study: every system on the same folds of the same data, one table: `configs/study.py:PRESET`.

Presets: smoke (the default), small, full, null, levels.
A system is a row NAME=FILE:ARG; names that end in @tiny are of reduced width and say nothing of the published sizes.
Pick some with --config.systems=base@tiny,no_image@tiny; give own data with --config.data.path=DIR[,DIR].
KNOWN: which systems the paper compares, its ablations. OURS: every size, rate and length of training here.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.study import StudyConfig
from vlm_jax.config.values import suggest
from vlm_jax.errors import UserError

BASELINES = "configs/baselines"
VLM = ("light", "base", "no_image", "no_text", "no_cross_attention", "pooled")
SINGLE = {
    "base_landmarks_only": "tasks=landmarks",
    "base_structured_only": "tasks=describe+anticipate",
    "base_report_only": "tasks=report",
}
SEQUENCE = ("navigation_transformer", "navigation_lstm", "navigation_encoder_decoder", "hmm", "keyword_report")
IMAGE = ("landmark_cnn", "endovit", "surgical_gpt")


def table(vlm: str = "") -> tuple[str, ...]:
    """All rows, at the published sizes or, with a reduced preset of configs/vlm.py, at reduced width."""
    at, tiny = ("@tiny", "tiny") if vlm else ("", "")
    base = vlm or "base"
    rows = {"light": f"configs/vlm.py:{vlm or 'light'}", "base": f"configs/vlm.py:{base}"}
    rows |= {name: f"configs/vlm.py:{base},{name}" for name in VLM[2:]}
    rows |= {name: f"configs/vlm.py:{base},{tasks}" for name, tasks in SINGLE.items()}
    rows["landmark_cnn"] = f"{BASELINES}/landmark_cnn.py:{tiny}"
    rows["navigation_transformer"] = f"{BASELINES}/navigation_seq2seq.py:{tiny}"
    for kind in ("lstm", "encoder_decoder"):
        rows[f"navigation_{kind}"] = f"{BASELINES}/navigation_seq2seq.py:{kind}{',' + tiny if tiny else ''}"
    rows |= {name: f"{BASELINES}/{name}.py:{tiny}" for name in ("hmm", "keyword_report", "endovit", "surgical_gpt")}
    rows["template_filler"] = f"template_filler:base{at}"
    return tuple(f"{name}{at}={spec}" for name, spec in rows.items())


def only(names: tuple[str, ...], *settings: str) -> tuple[str, ...]:
    """Settings of some systems at reduced width."""
    return tuple(f"{name}@tiny:{setting}" for name in names for setting in settings)


def width(value: int, layers: int) -> tuple[str, ...]:
    """Width and depth of the vision-language model's parts."""
    parts = ("image_encoder", "text_encoder")
    sized = [f"model.{part}.{key}" for part in parts for key in (f"width={value}", f"mlp={4 * value}")]
    return (*sized, f"model.image_encoder.layers={layers}", f"model.decoder.mlp={4 * value}")


def smoke() -> ConfigDict:
    """Every system for a few steps at the smallest widths: that all of it runs, nothing of its scores.

    Command: vlm-jax study --config configs/study.py:smoke --workdir runs/study --processes 2
    Expect: a table and a report on 6 simulated procedures in 2 folds.
    Hardware and time: two CPU cores, under 20 minutes.
    """
    config = ConfigDict(dataclasses.asdict(StudyConfig(name="smoke")))
    config.table = table("tiny_vit")  # light and base have a plain transformer
    config.simulate.update(procedures=6, activities_per_procedure=12.0, frames_per_procedure=24, image_size=32)
    config.folds = 2
    config.bootstrap = 500
    config.coverage = 20
    config.quick_compiler = True
    small = (
        "model.fusion_heads=2",
        *(f"model.{part}.heads=2" for part in ("image_encoder", "text_encoder", "decoder")),
    )
    one = ("model.image_encoder.layers=1", "model.text_encoder.layers=1", "model.decoder.layers=1")
    config.settings = (
        "data.image_size=32",
        "data.vocab_size=256",
        "model.dtype=float32",
        "train.steps=20",
        "train.batch_size=8",
        "train.log_every=5",
        "checkpoint.every=10",
        "eval.batch_size=16",
        "eval.max_units=16",
        *only((*VLM, *SINGLE), *width(32, 1), *one, *small),
        *only(("base",), *width(48, 1)),
        *only(("endovit",), *width(32, 1), *one, *small),
        *only(("navigation_transformer", "navigation_lstm", "navigation_encoder_decoder", "keyword_report"),
              "model.seq2seq.width=32", "model.seq2seq.layers=1", "model.seq2seq.mlp=64"),
        *only(("surgical_gpt",), "model.gpt.width=32", "model.gpt.layers=1", "model.gpt.heads=2",
              "model.backbone.width_factor=0.125"),
        *only(("landmark_cnn",), "model.backbone.width_factor=0.125"),
        *only(("hmm",), "model.hmm.states=8", "model.hmm.iterations=5"),
    )  # fmt: skip
    return config


def small() -> ConfigDict:
    """Widths to 160, 96 pixels, 12 procedures of 300 frames, 3 folds, one seed: meant for two cores.

    The image encoders of light@tiny and base@tiny read the last map of a small ResNet, as `tiny`'s does: a plain
    transformer from random weights sees next to nothing in so few steps (docs/results/probes.md).

    Command: vlm-jax study --config configs/study.py:small --workdir runs/study_small --processes 2
    Expect: the table and the report (docs/results/study.md).
    Hardware and time: two CPU cores, five hours and more by two processes (docs/results/study.md has the minutes).
    """
    config = ConfigDict(dataclasses.asdict(StudyConfig(name="small")))
    config.table = table("tiny")
    config.simulate.update(activities_per_procedure=48.0)
    heads = ("image_encoder.heads=5", "text_encoder.heads=5", "decoder.heads=5", "fusion_heads=5")
    # The corpus of any fold has more words than that: every fold runs the same programs, compiled once.
    config.settings = (
        "data.vocab_size=512",
        "data.image_size=96",
        "model.dtype=float32",
        "eval.batch_size=32",
        "eval.bootstrap=100",
        "train.steps=600",
        "checkpoint.every=200",
        *only((*VLM[1:], *SINGLE), *width(160, 2), *(f"model.{head}" for head in heads)),
        *only(("endovit",), "model.image_encoder.patch=12"),
        *only(("navigation_lstm",), "train.steps=1200"),
    )
    return config


def full() -> ConfigDict:
    """The published sizes on 30 simulated procedures and about 130,000 frames, 3 folds.

    Command: vlm-jax study --config configs/study.py:full --workdir runs/study_full
    Expect: not run yet; the published scores are of real operations and are not to be expected.
    Hardware and time: one H200, fold by fold; `timeout --preserve-status 570 vlm-jax study ...` ends
      saved with code 3, and the same again goes on.
    """
    config = ConfigDict(dataclasses.asdict(StudyConfig(name="full")))
    config.table = table()
    config.simulate.update(procedures=30, activities_per_procedure=144.0, frames_per_procedure=4333, image_size=224)
    config.folds = 3
    config.keep_checkpoints = False
    config.settings = ("navigation_transformer:eval.decode=beam",)
    return config


def null() -> ConfigDict:
    """The world as it is and the two null worlds: what was removed must not be found.

    Models small enough for many runs, whose image encoder sees something in as few steps: a quarter of a ResNet-18.

    Command: vlm-jax study --config configs/study.py:null --workdir runs/study_null
    Expect: in `reports_independent` no gain of vision for the report, in `previous_shuffled` none of text for
      landmarks; benchmarks/null_worlds.py runs what that needs alone, seven of nine trainings.
    Hardware and time: two CPU cores, hours: about 2 minutes a training on one core, 90 trainings.
    """
    config = ConfigDict(dataclasses.asdict(StudyConfig(name="null")))
    specs = {name: f"configs/vlm.py:tiny,{name}" for name in ("no_image", "no_text")}
    specs = {"base": "configs/vlm.py:tiny"} | specs
    config.table = tuple(f"{name}@tiny_resnet={spec},tasks=landmarks+report" for name, spec in specs.items())
    config.simulate.update(procedures=24, activities_per_procedure=36.0, frames_per_procedure=108, image_size=64)
    config.seeds = (0, 1, 2, 3, 4)
    config.variants = ("normal", "world=reports_independent", "world=previous_shuffled")
    config.folds = 2
    config.contexts = ("gold",)
    # The corpus of any fold has more words than that: every fold runs the same programs, compiled once.
    config.settings = (
        "data.vocab_size=512",
        "model.dtype=float32",
        "model.text_encoder.layers=1",
        "model.decoder.layers=1",
        "augment.drop_text=0.1",
        "optim.lr=2e-3",
        "train.steps=400",
        "checkpoint.every=100",
        "eval.batch_size=32",
        "eval.bootstrap=100",
    )
    return config


def levels() -> ConfigDict:
    """All of what text and image say of one another, half and none, by `tiny`: what is removed must fade.

    `information` is the share of descriptions and of visual report sentences that are true to the scene.

    Command: vlm-jax study --config configs/study.py:levels --workdir runs/study_levels --processes 2
    Expect: the gain of text for landmarks fades with the information (docs/results/study.md).
    Hardware and time: two CPU cores, hours: about 3 minutes a training on one core, 54 trainings.
    """
    config = null()
    config.name = "levels"
    specs = {name: f"configs/vlm.py:tiny,{name}" for name in ("no_image", "no_text")}
    config.table = tuple(f"{name}@tiny={spec}" for name, spec in ({"base": "configs/vlm.py:tiny"} | specs).items())
    config.simulate.update(activities_per_procedure=24.0, frames_per_procedure=96)
    config.seeds = (0, 1, 2)
    config.variants = ("normal", "information=0.5", "information=0")
    # The demo's of then: without places, 96 frames a procedure; without what vlm-jax demo leaves to the preset.
    config.settings = (
        "data.vocab_size=768",
        "data.prompt_length=36",
        "data.target_length=36",
        "optim.lr=2e-3",
        "train.steps=400",
        "checkpoint.every=200",
        "eval.bootstrap=100",
    )
    return config


PRESETS = {"smoke": smoke, "small": small, "full": full, "null": null, "levels": levels}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of a preset; nothing means smoke.

    Raises:
      UserError: an unknown preset.
    """
    preset = arg.strip() or "smoke"
    if preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}{suggest(preset, PRESETS)}: choose one of {', '.join(PRESETS)}")
    return PRESETS[preset]()
