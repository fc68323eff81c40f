"""The signed distance field of a nose: rounded boxes that run into each other, a little bent."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from vlm_jax.simulator.blocks import NOWHERE, WIDTH

SOLIDS, AIRWAYS, PAINTS = 18, 20, 12
"""Slots of each kind of block in a packed scene."""
BLEND_AIR, BLEND_TISSUE = 1.6, 1.4  # mm over which airways and tissue run into each other


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


Point = tuple[jax.Array, ...]
"""x, y, z (or right, up, forward), arrays of one shape; in this module f32[F, P] for P pixels of F frames."""
State = TypeVar("State")


def program(function: Callable[..., Any], *static: str) -> Callable[..., Any]:
    """`function` compiled for vectors of 512 bits where a CPU has them, and for minima that need not pass on a nan: a
    third of the time saved, and the same to the last bit, as nothing here sums over pixels or is a nan."""
    options = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_enable_fast_min_max": True}
    return jax.jit(function, static_argnames=static, compiler_options=options)


def block_distance(p: Point, block: jax.Array) -> jax.Array:
    """Signed distance (mm) of points f32[..., P] from packed blocks f32[..., 16]."""
    c = [block[..., k, None] for k in range(WIDTH)]
    x, y, z = p[0] - c[0], p[1] - c[1], p[2] - c[2]
    a = jnp.abs(c[3] * x + c[4] * y + c[5] * z) - c[12]
    b = jnp.abs(c[6] * x + c[7] * y + c[8] * z) - c[13]
    d = jnp.abs(c[9] * x + c[10] * y + c[11] * z) - c[14]
    outside = jnp.maximum(a, 0) ** 2 + jnp.maximum(b, 0) ** 2 + jnp.maximum(d, 0) ** 2
    return jnp.sqrt(outside) + jnp.minimum(jnp.maximum(a, jnp.maximum(b, d)), 0) - c[15]


Each = Callable[[jax.Array | int, jax.Array, State], State]


def over_slots(slots: jax.Array, used: jax.Array, each: Each[State], start: State) -> State:
    """`state = each(k, f32[F, N], state)` over the slots of f32[F, K, N], of which each frame uses its first int[F].

    On a CPU a loop that ends with the last slot in use of any frame: most scenes leave half of the slots empty, and one
    body is compiled in place of K. Elsewhere K bodies: the end of a loop would be asked of the device each time.
    """
    if jax.default_backend() != "cpu":
        return functools.reduce(lambda state, k: each(k, slots[:, k], state), range(slots.shape[1]), start)

    def body(k: jax.Array, state: State) -> State:
        return each(k, jax.lax.dynamic_index_in_dim(slots, k, 1, keepdims=False), state)

    return jax.lax.fori_loop(0, jnp.max(used), body, start)


def over_blocks(blocks: jax.Array, each: Each[State], start: State) -> State:
    """`over_slots` of packed blocks f32[F, K, 16]."""
    return over_slots(blocks, jnp.sum(blocks[..., 15] > NOWHERE / 2, axis=1), each, start)


def smooth_min(a: jax.Array, b: jax.Array, width: float) -> jax.Array:
    """Quadratic polynomial smooth minimum (Quilez): differs from min(a, b) where |a - b| < width."""
    h = jnp.maximum(width - jnp.abs(a - b), 0)
    return jnp.minimum(a, b) - h * h * (0.25 / width)


def wave(x: jax.Array) -> jax.Array:
    """A sine to 1.5e-3 in ten operations (parabolas on the reduced angle): XLA's own takes most of a march on a CPU."""
    turns = x * (0.5 / math.pi)
    x = (turns - jnp.round(turns)) * 2  # in half turns, -1 to 1
    y = 4 * x * (1 - jnp.abs(x))
    return y * (0.775 + 0.225 * jnp.abs(y))


def bend(p: Point, scene: Packed) -> Point:
    """A patient's own slight bending of everything: no wall is quite flat."""
    x, y, z = p
    w, (a, b, c) = scene.bend[:, None], (scene.phase[:, k, None] for k in range(3))
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
    """Distance (mm) f32[F, P] to the nearest tissue; negative inside it."""
    q = bend(p, scene)

    def blend(width: float) -> Callable[[jax.Array | int, jax.Array, jax.Array], jax.Array]:
        return lambda _, block, d: smooth_min(d, block_distance(q, block), width)

    nothing = jnp.full(q[0].shape, jnp.inf)
    return over_blocks(scene.solids, blend(BLEND_TISSUE), -over_blocks(scene.airways, blend(BLEND_AIR), nothing))
