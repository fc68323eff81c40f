"""Settings: where they come from, how they are written, and what a mistake in them says."""

from __future__ import annotations

import dataclasses
import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_jax.config import load, values
from vlm_jax.config.load import diff, dump, from_dict, load_config, read, to_dict
from vlm_jax.config.rules import BOUNDS, CHOICES, GROUPS, LISTS, TASK_NAMES
from vlm_jax.config.schema import Config
from vlm_jax.contract import TASKS
from vlm_jax.errors import UserError

PRESETS = ("light", "base", "tiny", "tiny_vit", "micro")  # tiny_real needs two data sets


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("ablation", ["", ",no_image", ",no_text", ",no_cross_attention", ",pooled", ",tasks=report"])
def test_every_preset_with_every_ablation_is_valid_and_round_trips(preset, ablation, tmp_path):
    config = load_config(f"configs/vlm.py:{preset}{ablation}")
    assert from_dict(to_dict(config)) == config
    dump(config, tmp_path / "config.json")
    assert read(tmp_path / "config.json") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert load_config(str(tmp_path / "config.json")) == config


def test_ablations_do_what_they_say():
    assert load_config("vlm:tiny,no_image").model.no_image
    assert load_config("vlm:tiny,no_text").model.no_text
    assert load_config("vlm:tiny,no_cross_attention").model.fusion == "concat"
    assert load_config("vlm:tiny,pooled").model.fusion == "pooled"
    both = load_config("vlm:tiny,pooled,tasks=describe+anticipate")
    assert (both.tasks, both.model.fusion, both.name) == (
        ("describe", "anticipate"),
        "pooled",
        "tiny-pooled-tasks=describe+anticipate",
    )
    assert load_config("configs/vlm.py") == load_config("configs/vlm.py:light")


def test_every_preset_says_command_expectation_hardware_and_time(repository):
    text = (repository / "configs" / "vlm.py").read_text()
    for preset in PRESETS:
        doc = text.split(f"def {preset}()")[1].split('"""')[1]
        assert f"vlm-jax train --config configs/vlm.py:{preset} " in doc
        assert "Expect:" in doc and "Hardware and time:" in doc


def test_overrides_are_parsed_by_the_type_of_the_field():
    config = load_config(
        "vlm:micro",
        [
            ("data.path", "a, b/c"),
            ("data.weights", "1,2.5"),
            ("optim.lr", "1e-4"),
            ("train.steps", "7"),
            ("train.steps", "8"),
            ("model.remat", "True"),
            ("train.tensorboard", "off"),
            ("name", "x"),
            ("tasks", "('report',)".replace("'", "")),
            ("model.image_encoder.mean", "0.1,0.2,0.3"),
            ("data.split", "fess=kfold:3:0,vocalfolds=loo:patient2"),
            ("data.group_by", "fess=procedure,vocalfolds=sequence"),
        ],
    )
    assert config.data.path == ("a", "b/c") and config.data.weights == (1.0, 2.5)
    assert config.optim.lr == 1e-4 and config.train.steps == 8 and config.name == "x"
    assert config.model.remat is True and config.train.tensorboard is False
    assert config.tasks == ("report",) and config.model.image_encoder.mean == (0.1, 0.2, 0.3)
    assert load_config("vlm:micro", {"data.path": ""}).data.path == ()


@pytest.mark.parametrize(
    ("key", "raw", "says"),
    [
        ("data.imagesize", "3", "did you mean 'data.image_size'"),
        ("lr", "3", "did you mean 'optim.lr'"),
        ("modle.dtype", "float32", "did you mean 'model.dtype'"),
        ("qqq", "1", "unknown config key 'qqq'; "),
        ("data", "3", "is a section"),
        ("optim.lr", "fast", "expects float, got 'fast'"),
        ("optim.lr", "nan", "finite"),
        ("optim.lr", "0", "must be above 0"),
        ("train.steps", "1.5", "expects int"),
        ("train.steps", "0", "at least 1"),
        ("model.remat", "maybe", "true or false"),
        ("model.image_encoder.mean", "1,2", "list of 3 float"),
        ("model.image_encoder.std", "0.1,0,0.1", "above 0"),
        ("augment.rotate", "20", "from 0 to 10"),
        ("model.fusion", "cross_atention", "did you mean 'cross_attention'"),
        ("loss.landmarks", "cb", "class_balanced"),
        ("model.dtype", "float16", "must be one of auto"),
        ("tasks", "", "one or more of"),
        ("tasks", "report,report", "each once"),
        ("tasks", "reports", "did you mean 'report'"),
        ("eval.contexts", "golden", "did you mean 'gold'"),
        ("eval.select", "f1", "must be loss"),
        ("data.split", "kfold:3:3", "0 <= I < N"),
        ("data.split", "kfold:1:0", "N >= 2"),
        ("data.split", "kfold:3", "kfold:N:I, loo:ID or list:FILE"),
        ("data.split", "fess=kfold:3:0,loo", "source=rule"),
        ("data.group_by", "patent", "did you mean 'patient'"),
        ("data.image_size", "30", "divisible by model.image_encoder.patch (8)"),
        ("model.text_encoder.heads", "3", "divisible by model.text_encoder.heads (3)"),
        ("optim.accumulate", "3", "divisible by optim.accumulate (3)"),
        ("data.target_length", "65", "model.decoder.positions (64)"),
        ("data.prompt_length", "129", "model.text_encoder.positions (128)"),
        ("data.weights", "0", "one positive weight"),
        ("optim.freeze", "(", "not a regular expression"),
        ("parallel.fsdp", "0", "-1 (what is left)"),
        ("parallel.fsdp", "-1", "only one of"),
        ("parallel.coordinator", "host", "HOST:PORT"),
        ("seed", "-1", "from 0"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(key, raw, says):
    with pytest.raises(UserError) as caught:
        load_config("configs/vlm.py:micro", {key: raw})
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_rules_between_keys_that_no_single_override_breaks():
    for overrides, says in (
        ({"model.no_image": "1", "model.no_text": "1"}, "see nothing"),
        ({"model.remat_keep": "products"}, "no effect without remat"),
        ({"tasks": "report", "loss.report_weight": "0"}, "nothing would be learned"),
        ({"parallel.num_processes": "2", "parallel.process_id": "2"}, "below parallel.num_processes"),
        ({"data.path": "a,b", "data.weights": "1,-1"}, "one positive weight for each"),
    ):
        with pytest.raises(UserError, match=says):
            load_config("vlm:micro", overrides)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("configs/vlm.py:ligt", "did you mean 'light'"),
        ("configs/vlm.py:tiny,no_txt", "did you mean 'no_text'"),
        ("configs/vlm.py:tiny,tasks=describe+reprt", "did you mean 'report'"),
        ("configs/vml.py:light", "did you mean 'configs/vlm.py'"),
        ("nowhere/vlm.py", "no config file"),
        ("nowhere/config.json", "no settings at"),
    ],
)
def test_a_wrong_spec_suggests_the_right_one(spec, says):
    with pytest.raises(UserError, match=says):
        load_config(spec)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = (", "line 1"),
        ("y = 1", "no function get_config"),
        ("def get_config(arg):\n    return None", "must return a ConfigDict, got NoneType"),
        ("def get_config(arg):\n    return {}[arg]", r"in line 2: KeyError: 'a'"),
        ("def get_config(arg):\n    return {'data': 3}", "is a section"),
        ("def get_config(arg):\n    return {'seed': True}", "expects int, got True"),
        ("def get_config(arg):\n    return {'model': {'decoder': {'layer': 1}}}", "model.decoder.layers"),
    ],
)
def test_a_broken_config_file_is_named_with_its_line(tmp_path, source, says):
    path = tmp_path / "own.py"
    path.write_text(source)
    with pytest.raises(UserError, match=says):
        load_config(f"{path}:a")


def test_an_own_config_file_goes_before_the_packaged_one(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "vlm.py").write_text("def get_config(arg):\n    return {'name': arg, 'seed': 5}")
    monkeypatch.chdir(tmp_path)
    config = load_config("configs/vlm.py:mine")
    assert (config.name, config.seed) == ("mine", 5)
    (tmp_path / "configs" / "vlm.py").unlink()
    assert load_config("configs/vlm.py:tiny").name == "tiny"


def test_files_that_are_not_settings(tmp_path):
    path = tmp_path / "config.json"
    for text, says in (("{", "not JSON"), ("[]", "holds no settings"), ('{"seeds": 1}', "did you mean 'seed'")):
        path.write_text(text)
        with pytest.raises(UserError, match=says):
            read(path)
    odd = tmp_path / "settings.txt"
    odd.write_text("seed = 1")
    with pytest.raises(UserError, match=r"must end in \.py"):
        load_config(str(odd))


def test_a_disk_that_fills_leaves_the_old_settings_and_no_part(tmp_path):
    """The limit on a file's size stands for the end of the disk: the system really writes a part, then refuses."""
    path = tmp_path / "config.json"
    config = load_config("vlm:micro")
    dump(config, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError) as refused:
            dump(dataclasses.replace(config, seed=7), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.errno == errno.EFBIG
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"] and read(path) == config


def test_only_a_pair_of_brackets_is_taken_off_a_list():
    def parsed(raw):
        return values.parse("data.path", raw)

    assert parsed("(a,b)") == parsed("[a, b]") == parsed(" a,b ") == parsed("('a', 'b')") == ("a", "b")
    assert parsed("runs/a (old),runs/b [new]") == ("runs/a (old)", "runs/b [new]")
    assert parsed("(a],b") == ("(a]", "b") and parsed("a)") == ("a)",) and parsed("(") == ("(",)
    assert parsed("()") == parsed("") == ()


def test_diff_names_the_keys_that_differ():
    a = load_config("vlm:micro")
    b = load_config("vlm:micro", {"train.steps": "9", "optim.lr": "0.5"})
    assert diff(a, b) == ["optim.lr", "train.steps"] and diff(a, a) == []


def test_rules_cover_the_schema_and_agree_with_the_contract():
    numbers = {key for key, kind in values.leaves().items() if kind in (int, float)}
    free = {"parallel.data", "parallel.fsdp", "parallel.tensor"}  # -1 or at least 1: a rule of their own
    assert numbers - set(BOUNDS) == free
    assert set(CHOICES) | set(LISTS) | set(BOUNDS) <= set(values.leaves())
    assert TASK_NAMES == TASKS and "sequence" in GROUPS
    assert from_dict({}) == Config()


@given(st.floats(min_value=1e-9, max_value=99, allow_nan=False), st.integers(1, 10**6), st.text(max_size=20))
def test_parsing_turns_back_what_it_printed(lr, steps, name):
    assert values.parse("optim.lr", repr(lr)) == lr
    assert values.parse("train.steps", str(steps)) == steps
    assert values.parse("name", name) == name


def test_from_dict_does_not_mix_bools_and_numbers():
    for section, wrong in (("train", {"steps": True}), ("model", {"remat": 1}), ("optim", {"lr": "1"})):
        with pytest.raises(UserError, match="expects"):
            from_dict({section: wrong})
    assert from_dict({"optim": {"lr": 1}}).optim.lr == 1.0
    assert from_dict({"optim": {}}) == Config(), "a section that says nothing"


def test_reading_settings_imports_no_jax(repository):
    code = "import sys, vlm_jax.config.load as l; l.load_config('vlm:tiny'); print('jax' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize(
    "name", ["configs/pretrain/mine.py", "pretrain/mine.py", "pretrain/mine", "configs/pretrain/mine"]
)
def test_presets_may_lie_in_folders(tmp_path, monkeypatch, name):
    (tmp_path / "presets" / "pretrain").mkdir(parents=True)
    (tmp_path / "presets" / "pretrain" / "mine.py").write_text(
        "def get_config(arg):\n    return {'name': 'folder' + arg}"
    )
    monkeypatch.setattr(load, "PRESET_FOLDERS", (tmp_path / "presets",))
    monkeypatch.chdir(tmp_path)
    assert load_config(f"{name}:x").name == "folderx"
    with pytest.raises(UserError, match="did you mean 'configs/pretrain/mine.py'"):
        load_config("configs/pretrain/mnie.py")
    for outside in ("../pretrain/mine.py", "configs/../pretrain/mine", "", ".", "configs"):
        with pytest.raises(UserError, match="no config file"):
            load_config(outside)


def test_presets_are_found_in_a_wheel_too(tmp_path, monkeypatch):
    assert Path(load.__file__).parents[1] / "configs" in load.PRESET_FOLDERS, "where the wheel has them"
    (tmp_path / "vlm.py").write_text("def get_config(arg):\n    return {'name': 'packaged'}")
    monkeypatch.setattr(load, "PRESET_FOLDERS", (tmp_path,))
    monkeypatch.chdir(tmp_path.parent)
    assert load_config("configs/vlm.py").name == "packaged"
