"""Sphere tracing of a nose: distance and landmark a pixel, from coarse to fine, one compiled function for all scenes.

Rays of a coarse grid march as cones (each as wide as the pixels below it) and stop where something may lie inside; the
next grid starts there (cone marching, Seven and Fulton 2009; sphere tracing, Hart 1996). Of the steps that a grid takes
all rays take the first few, and those that are still under way the rest: on the last grid until they arrive, for a ray
left hanging beside an edge would widen what it grazes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vlm_jax.simulator.field import Packed, Point, bend, block_distance, field, over_blocks, program

HALF_ANGLE = math.radians(44.0)
"""Half the field of view: the angle from the axis at the edge of the image circle; equidistant, as wide scopes are."""
FAR = 120.0  # mm
RELAX = 0.8  # of the distance a step goes: blending and bending make the field slightly too long
NEAR = 0.4  # mm from the tip where a ray begins
SHARES = ((9, 1), (24, 4), (60, 16), (200, 64))
"""Until which step what part of a grid's rays goes at a time: first all, then those still under way, part by part."""


class Hits(NamedTuple):
    """What the rays of F frames met, arrays [F, H, W]. depth f32 in mm along the ray; solid and paint int32, -1 where
    none; point and normal: three f32 each; openness f32, 1 in the open, 0 in a crevice; tool bool."""

    depth: jax.Array
    solid: jax.Array
    paint: jax.Array
    point: tuple[jax.Array, ...]
    normal: tuple[jax.Array, ...]
    openness: jax.Array
    tool: jax.Array


def directions(size: int) -> Point:
    """Unit rays (right, up, forward) f32[size, size] through the pixels' centres; the image circle has radius 1."""
    axis = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (2 / size) - 1
    u, v = jnp.meshgrid(axis, -axis)
    r = jnp.sqrt(u * u + v * v) + 1e-6
    spread = jnp.sin(r * HALF_ANGLE) / r
    return u * spread, v * spread, jnp.cos(r * HALF_ANGLE)


def turned(turn: jax.Array, rays: Point) -> Point:
    """Camera directions in the world: turn f32[3, 3]."""
    right, up, forward = rays
    return tuple(turn[i, 0] * right + turn[i, 1] * up + turn[i, 2] * forward for i in range(3))


def world_rays(scene: Packed, size: int) -> Point:
    """Every pixel's direction f32[F, size * size] in the world of its frame."""
    flat = tuple(ray.reshape(-1) for ray in directions(size))
    return jax.vmap(turned, in_axes=(0, None))(scene.turn, flat)


def along(scene: Packed, rays: Point, t: jax.Array) -> Point:
    """The points at t f32[F, P] mm on the rays."""
    return tuple(scene.eye[:, k, None] + t * rays[k] for k in range(3))


def levels(size: int) -> tuple[tuple[int, int], ...]:
    """(grid, steps) from coarse to fine; every grid is half of the next, the last is the image."""
    grids = [size]
    while grids[-1] % 2 == 0 and grids[-1] > 28 and len(grids) < 4:
        grids.append(grids[-1] // 2)
    steps = SHARES[-1][0], *(8, 12)[: max(len(grids) - 2, 0)], 30
    return tuple(zip(grids[::-1], steps[: len(grids)][::-1], strict=True))


def march(scene: Packed, size: int) -> tuple[jax.Array, Point]:
    """Depth f32[F, P] along each ray of size x size pixels and the points met."""
    plan = levels(size)
    depth = jnp.full((len(scene.eye), plan[0][0] ** 2), NEAR, jnp.float32)
    rays = world_rays(scene, plan[0][0])
    for k, (grid, steps) in enumerate(plan):
        if k:
            rays, depth = world_rays(scene, grid), _finer(depth, plan[k - 1][0])
        cone = 0.0008 if grid == size else 1.6 * HALF_ANGLE / grid
        depth = _approach(_stride(scene, cone), rays, depth, steps)
    left = field(along(scene, rays, depth), scene)
    depth = jnp.where(jnp.abs(left) < 0.3, depth + left, depth)  # what is left, to either side
    return depth, along(scene, rays, depth)


Stride = Callable[[jax.Array, Point], tuple[jax.Array, jax.Array]]
"""(t, what is known of each ray) to (t after a step, whether the ray is still under way), f32 and bool[F, P].
Known are its direction and what else the step asks for."""


def _stride(scene: Packed, cone: float) -> Stride:
    """A step towards tissue, until it is as near as the ray's cone is wide."""

    def stride(t: jax.Array, rays: Point) -> tuple[jax.Array, jax.Array]:
        d = field(along(scene, rays, t), scene)
        on = (d > cone * t) & (t < FAR)
        return jnp.where(on, t + RELAX * d, t), on

    return stride


def _approach(stride: Stride, rays: Point, depth: jax.Array, steps: int) -> jax.Array:
    """Depth after at most so many steps."""

    def step(state: tuple[jax.Array, jax.Array, jax.Array, Point]) -> tuple[jax.Array, jax.Array, jax.Array, Point]:
        n, t, _, rays = state
        return n + 1, *stride(t, rays), rays

    def advance(n: int, t: jax.Array, on: jax.Array, rays: Point) -> tuple[jax.Array, jax.Array]:
        start = (jnp.int32(0), t, on, rays)
        return jax.lax.while_loop(lambda state: (state[0] < n) & jnp.any(state[2]), step, start)[1:3]

    def by_parts(n: int, part: int, depth: jax.Array, on: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = depth.shape[1]

        def some(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            t, waiting, on = state
            places = jax.vmap(lambda row: jnp.nonzero(row, size=max(1, pixels // part), fill_value=pixels)[0])(waiting)
            take = functools.partial(jnp.take_along_axis, indices=jnp.minimum(places, pixels - 1), axis=1)
            t_part, on_part = advance(n, take(t), places < pixels, tuple(take(ray) for ray in rays))
            put = jax.vmap(lambda row, at, value: row.at[at].set(value, mode="drop"))
            return put(t, places, t_part), put(waiting, places, jnp.zeros(places.shape, bool)), put(on, places, on_part)

        depth, _, on = jax.lax.while_loop(lambda state: jnp.any(state[1]), some, (depth, on, on))
        return depth, on

    done, on = 0, jnp.ones(depth.shape, bool)
    for until, part in SHARES:
        if done < min(until, steps):
            n = min(until, steps) - done
            depth, on = advance(n, depth, on, rays) if part == 1 else by_parts(n, part, depth, on)
            done += n
    return depth


def _finer(depth: jax.Array, grid: int) -> jax.Array:
    """Where the next grid starts: as far as the whole pixel above is free, which its cone has shown."""
    square = depth.reshape(-1, grid, grid) * 0.997
    return jnp.repeat(jnp.repeat(square, 2, 1), 2, 2).reshape(len(depth), -1)


def name(p: Point, scene: Packed) -> tuple[jax.Array, jax.Array]:
    """(solid, paint) int32[F, P] of points on the surface: the nearest solid's slot, or the first paint that holds the
    wall; -1 where there is none."""
    q = bend(p, scene)
    none = jnp.full(q[0].shape, -1, jnp.int32)

    def nearer(k: jax.Array | int, block: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        d = block_distance(q, block)
        return jnp.where(d < best[1], k, best[0]), jnp.minimum(d, best[1])

    def first(k: jax.Array | int, block: jax.Array, paint: jax.Array) -> jax.Array:
        return jnp.where((paint < 0) & (block_distance(q, block) < 0), k, paint)

    _, air = over_blocks(scene.airways, nearer, (none, jnp.full(none.shape, jnp.inf)))
    solid, _ = over_blocks(scene.solids, nearer, (none, -air))
    paint = over_blocks(scene.paints, first, none)
    return solid, jnp.where(solid >= 0, -1, paint)


TOUCH = 0.1  # mm: a ray that comes as near as this to a block alone belongs to its silhouette
SILHOUETTE_STEPS = 100  # at most; 30 miss pixels along a block, 60 next to none
BENT = 1.28 * math.sqrt(3)  # times a scene's bending (mm): how far from its straight place a point may be
REACH = 2.5  # mm before the surface at which openness is felt
EDGE = 0.12  # mm over which the surface's slope is taken
march_fn = program(march, "size")
name_fn = program(name)
_field_fn = program(lambda ends, scene, offset: field(_moved(ends, offset), scene))
_normal_fn = program(lambda here, slope: unit([s - here for s in slope]))


def _moved(p: Point, offset: jax.Array | Point) -> Point:
    return tuple(x + o for x, o in zip(p, offset, strict=True))


def unit(v: list[jax.Array]) -> Point:
    """Of length one."""
    norm = jnp.sqrt(sum(s * s for s in v)) + 1e-6
    return tuple(s / norm for s in v)


def trace(scene: Packed, size: int) -> Hits:
    """F frames: everything that shading and truth need.

    Each stage is a program of its own: where the blocks are not a loop (see `over_slots`), XLA would compute the march
    again for everything that reads it.
    """
    depth, ends = march_fn(scene, size)
    solid, paint = name_fn(ends, scene)
    here = _field_fn(ends, scene, jnp.zeros(3))
    normal = _normal_fn(here, [_field_fn(ends, scene, jnp.eye(3)[k] * EDGE) for k in range(3)])
    openness = jnp.clip(_field_fn(ends, scene, tuple(REACH * n for n in normal)) / REACH, 0, 1)
    hit = tool_fn(scene.tool, size)
    hits = Hits(jnp.minimum(hit, depth), solid, paint, ends, normal, openness, hit < depth)
    return jax.tree.map(lambda a: a.reshape(-1, size, size), hits)


def tool(block: jax.Array, size: int) -> jax.Array:
    """Depth f32[F, P] of the instruments f32[F, 16], FAR where the ray misses them."""
    rays = tuple(ray.reshape(-1) for ray in directions(size))

    def step(_: int, t: jax.Array) -> jax.Array:
        d = block_distance(tuple(t * r for r in rays), block)
        return jnp.where((d > 0.02) & (t < FAR), t + d, t)

    t = jax.lax.fori_loop(0, 14, step, jnp.zeros((len(block), size * size), jnp.float32))
    return jnp.where(block_distance(tuple(t * r for r in rays), block) < 0.1, t, FAR)


def _span(scene: Packed, rays: Point, block: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where rays may meet a block, between (mm, f32[F, P]) and (mm), where they are in the sphere about it, however it
    is bent; the end is no farther than the start where they never are."""
    towards = block[:, :3] - scene.eye
    middle = sum((towards[:, k, None] * rays[k] for k in range(3)), jnp.zeros(()))
    radius = jnp.linalg.norm(block[:, 12:15], axis=1) + block[:, 15] + TOUCH + BENT * scene.bend
    inside = (radius**2 - jnp.sum(towards**2, axis=1))[:, None] + middle**2
    half = jnp.sqrt(jnp.maximum(inside, 0))
    return jnp.maximum(middle - half, 0), middle + half


def silhouettes(scene: Packed, size: int) -> tuple[jax.Array, jax.Array]:
    """Pixels that each solid and each paint would cover alone: bool[F, SOLIDS, P], bool[F, PAINTS, P]."""
    rays = world_rays(scene, size)
    shape = rays[0].shape

    def cover(k: jax.Array | int, block: jax.Array, covered: jax.Array) -> jax.Array:
        def stride(t: jax.Array, rays: Point) -> tuple[jax.Array, jax.Array]:
            d = block_distance(bend(along(scene, rays, t), scene), block)
            on = (d >= TOUCH) & (t < rays[3])
            return jnp.where(on, t + 0.9 * d, t), on

        start, end = _span(scene, rays, block)
        t = _approach(stride, (*rays, end), start, SILHOUETTE_STEPS)
        return covered.at[:, k].set(t < end)

    def alone(blocks: jax.Array) -> jax.Array:
        return over_blocks(blocks, cover, jnp.zeros((shape[0], blocks.shape[1], shape[1]), bool))

    return alone(scene.solids), alone(scene.paints)


tool_fn = program(tool, "size")
silhouettes_fn = program(silhouettes, "size")
