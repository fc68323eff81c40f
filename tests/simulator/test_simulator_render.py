"""Images and id masks: mirrored sides, occlusion, visibility, traces of findings, speed-saving boxes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vlm_jax.simulator import SimulatorConfig
from vlm_jax.simulator import scene as scenes
from vlm_jax.simulator.findings import FINDINGS
from vlm_jax.simulator.render import Camera, Scene, Shape, project, render, visibility
from vlm_jax.simulator.scene import LOOKS, build_scene, cameras, shown
from vlm_jax.simulator.workflow import draw_plan

CONFIG = SimulatorConfig(image_size=64)


def shape(number, x, y, r=0.3, depth=2.0, **more):
    colour, kind = LOOKS[number]
    return Shape(number, x, y, r, r, depth, 0.0, colour, more.pop("kind", kind), **more)


def inside(camera):
    axis = (np.arange(camera.size) + 0.5) * 2 / camera.size - 1
    return axis[None] ** 2 + axis[:, None] ** 2 < camera.border**2


@pytest.mark.parametrize("size", [16, 64, 225])
def test_shapes_types_and_field_of_view(size):
    camera = Camera(size)
    rgb, ids = render(Scene("left", (shape(4, 0, 0), shape(1, -0.9, 0, 0.5))), camera)
    assert (
        rgb.shape == (size, size, 3) and rgb.dtype == np.uint8 and ids.shape == (size, size) and ids.dtype == np.uint8
    )
    assert set(np.unique(ids)) == {0, 1, 4}
    assert (rgb[~inside(camera)] < 8).all() and (ids[~inside(camera)] == 0).all()
    assert 60 < rgb[inside(camera)].mean() < 200


def test_medial_is_image_left_on_the_left_side_and_mirrored_on_the_right():
    shapes = (shape(1, -0.7, 0.1), shape(2, 0.5, -0.4))
    _, left = render(Scene("left", shapes), Camera(64))
    _, right = render(Scene("right", shapes), Camera(64))
    assert (left[:, ::-1] == right).all()
    assert np.argwhere(left == 1)[:, 1].mean() < 32 < np.argwhere(left == 2)[:, 1].mean()
    assert np.argwhere(left == 2)[:, 0].mean() > 32  # up is up


def test_nearer_hides_farther():
    far, near = shape(4, 0, 0, 0.4, depth=5), shape(3, 0.1, 0, 0.38, depth=1)
    sight = visibility(Scene("left", (near, far)), [Camera(64)])
    assert sight.visible[0, 2] and not sight.visible[0, 3]
    assert sight.share[0, 3] < 0.25 and sight.share[0, 2] == 1
    apart = visibility(Scene("left", (near, replace(far, x=-0.4))), [Camera(64)])
    assert apart.visible[0, 3]


def test_visibility_needs_forty_pixels_at_224():
    area = 40 / 224**2 * 4  # of the 2 x 2 image plane
    for factor, expected in ((2.5, True), (0.3, False)):
        r = math.sqrt(factor * area / math.pi)
        sight = visibility(Scene("left", (shape(6, 0.02, 0.02, r),)), [Camera(224)])
        assert sight.visible[0, 5] == expected


def test_visibility_is_that_of_the_rendered_mask_and_independent_of_image_size():
    plan = draw_plan(CONFIG, 2)
    for activity in plan.activities[::15]:
        scene, path = build_scene(CONFIG, plan, activity), cameras(CONFIG, plan, activity)[:3]
        sight = visibility(scene, path)
        bigger = visibility(scene, [replace(camera, size=224) for camera in path])
        assert (sight.visible == bigger.visible).all()
        for k, camera in enumerate(path):
            _, ids = render(scene, camera)
            counts = np.bincount(ids.ravel(), minlength=21)[1:]
            np.testing.assert_allclose(sight.fractions[k], counts / 64**2, atol=1e-7)
            assert not (sight.visible[k] & (counts < 3)).any()
            for n in np.flatnonzero(counts):
                rows, columns = np.nonzero(ids == n + 1)
                centre = (columns.mean() + 0.5) / 32 - 1, 1 - (rows.mean() + 0.5) / 32
                np.testing.assert_allclose(sight.centres[k, n], centre, atol=1e-5)


def test_masks_agree_at_64_and_224_pixels():
    plan = draw_plan(CONFIG, 0)
    activity = plan.activities[20]
    scene, camera = build_scene(CONFIG, plan, activity), cameras(CONFIG, plan, activity)[0]
    small, large = (project(scene, [replace(camera, size=size)])[0][0] for size in (64, 192))
    assert (small == large[1::3, 1::3]).mean() > 0.995


@pytest.mark.parametrize("side", ["left", "right"])
def test_boxes_hold_their_shapes(side, monkeypatch):
    rng = np.random.default_rng(0)
    shapes = tuple(
        Shape(n, *rng.uniform(-1, 1, 2), *rng.uniform(0.05, 0.6, 2), n, rng.uniform(-90, 90), (0.5, 0.5, 0.5), "bulge")
        for n in range(1, 12)
    )
    views = [
        Camera(64, tuple(rng.uniform(-0.3, 0.3, 2)), rng.uniform(0.8, 1.3), rng.uniform(-0.3, 0.3), 45)
        for _ in range(6)
    ]
    ids, unoccluded = project(Scene(side, shapes), views)
    monkeypatch.setattr(
        "vlm_jax.simulator.render._boxes", lambda scene, _: {s: (slice(None), slice(None)) for s in scene.shapes}
    )
    whole, counted = project(Scene(side, shapes), views)
    assert (ids == whole).all() and (unoccluded == counted).all()


def test_every_value_of_every_finding_leaves_a_trace():
    """Two procedures that differ in one finding alone differ in their images, wherever its trace shows."""
    told = set()
    for index in range(12):
        plan = draw_plan(CONFIG, index)
        for activity in plan.activities[::2]:
            for name, finding in FINDINGS.items():
                if name in told or finding.anchor not in activity.landmarks or not shown(finding, activity):
                    continue
                images = []
                for value in finding.values:
                    traits = {**plan.traits, (activity.side, name): value}
                    scene = build_scene(CONFIG, replace(plan, traits=traits), activity)
                    images.append(render(scene, cameras(CONFIG, plan, activity)[0])[0].astype(int))
                differ = [abs(a - b).max() > 25 for k, a in enumerate(images) for b in images[k + 1 :]]
                if all(differ):
                    told.add(name)
    assert told == set(FINDINGS)


def test_phases_of_findings():
    plan = draw_plan(CONFIG, 0)
    polyps, content = FINDINGS["polyps"], FINDINGS["maxillary content"]
    for activity in plan.activities:
        if activity.step == 1:
            assert shown(polyps, activity) != activity.turned
        if activity.step == 4:
            assert shown(content, activity) == activity.turned
        if activity.step == 3:
            assert not shown(polyps, activity)


def test_frames_of_an_activity_move_and_centres_differ():
    plan = draw_plan(CONFIG, 0)
    activity = max(plan.activities, key=lambda a: a.frames)
    path = cameras(CONFIG, plan, activity)
    assert len(path) == activity.frames and len({c.pan for c in path}) == len(path)
    scene = build_scene(CONFIG, plan, activity)
    assert (render(scene, path[0])[0] != render(scene, path[-1])[0]).any()
    assert (render(scene, path[0])[0] == render(scene, path[0])[0]).all()
    means = [render(scene, replace(path[0], **centre))[0].mean(axis=(0, 1)) for centre in scenes.CENTRES]
    assert len({tuple(m.round(1)) for m in means}) == 5


def test_turbinoplasty_shrinks_the_inferior_concha():
    index = next(i for i in range(50) if draw_plan(CONFIG, i).turbinoplasty)
    plan = draw_plan(CONFIG, index)
    activity = next(a for a in plan.activities if a.step == 11 and 2 in a.landmarks and a.turned)
    after = build_scene(CONFIG, plan, activity)
    before = build_scene(CONFIG, replace(plan, turbinoplasty=False), activity)
    size = [next(s.rx for s in scene.shapes if s.id == 2 and not s.mark) for scene in (before, after)]
    assert size[1] < 0.8 * size[0]
