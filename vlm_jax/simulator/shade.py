"""From what the rays met to colours: light from the tip, wet mucosa with vessels, and what comes between.

A pinhole of light beside the lens: brightness falls with distance and grazing angle, hollows are lit by what their red
walls throw back, and the camera's control of exposure brings the mean to a set level.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vlm_jax.simulator.field import PAINTS, SOLIDS, Packed, Point, over_slots, program, wave
from vlm_jax.simulator.trace import FAR, Hits, directions, turned, unit

DECALS, DECAL_WIDTH = 9, 18
"""Slots for the marks of findings in a scene."""


class Look(NamedTuple):
    """Colours of F scenes and what stands between them and the eye.

    slots f32[F, SOLIDS + PAINTS + 1, 4]: reflectance and landmark number of each solid, each paint, and the bare wall.
    decals f32[F, DECALS, 18]: landmark, centre (3), rows (9) that map a point to the mark's own ellipsoid, colour (3),
    kind (0 flat, 1 bulge, 2 hole), strength. tint f32[F, 3]; border, softness of it (radii), reach (mm of light),
    exposure (mean brightness), gloss, phase of the texture f32[F]; blood, smoke, fog, over f32[F]: strengths 0-1.
    """

    slots: jax.Array
    decals: jax.Array
    tint: jax.Array
    border: jax.Array
    softness: jax.Array
    reach: jax.Array
    exposure: jax.Array
    gloss: jax.Array
    phase: jax.Array
    blood: jax.Array
    smoke: jax.Array
    fog: jax.Array
    over: jax.Array


Tissue = tuple[list[jax.Array], Point, jax.Array]
"""Reflectance, normal and wetness of F frames, arrays f32[F, H, W]."""
BLOOD = (0.42, 0.02, 0.03)
STEEL = (0.62, 0.64, 0.66)


def landmark_ids(
    depth: jax.Array, solid: jax.Array, paint: jax.Array, tool: jax.Array, slots: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(ids, slot), int32 of the shape of `depth`: landmark number of each pixel, 0 for instruments and the
    nameless, and the row of `slots` that it takes its colour from."""
    slot = jnp.where(solid >= 0, solid, jnp.where(paint >= 0, SOLIDS + paint, SOLIDS + PAINTS))
    return jnp.where(tool | (depth > 0.95 * FAR), 0, slots[:, 3].astype(jnp.int32)[slot]), slot


def _surface(hits: Hits, look: Look) -> tuple[list[jax.Array], Point, jax.Array]:
    """Reflectance and normal of the bare tissue, and ids."""
    ids, slot = landmark_ids(hits.depth, hits.solid, hits.paint, hits.tool, look.slots)
    albedo = [look.slots[:, c][slot] for c in range(3)]
    return _texture(albedo, hits.point, look.phase), _ripple(hits.normal, hits.point, hits.depth, look.phase), ids


def _light(
    albedo: list[jax.Array], normal: Point, wet: jax.Array, hits: Hits, turn: jax.Array, look: Look
) -> list[jax.Array]:
    """What comes back to the lens, before the camera's gain."""
    rays = directions(hits.depth.shape[0])
    albedo, wet = _blood(albedo, wet, hits.point, look)
    view = [-ray for ray in turned(turn, rays)]
    facing = jnp.clip(sum(n * v for n, v in zip(normal, view, strict=True)), 0, 1)
    fall = 1 / (1 + (hits.depth / look.reach) ** 2)
    light = (0.18 + 0.82 * facing) * fall * (0.30 + 0.70 * hits.openness)
    # What a hollow's walls throw back is redder than the light itself.
    bounce = 0.30 * (1 - hits.openness) + 0.10
    rgb = [a * light * (1 - bounce + bounce * a * s) for a, s in zip(albedo, (1.35, 0.9, 0.85), strict=True)]
    glint = look.gloss * wet * fall * (facing**26 * 0.30 + facing**120 * 0.9)
    return _instrument([c + glint for c in rgb], hits, rays)


def _develop(rgb: list[jax.Array], depth: jax.Array, look: Look) -> jax.Array:
    size = depth.shape[0]
    return _frame(_veil(_expose(rgb, look, size), look, depth, directions(size)), look, size)


_surface_fn = program(jax.vmap(_surface))
_decals_fn = program(lambda albedo, normal, ids, p, look: _decals(albedo, normal, ids, p, look))
_light_fn = program(jax.vmap(_light))
_develop_fn = jax.jit(jax.vmap(_develop))


def shade(hits: Hits, scene: Packed, look: Look) -> tuple[jax.Array, jax.Array]:
    """F frames: rgb f32[F, H, W, 3] in 0-1 as displayed, and ids int32[F, H, W]. Stages are programs: see `trace`."""
    albedo, normal, ids = _surface_fn(hits, look)
    albedo, normal, wet = _decals_fn(albedo, normal, ids, hits.point, look)
    rgb = _light_fn(albedo, normal, wet, hits, scene.turn, look)
    return _develop_fn(rgb, hits.depth, look), ids


def _texture(albedo: list[jax.Array], p: Point, phase: jax.Array) -> list[jax.Array]:
    """Mottling and branching vessels of the mucosa, fixed to the tissue."""
    x, y, z = p
    a = wave(0.71 * x + 0.53 * y + phase) + wave(0.62 * y - 0.57 * z + 2 * phase) + wave(0.66 * z + 0.49 * x)
    b = wave(2.3 * x + 1.1 * a + phase) * wave(2.1 * y - 0.9 * a) * wave(1.9 * z + a)
    mottle = 1 + 0.035 * a + 0.05 * b
    thick = jnp.abs(wave(0.62 * x + 0.31 * y - 0.55 * z + 1.15 * a + phase))
    thin = jnp.abs(wave(1.7 * y + 0.9 * x + 1.3 * z + 1.6 * a + 1.2 * b))
    vessel = 0.30 * jnp.exp(-((thick / 0.07) ** 2)) + 0.20 * jnp.exp(-((thin / 0.09) ** 2)) * (0.5 + 0.5 * wave(a))
    red = (0.86, 0.52, 0.52)
    return [c * mottle * (1 - vessel + vessel * r) for c, r in zip(albedo, red, strict=True)]


def _ripple(normal: Point, p: Point, depth: jax.Array, phase: jax.Array) -> Point:
    """Small unevenness that the field does not have: it breaks up reflections. It fades where pixels are coarser."""
    x, y, z = p
    coarse, fine = 0.16 * jnp.clip(26 / depth - 0.6, 0, 1), 0.12 * jnp.clip(11 / depth - 0.5, 0, 1)
    warp = 1.4 * wave(0.9 * x + 1.1 * y - 0.8 * z + phase)
    bumps = (
        coarse * wave(1.9 * y + 1.3 * z + warp) + fine * wave(4.3 * z + 3.1 * y + 2 * warp),
        coarse * wave(1.7 * z + 1.5 * x - warp) + fine * wave(3.7 * x - 3.9 * z + 2 * warp),
        coarse * wave(1.5 * x + 2.1 * y + warp) + fine * wave(4.1 * y + 3.3 * x - 2 * warp),
    )
    return unit([n + b for n, b in zip(normal, bumps, strict=True)])


def _decals(albedo: list[jax.Array], normal: Point, ids: jax.Array, p: Point, look: Look) -> Tissue:
    """The marks of findings on their landmarks: secretion, swelling, blood, holes."""

    def mark(_: jax.Array | int, decal: jax.Array, tissue: Tissue) -> Tissue:
        return _decal([decal[:, c, None, None] for c in range(DECAL_WIDTH)], tissue, ids, p)

    marked = jnp.sum(look.decals[..., 17] > 0, axis=1)
    return over_slots(look.decals, marked, mark, (albedo, normal, jnp.ones_like(p[0])))


def _decal(d: list[jax.Array], tissue: Tissue, ids: jax.Array, p: Point) -> Tissue:
    """One mark of each frame: `d` are the numbers of a decal, f32[F, 1, 1] each."""
    albedo, normal, wet = tissue
    offset = [p[i] - d[1 + i] for i in range(3)]
    own = [sum(d[4 + 3 * r + i] * offset[i] for i in range(3)) for r in range(3)]
    radius = jnp.sqrt(sum(o * o for o in own))
    weight = jnp.clip((1.15 - radius) / 0.3, 0, 1) * d[17] * (ids == d[0].astype(jnp.int32))
    bulge, hole = weight * (d[16] == 1), weight * (d[16] == 2)
    depth = 1 - 0.75 * hole * jnp.clip(1.2 - radius, 0, 1)
    rim = 1 - 0.25 * jnp.clip((radius - 0.75) / 0.35, 0, 1) * bulge
    albedo = [(c * (1 - weight) + d[13 + i] * weight) * depth * rim for i, c in enumerate(albedo)]
    push = [sum(d[4 + 3 * r + i] * own[r] for r in range(3)) for i in range(3)]
    scale = jnp.sqrt(sum(q * q for q in push)) + 1e-6
    tilt = 0.7 * bulge * jnp.clip(radius, 0, 1)
    bent = unit([n + tilt * q / scale for n, q in zip(normal, push, strict=True)])
    # Where another frame of the call has more marks, this one's normals stay as they are to the last bit.
    normal = tuple(jnp.where(d[17] > 0, b, n) for n, b in zip(normal, bent, strict=True))
    return albedo, normal, wet * (1 + 0.5 * bulge) * (1 - hole)


def _blood(albedo: list[jax.Array], wet: jax.Array, p: Point, look: Look) -> tuple[list[jax.Array], jax.Array]:
    """Films and pools: more of the surface, and lower parts first, with the strength."""
    x, y, z = p
    patch = (
        wave(0.47 * x + 1.3 * look.phase) + wave(0.39 * z - 0.21 * y + look.phase) + wave(0.58 * y + 0.33 * x)
    ) / 3 + 0.25 * wave(1.3 * z + 1.1 * x) * wave(1.2 * y)
    level = 0.85 - 1.35 * look.blood
    film = jnp.clip((patch - 0.012 * (y - 18) - level) / 0.22, 0, 1) * jnp.clip(look.blood * 6, 0, 1) * 0.88
    return [c * (1 - film) + b * film for c, b in zip(albedo, BLOOD, strict=True)], wet * (1 + 0.6 * film)


def _instrument(rgb: list[jax.Array], hits: Hits, rays: Point) -> list[jax.Array]:
    """Brushed steel with a bright streak along the shaft."""
    along = jnp.abs(wave(7 * (rays[0] - rays[1])))
    shine = (0.30 + 0.45 * along**6) / (1 + (hits.depth / 25) ** 2)
    return [jnp.where(hits.tool, s * shine, c) for c, s in zip(rgb, STEEL, strict=True)]


def _expose(rgb: list[jax.Array], look: Look, size: int) -> list[jax.Array]:
    """Gain by the mean over the field of view, then the display's curve; `over` pushes the gain past it."""
    field = _radius(size) < look.border
    luminance = 0.30 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]
    mean = jnp.sum(luminance * field) / jnp.maximum(jnp.sum(field), 1)
    gain = jnp.clip(look.exposure / jnp.maximum(mean, 1e-4), 0.3, 9.0) * (1 + 2.6 * look.over)
    curve = [1 - jnp.exp(-1.25 * gain * look.tint[k] * c) for k, c in enumerate(rgb)]
    return [jnp.power(jnp.clip(c, 1e-5, 1), 0.62) for c in curve]


def _veil(rgb: list[jax.Array], look: Look, depth: jax.Array, rays: Point) -> list[jax.Array]:
    """Smoke drifts before what is far; fog on the lens greys everything, most in the middle."""
    drift = 0.6 + 0.4 * wave(5 * rays[0] + 3 * rays[1] + 3 * look.phase) * wave(4 * rays[1] - look.phase)
    smoke = jnp.clip(look.smoke * drift * (0.35 + depth / 25), 0, 0.92)
    fog = jnp.clip(look.fog * (0.95 - 0.35 * (rays[0] ** 2 + rays[1] ** 2)), 0, 0.9)
    grey, pale = (0.66, 0.66, 0.68), (0.78, 0.74, 0.73)
    rgb = [c * (1 - smoke) + g * smoke for c, g in zip(rgb, grey, strict=True)]
    return [c * (1 - fog) + g * fog for c, g in zip(rgb, pale, strict=True)]


def _frame(rgb: list[jax.Array], look: Look, size: int) -> jax.Array:
    """Vignette and the scope's round border."""
    radius = _radius(size)
    inside = jnp.clip((look.border - radius) / look.softness, 0, 1)
    vignette = 1 - 0.22 * jnp.clip(radius / look.border, 0, 1) ** 4
    return jnp.stack([c * vignette * inside + 0.012 * (1 - inside) for c in rgb], axis=-1)


def _radius(size: int) -> jax.Array:
    axis = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (2 / size) - 1
    return jnp.sqrt(axis[None, :] ** 2 + axis[:, None] ** 2)
