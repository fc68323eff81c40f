"""Verdicts and p-values: against scipy's interval, against Holm's definition by closed testing."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from vlm_jax.evaluation.intervals import Samples
from vlm_jax.study.contrasts import PRIMARY, against, contrasts_of, holm, named, p_value
from vlm_jax.study.report_tables import contrast_table


def samples_of(values, resamples=4000, seed=0, name="f1_macro"):
    values = np.asarray(values, float)
    return Samples.draw(
        (name,), lambda w: (w @ values / w.sum(1))[:, None], len(values), resamples=resamples, seed=seed
    )


def test_seven_primaries_with_the_margins_that_were_fixed():
    assert len(PRIMARY) == 7 == len({p.name for p in PRIMARY})
    assert {(p.metric, p.margin) for p in PRIMARY} == {("f1_macro", 0.02), ("bleu2", 0.02)}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.03, 0.2, "above"),
        (0.01, 0.2, "undecided"),
        (-0.3, -0.021, "below"),
        (-0.02, 0.02, "within"),
        (-0.05, 0.01, "undecided"),
        (None, None, "undecided"),
    ],
)
def test_the_interval_against_the_margin(low, high, verdict):
    assert against(low, high, 0.02) == verdict


def test_holm_is_the_closure_of_bonferroni():
    random = np.random.default_rng(0)
    for _ in range(50):
        p = random.random(7) ** 3
        sets = [s for n in range(1, 8) for s in itertools.combinations(range(7), n)]
        closed = [max(min(1, len(s) * min(p[list(s)])) for s in sets if i in s) for i in range(7)]
        assert holm(p.tolist()) == pytest.approx(closed)


def test_what_was_not_run_still_counts_among_the_seven():
    assert holm([0.01, None, None]) == [pytest.approx(0.03), None, None]


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_tail_inverts_scipys_bca_interval(level):
    values = np.random.default_rng(3).gamma(1.0, size=20)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, confidence_level=level, rng=np.random.default_rng(0), method="BCa"
    ).confidence_interval
    own = samples_of(values)
    assert own.tail("f1_macro", theirs.low) == pytest.approx((1 - level) / 2, abs=1e-3)
    assert 1 - own.tail("f1_macro", theirs.high) == pytest.approx((1 - level) / 2, abs=1e-3)


def test_p_is_under_five_percent_where_the_interval_says_something():
    primary, random, seen = PRIMARY[0], np.random.default_rng(1), set()
    for _ in range(120):
        mean, spread = random.choice([-0.1, -0.02, 0.0, 0.02, 0.1]), random.choice([0.005, 0.02, 0.1])
        own = samples_of(random.normal(mean, spread, 12), resamples=1000)
        estimate = own.estimate("f1_macro")
        verdict = against(estimate.low, estimate.high, primary.margin)
        p = p_value(own, primary)
        seen.add(verdict)
        if abs(p - 0.05) > 0.004:  # the quantile interpolates, the tail counts
            assert (p < 0.05) == (verdict != "undecided"), (estimate, p)
    assert seen == {"above", "below", "within", "undecided"}


def test_without_an_interval_there_is_no_p():
    assert p_value(samples_of([1.0, 2.0, 3.0]), PRIMARY[0]) is None


def test_roles_are_found_by_name_without_size():
    shown = dict.fromkeys(
        ["light@tiny", "base@tiny", "base_report_only@tiny", "endovit_arch@tiny (random init)", "pooled"]
    )
    assert named("base", shown) == "base@tiny"
    assert named("endovit", shown) == "endovit_arch@tiny (random init)"
    assert named("keyword_report", shown) == ""


def fake_scores(world, effect, seeds=2):
    """A world with base, no_image and no_text whose scores differ by `effect`."""
    random = np.random.default_rng(0)
    base = random.normal(0.5, 0.05, 12)
    samples = {}
    for name, gain in (("base", 0.0), ("no_image", -effect), ("no_text", -effect)):
        for task, metric in (("landmarks", "f1_macro"), ("report", "bleu2")):
            values = base + gain + random.normal(0, 0.002, 12)
            samples[name, "fess", task, "gold"] = samples_of(values, 2000, name=metric)
    return SimpleNamespace(
        variant=SimpleNamespace(worlds={"fess": world}),
        pooled={name: [{}] * seeds for name in ("base", "no_image", "no_text")},
        samples=samples,
        units={("fess", "landmarks"): [], ("fess", "report"): []},
    )


def test_effects_are_found_where_they_are_and_not_where_they_were_removed():
    found = {c.name: c for c in contrasts_of(fake_scores("simulated", 0.2))}
    assert found["vision"].verdict == found["text"].verdict == "above" and not found["vision"].removed
    assert found["classification"].verdict == "not run" and found["classification"].p is None
    null = {c.name: c for c in contrasts_of(fake_scores("simulated, reports independent", 0.0))}
    assert null["vision"].removed and null["vision"].verdict == "within" and not null["text"].removed
    shuffled = {c.name: c for c in contrasts_of(fake_scores("simulated, previous shuffled", 0.0))}
    assert shuffled["text"].removed and not shuffled["vision"].removed
    half, none = (
        {c.name: c.removed for c in contrasts_of(fake_scores(f"simulated, information {share}", 0.0))}
        for share in ("0.5", "0")
    )
    assert none["text"] and not none["vision"] and not any(half.values())


def test_one_training_gives_an_interval_and_no_verdict():
    one, two = ({c.name: c for c in contrasts_of(fake_scores("simulated", 0.2, seeds))} for seeds in (1, 2))
    assert one["vision"].verdict == "one seed" and one["vision"].interval == two["vision"].interval == "above"
    assert two["vision"].verdict == "above" and one["report"].verdict == "not run"
    mixed = fake_scores("simulated", 0.2)
    mixed.pooled["no_image"] = [{}]
    assert {c.name: c.verdict for c in contrasts_of(mixed)}["vision"] == "one seed", "of either system"


@pytest.mark.parametrize(
    ("seeds", "effect", "said"),
    [(1, 0.2, "one training cannot tell"), (2, 0.2, "it came out all the same"), (2, 0.0, "it did not come out")],
)
def test_the_report_says_of_a_null_world_what_can_be_said(seeds, effect, said):
    scores = fake_scores("simulated, reports independent", effect, seeds)
    scores.samples["trivial/keyword_mode", "fess", "report", "gold"] = samples_of(np.full(12, 0.4), 2000, name="bleu2")
    html = contrast_table(contrasts_of(scores))
    notes = {note for note in ("one training cannot tell", "came out all the same", "did not come out") if note in html}
    assert len(notes) == 1 and said in html
    assert ("no_image is below trivial/keyword_mode: it may not have learned yet" in html) == (effect > 0)


def test_a_system_below_a_look_up_is_named():
    scores = fake_scores("simulated, reports independent", 0.3)
    for name, values in (("keyword_mode", 0.4), ("most_frequent", 0.1)):
        scores.samples[f"trivial/{name}", "fess", "report", "gold"] = samples_of(
            np.full(12, values), 2000, name="bleu2"
        )
    scores.samples["trivial/all_positive", "fess", "landmarks", "gold"] = samples_of(np.full(12, 0.9), 2000)
    scores.samples["trivial/keyword_mode", "other", "report", "gold"] = samples_of(np.full(12, 0.9), 2000, name="bleu2")
    found = {c.name: c.not_learned for c in contrasts_of(scores)}
    assert found["vision"] == {"no_image": "trivial/keyword_mode"} and found["classification"] == {}
    assert found["text"] == {"base": "trivial/all_positive", "no_text": "trivial/all_positive"}
    near = np.random.default_rng(1).normal(0.51, 0.05, 12)
    scores.samples["trivial/all_positive", "fess", "landmarks", "gold"] = samples_of(near, 2000)
    assert "base" not in next(c for c in contrasts_of(scores) if c.name == "text").not_learned, "by chance alone"
    scores.samples["trivial/all_positive", "fess", "landmarks", "gold"] = samples_of(np.full(12, np.nan), 2000)
    assert next(c for c in contrasts_of(scores) if c.name == "text").not_learned == {}, "undefined"


def test_holm_can_take_a_verdict_back():
    scores = fake_scores("simulated", 0.2)
    one = next(c for c in contrasts_of(scores) if c.name == "vision")
    assert one.interval == "above" and one.p_holm == pytest.approx(7 * one.p, rel=1e-6)
    few = fake_scores("simulated", 0.2)
    values = 0.045 + 0.035 * stats.norm.ppf((np.arange(12) + 0.5) / 12)
    few.samples["base", "fess", "report", "gold"] = samples_of(values, 2000, name="bleu2")
    few.samples["no_image", "fess", "report", "gold"] = samples_of(np.zeros(12), 2000, name="bleu2")
    one = next(c for c in contrasts_of(few) if c.name == "vision")
    assert one.interval == "above" and 0.05 / 7 < one.p < 0.05 < one.p_holm and one.verdict == "undecided"
