"""The factuality score: what the rules read, what the counts come to, planted errors, and sentences labelled by hand.

`factuality_labels.jsonl` holds what 200 sentences of operative notes say, as read one by one before the rules were run
on them; a sentence is named by its note, its place and its sha256, for no text of a note is kept here.
"""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest

from vlm_jax.metrics.facts import ATTRIBUTES, canonical, facts_of, singular
from vlm_jax.metrics.factuality import FactState, fact_counts, scene_counts


@pytest.fixture(scope="module")
def benchmark(repository):
    spec = importlib.util.spec_from_file_location("factuality", repository / "benchmarks/factuality.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- What the rules read ---


@pytest.mark.parametrize(
    ("text", "landmark", "sides", "negation"),
    [
        ("The middle turbinates were medialized bilaterally.", {"middle nasal concha"}, {"left", "right"}, set()),
        (
            "no polyps, pus or scar in the left middle meatus",
            {"middle nasal meatus"},
            {"left"},
            {"polyp", "pus", "scar"},
        ),
        ("polyps seen but no bleeding from the septum", {"nasal septum"}, set(), {"bleeding"}),
        ("The bulla was opened without difficulty.", {"ethmoidal bulla"}, set(), {"difficulty"}),
        ("A right angle forceps was left in place.", set(), set(), set()),
        ("accessory ostium not present on the right", set(), {"right"}, {"accessory opening"}),
        ("Not only polyps but pus was found in the antrum.", {"maxillary sinus"}, set(), set()),
        ("The no. 15 blade was used for the tonsil.", {"palatine tonsil"}, set(), set()),
        ("conchae and choanae", {"nasal concha", "choana"}, set(), set()),
        ("maxillary sinus empty", {"maxillary sinus"}, set(), {"content"}),
        ("No bleeding was seen on removal of the many small deep far lateral polyps.", set(), set(), {"bleeding"}),
    ],
)
def test_structures_sides_and_denials(text, landmark, sides, negation):
    facts = facts_of(text)
    assert (facts.landmark, facts.laterality, facts.negation) == (landmark, sides, negation)


@pytest.mark.parametrize(
    ("text", "status", "action"),
    [
        ("The uncinate process was removed with the backbiter.", {"done"}, {"remove"}),
        ("Left middle turbinate was seen.", {"seen"}, set()),
        ("There was no evidence of bleeding.", {"absent"}, set()),
        ("history of previous sinus surgery elsewhere", {"history"}, set()),
        ("Right septoplasty with cauterization.", {"done"}, {"straighten", "coagulate"}),
        ("Attention was turned to the left ear.", set(), set()),
        ("left view of nasal floor, choana visible centre", {"seen"}, set()),
    ],
)
def test_status_and_actions(text, status, action):
    facts = facts_of(text)
    assert (facts.status, facts.action) == (status, action)


def test_names_of_a_data_set_are_structures_too():
    assert canonical("middle turbinate") == "middle nasal concha"
    assert canonical("intubation", ("intubation",)) == "intubation"
    assert facts_of("intubation seen", ("intubation",)).landmark == {"intubation"}
    assert facts_of("intubation seen").landmark == set()


def test_plurals():
    assert [singular(w) for w in ("polyps", "conchae", "sinuses", "masses", "biopsies", "was", "pus", "pelvis")] == [
        *("polyp", "concha", "sinus", "mass", "biopsy", "was", "pus", "pelvis")
    ]


# --- What the counts come to ---


def test_a_true_sentence_is_perfect_and_a_false_side_contradicts():
    true = "no polyps in the left middle meatus"
    same = FactState.from_texts([true], [[true]]).compute()
    assert same["precision"] == same["recall"] == same["f1"] == 1
    assert same["contradictions"] == same["omissions"] == 0
    false = FactState.from_texts(["no polyps in the right middle meatus"], [[true]]).compute()
    assert false["laterality/precision"] == 0 and false["landmark/precision"] == 1
    assert false["laterality/contradictions"] == 1 == false["contradictions"]
    denied = FactState.from_texts(["polyps in the left middle meatus"], [[true]]).compute()
    assert denied["negation/contradictions"] == 1 and denied["negation/recall"] == 0


def test_an_omission_is_no_contradiction():
    scores = FactState.from_texts(["polyps removed"], [["polyps removed from the left middle meatus"]]).compute()
    assert scores["contradictions"] == 0 and scores["omissions"] == 1
    assert scores["landmark/recall"] == 0 and math.isnan(scores["landmark/precision"])


def test_values_of_one_group_contradict():
    counts = fact_counts("polyps in the middle meatus, grade 1", ["polyps in the middle meatus, grade 3"])
    assert counts[ATTRIBUTES.index("finding")].tolist()[3] == 1


def test_the_best_reference_counts():
    counts = fact_counts("pus seen on the left", ["bleeding on the right", "pus noted on the left"])
    assert counts[-1, 3] == 0 and counts[-1, 2] == counts[-1, 0]


def test_states_merge_and_equal_a_count_by_hand():
    texts = ["polyps left", "no pus right", "septum straight", "choana free on the left", "bulla opened"]
    refs = [["pus left"], ["no pus right"], ["septum deviated to the left"], ["choana free on the right"], ["bulla"]]
    whole = FactState.from_texts(texts, refs)
    parts = FactState.from_texts(texts[:2], refs[:2]) | FactState.from_texts(texts[2:], refs[2:])
    assert np.array_equal(whole.counts, parts.counts) and whole.units == parts.units == 5

    said = [{(a, n) for a in ATTRIBUTES for n in getattr(facts_of(t), a)} for t in texts]
    true = [{(a, n) for a in ATTRIBUTES for n in getattr(facts_of(r[0]), a)} for r in refs]
    matched = sum(len(a & b) for a, b in zip(said, true, strict=True))
    scores = whole.compute()
    assert scores["precision"] == pytest.approx(matched / sum(map(len, said)))
    assert scores["recall"] == pytest.approx(matched / sum(map(len, true)))


def test_the_scene():
    labels = ("nasal septum", "middle nasal concha", "choana")
    text = "left view of nasal floor, septum visible, middle turbinate visible"
    structures, sides = scene_counts(text, ["nasal septum", "choana"], {"right"}, labels)
    assert structures.tolist() == [2, 2, 1, 1, 1]
    assert sides.tolist() == [1, 1, 0, 1, 0]
    assert scene_counts(text, ["nasal septum"], (), labels)[1].tolist() == [0, 0, 0, 0, 0]


# --- Planted errors, and labels made by hand ---


def test_every_planted_error_of_the_simulator_is_seen(benchmark):
    events = benchmark.wordings()[::7]
    for name, found in benchmark.plant(text for event in events for text in event).items():
        assert found["n"] >= 20 and found["detected"] >= 0.99, name
    assert benchmark.paraphrases(events)["contradicted"] < 0.005


def test_planted_errors_in_real_notes(benchmark, real_data):
    folder = _notes(real_data)
    sentences = list(benchmark.note_sentences(folder).values())[::3]
    for name, found in benchmark.plant(sentences).items():
        assert found["n"] >= 8 and found["detected"] >= 0.85, name


def test_agreement_with_labels_made_by_hand(benchmark, real_data):
    sentences = benchmark.note_sentences(_notes(real_data))
    labels = benchmark.read_labels(benchmark.LABELS)
    assert len(labels) == 200 and all(row["sha256"] in sentences for row in labels)
    found = benchmark.agreement(sentences, labels)
    exact = {name: found[name]["exact"][0] for name in benchmark.LABELLED}
    least = {"landmark": 0.97, "laterality": 0.99, "status": 0.92, "negation": 0.98, "action": 0.89}
    assert all(exact[name] >= least[name] for name in least), exact


def test_two_readers_agree(benchmark):
    """The second read blind; what they disagree on bounds what rules can be held to."""
    first, second = benchmark.read_labels(benchmark.LABELS), benchmark.read_labels(benchmark.SECOND)
    assert [row["sha256"] for row in first] == [row["sha256"] for row in second]
    found = benchmark.between(first, second)
    assert all(row["kappa"] > 0.85 and row["exact"] > 0.88 for row in found.values()), found
    assert benchmark.between(first, first)["status"] == {"exact": 1.0, "kappa": 1.0}


def _notes(real_data):
    folder = real_data / "operative_notes"
    if not folder.is_dir():
        pytest.skip("no operative_notes in ../shared/data")
    return folder
