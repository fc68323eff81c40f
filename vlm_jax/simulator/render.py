"""The renderer's face: frames of a scene along a path, and the truth that id masks hold.

Its ids, not its colours, are the truth of the labels: `visibility` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.simulator import anatomy, field, nuisance, shade, trace
from vlm_jax.simulator.camera import Path
from vlm_jax.simulator.scene import BEND, Scene

MASK_SIZE = 56
"""Side of the id masks that labels are read from, whatever the image size: so labels don't depend on it."""
SILHOUETTE_SIZE = 28
MIN_AREA = 40 / 224**2
"""A visible landmark covers at least 40 pixels of a 224-pixel image ..."""
MIN_SHARE = 0.25
"""... and at least a quarter of its projection into the field of view as it would be with nothing in front of it."""
CHUNK = 8
"""Frames a call: a fixed number, so that one program serves all."""
COUNT = len(anatomy.LANDMARKS)
Shot = tuple[Scene, Path, int]
"""A frame of a path through a scene, by its number."""


@dataclass(frozen=True, slots=True)
class Image:
    """One frame: rgb uint8[H, W, 3], ids uint8[H, W] (landmark number, 0 elsewhere) and depth f32[H, W] in mm."""

    rgb: np.ndarray
    ids: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True, slots=True)
class Sight:
    """What F frames show of each landmark: visible bool[F, 20], fractions f32[F, 20] of the image's area, share
    f32[F, 20] of its unoccluded projection, clock position centres f32[F, 20, 2] (right, up; radii; nan if unseen)."""

    visible: np.ndarray
    fractions: np.ndarray
    share: np.ndarray
    centres: np.ndarray


def render(shots: Sequence[Shot], size: int, seeds: Sequence[Sequence[int]]) -> Iterator[Image]:
    """The shots in order, of one scene or of many. A frame's recording noise comes from its own seed."""
    for start in range(0, len(shots), CHUNK):
        some = shots[start : start + CHUNK]
        packed = pack(some)
        hits = trace.trace(packed, size)
        rgb, ids = shade.shade(hits, packed, look(some))
        arrays = np.asarray(rgb), np.asarray(ids).astype(np.uint8), np.asarray(hits.depth)
        for k, (scene, path, number) in enumerate(some):
            image, mask, depth = (a[k] if scene.side == "left" else a[k][:, ::-1] for a in arrays)
            rng = np.random.Generator(np.random.SFC64(list(seeds[start + k])))
            recorded = nuisance.record(image, path.strengths[number], scene.centre, rng)
            yield Image(recorded, mask * _field(size, scene.centre.border), np.ascontiguousarray(depth))


def visibility(scene: Scene, path: Path, frames: Sequence[int]) -> Sight:
    """Truth of the path's frames of these numbers, read from id masks of MASK_SIZE pixels."""
    return sights([(scene, path, frames)])[0]


def sights(views: Sequence[tuple[Scene, Path, Sequence[int]]]) -> list[Sight]:
    """`visibility` of many scenes at once: their frames share the calls."""
    shots = [(scene, path, number) for scene, path, frames in views for number in frames]
    parts = [_sight(shots[k : k + CHUNK]) for k in range(0, len(shots), CHUNK)]
    whole = {name: np.concatenate([getattr(p, name) for p in parts]) for name in Sight.__dataclass_fields__}
    ends = np.cumsum([len(frames) for _, _, frames in views])[:-1]
    split = {name: np.split(array, ends) for name, array in whole.items()}
    return [Sight(**{name: split[name][k] for name in split}) for k in range(len(views))]


def _sight(shots: Sequence[Shot]) -> Sight:
    sums, whole = (np.asarray(a)[: len(shots)] for a in _measure(shots))
    pixels = sums[..., 0]
    fractions = (pixels / MASK_SIZE**2).astype(np.float32)
    alone = whole / SILHOUETTE_SIZE**2
    share = np.where(pixels > 0, fractions / np.maximum(alone, 0.5 / SILHOUETTE_SIZE**2), 0).clip(0, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centres = (sums[..., 1:] / pixels[..., None]).astype(np.float32)
    centres[[scene.side == "right" for scene, _, _ in shots], :, 0] *= -1
    return Sight((fractions >= MIN_AREA) & (share >= MIN_SHARE), fractions, share.astype(np.float32), centres)


def _measure(shots: Sequence[Shot]) -> tuple[jax.Array, jax.Array]:
    packed, full = pack(shots), _full(shots)
    slots = np.stack([scene.slots for scene, _, _ in full])
    border = np.array([scene.centre.border for scene, _, _ in full], np.float32)
    depth, ends = trace.march_fn(packed, MASK_SIZE)
    solid, paint = trace.name_fn(ends, packed)
    tool = trace.tool_fn(packed.tool, MASK_SIZE) < depth
    solids, paints = trace.silhouettes_fn(packed, SILHOUETTE_SIZE)
    seen = _count(*(a.reshape(-1, MASK_SIZE, MASK_SIZE) for a in (depth, solid, paint, tool)), slots, border)
    return seen, _count_alone(solids, paints, slots, border)


@jax.jit
@jax.vmap
def _count(
    depth: jax.Array, solid: jax.Array, paint: jax.Array, tool: jax.Array, slots: jax.Array, border: jax.Array
) -> jax.Array:
    """f32[20, 3] of a frame: pixels of each landmark, and the sums of their places right and up."""
    ids, _ = shade.landmark_ids(depth, solid, paint, tool, slots)
    axis = (jnp.arange(MASK_SIZE) + 0.5) * (2 / MASK_SIZE) - 1
    right, up = jnp.meshgrid(axis, -axis)
    one = (ids[..., None] == jnp.arange(1, COUNT + 1)) & (right**2 + up**2 < border**2)[..., None]
    weights = jnp.stack([jnp.ones_like(right), right, up], axis=-1)
    return jnp.einsum("hwn,hwc->nc", one.astype(jnp.float32), weights)


@jax.jit
@jax.vmap
def _count_alone(solids: jax.Array, paints: jax.Array, slots: jax.Array, border: jax.Array) -> jax.Array:
    """f32[20] of a frame: pixels of the field of view that each landmark would cover with nothing in front."""
    covered = jnp.concatenate([solids, paints]) & _field(SILHOUETTE_SIZE, border).reshape(-1)
    member = slots[:-1, 3].astype(jnp.int32)[None, :] == jnp.arange(1, COUNT + 1)[:, None]
    return jnp.einsum("ns,sp->np", member.astype(jnp.float32), covered.astype(jnp.float32)).clip(0, 1).sum(1)


def pack(shots: Sequence[Shot]) -> field.Packed:
    """The tracer's arrays of CHUNK frames; the last is repeated where there are fewer."""
    full = _full(shots)

    def each(name: str) -> jax.Array:
        return jnp.asarray(np.stack([getattr(scene, name) for scene, _, _ in full]))

    def along(name: str) -> jax.Array:
        return jnp.asarray(np.stack([getattr(path, name)[number] for _, path, number in full]))

    return field.Packed(
        eye=along("eye"),
        turn=along("turn"),
        solids=each("solids"),
        airways=each("airways"),
        paints=each("paints"),
        phase=each("phase"),
        bend=jnp.full(len(full), BEND),
        tool=along("tool"),
    )


def look(shots: Sequence[Shot]) -> shade.Look:
    """The shader's arrays of CHUNK frames."""
    full = _full(shots)

    def each(owners: Sequence[object], name: str) -> jax.Array:
        return jnp.asarray(np.stack([np.asarray(getattr(owner, name), np.float32) for owner in owners]))

    scenes = [scene for scene, _, _ in full]
    centres = [scene.centre for scene in scenes]
    strengths = jnp.asarray(np.stack([path.strengths[number] for _, path, number in full]))
    strength = {name: strengths[:, k] for k, name in enumerate(nuisance.STRENGTHS)}
    return shade.Look(
        slots=each(scenes, "slots"),
        decals=each(scenes, "decals"),
        phase=each(scenes, "texture"),
        **{name: each(centres, name) for name in ("tint", "border", "softness", "reach", "exposure", "gloss")},
        **{name: strength[name] for name in ("blood", "smoke", "fog", "over")},
    )


def _full(shots: Sequence[Shot]) -> list[Shot]:
    return [*shots, *[shots[-1]] * (CHUNK - len(shots))]


def _field(size: int, border: float | jax.Array) -> np.ndarray | jax.Array:
    axis = (np.arange(size) + 0.5) * (2 / size) - 1
    return axis[None, :] ** 2 + axis[:, None] ** 2 < border**2
