"""The notes adapter: sentences, step codes, clusters and mistakes, on made-up and on the real notes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlm_jax.data.sources import (
    near_duplicates,
    note_text,
    operative_notes,
    step_codes,
)
from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError

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


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_note_with_line_breaks_of_its_own(end):
    lines = (
        "PREOPERATIVE DIAGNOSIS: Chronic sinusitis",
        "OPERATION: Endoscopic sinus surgery",
        "DESCRIPTION OF PROCEDURE",
        "The patient was taken to the operating",
        "room by Dr. X. The nose was packed.",
        "",
        "The polyps were removed. The wound was",
        "closed.",
        "COMPLICATIONS: None were seen at all.",
    )
    assert note_text.operative_sentences(end.join(lines)) == [
        "The patient was taken to the operating room by Dr. X.",
        "The nose was packed.",
        "The polyps were removed.",
        "The wound was closed.",
    ]
    assert note_text.joined_lines("") == "" and note_text.joined_lines("One line.") == "One line."


def test_sentences_and_headings_that_begin_with_an_umlaut():
    told = (
        "DIAGNOSE: ,Polyposis. ,ÖFFNUNG DER SIEBBEINZELLEN: ,Der Tubus wurde gelegt. Über die Nase wurde die Optik "
        "geführt.Ödematöse Schleimhaut wurde abgetragen."
    )
    assert [section.header for section in note_text.sections(told)] == ["", "DIAGNOSE", "ÖFFNUNG DER SIEBBEINZELLEN"]
    assert note_text.operative_sentences(told) == [
        "Der Tubus wurde gelegt.",
        "Über die Nase wurde die Optik geführt.",
        "Ödematöse Schleimhaut wurde abgetragen.",
    ]


def test_notes_without_an_operative_part_are_counted(notes, tmp_path, capsys):
    operative_notes.build(notes, tmp_path / "d")
    assert "1 of 3 notes have no operative part: left out" in capsys.readouterr().err


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
    [("{", "line 1 is not JSON"), ('{"text": "x"}', "line 1 lacks note_ids"), ("[]", "lacks note_ids and text"),
     ('{"note_ids": [1], "text": "x"}', "should be a list of strings"),
     ('{"note_ids": "case-001", "text": "x"}', "should be a list of strings"),
     ('{"note_ids": ["n"], "text": "\\ud83d"}', "half of a character"),
     ('{"note_ids": [], "text": "x"}', "should be a list of strings")],
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


# --- The real ones ---


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
