"""Splits by group: their sizes, their rules and what they refuse."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_jax.config.schema import DataConfig
from vlm_jax.data.records import build_records
from vlm_jax.data.split_rules import SPLITS, Rule, per_source
from vlm_jax.data.splits import split_groups, split_source, split_sources
from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError

G24 = [f"g{i:02d}" for i in range(24)]


def sizes(assigned):
    return tuple(sum(v == name for v in assigned.values()) for name in SPLITS)


def test_the_demo_split_is_12_4_8():
    assigned, cut = split_groups(G24, "kfold:3:0", validation_fraction=0.25, seed=0)
    assert sizes(assigned) == (12, 4, 8) and not cut


@settings(max_examples=40, deadline=None)
@given(n=st.integers(3, 40), folds=st.integers(2, 6), seed=st.integers(0, 5), fraction=st.floats(0.05, 0.6))
def test_folds_tile_the_groups_and_each_group_has_one_split(n, folds, seed, fraction):
    folds = min(folds, n)
    groups = [f"g{i}" for i in range(n)]
    tests: list[str] = []
    for fold in range(folds):
        rule = f"kfold:{folds}:{fold}"
        assigned, cut = split_groups(groups, rule, validation_fraction=fraction, seed=seed)
        again, _ = split_groups(list(reversed(groups)) * 2, rule, validation_fraction=fraction, seed=seed)
        assert assigned == again and set(assigned) == set(groups)
        assert sizes(assigned)[0] >= 1 and (cut or sizes(assigned)[1] >= 1)
        tests += [g for g, split in assigned.items() if split == "test"]
    assert sorted(tests) == sorted(groups)


def test_a_few_long_groups_do_not_take_validation_over():
    """Eight sequences of a real set: two of six for validation, never the two that hold most of the frames."""
    frames = {"1": 32, "2": 34, "3": 26, "4": 66, "5": 26, "6": 44, "7": 122, "8": 186}
    records = [name for name, size in frames.items() for _ in range(size)]
    for seed in range(30):
        split, cut = split_groups(records, "kfold:4:0", validation_fraction=0.25, seed=seed)
        weight = {s: sum(frames[g] for g, of in split.items() if of == s) for s in ("train", "validation")}
        assert not cut and sum(of == "validation" for of in split.values()) == 2
        assert weight["validation"] <= 1.5 * 0.25 * sum(weight.values())


def test_where_every_draw_is_overweight_the_lightest_validates():
    records = ["a"] * 50 + ["b"] * 60 + ["test"]
    split, _ = split_groups(records, Rule("loo", "loo:test", ids={"test": ("test",)}), validation_fraction=0.1, seed=0)
    assert split == {"a": "validation", "b": "train", "test": "test"}


def test_the_seed_shuffles():
    splits = [split_groups(G24, "kfold:3:0", validation_fraction=0.25, seed=s)[0] for s in (0, 1)]
    assert splits[0] != splits[1]


def test_leave_one_out():
    assigned, _ = split_groups(G24, "loo:g07", validation_fraction=0.25, seed=0)
    assert assigned["g07"] == "test" and sizes(assigned) == (17, 6, 1)


def write_list(path, content) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return f"list:{path}"


def test_lists(tmp_path):
    options = {"validation_fraction": 0.25, "seed": 0}
    only_test = write_list(tmp_path / "a.json", {"test": ["g00", "g01"]})
    assert sizes(split_groups(G24, only_test, **options)[0]) == (16, 6, 2)
    full = write_list(tmp_path / "b.json", {"train": ["g02"], "validation": ["g03"], "test": ["g00"]})
    assert split_groups(G24, full, **options)[0] == {"g00": "test", "g02": "train", "g03": "validation"}
    no_validation = write_list(tmp_path / "c.json", {"train": ["g02", "g03", "g04"], "test": ["g00"]})
    assert sizes(split_groups(G24, no_validation, **options)[0]) == (2, 1, 1)
    no_train = write_list(tmp_path / "d.json", {"validation": ["g02"], "test": ["g00"]})
    assert sizes(split_groups(G24, no_train, **options)[0]) == (22, 1, 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"train": ["g01"], "test": ["g01"]}, "'g01' stands in both train and test"),
        ({"test": "g01"}, "must be a list of strings"),
        ({"tset": ["g01"]}, "must be {"),
        ("{", "is not JSON"),
        ({"test": ["nothing"]}, "names none of the groups"),
        ({"test": G24}, "leaves nothing to train on"),
    ],
)
def test_lists_that_are_wrong(tmp_path, content, says):
    with pytest.raises(UserError, match=says):
        split_groups(G24, write_list(tmp_path / "l.json", content), validation_fraction=0.25, seed=0)


def test_one_group_cannot_be_split():
    with pytest.raises(UserError, match="needs 2 groups, there is one: take a finer data.group_by"):
        split_groups(["only"], "kfold:2:0", validation_fraction=0.25, seed=0)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("kfold:30:0", "needs 30 groups, there are 24: take kfold:24:I"),
        ("kfold:3:3", "I from 0 to N - 1"),
        ("kfold:1:0", "N of at least 2"),
        ("fold:3:0", "expected kfold:N:I, loo:ID or list:FILE"),
        ("loo:G07", "did you mean 'g07'"),
        ("list:/nowhere.json", "cannot read the list file"),
    ],
)
def test_rules_that_are_wrong(rule, says):
    with pytest.raises(UserError, match=says):
        split_groups(G24, rule, validation_fraction=0.25, seed=0)


def test_rules_by_source():
    assert per_source("kfold:3:0", ["a", "b"], "k") == {"a": "kfold:3:0", "b": "kfold:3:0"}
    assert per_source("loo:x, b=kfold:2:1", ["a", "b"], "k") == {"a": "loo:x", "b": "kfold:2:1"}
    assert per_source("", ["a"], "k") == {"a": ""}
    assert per_source("a=loo:x,gone=loo:y", ["a"], "k", {"gone"}) == {"a": "loo:x"}
    assert per_source("list:/x/a,b.json", ["a"], "k") == {"a": "list:/x/a,b.json"}
    assert per_source("a=loo:x,y,b=list:/x,z.json", ["a", "b"], "k") == {"a": "loo:x,y", "b": "list:/x,z.json"}
    with pytest.raises(UserError, match="unknown source 'vocalfold' .did you mean 'vocalfolds'"):
        per_source("vocalfold=loo:1", ["vocalfolds"], "data.split")


@pytest.fixture(scope="module")
def toy(toy_path):
    return build_records(open_dataset(toy_path), DataConfig())


def shares(records, split, level):
    groups = records.groups(level)
    return [set(groups[split.codes == code].tolist()) for code in range(3)]


@pytest.mark.parametrize("level", ["patient", "procedure", "sequence"])
def test_no_group_stands_in_two_splits(toy, level):
    split = split_source(toy, "kfold:4:1", group_by=level, validation_fraction=0.3, seed=3)
    train, validation, test = shares(toy, split, level)
    assert train and validation and test and split.level == level
    assert not (train & validation or train & test or validation & test)


@pytest.mark.parametrize("level", ["patient", "procedure", "sequence"])
def test_a_stricter_group_on_both_sides_is_said(toy, make_config, level):
    def said(parts, **settings):
        config = make_config({"data.split": "kfold:4:1", "data.group_by": level, "seed": "3", **settings})
        return [n for split in split_sources(parts, config) for n in split.notices if "optimistic" in n]

    assert len(said([toy])) == (level != "patient")
    # Of two data sets of one source, each with procedures of its own of the same patients.
    dataset = toy.dataset
    even, odd = dataset.tables.procedures[::2], dataset.tables.procedures[1:-1:2]  # 4 and 3: other shuffles
    tables = [dataclasses.replace(dataset.tables, procedures=some) for some in (even, odd)]
    halves = [build_records(dataclasses.replace(dataset, tables=part), DataConfig()) for part in tables]
    if level == "procedure":
        folds = [{"data.split": f"kfold:3:{i}"} for i in range(3)]
        assert not any(said([half], **fold) for half in halves for fold in folds)
        assert any(said(halves, **fold) for fold in folds)


def test_the_strictest_group_is_the_default(toy):
    split = split_source(toy, "kfold:4:0", validation_fraction=0.25, seed=0)
    assert split.level == "patient" and not split.notices and not split.cut


def test_a_column_that_the_source_lacks_falls_back_with_a_notice(notes_path):
    notes = build_records(open_dataset(notes_path), DataConfig())
    split = split_source(notes, "kfold:5:0", group_by="sequence", validation_fraction=0.25, seed=0)
    assert split.level == "patient" and "has no sequence to group by" in split.notices[0]


def test_an_unknown_column(toy):
    with pytest.raises(UserError, match="did you mean 'patient'"):
        split_source(toy, "kfold:4:0", group_by="patients", validation_fraction=0.25, seed=0)


def two_patients(toy_path):
    """The toy set cut down to its first four procedures: two patients."""
    dataset = open_dataset(toy_path)
    kept = dataset.tables.procedures[:4]
    return build_records(
        dataclasses.replace(dataset, tables=dataclasses.replace(dataset.tables, procedures=kept)), DataConfig()
    )


def test_with_two_groups_validation_is_cut_by_sequence_and_said_so(toy_path):
    records = two_patients(toy_path)
    split = split_source(records, "kfold:2:0", validation_fraction=0.25, seed=0)
    train, validation, test = shares(records, split, "sequence")
    assert split.cut and len(train) == 2 and len(validation) == 1 and len(test) == 3
    assert "validation is 1 of the 3 training sequences" in split.notices[0]
    patients = shares(records, split, "patient")
    assert not patients[0] & patients[2]


def test_with_nothing_to_cut_there_is_no_validation(notes_path):
    dataset = open_dataset(notes_path)
    kept = dataset.tables.procedures[:2]
    notes = build_records(
        dataclasses.replace(dataset, tables=dataclasses.replace(dataset.tables, procedures=kept)), DataConfig()
    )
    split = split_source(notes, "kfold:2:0", validation_fraction=0.25, seed=0)
    assert np.bincount(split.codes, minlength=3).tolist() == [4, 0, 4]
    assert "no validation" in split.notices[0]


def test_training_groups_that_become_validation_are_named(toy, tmp_path):
    rule = Rule.parse(write_list(tmp_path / "l.json", {"train": ["p0", "p1", "p2", "p3"], "test": ["p4"]}))
    split = split_source(toy, rule, group_by="procedure", validation_fraction=0.25, seed=0)
    (name,) = shares(toy, split, "procedure")[1]
    assert f"validation is cut from the listed training procedures: {name}" in split.notices[-1]


def test_groups_in_no_split_are_counted(toy, tmp_path):
    rule = write_list(tmp_path / "l.json", {"train": ["p0"], "validation": ["p2"], "test": ["p4"]})
    split = split_source(toy, rule, group_by="procedure", validation_fraction=0.25, seed=0)
    assert "5 procedures stand in no split" in split.notices[0] and (split.codes == -1).any()


def test_all_sources_of_a_run(toy, notes_path, make_config, tmp_path):
    notes = build_records(open_dataset(notes_path), DataConfig())
    splits = split_sources([toy, notes], make_config({"data.split": "toy=loo:patient1,notes=kfold:5:0"}))
    assert set(splits[0].groups[splits[0].codes == 2]) == {"patient1"}
    with pytest.raises(UserError, match="no rule for source 'notes'"):
        split_sources([toy, notes], make_config({"data.split": "toy=kfold:4:0"}))
    both = write_list(tmp_path / "l.json", {"test": ["patient1", "cluster n1", "patient9"]})
    with pytest.raises(UserError, match="unknown group 'patient9' .did you mean 'patient"):
        split_sources([toy, notes], make_config({"data.split": both}))


def test_rules_of_absent_sources_hide_no_mistake_in_the_others(toy, make_config, tmp_path):
    own = write_list(tmp_path / "own.json", {"test": ["patient1", "patient9"]})
    theirs = write_list(tmp_path / "theirs.json", {"test": ["cluster n1"]})
    with pytest.raises(UserError, match="unknown group 'patient9'"):
        split_sources([toy], make_config({"data.split": f"toy={own},notes={theirs}"}), {"notes"})
    both = write_list(tmp_path / "both.json", {"test": ["patient1", "cluster n1"]})
    [split] = split_sources([toy], make_config({"data.split": both}), {"notes"})
    assert set(split.groups[split.codes == 2]) == {"patient1"}


def test_one_group_in_two_data_sets_and_two_splits(toy_path, make_config):
    """Same source, the same patients: two halves of the procedures, each split for itself."""
    dataset = open_dataset(toy_path)
    procedures = dataset.tables.procedures
    halves = [dataclasses.replace(dataset.tables, procedures=procedures[k::2]) for k in (0, 1)]
    parts = [build_records(dataclasses.replace(dataset, tables=half), DataConfig()) for half in halves]
    split_sources(parts, make_config({"data.split": "kfold:4:0"}))  # the same groups, the same shuffle
    rest = dataclasses.replace(halves[1], procedures=halves[1].procedures[:3])
    parts[1] = build_records(dataclasses.replace(dataset, tables=rest), DataConfig())
    with pytest.raises(UserError, match="would stand in two splits"):
        for fold in range(3):
            split_sources(parts, make_config({"data.split": f"kfold:3:{fold}"}))


def test_a_data_set_too_small_for_validation_is_compared_with_the_others_too(toy_path, make_config):
    """Its validation lies within training groups; a group that it tests on may still train in the other data set."""
    dataset = open_dataset(toy_path)

    def part(*places):
        kept = tuple(dataset.tables.procedures[i] for i in places)
        tables = dataclasses.replace(dataset.tables, procedures=kept)
        return build_records(dataclasses.replace(dataset, tables=tables), DataConfig())

    configs = [make_config({"data.split": f"kfold:2:{fold}", "seed": str(seed)}) for fold in (0, 1) for seed in (0, 1)]
    for config in configs:  # the same two patients in both: the same split, validation cut from other sequences
        splits = split_sources([part(0, 2), part(1, 3)], config)
        assert all(split.cut for split in splits)
    with pytest.raises(UserError, match="would stand in two splits"):
        for config in configs:
            split_sources([part(0, 2), part(1, 3, 5)], config)


def test_a_rule_is_read_once():
    rule = Rule.parse("kfold:3:1")
    assert (rule.kind, rule.n, rule.fold) == ("kfold", 3, 1)
