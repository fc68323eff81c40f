"""Geometry against independent code: block distances, the field, and ray casting by small steps on the host."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vlm_jax.simulator import SimulatorConfig, anatomy, blocks, field, render, trace
from vlm_jax.simulator.blocks import Block
from vlm_jax.simulator.scene import BEND, build_scene, endoscope
from vlm_jax.simulator.workflow import draw_plan

CONFIG = SimulatorConfig(seed=4, instruments=0.0)
BLOCK = Block("any", 1, (1.0, -2.0, 3.0), (2.0, 0.5, 1.0), 0.7, (20, -35, 50))


def test_turns_are_those_of_scipy():
    expected = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    np.testing.assert_allclose(blocks.rotation((20, -35, 50)), expected.T, atol=1e-12)


def test_distance_is_that_to_the_nearest_point_of_the_surface():
    """Against a dense sample of the rounded box's surface, outside; the sign inside."""
    rng = np.random.default_rng(0)
    half, world = np.array(BLOCK.half), blocks.rotation(BLOCK.turn).T
    inner = rng.uniform(-1, 1, (200_000, 3)) * half
    face = rng.integers(3, size=len(inner))
    inner[np.arange(len(inner)), face] = np.sign(inner[np.arange(len(inner)), face]) * half[face]
    out = rng.normal(size=inner.shape)
    surface = (inner + 0.7 * out / np.linalg.norm(out, axis=1, keepdims=True)) @ world.T + np.array(BLOCK.centre)
    outside = np.array(BLOCK.centre) + rng.normal(size=(60, 3)) * 4
    distances = blocks.distance(BLOCK, outside)
    nearest = np.array([np.linalg.norm(surface - p, axis=1).min() for p in outside])
    far = distances > 0.3
    assert far.sum() > 20
    np.testing.assert_allclose(nearest[far], distances[far], atol=0.06)
    assert blocks.distance(BLOCK, np.array(BLOCK.centre)) == pytest.approx(-0.7 - 0.5)


def test_the_tracer_measures_as_the_host_does():
    points = np.random.default_rng(1).uniform(-6, 6, (500, 3)).astype(np.float32)
    packed = blocks.pack([BLOCK], 2)
    measured = field.block_distance(tuple(jnp.asarray(points.T)), jnp.asarray(packed[0]))
    np.testing.assert_allclose(measured, blocks.distance(BLOCK, points), atol=1e-4)
    assert (field.block_distance(tuple(jnp.asarray(points.T)), jnp.asarray(packed[1])) > 1000).all()
    with pytest.raises(ValueError, match="slots"):
        blocks.pack([BLOCK] * 3, 2)


def test_wave_is_nearly_a_sine_and_smooth_min_nearly_a_minimum():
    x = np.linspace(-30, 30, 4001).astype(np.float32)
    np.testing.assert_allclose(field.wave(jnp.asarray(x)), np.sin(x), atol=1.5e-3)
    a, b = np.meshgrid(np.linspace(-3, 3, 61), np.linspace(-3, 3, 61))
    blended = np.asarray(field.smooth_min(jnp.asarray(a), jnp.asarray(b), 1.0))
    low = np.minimum(a, b)
    assert (blended <= low + 1e-6).all() and (blended >= low - 0.25 - 1e-6).all()
    assert np.allclose(blended[np.abs(a - b) >= 1], low[np.abs(a - b) >= 1], atol=1e-6)


@pytest.mark.slow
def test_a_loop_over_the_slots_in_use_is_all_slots_one_by_one(monkeypatch):
    """A CPU's loop and what other devices unroll, on scenes of different length; an unused slot before a used one would
    cut the loop short."""
    plan = draw_plan(CONFIG, 0)
    scenes = [build_scene(CONFIG, plan, plan.activities[k]) for k in (0, len(plan.activities) - 1)]
    paths = [endoscope(CONFIG, plan, plan.activities[k], s) for k, s in zip((0, -1), scenes, strict=True)]
    packed = render.pack([(s, p, 0) for s, p in zip(scenes, paths, strict=True)])
    drawn = np.random.default_rng(2).uniform((0, 0, 0), (20, 45, 80), (render.CHUNK, 300, 3)).astype(np.float32)
    points = tuple(jnp.asarray(drawn[..., k]) for k in range(3))
    looped = field.field(points, packed), *trace.name(points, packed), *trace.silhouettes(packed, 16)
    monkeypatch.setattr(field.jax, "default_backend", lambda: "gpu")
    unrolled = field.field(points, packed), *trace.name(points, packed), *trace.silhouettes(packed, 16)
    np.testing.assert_allclose(looped[0], unrolled[0], atol=2e-5)
    for ours, theirs in zip(looped[1:], unrolled[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(np.asarray(looped[1]))) > 3 and all(np.asarray(covered).any() for covered in looped[3:])


@pytest.mark.parametrize("size", [16, 56])
def test_rays_that_go_on_alone_end_where_they_would_have_ended_among_all(monkeypatch, size):
    plan = draw_plan(CONFIG, 0)
    scene = build_scene(CONFIG, plan, plan.activities[40])
    path = endoscope(CONFIG, plan, plan.activities[40], scene)
    packed = render.pack([(scene, path, k) for k in range(3)])
    depth = np.asarray(trace.march_fn(packed, size)[0])
    last = trace.SHARES[-1][0]
    monkeypatch.setattr(trace, "SHARES", ((last, 1),))
    together = np.asarray(field.program(lambda packed, size: trace.march(packed, size), "size")(packed, size)[0])
    np.testing.assert_array_equal(depth, together)
    monkeypatch.setattr(trace, "SHARES", ((9, 1),))  # what it would be without the rest
    short = field.program(lambda packed, size: trace.march(packed, size), "size")
    assert not np.array_equal(short(packed, size)[0], together)


def bent(scene, p: np.ndarray) -> np.ndarray:
    """Points f64[N, 3] where the straight blocks have them."""
    a, b, c = scene.phase.astype(float)
    x, y, z = p.T
    for w, (f, shift) in (
        (BEND, ((0.23, 0.17, 0.21, 0.19, 0.20, 0.22), (a, b, c))),
        (0.28 * BEND, ((0.83, 0.67, 0.91, 0.79, 0.70, 0.82), (b, c, a))),
    ):
        x, y, z = (
            x + w * np.sin(f[0] * y + f[1] * z + shift[0]),
            y + w * np.sin(f[2] * z + f[3] * x + shift[1]),
            z + w * np.sin(f[4] * x + f[5] * y + shift[2]),
        )
    return np.stack([x, y, z], axis=-1)


def pixel_rays(path, frame: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(directions f64[size * size, 3], the tip f64[3], distance from the image's centre f64[size, size])."""
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    u, v = np.meshgrid(axis, -axis)
    r = np.hypot(u, v) + 1e-9
    angle = r * trace.HALF_ANGLE
    local = np.stack([u / r * np.sin(angle), v / r * np.sin(angle), np.cos(angle)], axis=-1).reshape(-1, 3)
    return local @ path.turn[frame].T.astype(float), path.eye[frame].astype(float), r


def cast(scene, path, frame: int, size: int) -> np.ndarray:
    """Ids uint8[size, size] by walking every ray in steps of at most 0.15 mm, in float64 numpy, from coarse to nothing:
    shares no code with the tracer but the blocks themselves."""
    rays, eye, r = pixel_rays(path, frame, size)

    def blend(d: np.ndarray, e: np.ndarray, width: float) -> np.ndarray:
        h = np.clip(0.5 + 0.5 * (e - d) / width, 0, 1)  # the other usual form of the same polynomial
        return e + (d - e) * h - width * h * (1 - h)

    def distance(p: np.ndarray) -> np.ndarray:
        q, air = bent(scene, p), None
        for block in scene.nose.airways:
            d = blocks.distance(block, q)
            air = d if air is None else blend(air, d, field.BLEND_AIR)
        total = -air  # type: ignore[operator]
        for block in scene.nose.solids:
            total = blend(total, blocks.distance(block, q), field.BLEND_TISSUE)
        return total

    t = np.full(len(rays), trace.NEAR)
    under_way = np.arange(len(rays))
    for _ in range(260):
        d = distance(eye + t[under_way, None] * rays[under_way])
        further = (d > 0.004) & (t[under_way] < trace.FAR)
        under_way = under_way[further]
        t[under_way] += np.clip(0.6 * d[further], 0.003, None)
    q = bent(scene, eye + t[:, None] * rays)
    wall = -np.min([blocks.distance(block, q) for block in scene.nose.airways], axis=0)
    solids = np.array([blocks.distance(block, q) for block in scene.nose.solids])
    slot = np.where(solids.min(axis=0) < wall, solids.argmin(axis=0), -1)
    ids = np.zeros(len(rays), int)
    for k, block in reversed(list(enumerate(scene.nose.paints))):
        inside = blocks.distance(block, q) < 0
        ids = np.where(inside, int(scene.slots[field.SOLIDS + k, 3]), ids)
    ids = np.where(slot >= 0, scene.slots[slot, 3].astype(int), ids)
    ids = ids.reshape(size, size) * (r < scene.centre.border)
    return ids[:, ::-1] if scene.side == "right" else ids


def alone(scene, path, size: int) -> list[np.ndarray]:
    """Where each solid and each paint of the first frame would show alone, bool[size * size] each; by short steps."""
    rays, eye, _ = pixel_rays(path, 0, size)
    shown = []
    for block in (*scene.nose.solids, *scene.nose.paints):
        t, nearest = np.zeros(len(rays)), np.full(len(rays), np.inf)
        for _ in range(400):
            d = blocks.distance(block, bent(scene, eye + t[:, None] * rays))
            t, nearest = t + np.clip(0.5 * np.abs(d), 0.03, None), np.minimum(nearest, d)
        shown.append(nearest < trace.TOUCH)
    return shown


@pytest.mark.slow
def test_silhouettes_are_those_of_independent_casting():
    plan = draw_plan(CONFIG, 4)
    for k in (3, 40, 70, 99):
        scene = build_scene(CONFIG, plan, plan.activities[k])
        path = endoscope(CONFIG, plan, plan.activities[k], scene)
        solids, paints = trace.silhouettes_fn(render.pack([(scene, path, 0)]), 28)
        ours = [*np.asarray(solids)[0][: len(scene.nose.solids)], *np.asarray(paints)[0][: len(scene.nose.paints)]]
        for one, other in zip(ours, alone(scene, path, 28), strict=True):
            assert (one != other).sum() <= 2


def unoccluded(sight) -> np.ndarray:
    """What each landmark of the first frame would cover alone, as a share of the image; infinite where none is seen."""
    share = sight.share[0].astype(float)
    return np.divide(sight.fractions[0], share, out=np.full(20, np.inf), where=share > 0)


def compare(frames: int, stride: int) -> tuple[float, float]:
    """(share of pixels, share of visible flags) on which the tracer and the casting agree, over that many frames."""
    plan = draw_plan(CONFIG, 0)
    pixels, flags = [], []
    size = render.MASK_SIZE
    for activity in plan.activities[::stride][:frames]:
        scene = build_scene(CONFIG, plan, activity)
        path = endoscope(CONFIG, plan, activity, scene)
        sight = render.visibility(scene, path, [0])
        image = next(render.render([(scene, path, 0)], size, [(0,)]))
        ids = cast(scene, path, 0, size)
        pixels.append((image.ids == ids).mean())
        counts = np.bincount(ids.ravel(), minlength=21)[1:]
        area = counts / size**2 >= render.MIN_AREA
        share = counts / size**2 / unoccluded(sight)
        sure = np.abs(share - render.MIN_SHARE) > 0.08
        near = np.abs(counts - render.MIN_AREA * size**2) > 4
        flags.append((sight.visible[0] == (area & (share >= render.MIN_SHARE)))[sure & near].mean())
    return float(np.mean(pixels)), float(np.mean(flags))


def test_ids_and_visible_landmarks_are_those_of_independent_ray_casting():
    pixels, flags = compare(frames=5, stride=25)
    assert pixels > 0.997 and flags > 0.995, (pixels, flags)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_a_thousand_frames_by_independent_ray_casting():
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        results = list(pool.map(compare_procedure, range(10)))
    print("share of flags that agree, by operation:", np.round(results, 4))
    assert min(results) > 0.995, results


def compare_procedure(index: int) -> float:
    """Agreement of visible flags over a hundred frames of one procedure."""
    plan = draw_plan(CONFIG, index)
    agree = []
    for activity in plan.activities[:100]:
        scene = build_scene(CONFIG, plan, activity)
        path = endoscope(CONFIG, plan, activity, scene)
        sight = render.visibility(scene, path, [0])
        counts = np.bincount(cast(scene, path, 0, render.MASK_SIZE).ravel(), minlength=21)[1:] / render.MASK_SIZE**2
        expected = (counts >= render.MIN_AREA) & (counts >= render.MIN_SHARE * unoccluded(sight))
        agree.append((sight.visible[0] == expected).mean())
    return float(np.mean(agree))


def test_every_landmark_has_a_place_in_the_nose():
    from vlm_jax.simulator import nose
    from vlm_jax.simulator.surgery import SideState

    state = [SideState(frozenset(range(k)), k, turned, stump=True, roomy=True) for k in range(12) for turned in (0, 1)]
    named = {b.landmark for s in state for g in _groups(nose.build(nose.Variant(), s, frozenset({17, 18}))) for b in g}
    assert named - {0} == {a.number for a in anatomy.LANDMARKS}


def _groups(side):
    return side.solids, side.paints
