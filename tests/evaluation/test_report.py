"""report.html: one file, escaped, honest about simulated data."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vlm_jax.evaluation.intervals import Estimate
from vlm_jax.evaluation.report import Page, report_html
from vlm_jax.evaluation.report_plots import Bar, bars, curves
from vlm_jax.evaluation.report_samples import card, data_address, marked, pick

VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Collects tags and checks that every opened one is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html(results):
    return (results[1] / "report.html").read_text()


def test_the_page_is_whole_and_fetches_nothing(html):
    parser = Balanced()
    parser.feed(html)
    assert not parser.open
    assert parser.addresses and all(a.startswith("data:image/jpeg;base64,") for a in parser.addresses)
    assert not re.search(r"https?://|@import|url\(|<script", html)


def test_simulated_is_said_in_the_title_and_at_every_plot(html):
    assert "partly simulated data</title>" in html and "partly simulated data</h1>" in html
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert len(captions) == 2 and all("toy (simulated)" in c for c in captions)
    assert "Samples, simulated" in html and "Samples, real" in html


def test_what_comes_from_outside_is_escaped(html):
    assert "echo &lt;b&gt;" in html and "echo <b>" not in html


def test_scores_stand_beside_trivial_ones(html):
    assert "most_frequent<br><small>trivial" in html and "rolled_out<br><small>context" in html
    assert "28 activities, 7 groups, simulated" in html
    assert "over all_positive" in html or "over prior" in html
    assert "Undefined here, without a positive: never." in html


def test_only_simulated_only_real():
    entry = {"value": 0.5, "low": None, "high": None, "n_units": 1, "n_groups": 1, "unit": "sentence"}
    metrics = {"a/report/bleu2": entry, "a/report/rouge_l": {**entry, "value": None}}

    def title(world):
        return Page("m", "test", metrics, {}, {"a": world}, {}).title()

    assert title("simulated") == "m on the test split – simulated data"
    assert title("real") == "m on the test split"
    assert "–</td>" in report_html(Page("m", "test", metrics, {}, {"a": "real"}, {}), [], lambda row: None)


def test_bars_put_the_best_first_and_undefined_last():
    rows = [
        Bar("none", Estimate(None), 0.0, None),
        Bar("low", Estimate(0.2), 0.1, 0.3),
        Bar("<x>", Estimate(0.9, 0.8, 1), 0.5, 0.6),
    ]
    drawn = bars(rows, "title", "trivial")
    names = re.findall(r'class="name">(.*?)</span>', drawn)
    assert names == ["&lt;x&gt;", "low", "none"]
    assert drawn.count('class="interval"') == 1 and "undefined: no positive" in drawn


def test_curves_mark_the_threshold_where_anything_is_chosen():
    score, truth = np.linspace(0, 1, 500), np.arange(500) > 300
    drawn = curves({"a": (score, truth)}, {"a": 0.5}, "t")
    assert "AP 1.00" in drawn and drawn.count("<circle") == 1
    points = re.search(r'points="(.*?)"', drawn).group(1).split()
    assert len(points) <= 201
    assert "<circle" not in curves({"a": (score, truth)}, {"a": None}, "t")
    assert "<circle" not in curves({"a": (score, truth)}, {"a": 2.0}, "t")


def test_samples_are_spread_and_prefer_texts():
    rows = [{"source": "s", "row": i, "uid": str(i)} | ({"describe": {}} if i % 2 else {}) for i in range(100)]
    chosen = [r["row"] for r in pick(rows, "s", 5)]
    assert len(chosen) == 5 and all(r % 2 for r in chosen) and max(np.diff(chosen)) < 30
    assert pick(rows[:2], "s") == [rows[1]] and pick(rows[:1], "s") == [rows[0]]


def test_words_that_differ_are_marked():
    assert marked("a <b> polyp left", "a polyp right") == "a <mark>&lt; b &gt;</mark> polyp <mark>left</mark>"
    assert marked("", "x") == "<mark>nothing</mark>"


def test_images_become_small_and_bad_ones_are_left_out():
    file = io.BytesIO()
    Image.new("RGB", (800, 400)).save(file, "JPEG")
    address = data_address(file.getvalue())
    assert address.startswith("data:image/jpeg;base64,") and len(address) < 20_000
    assert data_address(b"no image") is None
    said = {"predicted": "x", "true": "x"}
    assert "<img" not in card({"uid": "u", "row": 0, "describe": said, "procedure": "p"}, b"no image")
