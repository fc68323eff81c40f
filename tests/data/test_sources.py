"""The adapters: larynx images with masks, operative notes; on made-up input, and on the real one where it lies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_jax.data.sources import (
    SOURCES,
    get_source,
    mask_language,
    near_duplicates,
    note_text,
    operative_notes,
    step_codes,
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


# --- Operative notes -------------------------------------------------------------------------------------------------

NOTE = (
    "PREOPERATIVE DIAGNOSIS: , Nasal polyps.,ANESTHESIA,General.,PROCEDURE: , Polypectomy.,DETAILS OF THE PROCEDURE: ,"
    "The patient was taken to the operating room by Dr. X. The nose was injected with 1.5 mL of Xylocaine, i.e. "
    "topical vasoconstriction.,1. A 4.0 mm scope was then passed. ,The polyps were removed.The wound was closed with "
    "4-0 Vicryl.,Bleeding stopped.,COMPLICATIONS: , None. There were none at all. Really not one.,"
)


def test_a_note_becomes_its_operative_sentences():
    assert note_text.operative_sentences(NOTE) == [
        "The patient was taken to the operating room by Dr. X.",
        "The nose was injected with 1.5 mL of Xylocaine, i.e. topical vasoconstriction.",
        "A 4.0 mm scope was then passed.",
        "The polyps were removed.",
        "The wound was closed with 4-0 Vicryl.",
    ]
    headers = [section.header for section in note_text.sections(NOTE)]
    assert headers == [
        "",
        "PREOPERATIVE DIAGNOSIS",
        "ANESTHESIA",
        "PROCEDURE",
        "DETAILS OF THE PROCEDURE",
        "COMPLICATIONS",
    ]


def test_sentences_end_where_they_end():
    split = note_text.split_sentences
    assert split("Seen by Dr. Smith. J. Doe helped? Yes (fully). Then 2. No. 15 blade.") == [
        "Seen by Dr. Smith.", "J. Doe helped?", "Yes (fully).", "Then 2.", "No. 15 blade.",
    ]  # fmt: skip
    assert split("") == [] and split(". X") == [". X"]
    kept = note_text.sentences
    assert (
        kept("Too short. THE WHOLE LINE IS LOUD. FINDINGS: nothing was seen. lower case start here. No full stop") == []
    )
    assert kept("Word " * 41 + ".") == []


def test_a_note_that_tells_it_elsewhere_or_not_at_all():
    told = (
        "INDICATIONS: ,He was ill. He was very ill. So ill.,FINDINGS: ,The ear was prepped. It was opened. It was shut."
    )
    assert note_text.operative_sentences(told)[0] == "The ear was prepped."
    assert note_text.operative_sentences("DIAGNOSIS: , Ill.,PROCEDURE: , Ear tubes.") == []


@pytest.mark.parametrize(
    "sentence, code",
    [
        ("The patient was taken to the operating room.", "transfer"),
        ("She was then prepped and draped in the usual fashion.", "preparation"),
        ("After adequate anesthesia was obtained, an incision was made.", "incision"),
        ("After adequate anesthesia, the matter rested.", "anaesthesia"),
        ("Hemostasis was achieved with suction cautery.", "haemostasis"),
        ("The septum was closed with plain gut.", "closure"),
        ("The patient tolerated the procedure well and was extubated.", "tolerance"),
        ("The left maxillary sinus was normal.", "observation"),
        ("A probe was placed and a biopsy obtained.", "biopsy"),
        ("This is neither here nor there.", "other step"),
    ],
)
def test_step_codes(sentence, code):
    assert step_codes.step_code(sentence) == code and code in step_codes.KEYWORDS


def test_codes_are_few_distinct_and_say_nothing_of_the_case():
    codes = step_codes.KEYWORDS
    assert 30 <= len(codes) <= 65 and len(set(codes)) == len(codes)
    told = {"left", "right", "bilateral", "small", "large", "polyp", "tumour", "normal", "no", "sinus", "cm", "mm"}
    assert not told & {word for code in codes for word in code.split()}


def test_near_duplicates_are_one_cluster():
    words = [f"word{i}" for i in range(60)]
    first, other = " ".join(words), " ".join(reversed(words))
    changed = " ".join(words[:30] + ["new"] + words[31:])
    chained = " ".join(["new"] * 25 + words[31:])
    texts = [first, other, changed, chained, "short", "short"]
    assert near_duplicates.clusters(texts, 0.4) == [0, 1, 0, 0, 4, 4]
    assert near_duplicates.similar_pairs([first, first]) == [(0, 1, 1.0)]


def lines(path: Path, *notes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(n if isinstance(n, str) else json.dumps(n) for n in notes) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def notes(tmp_path) -> Path:
    """Three files: the same note twice, its near-duplicate, one with nothing to tell."""
    near = NOTE.replace("4-0", "5-0")
    empty = {"note_ids": ["n9"], "text": "PLAN: , Wait."}
    lines(tmp_path / "in/a.jsonl", {"note_ids": ["n2", "n7"], "text": NOTE}, "", empty)
    lines(tmp_path / "in/b.jsonl", {"note_ids": ["n2", "n7"], "text": NOTE})
    lines(tmp_path / "in/c.jsonl", {"note_ids": ["n1"], "text": near})
    return tmp_path / "in"


def test_note_rows(notes, tmp_path):
    operative_notes.build(notes, tmp_path / "d", progress=False)
    dataset = open_dataset(tmp_path / "d")
    assert [(p.id, p.patient) for p in dataset.tables.procedures] == [("n1", "cluster_n1"), ("n2", "cluster_n1")]
    rows = [s for s in dataset.tables.sentences if s.procedure == "n2"]
    assert [s.id for s in rows] == [f"n2/00{i}" for i in range(5)]
    assert [s.keyword for s in rows] == ["transfer", "local injection", "endoscope passed", "extraction", "closure"]
    assert all(s.t0 is None and s.grounding == "none" for s in rows)
    assert dataset.info.keywords == step_codes.KEYWORDS and dataset.info.labels == ()
    operative_notes.build(notes, tmp_path / "one", files=["b.jsonl"], progress=False)
    assert [p.id for p in open_dataset(tmp_path / "one").tables.procedures] == ["n2"]
    operative_notes.build(notes / "c.jsonl", tmp_path / "file", progress=False)
    assert [p.id for p in open_dataset(tmp_path / "file").tables.procedures] == ["n1"]


@pytest.mark.parametrize(
    "line, message",
    [("{", "line 1 is not a note"), ('{"text": "x"}', "line 1 is not a note"), ("[]", "not a note"),
     ('{"note_ids": [1], "text": "x"}', "should be strings"), ('{"note_ids": [], "text": "x"}', "not a note")],
)  # fmt: skip
def test_bad_notes_are_named(tmp_path, line, message):
    lines(tmp_path / "in/a.jsonl", line)
    with pytest.raises(UserError, match=message) as raised:
        operative_notes.build(tmp_path / "in", tmp_path / "d")
    assert "a.jsonl" in str(raised.value)


def test_bad_note_folders(notes, tmp_path):
    with pytest.raises(UserError, match="no .jsonl files"):
        operative_notes.build(tmp_path, tmp_path / "d")
    with pytest.raises(UserError, match="does not exist"):
        operative_notes.build(notes, tmp_path / "d", files=["z.jsonl"])
    with pytest.raises(UserError, match="no note with an operative part"):
        operative_notes.build(
            lines(tmp_path / "x/p.jsonl", {"note_ids": ["n"], "text": "PLAN: , Wait."}), tmp_path / "d"
        )
    with pytest.raises(UserError, match="two different texts"):
        two = [{"note_ids": ["n"], "text": NOTE}, {"note_ids": ["n"], "text": NOTE + " More."}]
        operative_notes.build(lines(tmp_path / "y/p.jsonl", *two), tmp_path / "d")
    (tmp_path / "z").mkdir()
    (tmp_path / "z/p.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        operative_notes.build(tmp_path / "z", tmp_path / "d")


# --- The real ones ---------------------------------------------------------------------------------------------------


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


def test_real_notes(real_data, tmp_path):
    root = real_data / "operative_notes"
    if not root.is_dir():
        pytest.skip("no operative_notes in ../shared/data")
    operative_notes.build(root, tmp_path / "d", files=["ent_operative.jsonl", "fess_operative.jsonl"], progress=False)
    dataset = open_dataset(tmp_path / "d")
    sentences = dataset.tables.sentences
    assert 55 <= len(dataset.tables.procedures) <= 63 and len(sentences) > 1000
    assert all(3 <= len(s.text.split()) <= 40 for s in sentences)
    others = sum(s.keyword == step_codes.OTHER for s in sentences) / len(sentences)
    assert others < 0.15  # the rules carry most of what surgeons write
