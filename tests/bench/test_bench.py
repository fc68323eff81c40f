"""`vlm-jax bench`: figures that come from somewhere, counted operations, peers that must compute the same."""

from __future__ import annotations

import importlib.util
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.bench import data, decode, flops, machine, peers, predict, results, start, timing, train
from vlm_jax.bench.trial import make_trial
from vlm_jax.cli import main
from vlm_jax.config.load import load_config
from vlm_jax.errors import UserError

MICRO = "configs/vlm.py:micro"


@pytest.fixture(scope="module")
def micro():
    return load_config(MICRO, [("train.batch_size", "4")])


# --- Counting --------------------------------------------------------------------------------------------------------


def test_products_and_convolutions_are_counted_two_a_multiply_add():
    a, b = jnp.zeros((3, 5, 7)), jnp.zeros((3, 7, 11))
    assert flops.count(jnp.matmul, a, b) == 2 * 3 * 5 * 7 * 11
    image, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 4))

    def convolve(x, k):
        return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert flops.count(convolve, image, kernel) == 2 * (2 * 8 * 8 * 4) * (3 * 3 * 3)
    assert flops.count(lambda x: jnp.exp(x) + x, a) == 0


def test_a_scan_counts_as_often_as_it_runs_and_a_branch_once():
    a = jnp.zeros((4, 4))
    once = 2 * 4**3
    assert flops.count(lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=5)[0], a) == 5 * once
    assert flops.count(lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: y @ y, lambda y: y, x), a) == once
    assert flops.count(jax.jit(lambda x: jax.jit(jnp.matmul)(x, x)), a) == once


@pytest.mark.parametrize("spec", [f"{MICRO},tasks=landmarks", pytest.param(MICRO, marks=pytest.mark.slow)])
def test_a_step_gets_no_credit_for_rematerialisation(spec):
    plain = make_trial(load_config(spec, [("train.batch_size", "4")]))
    again = load_config(spec, [("train.batch_size", "4"), ("model.remat", "true"), ("model.scan_layers", "true")])
    counted = plain.flops(train=True)
    assert make_trial(again).flops(train=True) == counted
    assert 2.5 < counted / plain.flops(train=False) < 3.2


# --- Timing ----------------------------------------------------------------------------------------------------------


def test_calls_take_turns_and_each_begins_equally_often():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = timing.interleave(calls, rounds=2, warmup=1)
    assert order == ["a", "b", "a", "b", "b", "a"]
    assert seconds["a"].wall.shape == seconds["a"].cpu.shape == (2,)


def test_a_ratio_is_of_medians_with_the_spread_of_rounds():
    ours, theirs = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([2.0, 2.0, 2.0, 2.0, 2.0])
    assert timing.ratio(ours, theirs) == {"median": 1.5, "low": 1.0, "high": 2.0}
    assert timing.summary(ours)["median"] == 3.0


# --- Jobs ------------------------------------------------------------------------------------------------------------


def test_train_measures_and_says_where(tmp_path):
    config = load_config(f"{MICRO},tasks=landmarks", [("train.batch_size", "4")])
    found = train.measure(config, steps=3, warmup=1, peers=[])
    results.write(found, tmp_path / "deep" / "result.json")
    read = json.loads((tmp_path / "deep" / "result.json").read_text())
    (row,) = read["rows"]
    assert read["kind"] == "train" and row["seconds"]["n"] == 3
    assert row["examples_per_second"] == pytest.approx(4 / row["seconds"]["median"])
    assert row["flops_per_second"] == pytest.approx(read["setting"]["counted_flops"] / row["seconds"]["median"])
    assert row["predicted_peak_bytes"] > 0
    assert read["machine"]["cores"] >= 1 and read["versions"]["jax"] == jax.__version__
    assert "train: config micro" in results.lines(read)[0]


def test_decode_and_predict_measure(micro):
    rows = {row["name"]: row for row in decode.measure(micro, rounds=2, warmup=1, peers=[], beams=(2,))["rows"]}
    assert rows["vlm-jax, 2 beams"]["over_greedy"] > 0
    assert rows["vlm-jax"]["texts_per_second"] == pytest.approx(12 / rows["vlm-jax"]["seconds"]["median"])
    names = [row["name"] for row in predict.measure(micro, rounds=2, warmup=1)["rows"]]
    assert names == ["vlm-jax, labels", "vlm-jax, labels and texts"]


def test_data_measures_decoding_beside_a_peer(micro, repository):
    peer = f"{repository / 'benchmarks' / 'peers' / 'input.py'}:pil"
    rows = {row["name"]: row for row in data.measure(micro, rounds=2, warmup=0, peers=[peer], n_images=4)["rows"]}
    assert set(rows) == {"vlm-jax", "vlm-jax, raw pixels", "Pillow"}
    assert rows["Pillow"]["ours_over_this"]["median"] > 0


@pytest.mark.slow
def test_start_times_fresh_processes(micro):
    cold, warm = start.measure(micro, rounds=1)["rows"]
    for row in (cold, warm):
        assert 0 < row["imported"] < row["built"] < row["compiled"] < row["first_step"]
        assert row["save_blocks"] > 0


def test_the_page_has_what_the_files_say(repository):
    path = repository / "benchmarks" / "tables.py"
    spec = importlib.util.spec_from_file_location("tables", path)
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert tables.render(tables.PAGE.read_text()) == tables.PAGE.read_text(), "run python benchmarks/tables.py"


# --- Peers -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_torch_gives_the_same_logits_and_tokens(micro, repository):
    spec = f"{repository / 'benchmarks' / 'peers' / 'torch_vlm.py'}:eager"
    row = train.measure(micro, steps=1, warmup=1, peers=[spec])["rows"][1]
    assert row["greatest_difference"] < 1e-5
    row = decode.measure(micro, rounds=1, warmup=0, peers=[spec], beams=())["rows"][1]
    assert row["same_tokens"] == 1.0


def test_a_peer_that_computes_something_else_is_refused(micro, tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text(
        "from vlm_jax.bench.peers import Peer\n"
        "def make_peer(kind, variant, trial):\n"
        "    import numpy as np\n"
        "    return Peer('wrong', lambda: None, lambda: np.ones((4, trial.n_landmarks)))\n"
    )
    with pytest.raises(UserError, match="wrong computes something else"):
        train.measure(micro, steps=1, warmup=0, peers=[f"{file}:x"])
    (tmp_path / "notes.txt").touch()
    for nothing in ("nowhere.py:x", f"{tmp_path / 'notes.txt'}:x"):
        with pytest.raises(UserError, match="no Python file"):
            peers.load_peers([nothing], "train", None)
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UserError, match="no function make_peer"):
        peers.load_peers([f"{tmp_path / 'empty.py'}:x"], "train", None)
    (tmp_path / "needs.py").write_text("import package_that_is_not_there\n")
    with pytest.raises(UserError, match="needs the package package_that_is_not_there"):
        peers.load_peers([f"{tmp_path / 'needs.py'}:x"], "train", None)


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes(tmp_path, capsys):
    words = ["bench", "data", "--config", MICRO, "--steps", "1", "--warmup", "0", "--out", str(tmp_path / "data.json")]
    assert main(words) == 0
    assert "images_per_second" in capsys.readouterr().out
    assert json.loads((tmp_path / "data.json").read_text())["format"] == results.FORMAT
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "data"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["train", "--steps", "0"], "expected at least 1"),
        (["decode", "--beams", "1"], "widths of at least 2"),
        (["decode", "--config.tasks=landmarks"], "needs a task with texts"),
        (["decode", "--beams", "x"], "widths of at least 2"),
        (["train", "--config.loss.landmarks=class_balanced"], "bench runs system=vlm"),
        (["everything"], "invalid choice"),
        (
            ["predict", "--peer", "a.py:b"],
            "--peer means nothing to `vlm-jax bench predict`: it is of train, decode, data",
        ),
        (["decode", "--forward"], "it is of train"),
        (["train", "--beams", "4"], "it is of decode"),
        (["start", "--warmup", "1"], "--warmup means nothing"),
    ],
)
def test_mistakes_are_one_line(flags, said, capsys):
    assert main(["bench", *flags, "--config", MICRO]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_flags_hold_no_path(monkeypatch):
    monkeypatch.setenv("JAX_TRACEBACK_FILTERING", "off")
    monkeypatch.setenv("XLA_DUMP", "/somewhere")
    found = machine.describe()["flags"]
    assert found["JAX_TRACEBACK_FILTERING"] == "off" and "XLA_DUMP" not in found


@pytest.mark.parametrize(("wrong", "refused"), [(0, False), (1, False), (4, True)])
def test_a_peer_that_writes_other_words_is_refused(wrong, refused):
    """However near its ids are to ours."""
    tokens = np.full((40, 1, 3), 20_000)
    theirs = tokens.copy()
    theirs[:wrong] += 1
    peer = SimpleNamespace(name="peer", outputs=lambda: theirs)
    if refused:
        with pytest.raises(UserError, match="90% of its first tokens are ours"):
            decode.check_tokens(peer, tokens)
    else:
        assert decode.check_tokens(peer, tokens) == 1 - wrong / 40


def test_a_folder_for_a_result_is_one_line_before_anything_is_timed(tmp_path, capsys):
    assert main(["bench", "train", "--config", "configs/vlm.py:micro", "--out", str(tmp_path)]) == 2
    assert "is a folder: give a file" in capsys.readouterr().err
