"""The least that a training step must send, from the mesh, the parameters and their specs, and the model's widths.

Nothing here looks at a compiled program: `parallel.collectives` reads what one does send, and the two are compared.
Bytes are those that one device sends with a ring (see there), for one micro-batch a step, without rematerialisation.

Parameters (Rajbhandari et al. 2020, ZeRO): the gradient of each is reduced once over all devices that saw other rows,
and where `fsdp` splits it, only scattered and not gathered again; such a parameter is gathered once and kept until the
backward pass. Activations (Shoeybi et al. 2019, Megatron-LM): a pair of products split over `tensor`, as an attention
or an MLP is, reduces its output in the forward pass and the gradient of its input in the backward pass, once each,
however many products read that input. A word embedding split by rows reduces what was looked up, and the gradient of
the states that it is multiplied with; the softmax over split rows three numbers a token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from vlm_jax.config.schema import Config
from vlm_jax.contract import TASKS
from vlm_jax.errors import UserError
from vlm_jax.models.vlm import PROMPT_ROWS, Vlm
from vlm_jax.parallel.partition import param_name
from vlm_jax.training.inspection import Subject

_FACTOR = {"all-reduce": 2, "reduce-scatter": 1, "all-gather": 1}
_F32 = 4
_WIDE = r"text_encoder/word_embedding|landmark_head/.*"
"""Whose gradients are added up in float32 whatever the activations are."""


@dataclass(frozen=True)
class Term:
    """One thing that must be sent.

    Attributes:
      what: the parameter's or the activation's name.
      kind: all-reduce, reduce-scatter or all-gather.
      axes: mesh axes that it goes over, joined by "+".
      sent: bytes that a device sends.
    """

    what: str
    kind: str
    axes: str
    sent: float


def minimum(subject: Subject, batch_size: int) -> list[Term]:
    """All terms of one step of the vlm over `batch_size` records; those over a single device are left out.

    Raises:
      UserError: a system or a form of the model whose products are not counted here.
    """
    config, mesh = subject.config, dict(subject.mesh.shape)
    m = config.model
    counted = m.fusion == "cross_attention" and m.image_encoder.stem == "patch" and not m.remat and not m.region_width
    if not isinstance(subject.model, Vlm) or not counted:
        raise UserError(
            f"{config.name}: the least traffic is known of system vlm with model.fusion=cross_attention, "
            "model.image_encoder.stem=patch, model.region_width=0 and model.remat=false"
        )
    terms = list(parameter_terms(subject.abstract.params, mesh, rows_read(config), subject.model.dtype.itemsize))
    if mesh["tensor"] > 1:
        terms += activation_terms(subject.model, config, mesh, batch_size // (mesh["data"] * mesh["fsdp"]))
    return [term for term in terms if term.sent]


def parameter_terms(params: Any, mesh: Mapping[str, int], rows: Mapping[str, int], item: int = _F32) -> Iterator[Term]:
    """Of a tree of abstract parameters with shardings.

    Args:
      params: float32, with shardings.
      mesh: {axis: size}.
      rows: those read of tables that are not read whole.
      item: bytes of an activation: what enters products in that type is gathered, and its gradient reduced, in it.
    """
    data, fsdp = mesh["data"], mesh["fsdp"]
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = param_name(path)
        axes = [axis for axis in leaf.sharding.spec if axis is not None]
        share = rows[name] / leaf.shape[0] if name in rows else 1.0
        width = item if len(leaf.shape) > 1 and not re.fullmatch(_WIDE, name) else leaf.dtype.itemsize
        size = math.prod(leaf.shape) * width * share / math.prod(mesh[a] for a in axes if a != "fsdp")
        if "fsdp" not in axes:
            yield _term(name, "all-reduce", ("data", "fsdp"), mesh, size)
            continue
        yield _term(name, "all-gather", ("fsdp",), mesh, size)
        yield _term(name, "reduce-scatter", ("fsdp",), mesh, size)
        yield _term(name, "all-reduce", ("data",), mesh, size / fsdp if data > 1 else 0.0)


def rows_read(config: Config) -> dict[str, int]:
    """Rows of the tables of positions and types that a batch reads: the others have no gradient."""
    return {
        "text_encoder/position_embedding": config.data.prompt_length,
        "text_encoder/token_type_embedding": 1,
        "decoder/position_embedding": config.data.target_length - 1,
    }


def activation_terms(model: Vlm, config: Config, mesh: Mapping[str, int], b: int) -> Iterator[Term]:
    """What goes over `tensor` for the b records of one copy of the model."""
    m, item = config.model, model.dtype.itemsize
    s, t, r = config.data.prompt_length, config.data.target_length - 1, len(model.text_tasks)
    patches = (config.data.image_size // m.image_encoder.patch) ** 2
    image, text = m.image_encoder.width, m.text_encoder.width
    seen = config.data.frames * (1 + patches)
    prompts = len({PROMPT_ROWS[i] for i, task in enumerate(TASKS) if task in config.tasks})

    def reduced(what: str, tokens: int, width: int, times: int) -> Term:
        return _term(what, "all-reduce", ("tensor",), mesh, times * b * tokens * width * item)

    yield reduced("image encoder: attention and MLP of each layer", seen, image, 4 * m.image_encoder.layers)
    yield reduced("text encoder: words looked up", prompts * s, text, _by_rows(model, mesh))
    yield reduced("text encoder: attention and MLP of each layer", prompts * s, text, 4 * m.text_encoder.layers)
    if "landmarks" in config.tasks or m.condition_on_landmarks:
        yield reduced("image to text: output, and gradient of the queries", config.data.frames * patches, image, 2)
        yield reduced("image to text: gradient of the prompt", s, text, 1)
    if not r:
        return
    yield reduced("text to image: output, and gradient of the queries", r * s, text, 2)
    yield reduced("text to image: gradient of the image", seen, image, 1)
    told = model.n_landmarks if m.condition_on_landmarks and "describe" in config.tasks else 0
    yield reduced("decoder: gradient of prompts and image, for all layers", r * (s + told) + seen, text, 1)
    yield reduced("decoder: two attentions and MLP of each layer", r * t, text, 6 * m.decoder.layers)
    yield reduced("decoder: words looked up, gradient of the last states", r * t, text, 2 * _by_rows(model, mesh))
    yield _term("softmax over the words", "all-reduce", ("tensor",), mesh, 3 * b * r * t * _F32 * _by_rows(model, mesh))


def _by_rows(model: Vlm, mesh: Mapping[str, int]) -> int:
    """1 where the word embedding's rows are split, else 0."""
    return int(model.vocab_size % mesh["tensor"] == 0)


def _term(what: str, kind: str, axes: tuple[str, ...], mesh: Mapping[str, int], payload: float) -> Term:
    n = math.prod(mesh[axis] for axis in axes)
    named = "+".join(axis for axis in axes if mesh[axis] > 1)
    return Term(what, kind, named, _FACTOR[kind] * (n - 1) / n * payload)
