"""Own frames with labels, descriptions and reports in tables."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vlm_jax import cli
from vlm_jax.data.sources import labelled_frames
from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError

PATIENTS = ("anna", "ben", "cleo")


@pytest.fixture
def clinic(toy, tmp_path):
    """Three patients of four frames, as text out of order; one image is a PNG."""
    root, lines = tmp_path / "my clinic", ["image,septum,concha,description"]
    for p, patient in enumerate(PATIENTS):
        (root / patient).mkdir(parents=True)
        for i, cells in {10: "0,1,view of the concha", 0: "1,0,", 1: "1,0,", 2: "1,,"}.items():
            (root / patient / f"{i}.jpg").write_bytes(toy.jpeg(20 * p + i))
            lines.append(f"{patient}/{i}.jpg,{cells}")
    png = Image.open(io.BytesIO(toy.jpeg(99)))
    (root / "ben" / "1.jpg").unlink()
    png.save(root / "ben" / "1.png")
    (root / "labels.csv").write_text("\n".join(lines).replace("ben/1.jpg", "ben/1.png"))
    return root


def test_frames_with_labels_and_descriptions(clinic, tmp_path):
    assert (
        cli.main(["data", "build", "--source", "labelled_frames", "--input", str(clinic), "--out", str(tmp_path / "d")])
        == 0
    )
    dataset = open_dataset(tmp_path / "d")
    assert dataset.info.source == "my_clinic" and dataset.info.labels == ("septum", "concha")
    assert dataset.frames.uid.tolist()[:4] == [f"anna/{i}.jpg" for i in (0, 1, 2, 10)]
    first = [a for a in dataset.tables.activities if a.procedure == "anna"]
    assert [(a.t0, a.t1, a.landmarks) for a in first] == [(0, 400, (1, 0)), (400, 600, (1, None)), (600, 800, (0, 1))]
    assert [a.description for a in first] == [None, None, "view of the concha"]
    assert dataset.read_image(4) == (clinic / "ben/0.jpg").read_bytes()
    pixels = np.asarray(Image.open(io.BytesIO(dataset.read_image(5)))).astype(int)
    assert np.abs(pixels - np.asarray(Image.open(clinic / "ben/1.png"))).mean() < 4, "encoded as JPEG"
    assert cli.main(["data", "check", str(tmp_path / "d")]) == 0
    assert {p.patient for p in dataset.tables.procedures} == set(PATIENTS)


def test_the_same_table_as_a_spreadsheet_writes_it_and_another_one(clinic, tmp_path):
    labelled_frames.build(clinic, tmp_path / "d", progress=False)
    table = (clinic / "labels.csv").read_text()
    (clinic / "labels.csv").write_text(table.replace("anna/0.jpg,1,0", "anna/0.jpg,0,0"))
    with pytest.raises(UserError, match=r"holds another data set \(info.generator.files differ\): its input"):
        labelled_frames.build(clinic, tmp_path / "d", progress=False)
    excel = "\r\n".join(table.splitlines()).replace(",", ";").replace(";1;", ";1,0;")
    (clinic / "labels.csv").write_text(excel, encoding="utf-8-sig")
    labelled_frames.build(clinic, tmp_path / "e", progress=False)
    one, other = open_dataset(tmp_path / "d"), open_dataset(tmp_path / "e")
    assert one.tables == other.tables and one.frames.visible.tolist() == other.frames.visible.tolist()


def test_videos_seconds_and_a_report(clinic, toy, tmp_path):
    (clinic / "dora" / "left").mkdir(parents=True)
    (clinic / "dora" / "right").mkdir()
    for side in ("left", "right"):
        for i in range(2):
            (clinic / "dora" / side / f"{i}.jpg").write_bytes(toy.jpeg(50 + i))
    rows = ["image,seconds,septum"]
    rows += [f"dora/{side}/{i}.jpg,{second},1" for side in ("left", "right") for i, second in ((0, "1.5"), (1, "0,5"))]
    (clinic / "²").mkdir()
    (clinic / "²" / "1.jpg").write_bytes(toy.jpeg(3))
    rows[0] += ",description"
    rows = [rows[0], *(f"{row},soft\x0bline" for row in rows[1:]), "²/1.jpg,0,1,"]
    (clinic / "labels.csv").write_text("\n".join(rows).replace("0,5", '"0,5"'))
    (clinic / "report.csv").write_text(
        "patient,video,sentence,keyword,from,to\n"
        "dora,left,Septum seen.,inspect,0,2\ndora,left,Done.,,,\ndora,right,Fine.,,,\n"
    )
    labelled_frames.build(clinic, tmp_path / "d", progress=False)
    dataset = open_dataset(tmp_path / "d")
    patients = [(p.id, p.patient) for p in dataset.tables.procedures]
    assert patients == [("dora/left", "dora"), ("dora/right", "dora"), ("²", "²")]
    assert dataset.frames.pts_ms.tolist() == [500, 1500, 500, 1500, 0]
    assert dataset.frames.uid.tolist()[:2] == ["dora/left/1.jpg", "dora/left/0.jpg"]
    said = [(s.procedure, s.text, s.keyword, s.t0, s.t1) for s in dataset.tables.sentences]
    assert said[0] == ("dora/left", "Septum seen.", "inspect", 0, 2000) and said[1][2:] == (None, None, None)
    assert len(said) == 3 and dataset.info.keywords == ("inspect",)
    # A patient of one video needs none named.
    (clinic / "labels.csv").write_text("image,septum\ndora/left/0.jpg,1\nanna/0.jpg,1")
    (clinic / "report.csv").write_text("patient,sentence\ndora,Septum seen.\nanna,Fine.\n")
    labelled_frames.build(clinic, tmp_path / "one", progress=False)
    assert [s.procedure for s in open_dataset(tmp_path / "one").tables.sentences] == ["anna", "dora/left"]
    assert cli.main(["data", "check", str(tmp_path / "d")]) == 0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("image,a\nanna/0.jpg,0.5", "line 2: column 'a' should hold 1, 0 or nothing"),
        ("image,a\nanna/0.jpg,1,1", "line 2 has 3 cells, the head has 2"),
        ("", "has no row below its head"),
        ("image,a", "has no row below its head"),
        ("file,septum\nanna/0.jpg,1", "has no column `image`"),
        ("image,a,a\nanna/0.jpg,1,1", "two of one name"),
        ("image,septum\n0.jpg,1", "should name a file, PATIENT/NAME.jpg"),
        ("image,septum\nanna/77.jpg,1", "should name a file"),
        ("image,septum\nanna/../ben/0.jpg,1", "should name a file"),
        ("image,a\nanna/0.jpg,1\nanna/0.jpg,1", "line 3: the image of this row has a row already"),
        ("image,a\nanna/0.jpg,1\n./anna//0.jpg,0", "line 3: the image of this row has a row already"),
        (f"image,a\nanna/{'x' * 300},1", "line 2: `image` should name a file"),
        ('image,a,description\nanna/0.jpg,1,"left\nanna/1.jpg,1,b', "line 3 is no CSV"),
        ('image,a,description\nanna/0.jpg,1,"a" b"\nanna/1.jpg,1,b', "line 2 is no CSV"),
        ("image,seconds\nanna/0.jpg,soon", "`seconds` should be seconds"),
        ("image,seconds\nanna/0.jpg,1\nanna/1.jpg,", "some images of 'anna' have seconds and some have none"),
        ("image,seconds\nanna/0.jpg,1\nanna/1.jpg,1", "two images of 'anna' have the same seconds"),
    ],
)
def test_a_wrong_table_is_one_line(clinic, tmp_path, table, says):
    (clinic / "labels.csv").write_text(table)
    with pytest.raises(UserError) as caught:
        labelled_frames.build(clinic, tmp_path / "e", progress=False)
    assert says in str(caught.value) and "labels.csv" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("patient,text\nanna,Seen.", "has no column `sentence`"),
        ("patient,sentence\ndora,Seen.", "line 2: labels.csv has no such patient"),
        ('patient,sentence\nanna,"Seen.\nanna,Gone.', "is no CSV"),
        ("patient,sentence\nanna,", "line 2: `sentence` is empty"),
        ("patient,sentence,from,to\nanna,Seen.,3,2", "`to` being later, or neither"),
        ("patient,sentence,from,to\nanna,Seen.,3,", "`to` being later, or neither"),
    ],
)
def test_a_wrong_report_is_one_line(clinic, tmp_path, rows, says):
    (clinic / "report.csv").write_text(rows)
    with pytest.raises(UserError) as caught:
        labelled_frames.build(clinic, tmp_path / "e", progress=False)
    assert says in str(caught.value) and "Seen" not in str(caught.value)


def test_no_table_other_letters_and_videos(clinic, tmp_path):
    (clinic / "labels.csv").write_text("image,größe\nanna/0.jpg,1", encoding="cp1252")
    with pytest.raises(UserError, match="save the table as CSV UTF-8"):
        labelled_frames.build(clinic, tmp_path / "e", progress=False)
    (clinic / "labels.csv").unlink()
    with pytest.raises(UserError, match=r"has no labels.csv: one row an image, as docs/own-data.md says$"):
        labelled_frames.build(clinic, tmp_path / "e", progress=False)
    (clinic / "case 07.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"case 07.mp4 is a video: .* ffmpeg -i 'case 07.mp4' -vf fps=5"):
        labelled_frames.build(clinic, tmp_path / "e", progress=False)
