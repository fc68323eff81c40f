"""docs/own-data.md: its adapter is run as it is printed there."""

from __future__ import annotations

import importlib.util
import re

import pytest

from vlm_jax import cli
from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError


def test_the_adapter_of_the_documentation(repository, toy, tmp_path):
    page = (repository / "docs/own-data.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_clinic.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("my_clinic", tmp_path / "my_clinic.py")
    assert spec is not None and spec.loader is not None
    adapter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(adapter)

    root = tmp_path / "clinic"
    lines = ["image,septum,concha"]
    for p, patient in enumerate(("anna", "ben", "cleo")):
        (root / patient).mkdir(parents=True)
        for i, label in {0: "1,0", 1: "1,0", 2: "1,", 10: "0,1"}.items():  # as text 10 sorts before 2
            (root / patient / f"{i}.jpg").write_bytes(toy.jpeg(20 * p + i))
            lines.append(f"{patient}/{i}.jpg,{label}")
    (root / "labels.csv").write_text("\n".join(lines))

    adapter.build(root, tmp_path / "d", progress=False)
    dataset = open_dataset(tmp_path / "d")
    assert dataset.info.labels == ("septum", "concha") and len(dataset.frames) == 12
    first = [a for a in dataset.tables.activities if a.procedure == "anna"]
    assert [(a.t0, a.t1, a.landmarks) for a in first] == [(0, 400, (1, 0)), (400, 600, (1, None)), (600, 800, (0, 1))]
    assert dataset.read_image(5) == (root / "ben/1.jpg").read_bytes()
    assert cli.main(["data", "check", str(tmp_path / "d")]) == 0

    excel = "\r\n".join(lines).replace(",", ";").replace(";1", ";1,0")
    (root / "labels.csv").write_text(excel, encoding="utf-8-sig")
    adapter.build(root, tmp_path / "d", progress=False)  # the same table: the same data set

    odd = ("image,a\nanna/0.jpg,0.5", "image,a\nanna/0.jpg,ja", "image,a\nanna/0.jpg,1,1", "a,image\n1")
    for text in (
        *odd,
        "",
        "file,septum\nanna/0.jpg,1",
        "image,septum\n0.jpg,1",
        "image,septum\nanna/77.jpg,1",
        "image,a",
    ):
        (root / "labels.csv").write_text(text)
        with pytest.raises(UserError, match=r"labels.csv"):
            adapter.build(root, tmp_path / "e", progress=False)
    (root / "labels.csv").write_text("image,größe\nanna/0.jpg,1", encoding="cp1252")
    with pytest.raises(UserError, match="save the table as CSV UTF-8"):
        adapter.build(root, tmp_path / "e", progress=False)

    (root / "labels.csv").write_text("\n".join(lines).replace("anna/0.jpg,1,0", "anna/0.jpg,0,0"))
    with pytest.raises(UserError, match="holds another data set"):
        adapter.build(root, tmp_path / "d", progress=False)
