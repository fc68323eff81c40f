"""Images and their truth: mirrored sides, the border, findings, nuisances, centres, and where the endoscope stands."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm_jax.simulator import SimulatorConfig, camera, nuisance, render, shade, stations, trace
from vlm_jax.simulator.centres import CENTRES
from vlm_jax.simulator.findings import FINDINGS
from vlm_jax.simulator.scene import build_scene, endoscope, nameable, shown
from vlm_jax.simulator.shade import DECALS
from vlm_jax.simulator.steps import STEPS
from vlm_jax.simulator.surgery import available
from vlm_jax.simulator.workflow import draw_plan

CONFIG = SimulatorConfig(seed=6)
CLEAN = replace(CONFIG, **dict.fromkeys((*nuisance.STRENGTHS, "instruments"), 0.0))
SIZE = 48


def shoot(config, plan, activity, frame=0, **changes):
    """(scene, path, image) of one frame."""
    scene = replace(build_scene(config, plan, activity), **changes)
    path = endoscope(config, plan, activity, scene)
    return scene, path, next(render.render([(scene, path, frame)], SIZE, [(1, 2, 3)]))


@pytest.fixture(scope="module")
def plan():
    return draw_plan(CLEAN, 0)


def test_types_border_and_brightness(plan):
    scene, _, image = shoot(CLEAN, plan, plan.activities[3])
    assert image.rgb.shape == (SIZE, SIZE, 3) and image.rgb.dtype == np.uint8
    assert image.ids.dtype == np.uint8 and image.depth.shape == (SIZE, SIZE)
    axis = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1
    radius = np.hypot(axis[None], axis[:, None])
    assert (image.ids[radius > scene.centre.border] == 0).all()
    assert image.rgb[radius > scene.centre.border + 0.12].mean() < 25
    means = image.rgb[radius < 0.8].mean(axis=0) / 255
    assert means[0] > means[1] and means[0] > means[2] and 0.45 < means[0] < 0.85


def test_the_right_side_is_the_mirror_image_of_the_left(plan):
    activity = next(a for a in plan.activities if a.region == "middle meatus")
    noiseless = replace(CENTRES[0], noise=0.0)
    images = [shoot(CLEAN, plan, activity, side=side, centre=noiseless)[2] for side in ("left", "right")]
    assert (images[0].ids[:, ::-1] == images[1].ids).all() and (images[0].depth[:, ::-1] == images[1].depth).all()
    assert np.abs(images[0].rgb[:, ::-1].astype(int) - images[1].rgb).mean() < 4  # JPEG's blocks lie elsewhere
    scene = build_scene(CLEAN, plan, activity)
    path = endoscope(CLEAN, plan, activity, scene)
    sights = [render.visibility(replace(scene, side=side), path, [0]) for side in ("left", "right")]
    seen = sights[0].fractions[0] > 0
    np.testing.assert_allclose(sights[0].centres[0, seen, 0], -sights[1].centres[0, seen, 0], atol=1e-5)


def test_medial_is_image_left_on_the_left_side():
    plan = next(p for p in (draw_plan(CLEAN, k) for k in range(20)) if "left" in p.sides)
    activity = next(a for a in plan.activities if a.region == "nasal vestibule" and a.side == "left")
    ids = shoot(CLEAN, plan, activity)[2].ids
    assert np.argwhere(ids == 1)[:, 1].mean() < SIZE / 2 < np.argwhere(ids == 2)[:, 1].mean()
    assert np.argwhere(ids == 2)[:, 0].mean() > SIZE / 2  # the inferior concha is low: up is up


def test_truth_is_that_of_the_mask_and_frames_do_not_depend_on_their_company(plan):
    activity = max(plan.activities, key=lambda a: a.frames)
    scene = build_scene(CLEAN, plan, activity)
    path = endoscope(CLEAN, plan, activity, scene)
    several = render.visibility(scene, path, [0, 3, 9])
    alone = render.visibility(scene, path, [3])
    assert (several.visible[1] == alone.visible[0]).all() and (several.fractions[1] == alone.fractions[0]).all()
    images = list(render.render([(scene, path, 0), (scene, path, 3)], SIZE, [(0,), (1,)]))
    assert (images[1].rgb == next(render.render([(scene, path, 3)], SIZE, [(1,)])).rgb).all()
    counts = np.bincount(images[1].ids.ravel(), minlength=21)[1:] / SIZE**2
    np.testing.assert_allclose(counts, alone.fractions[0], atol=0.03)
    assert (several.share <= 1).all() and ((several.fractions > 0) == np.isfinite(several.centres[..., 0])).all()


def test_light_does_not_depend_on_the_marks_of_other_frames(plan):
    """In one call the loop over marks goes as far as the frame that has most of them: to the last bit, as a pixel in a
    thousand would round otherwise."""
    activity = plan.activities[5]
    scene = build_scene(CLEAN, plan, activity)
    path = endoscope(CLEAN, plan, activity, scene)
    marked, bare = (replace(scene, decals=scene.decals * np.float32(0)) for _ in range(2))
    marked.decals[:3, 17] = 1

    def lit(*scenes):
        shots = [(s, path, 3) for s in scenes]
        packed = render.pack(shots)
        return np.asarray(shade.shade(trace.trace(packed, SIZE), packed, render.look(shots))[0])

    np.testing.assert_array_equal(lit(marked, bare)[1], lit(bare)[0])


def test_only_what_may_be_named_is_named():
    for index in (1, 2):
        plan = draw_plan(CLEAN, index)
        for activity in plan.activities[::7]:
            scene = build_scene(CLEAN, plan, activity)
            names = set(scene.slots[:, 3].astype(int)) - {0}
            assert names <= nameable(activity)
            assert all(available(n, activity.state) for n in names - {17, 18})
            assert not ({17, 18} & names and 20 in names)


def test_every_value_of_every_finding_leaves_a_trace():
    """Two procedures that differ in one finding alone differ in what is drawn, wherever its trace shows."""
    told = set()
    for index in range(10):
        plan = draw_plan(CLEAN, index)
        for activity in plan.activities[::3]:
            for name, finding in FINDINGS.items():
                if name in told or finding.anchor not in activity.landmarks or not shown(finding, activity):
                    continue
                scenes = []
                for value in finding.values:
                    traits = {**plan.traits, (activity.side, name): value}
                    scenes.append(build_scene(CLEAN, replace(plan, traits=traits), activity))
                drawn = {b"".join(a.tobytes() for a in (s.solids, s.airways, s.decals)) for s in scenes}
                if len(drawn) == len(scenes):
                    told.add(name)
    assert told == set(FINDINGS), set(FINDINGS) - told


def test_there_is_room_for_every_mark_that_findings_can_ask_for_at_once():
    """The worst of all activities fills the slots exactly; no mark is left out without a word."""
    counts = []
    for step in range(len(STEPS)):
        for turned in (False, True):
            activity = SimpleNamespace(step=step, turned=turned)
            traces = [[t for _, t in f.values.values()] for f in FINDINGS.values() if shown(f, activity)]
            counts.append(sum(max(len(trace.marks) for trace in found) for found in traces))
    assert max(counts) == DECALS


def test_surgery_changes_the_image(plan):
    """What a step ends is gone from then on: the uncinate process at the turn of step 3."""
    activity = next(a for a in plan.activities if a.region == "middle meatus" and a.scope == 0 and a.step <= 2)
    before = replace(activity, state=replace(activity.state, missing=frozenset(), stump=False))
    after = replace(before, state=replace(before.state, done=frozenset({0, 1, 2, 3}), current=4))
    ids = [shoot(CLEAN, plan, a)[2].ids for a in (before, after)]
    assert (ids[0] == 5).sum() > 30 and (ids[1] == 5).sum() == 0
    assert (ids[1] == 6).sum() > (ids[0] == 6).sum()  # the bulla comes into view


@pytest.mark.parametrize("name", nuisance.STRENGTHS)
def test_each_nuisance_changes_images_more_the_stronger_it_is(plan, name):
    activity = next(a for a in plan.activities if a.step >= 3)
    plain = shoot(CLEAN, plan, activity)[2]
    changes = []
    for strength in (0.45, 0.95):
        scene = build_scene(CLEAN, plan, activity)
        path = endoscope(CLEAN, plan, activity, scene)
        strengths = path.strengths.copy()
        strengths[:, nuisance.STRENGTHS.index(name)] = strength
        image = next(render.render([(scene, replace(path, strengths=strengths), 0)], SIZE, [(1, 2, 3)]))
        assert (image.ids == plain.ids).all()
        changes.append(np.abs(image.rgb.astype(int) - plain.rgb).mean())
    assert 0 < changes[0] < changes[1], changes


def test_settings_give_the_mean_strength():
    rng, means = np.random.default_rng(0), dict.fromkeys(nuisance.STRENGTHS, 0.2)
    drawn = np.stack([nuisance.draw_strengths(rng, means, 10, 5).mean(axis=0) for _ in range(600)])
    assert drawn.mean() == pytest.approx(0.2, abs=0.02) and (drawn <= 1).all()
    first = nuisance.draw_strengths(np.random.default_rng(1), means, 4, 0)
    later = nuisance.draw_strengths(np.random.default_rng(1), means, 4, 3)
    assert (first[:, 0] < 0.2 * later[:, 0] + 1e-6).all()  # no blood to speak of before the first incision


def test_an_instrument_hides_what_is_behind_it(plan):
    activity = next(a for a in plan.activities if a.region == "middle meatus" and a.scope == 0)
    scene, path, plain = shoot(CLEAN, plan, activity)
    tool = camera.instrument(np.array([0.0, 0.0, 4.0]), np.array([0.0, -5.0, 1.0]), 1.0)
    held = replace(path, tool=np.repeat(tool[None], activity.frames, axis=0))
    image = next(render.render([(scene, held, 0)], SIZE, [(1, 2, 3)]))
    covered = image.depth < plain.depth - 1e-3
    assert 0.03 < covered.mean() < 0.5 and (image.ids[covered] == 0).all()
    assert render.visibility(scene, held, [0]).fractions.sum() < render.visibility(scene, path, [0]).fractions.sum()


def test_centres_differ_and_frames_move(plan):
    activity = max(plan.activities, key=lambda a: a.frames)
    means = [shoot(CLEAN, plan, activity, centre=c)[2].rgb.mean(axis=(0, 1)) for c in CENTRES]
    assert len({tuple(m.round(1)) for m in means}) == 5
    _, path, _ = shoot(CLEAN, plan, activity)
    assert len({tuple(f) for f in path.turn[:, :, 2]}) == activity.frames


@pytest.mark.parametrize("scope", [0, 30, 45, 70])
def test_a_scope_looks_off_its_shaft_by_its_angle(scope):
    eye, target = np.array([9.0, 20.0, 30.0]), np.array([20.0, 30.0, 35.0])
    turn = camera.aim(eye[None], target, scope, roll=np.array([0.3]), swing=np.zeros((1, 2)))[0]
    shaft = (eye - np.array(stations.NOSTRIL)) / np.linalg.norm(eye - np.array(stations.NOSTRIL))
    assert math.degrees(math.acos(shaft @ turn[:, 2])) == pytest.approx(scope, abs=1e-6)
    np.testing.assert_allclose(turn.T @ turn, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_the_tip_stays_out_of_the_tissue():
    free = []
    for index in (3, 4):
        plan = draw_plan(CONFIG, index)
        for activity in plan.activities[::4]:
            scene = build_scene(CONFIG, plan, activity)
            path = endoscope(CONFIG, plan, activity, scene)
            free.append(camera.clearance(path.eye.astype(float), scene.nose).min())
    assert min(free) > 0.2 and np.quantile(free, 0.05) > 0.8


SETTINGS = {name: st.floats(0, 1) for name in (*nuisance.STRENGTHS, "instruments")}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.fixed_dictionaries({"seed": st.integers(0, 2**32 - 1), "stress": st.booleans(), **SETTINGS}))
def test_any_valid_setting_gives_finite_images(given_settings):
    config = replace(CONFIG, **given_settings)
    plan = draw_plan(config, 0)
    activity = plan.activities[given_settings["seed"] % len(plan.activities)]
    _, _, image = shoot(config, plan, activity, frame=activity.frames - 1)
    assert np.isfinite(image.depth).all() and (image.depth > 0).all() and image.ids.max() <= 20
    assert image.rgb.std() > 1
