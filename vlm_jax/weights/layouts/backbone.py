"""What the layouts of image backbones share: the parts they fill, convolutions, torch's batch norms, classifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.config.schema import BackboneConfig
from vlm_jax.errors import UserError
from vlm_jax.models.backbones.networks import ImageClassifier
from vlm_jax.weights.layouts import transforms as t
from vlm_jax.weights.rules import Arrays, Layout, Rule

PART = "backbone"
CLASSIFIER = "image_classifier"
"""The part of the layouts that keep the classifier: `models.backbones.networks.ImageClassifier`."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BATCHES = (r".*num_batches_tracked", "torch's count of batches: with a fixed momentum nothing reads it")
HEAD = "the source's own classifier"
PREFIX = r"(?:(?:module|model)\.)*"
N_CLASSES = "n_classes"

Configure = Callable[[Arrays], dict[str, Any]]


def conv_kernel(array: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    """[out, in / groups, h, w] -> [h, w, in / groups, out]."""
    del config
    if array.ndim != 4:
        raise ValueError(f"shape {list(array.shape)}, expected a convolution's 4 axes")
    return array.transpose(2, 3, 1, 0)


def conv(source: str, target: str) -> Rule:
    """A convolution without bias."""
    return Rule(source + r"\.weight", target + "/kernel", conv_kernel)


def batch_norm(source: str, target: str) -> tuple[Rule, ...]:
    """Scale, bias and running statistics."""
    names = (("weight", "scale"), ("bias", "bias"), ("running_mean", "running_mean"))
    pairs = (*names, ("running_var", "running_variance"))
    return tuple(Rule(rf"{source}\.{theirs}", f"{target}/{ours}") for theirs, ours in pairs)


def section(config: Mapping[str, Any]) -> BackboneConfig:
    """The fragment as `model.backbone`."""
    return BackboneConfig(**{key: value for key, value in config.items() if key != N_CLASSES})


def _abstract(config: Mapping[str, Any]) -> Any:
    """The classifier's parameters, as abstract arrays."""
    module = ImageClassifier(section(config), config.get(N_CLASSES, 1))
    variables: Any = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))
    return variables["params"]


def layouts(
    name: str,
    source: str,
    rules: tuple[Rule, ...],
    drops: tuple[tuple[str, str], ...],
    head: str,
    configure: Configure,
    prefix: str = PREFIX,
) -> tuple[Layout, Layout]:
    """Two layouts of one family: the backbone alone, whose targets `rules` name, and it with its classifier.

    Args:
      head: regular expression of the classifier's key, without `.weight` and `.bias`.
    """
    inner = tuple(Rule(r.pattern, tuple(f"{CLASSIFIER}/{x}" for x in r.targets), r.transform) for r in rules)
    classifier = (
        Rule(head + r"\.weight", f"{CLASSIFIER}/classifier/kernel", t.linear),
        Rule(head + r"\.bias", f"{CLASSIFIER}/classifier/bias"),
    )

    def with_classes(arrays: Arrays) -> dict[str, Any]:
        key = head.replace("\\", "") + ".weight"
        return {**configure(arrays), N_CLASSES: int(arrays[key].shape[0])}

    headless = (*drops, (head + r"\.(?:weight|bias)", HEAD))
    return (
        Layout(name, PART, rules, headless, configure, lambda c: _abstract(c)[PART], prefix, None, source),
        Layout(
            name + "_classifier",
            CLASSIFIER,
            (*inner, *classifier),
            drops,
            with_classes,
            _abstract,
            prefix,
            None,
            source + ", with its classifier",
        ),
    )


def stage_depths(found: list[tuple[int, int]], usual: tuple[int, ...], *others: tuple[int, ...]) -> tuple[int, ...]:
    """`model.backbone.depths` from the (stage, block) numbers of the keys, both from 0; empty where they are `usual`.

    Raises:
      UserError: no published depths: taken as they are, a missing last block would go unnoticed.
    """
    depths = tuple(1 + max((block for stage, block in found if stage == s), default=-1) for s in range(len(usual)))
    if depths == usual:
        return ()
    if depths not in others:
        known = " or ".join(map(str, (usual, *others)))
        raise UserError(f"the file has {depths} blocks in its stages, expected {known}: some are missing")
    return depths
