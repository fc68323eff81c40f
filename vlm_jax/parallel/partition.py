"""How parameters and batches lie on a mesh: two small tables, names -> logical axes and logical axes -> mesh axes.

A dimension that its mesh axis does not divide is left whole (replicated), except `heads` and `mlp`: whoever asks for
tensor parallelism asks for those to be split, so there it is an error. Where `fsdp` does not divide the dimension that
the tables name, it splits the largest other one that it divides.
"""

from __future__ import annotations

import math
import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlm_jax.errors import UserError

BATCH_AXES = ("data", "fsdp")

_ATTENTION = r".*/(self_|cross_)?attention"
_LSTM = r"network/(encoder/encoder_\d+_(forward|backward)|decoder_\d+)"

RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"text_encoder/word_embedding", ("vocab", "embed")),
    (r"(image_encoder|text_encoder|decoder)/(position|token_type)_embedding", ("rows", "embed")),
    (r"image_encoder/class_token|null_image|null_text", ("vector",)),
    (r"frame_embedding", ("rows", "embed")),
    (r"landmark_tokens/embedding", ("rows", "landmarks", "embed")),
    (r"image_encoder/patch_embedding/kernel", ("patch", "embed")),
    (r"image_projection/kernel", ("image", "embed")),
    (r"(image_encoder/patch_embedding|image_projection)/bias", ("vector",)),
    (_ATTENTION + r"/(query|key|value)/kernel", ("embed", "heads", "head_width")),
    (_ATTENTION + r"/(query|key|value)/bias", ("heads", "head_width")),
    (_ATTENTION + r"/out/kernel", ("heads", "head_width", "embed")),
    (_ATTENTION + r"/out/bias", ("vector",)),
    (r".*/mlp/up/kernel", ("embed", "mlp")),
    (r".*/mlp/up/bias", ("mlp",)),
    (r".*/mlp/down/kernel", ("mlp", "embed")),
    (r".*/mlp/down/bias", ("vector",)),
    (r".*/(embedding_)?norm(_\w+)?/(scale|bias)", ("vector",)),
    (r"landmark_head/linear/kernel", ("embed", "landmarks")),
    (r"landmark_head/linear/bias", ("landmarks",)),
    (r"region_head/linear/kernel", ("embed", "landmarks")),
    (r"region_head/linear/bias|region_vote", ("landmarks",)),
    (r"token_bias", ("vocab",)),
    (r"gpt/word_embedding|question_embedding", ("vocab", "embed")),
    (r"gpt/position_embedding", ("rows", "embed")),
    (r"vision_projection/kernel", ("image", "embed")),
    (r"vision_projection/bias", ("vector",)),
    (r"classifier_head/hidden/kernel", ("embed", "vector")),
    (r"classifier_head/hidden/bias", ("vector",)),
    (r"classifier_head/linear/kernel", ("vector", "landmarks")),
    (r"classifier_head/linear/bias", ("landmarks",)),
    (r".*/conv_\w+/kernel", ("window", "window", "channels", "embed")),
    (r".*/norm_\w+/running_(mean|variance)", ("vector",)),
    (r".*/attention/relative_position_bias", ("rows", "heads")),
    (r".*backbone/patch_embedding/kernel", ("patch", "embed")),
    (r".*backbone/patch_embedding/bias", ("vector",)),
    (r".*backbone/merge_\d/reduction/kernel", ("channels", "embed")),
    (r"word_embedding", ("vocab", "embed")),
    (r"network/position_embedding", ("rows", "embed")),
    (_LSTM + r"/input/kernel", ("embed", "vector")),
    (_LSTM + r"/recurrent", ("embed", "vector")),
    (_LSTM + r"/input/bias", ("vector",)),
    (r"network/(bridge_(hidden|cell)_\d+|score|combine)/kernel", ("embed", "vector")),
    (r"network/(bridge_(hidden|cell)_\d+|combine)/bias", ("vector",)),
    (r"hmm_prior", ("vector",)),
    (r"hmm_(transition|emission|answer|sentences)", ("rows", "vector")),
    (r"mae_decoder/embed/kernel", ("image", "embed")),
    (r"mae_decoder/predict/kernel", ("embed", "patch")),
    (r"mae_decoder/(embed/bias|predict/bias|mask_token)", ("vector",)),
    (r"mlm_head/dense/kernel", ("image", "embed")),
    (r"mlm_head/dense/bias", ("vector",)),
    (r"mlm_head/bias", ("vocab",)),
    (r"task_log_variance", ("vector",)),
)
"""(regular expression over the whole name, logical axes). Every parameter is matched by exactly one."""

MESH_AXES: dict[str, str | None] = {
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "head_width": None,
    "patch": None,
    "window": None,
    "channels": None,
    "image": None,
    "rows": None,
    "vector": None,
    "landmarks": None,
}
"""Logical axis -> the mesh axis that splits it; None = whole on every device."""

MUST_DIVIDE = ("heads", "mlp")


def logical_axes(name: str, rank: int) -> tuple[str, ...]:
    """The logical axes of the parameter `name` ("image_encoder/norm/scale") with `rank` dimensions.

    A scanned stack (`.../blocks/layers/...`) has the axis `layers` in front.

    Raises:
      ValueError: no rule or more than one matches, or the rule's axes are not `rank` in number.
    """
    found = [axes for pattern, axes in RULES if re.fullmatch(pattern, name)]
    if len(found) != 1:
        raise ValueError(f"parameter {name!r} is matched by {len(found)} rules of parallel.partition.RULES, not by one")
    axes = ("layers", *found[0]) if "/layers/" in name else found[0]
    if len(axes) != rank:
        raise ValueError(f"parameter {name!r} has {rank} dimensions, but its partition rule names {axes}")
    return axes


def param_name(path: tuple[Any, ...]) -> str:
    """A key path of a parameter tree as "image_encoder/norm/scale"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def param_specs(abstract_params: Any) -> Any:
    """The tree of PartitionSpecs of a parameter tree (arrays or abstract arrays), whatever the mesh's sizes.

    Raises:
      ValueError: a parameter that not exactly one rule matches.
    """

    def spec(path: tuple[Any, ...], leaf: Any) -> PartitionSpec:
        return PartitionSpec(*(MESH_AXES[axis] for axis in logical_axes(param_name(path), len(leaf.shape))))

    return jax.tree_util.tree_map_with_path(spec, abstract_params)


def param_shardings(mesh: Mesh, abstract_params: Any) -> Any:
    """The tree of NamedShardings on `mesh`, dimensions that do not divide left whole.

    Raises:
      UserError: `parallel.tensor` does not divide the heads or the MLP width of some layer.
      ValueError: a parameter that not exactly one rule matches.
    """

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*_mesh_axes(mesh, param_name(path), leaf.shape)))

    return jax.tree_util.tree_map_with_path(sharding, abstract_params)


def _mesh_axes(mesh: Mesh, name: str, shape: tuple[int, ...]) -> list[str | None]:
    """For each dimension of a parameter the mesh axis that splits it."""
    axes = logical_axes(name, len(shape))
    found = list(map(_splitter(mesh, name), axes, shape))
    if "fsdp" in found or "fsdp" not in [MESH_AXES[axis] for axis in axes]:
        return found
    free = [i for i, axis in enumerate(found) if axis is None or mesh.shape[axis] == 1]
    for i in sorted(free, key=lambda i: -shape[i]):
        if axes[i] != "layers" and shape[i] % mesh.shape["fsdp"] == 0:
            return [*found[:i], "fsdp", *found[i + 1 :]]
    return found


def _splitter(mesh: Mesh, name: str) -> Any:
    def split(axis: str, size: int) -> str | None:
        mesh_axis = MESH_AXES[axis]
        if mesh_axis is None or size % mesh.shape[mesh_axis] == 0:
            return mesh_axis
        if axis in MUST_DIVIDE:
            raise UserError(
                f"parallel.{mesh_axis}={mesh.shape[mesh_axis]} does not divide the {size} {axis} of {name}; "
                f"take parallel.{mesh_axis} so that it divides {size}"
            )
        return None

    return split


def left_whole(mesh: Mesh, abstract_params: Any) -> dict[str, list[str]]:
    """Names of the parameters that every device of a mesh with fsdp or tensor holds whole.

    Returns:
      {"undivided": those that a rule would split, had the mesh's size divided theirs, "by rule": those that no rule
      splits (biases, norms and the like)}; both empty where fsdp and tensor are 1.
    """
    found: dict[str, list[str]] = {"undivided": [], "by rule": []}
    if all(mesh.shape[axis] == 1 for axis in ("fsdp", "tensor")):
        return found
    for path, leaf in jax.tree_util.tree_flatten_with_path(abstract_params)[0]:
        name = param_name(path)
        axes = logical_axes(name, len(leaf.shape))
        wanted = [MESH_AXES[axis] for axis in axes if mesh.shape.get(MESH_AXES[axis], 1) > 1]
        split = [axis for axis in _mesh_axes(mesh, name, leaf.shape) if mesh.shape.get(axis, 1) > 1]
        if not split:
            found["undivided" if wanted else "by rule"].append(name)
    return found


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Axis 0 over data and fsdp: of every array of a Batch, whatever its rank."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def constrain_batch(x: jax.Array) -> jax.Array:
    """Tells the compiler to keep axis 0 of activations over data and fsdp, and the rest whole.

    Without it a parameter split over fsdp may win, and the activations are gathered instead of the parameter. A no-op
    outside `jax.set_mesh`, on one device, and where axis 0 does not divide.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not set(BATCH_AXES) <= set(mesh.axis_names):
        return x
    if math.prod(mesh.axis_sizes) == 1 or x.shape[0] % math.prod(mesh.shape[axis] for axis in BATCH_AXES):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))
