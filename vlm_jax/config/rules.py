"""What a run's settings may be: closed lists, bounds, and the rules between several keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from vlm_jax.config.parallel import parallel_rules
from vlm_jax.config.pretraining import PRETRAINING, pretraining_rules
from vlm_jax.config.remedies import remedy_rules
from vlm_jax.config.schema import Config
from vlm_jax.config.sizes import backbone_rules, size_rules
from vlm_jax.config.values import by_source, leaves, suggest
from vlm_jax.errors import UserError

TASK_NAMES = ("landmarks", "describe", "anticipate", "report")
GROUPS = ("patient", "procedure", "sequence")

TEXT_ONLY = ("navigation_seq2seq", "keyword_report", "hmm")
"""Systems that see no image: none is read for them."""

CHOICES: dict[str, tuple[str, ...]] = {
    "data.landmark_labels": ("activity", "visible"),
    "data.sampling": ("uniform", "class_balanced", "repeat_factor"),
    "eval.calibration": ("none", "temperature", "platt"),
    "model.image_encoder.stem": ("patch", "backbone"),
    "model.backbone.name": ("resnet18", "resnet50", "efficientnet_lite0", "swin_t"),
    "model.fusion": ("cross_attention", "concat", "pooled", "separate"),
    "model.dtype": ("auto", "float32", "bfloat16"),
    "model.attention": ("xla", "cudnn"),
    "model.remat_keep": ("nothing", "products"),
    "model.gpt.vision": ("resnet18", "swin_t", "vit"),
    "model.gpt.vision_tokens": ("patches", "pooled"),
    "model.gpt.vision_positions": ("none", "zero", "ordered"),
    "model.seq2seq.kind": ("transformer", "lstm", "encoder_decoder"),
    "model.seq2seq.positions": ("sinusoidal", "learned"),
    "loss.landmarks": ("bce", "focal", "asymmetric", "class_balanced"),
    "loss.weighting": ("fixed", "learned"),
    "eval.decode": ("greedy", "beam", "mbr"),
    "parallel.mesh": ("custom", "data", "fsdp", "tensor", "hybrid"),
}
"""Settings with a closed list."""

LISTS: dict[str, tuple[str, ...]] = {
    "tasks": (*TASK_NAMES, *PRETRAINING),
    "eval.contexts": ("gold", "rolled_out", "empty", "no_keyword", "no_context", "shuffled_texts", "shuffled_images"),
}
"""Settings that name one or more of a closed list, each once."""

MANY = float("inf")
BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "data.validation_fraction": (0.0, 0.9),
    "data.image_size": (8, 4096),
    "data.prompt_length": (4, 4096),
    "data.target_length": (4, 4096),
    "data.vocab_size": (64, 10**6),
    "data.frames": (1, 64),
    "data.frame_step": (1, 10**6),
    "data.repeat_threshold": (1e-6, 1),
    "data.threads": (1, 256),
    "data.prefetch": (1, 4096),
    "augment.flip": (0, 1),
    "augment.rotate": (0, 10),
    "augment.scale": (0, 0.5),
    "augment.translate": (0, 0.5),
    "augment.crop": (0, 1),
    "augment.brightness": (0, 1),
    "augment.contrast": (0, 1),
    "augment.saturation": (0, 1),
    "augment.hue": (0, 0.5),
    "augment.drop_text": (0, 1),
    "augment.drop_image": (0, 1),
    "model.image_encoder.width": (1, MANY),
    "model.image_encoder.layers": (1, MANY),
    "model.image_encoder.heads": (1, MANY),
    "model.image_encoder.mlp": (1, MANY),
    "model.image_encoder.patch": (1, MANY),
    "model.image_encoder.epsilon": (1e-20, 1),
    "model.image_encoder.drop_path": (0, 0.9),
    "model.text_encoder.width": (1, MANY),
    "model.text_encoder.layers": (1, MANY),
    "model.text_encoder.heads": (1, MANY),
    "model.text_encoder.mlp": (1, MANY),
    "model.text_encoder.positions": (1, MANY),
    "model.text_encoder.token_types": (0, 16),
    "model.decoder.layers": (1, MANY),
    "model.decoder.heads": (1, MANY),
    "model.decoder.mlp": (1, MANY),
    "model.decoder.positions": (1, MANY),
    "model.gpt.width": (1, MANY),
    "model.gpt.layers": (1, MANY),
    "model.gpt.heads": (1, MANY),
    "model.gpt.positions": (1, MANY),
    "model.gpt.head_width": (1, MANY),
    "model.gpt.head_dropout": (0, 0.9),
    "model.backbone.width_factor": (0.01, 16),
    "model.backbone.window": (1, 64),
    "model.backbone.drop_path": (0, 0.9),
    "model.seq2seq.width": (2, MANY),
    "model.seq2seq.layers": (1, MANY),
    "model.seq2seq.heads": (1, MANY),
    "model.seq2seq.mlp": (1, MANY),
    "model.hmm.states": (1, 4096),
    "model.hmm.sentences": (1, 10**6),
    "model.hmm.iterations": (0, 10**4),
    "model.hmm.smoothing": (1e-9, 100),
    "model.mae.mask_ratio": (0.05, 0.95),
    "model.mae.decoder_width": (4, MANY),
    "model.mae.decoder_layers": (1, MANY),
    "model.mae.decoder_heads": (1, MANY),
    "model.mae.decoder_mlp": (1, MANY),
    "model.fusion_heads": (1, MANY),
    "model.head_bias": (-20, 20),
    "model.region_width": (0, MANY),
    "model.vocab_size": (0, 10**7),
    "model.dropout": (0, 0.9),
    "loss.focal_gamma": (0, 10),
    "loss.asymmetric_gamma_positive": (0, 10),
    "loss.asymmetric_gamma_negative": (0, 10),
    "loss.asymmetric_clip": (0, 0.5),
    "loss.logit_adjustment": (0, 4),
    "loss.class_balanced_beta": (0, 0.9999999),
    "loss.label_smoothing": (0, 0.5),
    "loss.regions_weight": (0, 1e6),
    "loss.landmarks_weight": (0, 1e6),
    "loss.describe_weight": (0, 1e6),
    "loss.anticipate_weight": (0, 1e6),
    "loss.report_weight": (0, 1e6),
    "optim.lr": (0, 100),
    "optim.end_lr_factor": (0, 1),
    "optim.warmup_steps": (0, MANY),
    "optim.weight_decay": (0, 10),
    "optim.b1": (0, 0.99999),
    "optim.b2": (0, 0.9999999),
    "optim.eps": (1e-20, 1),
    "optim.clip_norm": (0, MANY),
    "optim.layer_decay": (1e-3, 1),
    "optim.accumulate": (1, MANY),
    "optim.ema": (0, 0.9999999),
    "train.steps": (1, MANY),
    "train.batch_size": (1, MANY),
    "train.log_every": (1, MANY),
    "train.profile_steps": (0, MANY),
    "checkpoint.every": (1, MANY),
    "checkpoint.keep_last": (1, MANY),
    "checkpoint.keep_best": (0, MANY),
    "guard.sigma": (0, 10**6),
    "guard.window": (8, 4096),
    "guard.max_skips": (0, 15),
    "guard.max_rollbacks": (0, MANY),
    "guard.budget": (0, 1),
    "eval.every": (0, MANY),
    "eval.batch_size": (1, MANY),
    "eval.max_units": (1, MANY),
    "eval.beam": (1, 64),
    "eval.beam_decay": (0, 10),
    "eval.beam_length_penalty": (0, 10),
    "eval.samples": (1, 256),
    "eval.temperature": (0.01, 100),
    "eval.bootstrap": (0, 10**6),
    "parallel.num_processes": (0, MANY),
    "parallel.process_id": (-1, MANY),
    "parallel.init_timeout": (1, MANY),
    "parallel.barrier_timeout": (1, MANY),
    "parallel.peer_timeout": (1, MANY),
    "parallel.heartbeat": (0, MANY),
}
"""Least and greatest value of every number, both included."""

_RULES = re.compile(r"kfold:(?P<folds>\d+):(?P<fold>\d+)|loo:.+|list:.+")


def get(config: Config, key: str) -> Any:
    """The setting under a dotted key."""
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def validate(config: Config) -> None:
    """Checks every setting against its list and bounds, then the rules between them.

    Raises:
      UserError: the first setting that is out, with what is allowed and how to set it.
    """
    for key, allowed in CHOICES.items():
        _one_of(key, get(config, key), allowed)
    for key, allowed in LISTS.items():
        _some_of(key, get(config, key), allowed)
    for key, (low, high) in BOUNDS.items():
        value = get(config, key)
        if not low <= value <= high:
            limit = f"at least {low}" if high == MANY else f"from {low} to {high}"
            raise UserError(f"config key {key!r} must be {limit}, got {value}: set --config.{key}=")
    for rule in RULES:
        for problem in rule(config):
            raise UserError(problem)


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(
            f"config key {key!r} must be one of {', '.join(allowed)}, got {value!r}{suggest(value, allowed)}"
        )


def _some_of(key: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    if not values or len(set(values)) != len(values):
        raise UserError(f"config key {key!r} must name one or more of {', '.join(allowed)}, each once, got {values}")
    for value in values:
        _one_of(key, value, allowed)


def _data(config: Config) -> Iterator[str]:
    data = config.data
    for rule in by_source(data.split).values():
        match = _RULES.fullmatch(rule)
        if match is None:
            yield (
                f"config key 'data.split' must be kfold:N:I, loo:ID or list:FILE, for all or source=rule,source=rule; "
                f"got {data.split!r}"
            )
        elif match["folds"] and not (int(match["folds"]) >= 2 and int(match["fold"]) < int(match["folds"])):
            yield f"config key 'data.split': kfold:N:I needs N >= 2 and 0 <= I < N, got {rule!r}"
    for group in by_source(data.group_by).values():
        if data.group_by and group not in GROUPS:
            hint = suggest(group, GROUPS)
            yield f"config key 'data.group_by' must be one of {', '.join(GROUPS)}, got {data.group_by!r}{hint}"
    fit = len(data.weights) == len(data.path) or not data.path  # no data yet: `inspect` needs none
    if data.weights and (not fit or min(data.weights) <= 0):
        yield (
            f"config key 'data.weights' needs one positive weight for each of the {len(data.path)} paths in data.path, "
            f"in their order, got {','.join(map(str, data.weights))}; where the preset set them, add "
            f"--config.data.weights={','.join(['1'] * len(data.path))}, or --config.data.weights= to draw by number of "
            "records"
        )


def _meaning(config: Config) -> Iterator[str]:
    if config.model.no_image and config.model.no_text:
        yield "config keys 'model.no_image' and 'model.no_text' are both set: the model would see nothing; unset one"
    if config.model.remat_keep != "nothing" and not config.model.remat:
        yield "config key 'model.remat_keep' has no effect without remat: add --config.model.remat=true"
    if config.optim.lr == 0:
        yield "config key 'optim.lr' must be above 0"
    weights = [getattr(config.loss, f"{task}_weight", 1.0) for task in config.tasks]
    if not any(weights):
        yield f"config keys 'loss.*_weight' are 0 for every task in {', '.join(config.tasks)}: nothing would be learned"
    for part in ("image_encoder", "backbone"):
        std = getattr(config.model, part).std
        if min(std) <= 0:
            yield f"config key 'model.{part}.std' must be above 0, got {std}"
    if config.eval.select != "loss":
        yield f"config key 'eval.select' must be loss, got {config.eval.select!r}"
    try:
        re.compile(config.optim.freeze)
    except re.error as error:
        yield f"config key 'optim.freeze' is not a regular expression: {error} in {config.optim.freeze!r}"


Rule = Callable[[Config], Iterator[str]]
RULES: tuple[Rule, ...] = (
    _data,
    size_rules,
    _meaning,
    backbone_rules,
    remedy_rules,
    pretraining_rules,
    parallel_rules,
)
"""Rules between keys: each yields one line a problem."""

assert set(CHOICES) | set(LISTS) | set(BOUNDS) <= set(leaves()), "a rule names a setting that the schema does not have"
