"""Sphere tracing of a nose: distance and landmark a pixel, from coarse to fine, one compiled function for all scenes.

Rays of a coarse grid march as cones (each as wide as the pixels below it) and stop where something may lie inside; the
next grid starts there (cone marching, Seven and Fulton 2009; sphere tracing, Hart 1996). A plain march of every pixel
evaluates the field about seven times as often.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

SOLIDS, AIRWAYS, PAINTS = 18, 20, 12
"""Slots of each kind of block in a traced scene."""
HALF_ANGLE = math.radians(44.0)
"""Half the field of view: the angle from the axis at the edge of the image circle; equidistant, as wide scopes are."""
FAR = 120.0  # mm
BLEND_AIR, BLEND_TISSUE = 1.6, 1.4  # mm over which airways and tissue run into each other
RELAX = 0.8  # of the distance a step goes: blending and bending make the field slightly too long
NEAR = 0.4  # mm from the tip where a ray begins


class Packed(NamedTuple):
    """Arrays of F scenes with a camera each.

    eye f32[F, 3]; turn f32[F, 3, 3], camera (right, up, forward) to world; solids f32[F, SOLIDS, 16]; airways
    f32[F, AIRWAYS, 16]; paints f32[F, PAINTS, 16]; phase f32[F, 3] and bend f32[F] (mm) of the field's bending;
    tool f32[F, 16], an instrument in camera coordinates.
    """

    eye: jax.Array
    turn: jax.Array
    solids: jax.Array
    airways: jax.Array
    paints: jax.Array
    phase: jax.Array
    bend: jax.Array
    tool: jax.Array


class Hits(NamedTuple):
    """What the rays met. depth f32[H, W] in mm along the ray; solid and paint int32[H, W], -1 where none; point and
    normal: three f32[H, W] each; openness f32[H, W], 1 in the open, 0 in a crevice; tool bool[H, W]."""

    depth: jax.Array
    solid: jax.Array
    paint: jax.Array
    point: tuple[jax.Array, ...]
    normal: tuple[jax.Array, ...]
    openness: jax.Array
    tool: jax.Array


Point = tuple[jax.Array, ...]
"""x, y, z (or right, up, forward), arrays of one shape."""


def block_distance(p: Point, block: jax.Array) -> jax.Array:
    """Signed distance (mm) of points from one packed block f32[16]."""
    x, y, z = p[0] - block[0], p[1] - block[1], p[2] - block[2]
    a = jnp.abs(block[3] * x + block[4] * y + block[5] * z) - block[12]
    b = jnp.abs(block[6] * x + block[7] * y + block[8] * z) - block[13]
    c = jnp.abs(block[9] * x + block[10] * y + block[11] * z) - block[14]
    outside = jnp.maximum(a, 0) ** 2 + jnp.maximum(b, 0) ** 2 + jnp.maximum(c, 0) ** 2
    return jnp.sqrt(outside) + jnp.minimum(jnp.maximum(a, jnp.maximum(b, c)), 0) - block[15]


def smooth_min(a: jax.Array, b: jax.Array, width: float) -> jax.Array:
    """Quadratic polynomial smooth minimum (Quilez): differs from min(a, b) where |a - b| < width."""
    h = jnp.maximum(width - jnp.abs(a - b), 0)
    return jnp.minimum(a, b) - h * h * (0.25 / width)


def wave(x: jax.Array) -> jax.Array:
    """A sine to 1e-3 in ten operations (parabolas on the reduced angle): XLA's own takes most of a march on a CPU."""
    turns = x * (0.5 / math.pi)
    x = (turns - jnp.round(turns)) * 2  # in half turns, -1 to 1
    y = 4 * x * (1 - jnp.abs(x))
    return y * (0.775 + 0.225 * jnp.abs(y))


def bend(p: Point, scene: Packed) -> Point:
    """A patient's own slight bending of everything: no wall is quite flat."""
    x, y, z = p
    w, (a, b, c) = scene.bend, (scene.phase[k] for k in range(3))
    x, y, z = (
        x + w * wave(0.23 * y + 0.17 * z + a),
        y + w * wave(0.21 * z + 0.19 * x + b),
        z + w * wave(0.20 * x + 0.22 * y + c),
    )
    v = 0.28 * w
    return (
        x + v * wave(0.83 * y + 0.67 * z + b),
        y + v * wave(0.91 * z + 0.79 * x + c),
        z + v * wave(0.70 * x + 0.82 * y + a),
    )


def field(p: Point, scene: Packed) -> jax.Array:
    """Distance (mm) to the nearest tissue; negative inside it."""
    p = bend(p, scene)
    distance = -functools.reduce(
        lambda d, k: smooth_min(d, block_distance(p, scene.airways[k]), BLEND_AIR),
        range(1, AIRWAYS),
        block_distance(p, scene.airways[0]),
    )
    for k in range(SOLIDS):
        distance = smooth_min(distance, block_distance(p, scene.solids[k]), BLEND_TISSUE)
    return distance


def directions(size: int) -> Point:
    """Unit rays (right, up, forward) through the centres of size x size pixels; the image circle has radius 1."""
    axis = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (2 / size) - 1
    u, v = jnp.meshgrid(axis, -axis)
    r = jnp.sqrt(u * u + v * v) + 1e-6
    spread = jnp.sin(r * HALF_ANGLE) / r
    return u * spread, v * spread, jnp.cos(r * HALF_ANGLE)


def turned(turn: jax.Array, rays: Point) -> Point:
    """Camera directions in the world: turn f32[3, 3]."""
    right, up, forward = rays
    return tuple(turn[i, 0] * right + turn[i, 1] * up + turn[i, 2] * forward for i in range(3))


def levels(size: int, last: int) -> tuple[tuple[int, int], ...]:
    """(grid, steps) from coarse to fine; every grid is half of the next, the last is the image."""
    grids = [size]
    while grids[-1] % 2 == 0 and grids[-1] > 28 and len(grids) < 4:
        grids.append(grids[-1] // 2)
    counts = (last + 30,) if len(grids) == 1 else (last, *(8, 12)[: len(grids) - 2], 30)
    return tuple(zip(grids[::-1], counts[::-1], strict=True))


def march(scene: Packed, size: int, last: int = 7) -> tuple[jax.Array, Point]:
    """Depth f32[size, size] along each ray and the points that were met; `last` steps on the finest grid."""
    plan = levels(size, last)
    depth, rays = jnp.full((plan[0][0],) * 2, NEAR, jnp.float32), directions(size)
    for grid, steps in plan:
        local = directions(grid)
        rays = turned(scene.turn, local)
        cone = 0.0008 if grid == size else 1.6 * HALF_ANGLE / grid
        depth = depth if depth.shape[0] == grid else _finer(depth)

        def step(_: int, t: jax.Array, rays: Point = rays, cone: float = cone) -> jax.Array:
            d = field(tuple(scene.eye[k] + t * rays[k] for k in range(3)), scene)
            return jnp.where((d > cone * t) & (t < FAR), t + RELAX * d, t)

        depth = jax.lax.fori_loop(0, steps, step, depth)
    left = field(tuple(scene.eye[k] + depth * rays[k] for k in range(3)), scene)
    depth = jnp.where(jnp.abs(left) < 0.3, depth + left, depth)  # what is left, to either side
    return depth, tuple(scene.eye[k] + depth * rays[k] for k in range(3))


def _finer(depth: jax.Array) -> jax.Array:
    """Where the next grid starts: as far as the whole pixel above is free, which its cone has shown."""
    return jnp.repeat(jnp.repeat(depth, 2, 0), 2, 1) * 0.997


def name(p: Point, scene: Packed) -> tuple[jax.Array, jax.Array]:
    """(solid, paint) of points on the surface: the nearest solid's slot, or the first paint that holds the wall."""
    q = bend(p, scene)
    air = block_distance(q, scene.airways[0])
    for k in range(1, AIRWAYS):
        air = jnp.minimum(air, block_distance(q, scene.airways[k]))
    nearest, solid = -air, jnp.full(air.shape, -1, jnp.int32)
    for k in range(SOLIDS):
        d = block_distance(q, scene.solids[k])
        solid, nearest = jnp.where(d < nearest, k, solid), jnp.minimum(d, nearest)
    paint = jnp.full(air.shape, -1, jnp.int32)
    for k in reversed(range(PAINTS)):
        paint = jnp.where(block_distance(q, scene.paints[k]) < 0, k, paint)
    return solid, jnp.where(solid >= 0, -1, paint)


def _field_near(ends: Point, scene: Packed, offset: jax.Array | Point) -> jax.Array:
    return field(tuple(e + o for e, o in zip(ends, offset, strict=True)), scene)


REACH = 2.5  # mm before the surface at which openness is felt
march_fn = jax.jit(jax.vmap(march, in_axes=(0, None, None)), static_argnums=(1, 2))
name_fn = jax.jit(jax.vmap(name))
_field_fn = jax.jit(jax.vmap(_field_near, in_axes=(0, 0, None)))
_normal_fn = jax.jit(lambda here, slope: _unit([s - here for s in slope]))
_away_fn = jax.jit(jax.vmap(lambda ends, n, scene: _field_near(ends, scene, tuple(REACH * k for k in n))))


def _unit(v: list[jax.Array]) -> Point:
    norm = jnp.sqrt(sum(s * s for s in v)) + 1e-6
    return tuple(s / norm for s in v)


def trace(scene: Packed, size: int) -> Hits:
    """F frames: everything that shading and truth need.

    Each stage is a program of its own: as one, XLA on a CPU computes the march again for everything that reads it (a
    hundred times slower, tried), and optimisation barriers are dropped there.
    """
    depth, ends = march_fn(scene, size, 7)
    solid, paint = name_fn(ends, scene)
    eps = 0.12
    here = _field_fn(ends, scene, jnp.zeros(3))
    normal = _normal_fn(here, [_field_fn(ends, scene, jnp.eye(3)[k] * eps) for k in range(3)])
    openness = jnp.clip(_away_fn(ends, normal, scene) / REACH, 0, 1)
    hit = tool_fn(scene.tool, size)
    return Hits(jnp.minimum(hit, depth), solid, paint, ends, normal, openness, hit < depth)


def _tool(tool: jax.Array, size: int) -> jax.Array:
    """Depth f32[size, size] of the instrument, FAR where the ray misses it."""
    rays = directions(size)

    def step(_: int, t: jax.Array) -> jax.Array:
        d = block_distance(tuple(t * r for r in rays), tool)
        return jnp.where((d > 0.02) & (t < FAR), t + d, t)

    t = jax.lax.fori_loop(0, 14, step, jnp.zeros((size, size), jnp.float32))
    return jnp.where(block_distance(tuple(t * r for r in rays), tool) < 0.1, t, FAR)


tool_fn = jax.jit(jax.vmap(_tool, in_axes=(0, None)), static_argnums=1)


def silhouettes(scene: Packed, size: int) -> tuple[jax.Array, jax.Array]:
    """Pixels that each solid and each paint would cover alone: bool[SOLIDS, H, W], bool[PAINTS, H, W]."""
    local = directions(size)
    rays = turned(scene.turn, local)

    def covers(block: jax.Array) -> jax.Array:
        def step(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            t, nearest = state
            d = block_distance(bend(tuple(scene.eye[k] + t * rays[k] for k in range(3)), scene), block)
            return t + jnp.maximum(d, 0.02) * 0.95, jnp.minimum(nearest, d)

        start = (jnp.zeros((size, size), jnp.float32), jnp.full((size, size), jnp.inf, jnp.float32))
        return jax.lax.fori_loop(0, 12, step, start)[1] < 0.1

    return jax.lax.map(covers, scene.solids), jax.lax.map(covers, scene.paints)


silhouettes_fn = jax.jit(jax.vmap(silhouettes, in_axes=(0, None)), static_argnums=1)
