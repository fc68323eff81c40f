"""The larynx adapter: rows, words and mistakes, on made-up and (where present) on the real images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_jax.data.sources import (
    SOURCES,
    get_source,
    mask_language,
    vocalfolds,
)
from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError


def test_the_table_of_sources():
    assert all(callable(get_source(name)) for name in SOURCES)
    with pytest.raises(UserError, match="did you mean 'vocalfolds'"):
        get_source("vocalfold")
    with pytest.raises(UserError, match="unknown source 'xyz': known are"):
        get_source("xyz")


# --- Masks to words --------------------------------------------------------------------------------------------------


def test_regions_are_counted_from_the_mask():
    mask = np.zeros((10, 20), np.uint8)
    mask[:5, 10:] = 2  # upper right quarter
    found = mask_language.regions(mask, 4)
    assert [round(r.fraction, 3) for r in found] == [0.75, 0, 0.25, 0]
    assert (found[2].x, found[2].y) == (0.25, -0.25)
    assert (found[1].x, found[1].y) == (0, 0)


@pytest.mark.parametrize(
    "x, y, words",
    [(0, -0.3, "12 o'clock"), (0.3, 0, "3 o'clock"), (0, 0.3, "6 o'clock"), (-0.3, 0, "9 o'clock"),
     (0.2, -0.3464, "1 o'clock"), (-0.2, -0.3464, "11 o'clock"), (0.1, 0.05, "centre")],
)  # fmt: skip
def test_positions_on_the_clock(x, y, words):
    assert mask_language.position(mask_language.Region(0.1, x, y)) == words


def test_extents_and_relations():
    assert [mask_language.extent(f) for f in (0.02, 0.05, 0.25, 0.26)] == ["small", "moderate", "moderate", "large"]
    here = mask_language.Region(0.1, 0, 0)
    for x, y, word in ((0.3, 0.1, "right of"), (-0.3, 0.1, "left of"), (0.1, 0.3, "below"), (0.1, -0.3, "above")):
        assert mask_language.relation(mask_language.Region(0.1, x, y), here) == word


def test_a_description_names_all_and_keeps_its_length():
    region = mask_language.Region(0.1, 0.3, 0.0)
    names = [f"structure {letter}" for letter in "abcdef"]
    for n in range(1, 7):
        seen = dict.fromkeys(names[:n], region)
        text = mask_language.describe(seen, names, names[:1], names[1:])
        assert all(name in text for name in seen) and len(text.split()) <= mask_language.MAX_WORDS
    assert mask_language.describe({}, names, (), ()) == "no structure in view"
    assert mask_language.describe({"a": region}, ["a"], ["a"], ["a"], background=["a"]) == "moderate a"


# --- Larynx images ---------------------------------------------------------------------------------------------------

SIZE = 64


def shot(root: Path, sequence: str, stem: str, columns: dict[int, int], suffix: str = ".jpg") -> None:
    """Writes one image and its mask: label -> width in columns, from the left; the rest is void."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    start = 0
    for label, width in columns.items():
        mask[:, start : start + width] = label
        start += width
    for part, name in (("img", stem + suffix), ("annot", stem + ".png")):
        (root / part / sequence).mkdir(parents=True, exist_ok=True)
        pixels = mask if part == "annot" else np.stack([mask * 40] * 3, -1)
        Image.fromarray(pixels).save(root / part / sequence / name)


@pytest.fixture
def larynx(tmp_path) -> Path:
    """Two patients; the first has a run of two, a run of one, and a stereo pair of which the left view counts."""
    root = tmp_path / "larynx"
    for number in (2, 10):  # as text 10 sorts before 2
        shot(root, "patient1/seq1", str(number), {1: 32, 3: 16})
    shot(root, "patient1/seq1", "0011", {1: 32, 3: 16, 4: 8})
    shot(root, "patient1/seq2", "0001_l", {2: 64}, ".png")
    Image.new("RGB", (SIZE, SIZE)).save(root / "img/patient1/seq2/0001_r.png")
    shot(root, "patient2/seq3", "0001", {1: 64})
    (root / "img/patient2/seq3/Thumbs.db").write_bytes(b"not an image")
    return root


def test_input_that_changed_within_its_size_is_another_data_set(larynx, tmp_path):
    vocalfolds.build(larynx, tmp_path / "d", progress=False)
    vocalfolds.build(larynx, tmp_path / "d", progress=False)
    mask = larynx / "annot/patient2/seq3/0001.png"
    content = bytearray(mask.read_bytes())
    content[-1] ^= 1
    mask.write_bytes(content)
    with pytest.raises(UserError, match="holds another data set"):
        vocalfolds.build(larynx, tmp_path / "d", progress=False)


def test_larynx_rows(larynx, tmp_path):
    vocalfolds.build(larynx, tmp_path / "d", progress=False)
    dataset = open_dataset(tmp_path / "d")
    assert dataset.info.labels == vocalfolds.LABELS and dataset.info.world == "real"
    assert [(p.id, p.patient) for p in dataset.tables.procedures] == [("patient1",) * 2, ("patient2",) * 2]
    assert [v.id for v in dataset.tables.videos] == ["patient1/seq1", "patient1/seq2", "patient2/seq3"]
    assert dataset.frames.uid.tolist()[:4] == [
        f"patient1/{n}" for n in ("seq1/2", "seq1/10", "seq1/0011", "seq2/0001_l")
    ]
    assert dataset.frames.pts_ms.tolist()[:3] == [80, 400, 440]
    activities = dataset.tables.activities
    assert [(a.t0, a.t1) for a in activities] == [(80, 440), (440, 480), (40, 80), (40, 80)]
    assert activities[0].landmarks == (1, 0, 1, 0, 0, 0) and activities[1].landmarks == (1, 0, 1, 1, 0, 0)
    assert activities[1].description == (
        "moderate pathology 3 o'clock right of glottal space, moderate glottal space centre, "
        "large vocal folds 9 o'clock"
    )
    assert activities[2].description == "large other tissue"
    np.testing.assert_allclose(dataset.frames.fractions[2], [0.5, 0, 0.25, 0.125, 0, 0])
    stored = dataset.read_image(0)
    assert stored == (larynx / "img/patient1/seq1/2.jpg").read_bytes()  # a JPEG stays as it is
    assert dataset.read_image(3).startswith(b"\xff\xd8")  # a PNG is encoded
    assert dataset.info.extras == ("mask",)
    mask = np.asarray(Image.open(io.BytesIO(dataset.read_frame(2).mask or b"")))
    assert (mask == np.asarray(Image.open(larynx / "annot/patient1/seq1/0011.png"))).all()
    assert [(mask == i + 1).mean() for i in range(6)] == dataset.frames.fractions[2].tolist()


def test_one_per_cent_is_not_in_view(tmp_path):
    root = tmp_path / "larynx"
    shot(root, "p/s", "1", {1: 64})
    mask = np.ones((100, 100), np.uint8)
    mask[:10, :10] = 3  # exactly 1 %
    mask[20:30, :10], mask[31, 0] = 4, 4  # one pixel more
    Image.fromarray(mask).save(root / "annot/p/s/1.png")
    Image.new("RGB", (100, 100)).save(root / "img/p/s/1.jpg")
    vocalfolds.build(root, tmp_path / "d", progress=False)
    assert open_dataset(tmp_path / "d").tables.activities[0].landmarks == (1, 0, 0, 1, 0, 0)


def _save(mode, size=(SIZE, SIZE)):
    return lambda path: Image.new(mode, size).save(path)


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("annot/patient2/seq3/0001.png", Path.unlink, "has no mask"),
        ("img/patient2/seq3/0001.jpg", Path.unlink, "has no image"),
        ("annot/patient2/seq3/0001.png", lambda p: p.write_bytes(p.read_bytes()[:60]), "can't be read"),
        ("img/patient2/seq3/0001.jpg", lambda p: p.write_bytes(p.read_bytes()[:300]), "truncated or damaged JPEG"),
        ("annot/patient2/seq3/0001.png", lambda p: Image.new("L", (SIZE, SIZE), 9).save(p), "holds the value 9"),
        ("annot/patient2/seq3/0001.png", _save("RGB"), "is a RGB image"),
        ("img/patient2/seq3/0001.jpg", _save("CMYK"), "a CMYK image"),
        ("img/patient2/seq3/0001.jpg", _save("RGB", (8, 8)), r"is \(8, 8\) pixels"),
        ("img/patient2/seq3/0001.jpg", lambda p: p.rename(p.with_name("front.jpg")), "should be a frame number"),
    ],
)
def test_bad_larynx_files_are_named(larynx, tmp_path, file, change, message):
    change(larynx / file)
    with pytest.raises(UserError, match=message) as raised:
        vocalfolds.build(larynx, tmp_path / "d", progress=False)
    assert "patient2/seq3/" in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_bad_larynx_layouts(larynx, tmp_path):
    shot(larynx, "patient2/seq3", "1", {1: 64})
    with pytest.raises(UserError, match="same frame number"):
        vocalfolds.build(larynx, tmp_path / "d")
    (larynx / "img/patient3/seq9").mkdir(parents=True)
    (larynx / "img/patient2/seq3/1.jpg").unlink()
    (larynx / "annot/patient2/seq3/1.png").unlink()
    with pytest.raises(UserError, match="has no images"):
        vocalfolds.build(larynx, tmp_path / "d")
    with pytest.raises(UserError, match="has no folders"):
        vocalfolds.build(tmp_path / "nowhere", tmp_path / "d")


# --- The real ones ---


def test_real_larynx_images(real_data, tmp_path):
    """Against the labels that were derived from the masks by others (labels.csv)."""
    import csv

    root = real_data / "vocalfolds"
    if not root.is_dir():
        pytest.skip("no vocalfolds in ../shared/data")
    vocalfolds.build(root, tmp_path / "d", progress=False)
    dataset = open_dataset(tmp_path / "d")
    with open(root / "labels.csv", newline="") as file:
        rows = {row["image"].rpartition(".")[0].removeprefix("img/"): row for row in csv.DictReader(file)}
    assert sorted(rows) == sorted(dataset.frames.uid.tolist()) and len(rows) == 536
    for i, uid in enumerate(dataset.frames.uid.tolist()):
        given = [float(rows[uid]["frac_" + name.replace(" ", "_")]) for name in vocalfolds.LABELS]
        np.testing.assert_allclose(dataset.frames.fractions[i], given, atol=1e-5)
        assert dataset.frames.visible[i].tolist() == [int(f > 0.01) for f in dataset.frames.fractions[i]]
    activities = dataset.tables.activities
    assert len(activities) == 208 and len({a.video for a in activities}) == 8
    for row in activities:
        assert row.description is not None and len(row.description.split()) <= 24
        named = {name for name in vocalfolds.LABELS if name in row.description}
        assert named == {name for name, v in zip(vocalfolds.LABELS, row.landmarks, strict=True) if v}
