"""Augmentation: its table, its effect on texts and labels, its geometry and colours."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from vlm_jax.config.schema import AugmentConfig
from vlm_jax.contract import END, START, Record
from vlm_jax.data.augment import AUGMENTATIONS, augment, augment_regions, mirror_columns, mirror_record
from vlm_jax.errors import UserError

OFF = AugmentConfig(**{field.name: 0.0 for field in dataclasses.fields(AugmentConfig)})
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def images():
    """Smooth pictures, so that a small change of place is a small change of value."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (4, 2, 5, 5, 3))
    return np.asarray(jax.image.resize(coarse.astype(np.float32), (4, 2, 24, 24, 3), "linear")).astype(np.uint8)


def test_every_key_declares_its_effect_on_text():
    assert {a.name for a in AUGMENTATIONS} == {field.name for field in dataclasses.fields(AugmentConfig)}
    assert {a.name for a in AUGMENTATIONS if a.text == "mirrored"} == {"flip"}
    assert all(a.where == "host" for a in AUGMENTATIONS if a.text != "unchanged")
    assert all(a.why for a in AUGMENTATIONS)


def test_nothing_asked_is_nothing_done(images):
    assert augment(KEY, images, OFF) is images


@pytest.mark.parametrize("name", ["rotate", "scale", "translate", "brightness", "contrast", "saturation", "hue"])
def test_each_amount_changes_the_image_and_a_tiny_one_hardly(images, name):
    strong = np.asarray(augment(KEY, images, dataclasses.replace(OFF, **{name: 0.2 if name != "rotate" else 10.0})))
    weak = np.asarray(augment(KEY, images, dataclasses.replace(OFF, **{name: 1e-4})))
    assert strong.dtype == np.uint8 and strong.shape == images.shape
    assert np.abs(strong.astype(int) - images).max() > 2
    assert np.abs(weak.astype(int) - images).max() <= 1


def test_the_same_key_gives_the_same_images_and_frames_of_one_example_turn_alike(images):
    config = AugmentConfig()
    one, two = (np.asarray(augment(KEY, images, config)) for _ in range(2))
    assert (one == two).all()
    other = np.asarray(augment(jax.random.key(1), images, config))
    assert (one != other).any()
    twin = np.repeat(images[:, :1], 2, axis=1)
    turned = np.asarray(augment(KEY, twin, config))
    assert (turned[:, 0] == turned[:, 1]).all() and (turned[0] != turned[1]).any()


def test_geometry_against_opencv(images):
    """Rotation and zoom about the centre, bilinear, the edge repeated."""
    import cv2

    config = dataclasses.replace(OFF, rotate=10.0, scale=0.2, translate=0.1)
    draws = np.asarray(jax.random.uniform(KEY, (4, 8), minval=-1.0, maxval=1.0))
    out = np.asarray(augment(KEY, images, config))
    for b in range(4):
        angle, zoom = np.deg2rad(10.0 * draws[b, 0]), 1 / (1 + 0.2 * draws[b, 1])
        c, s = zoom * np.cos(angle), zoom * np.sin(angle)
        centre = np.array([11.5, 11.5])
        matrix = np.array([[c, -s], [s, c]])
        shift = centre - matrix @ centre + draws[b, 2:4] * 0.1 * 24
        warp = np.concatenate([matrix, shift[:, None]], axis=1)
        expected = cv2.warpAffine(
            images[b, 0].astype(np.float32), warp, (24, 24), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        assert np.abs(out[b, 0] - expected).mean() < 0.8  # OpenCV interpolates in steps of 1/32 pixel


def test_regions_move_with_their_image():
    """Half of the picture is white and of one landmark: so it is after every turn, zoom and shift, but at its edge."""
    regions = np.zeros((8, 32, 32), np.uint8)
    regions[:, 5:20, 9:] = 3
    images = np.repeat((regions == 3)[:, None, ..., None] * np.uint8(255), 3, axis=-1)
    config = dataclasses.replace(OFF, rotate=10.0, scale=0.3, translate=0.2)
    moved = np.asarray(augment_regions(KEY, regions, config))
    turned = np.asarray(augment(KEY, images, config))[:, 0, ..., 0]
    assert set(np.unique(moved)) == {0, 3} and (moved != regions).mean() > 0.05
    assert ((turned > 127) == (moved == 3)).mean() > 0.995 and (turned[moved == 3] >= 63).all()
    assert augment_regions(KEY, regions, OFF) is regions


def test_saturation_to_nothing_is_grey_and_hue_keeps_brightness(images):
    draws = np.asarray(jax.random.uniform(KEY, (4, 8), minval=-1.0, maxval=1.0))[:, 6]
    b = int(draws.argmin())  # 1 + draw * amount is 0: nothing of the colour is left
    grey = np.asarray(augment(KEY, images, dataclasses.replace(OFF, saturation=float(-1 / draws[b]))))[b].astype(int)
    assert draws[b] < -0.2 and np.ptp(images[b], axis=-1).max() > 50
    assert np.ptp(grey, axis=-1).max() <= 1
    assert np.abs(grey[..., 0] - images[b] @ np.array([0.299, 0.587, 0.114])).max() <= 1
    turned = np.asarray(augment(KEY, images, dataclasses.replace(OFF, hue=0.05))).astype(np.float32)
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(turned @ luma - images @ luma).mean() < 1.0


def test_more_than_ten_degrees_are_refused(images):
    with pytest.raises(UserError, match="augment.rotate=20.0: at most 10"):
        augment(KEY, images, dataclasses.replace(OFF, rotate=20.0))


# --- The flip --------------------------------------------------------------------------------------------------------


def test_a_flip_mirrors_every_text_of_the_record():
    record = Record(
        "u", "s", "p", "g", previous=START, description="left fold at 3 o'clock", next_description=END,
        keyword="inspect", context="the right side", report_sentence="Left fold.", references=("on the left",),
    )  # fmt: skip
    flipped = mirror_record(record)
    assert flipped.previous == START and flipped.next_description == END and flipped.keyword == "inspect"
    assert flipped.description == "right fold at 9 o'clock" and flipped.context == "the left side"
    assert flipped.report_sentence == "Right fold." and flipped.references == ("on the right",)
    assert mirror_record(flipped) == record


def test_no_text_field_of_a_record_is_forgotten():
    texts = {"previous", "description", "next_description", "keyword", "context", "report_sentence"}
    others = {"uid", "source", "procedure", "group", "video", "activity", "sentence", "image", "mask", "landmarks",
              "visible", "references"}  # fmt: skip
    assert {field.name for field in dataclasses.fields(Record)} == texts | others
    record = Record("u", "s", "p", "g", **dict.fromkeys(texts, "left"))
    assert all(getattr(mirror_record(record), name) == "right" for name in texts)


def test_sided_labels_swap_with_the_image():
    names = ("s/left fold", "s/right fold", "s/septum", "s/left only", "t/left fold")
    assert mirror_columns(names).tolist() == [1, 0, 2, -1, -1]
    assert mirror_columns(()).shape == (0,)


def test_a_crop_is_a_part_of_the_image_made_full_size():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8) * 4, (64, 64))
    image = np.stack([ramp, ramp.T, np.full((64, 64), 9, np.uint8)], axis=-1)
    images = np.broadcast_to(image, (32, 1, 64, 64, 3))
    only = AugmentConfig(
        crop=0.2, rotate=0, scale=0, translate=0, brightness=0, contrast=0, saturation=0, hue=0, drop_text=0
    )
    out = np.asarray(jax.jit(augment, static_argnums=2)(jax.random.key(0), images, only)).astype(int)[:, 0]
    wide = (out[:, 32, -1, 0] - out[:, 32, 0, 0]) / 252  # shares of the sides that the boxes cover
    high = (out[:, -1, 32, 1] - out[:, 0, 32, 1]) / 252
    assert (out[..., 2] == 9).all() and (np.diff(out[..., 0], axis=2) >= 0).all()
    assert 0.17 < (wide * high).min() < 0.4 and (wide * high).max() <= 1.0 and np.ptp(wide * high) > 0.3
    assert (np.abs(np.log(wide / high)) < np.log(4 / 3) + 0.05).all() and np.ptp(wide / high) > 0.2
