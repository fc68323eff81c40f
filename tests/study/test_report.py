"""The study's page: what it says, that it needs nothing else, and how it looks in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from vlm_jax.evaluation.report_plots import curves
from vlm_jax.study.report_answers import calibration_bins, calibration_error, co_occurrence, confusion, risk_curve
from vlm_jax.study.report_tables import forest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page(assembled):
    return assembled.workdir / "report.html"


def test_the_page_needs_nothing_else(page):
    html = page.read_text()
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", html) and "@import" not in html and "url(" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_everything_that_was_asked_for_is_on_the_page(page):
    html = page.read_text()
    for text in (
        "toy &lt;b&gt;", "simulated", "What a score estimates", "Primary contrasts", "not run", "Landmarks in view",
        "Next sentence of the report", "f1_macro by context", "F1 by landmark", "prevalence", "Precision and recall",
        "Calibration", "Risk over coverage", "Together, predicted", "Confused", "Learning curves", "1,234,567",
        "Sample frames", "trivial/most_frequent", "template_filler@tiny", "How sure the intervals are",
    ):  # fmt: skip
        assert text in html, text
    assert "<b>" not in re.sub(r"<b>[^<]*</b>", "", html.split("</h1>")[0])
    assert html.count('src="data:image/jpeg;base64,') == 6


def test_curves_of_several_folds_have_no_threshold_in_use(page):
    html = page.read_text()
    assert html.count("recall to the right") == 4 and "threshold in use" not in html
    assert html.count("scores of all folds in one ranking") == 4
    one = {"a": (np.array([0.9, 0.1]), np.array([True, False]))}
    assert "threshold in use" in curves(one, {"a": 0.5}, "t") and "threshold in use" not in curves(one, {}, "t")


def test_the_results_are_whole_and_the_same_again(assembled):
    from vlm_jax.study.run import assemble

    names = ("table.csv", "table.tex", "contrasts.json", "coverage.json", "report.html")
    before = {name: (assembled.workdir / name).read_bytes() for name in names}
    assemble(assembled)
    for name in names:
        assert (assembled.workdir / name).read_bytes() == before[name], name


def test_calibration_equals_scikit_learn():
    random = np.random.default_rng(0)
    score = random.random(500)
    truth = random.random(500) < score**2
    share, mean = calibration_curve(truth, score, n_bins=10)
    own_mean, own_share, weight = calibration_bins(score, truth)
    np.testing.assert_allclose((own_mean, own_share), (mean, share))
    assert calibration_error(score, truth) == pytest.approx(float((weight * abs(mean - share)).sum()))
    assert calibration_error(np.ones(4), np.ones(4)) == 0


def test_risk_falls_where_confidence_tells_and_ends_at_the_error_of_all():
    curve = risk_curve(np.array([0.9, 0.1, 0.5, 0.8]), np.array([0.0, 1.0, 1.0, 0.0]))
    assert curve == [(0.25, 0.0), (0.5, 0.0), (0.75, pytest.approx(1 / 3)), (1.0, 0.5)]


def test_co_occurrence_and_confusion():
    truth = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]], bool)
    said = np.array([[1, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    both = co_occurrence(truth)
    assert both[0].tolist() == pytest.approx([1, 1 / 3, 0]) and np.isnan(both[2]).all()
    assert confusion(truth, said)[0].tolist() == pytest.approx([0, 0, 0.5])


def forest_row(system, value, low, high):
    about = {"system": system, "metric": "bleu2", "context": "gold"}
    return about | {"value": value, "low": low, "high": high}


def test_one_wide_interval_squeezes_no_forest_and_is_drawn_inside():
    rows = [
        forest_row("base", 0.4, 0.35, 0.45),
        forest_row("wide", 0.2, 0.0, 1.0),
        forest_row("trivial/end", 0.1, None, None),
    ]
    html = forest(rows, "bleu2", "t")
    lines = [(float(a), float(b)) for a, b in re.findall(r'class="line" x1="([\d.-]+)" x2="([\d.-]+)"', html)]
    assert lines == [(70.0, 90.0), (0.0, 100.0)] and "goes on beyond it" in html
    assert "goes on beyond it" not in forest(rows[::2], "bleu2", "t")
    full = forest([forest_row("base", 0.95, 0.9, 1.0)], "bleu2", "t")
    assert 'x1="90.00" x2="100.00"' in full and "goes on" not in full
    assert "NaN" not in forest([forest_row("none", 0.0, 0.0, 0.0)], "bleu2", "t")


# --- A real browser --------------------------------------------------------------------------------------------------


def chromium(page, *flags):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1400])
def test_it_opens_offline_and_fits_the_screen(page, tmp_path, width):
    """The document is never wider than the window, and no name resolves: what it needs is in it."""
    probe = tmp_path / "probe.html"
    script = "<script>document.title = `${document.documentElement.scrollWidth} of ${innerWidth}`</script>"
    probe.write_text(page.read_text().replace("</body>", f"{script}</body>"))
    shot = tmp_path / f"{width}.png"
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    size = f"--window-size={width},2400"
    dumped = chromium(probe, offline, size, f"--screenshot={shot}", "--dump-dom").stdout
    wide, window = map(int, re.search(r"<title>(\d+) of (\d+)</title>", dumped).groups())
    assert wide <= window, f"{wide} pixels wide on a screen of {window}"
    if shot.exists():
        assert shot.stat().st_size > 20_000


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_it_prints(page, tmp_path):
    pdf = tmp_path / "page.pdf"
    chromium(page, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    content = pdf.read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert content.startswith(b"%PDF") and 3 <= pages < 60
