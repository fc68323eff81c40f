from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image

from vlm_jax.contract import START, LandmarkPrediction
from vlm_jax.data.transforms import decode_image
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.inference import predictor as predictor_module
from vlm_jax.inference.images import load_image
from vlm_jax.inference.notices import notices
from vlm_jax.inference.predictor import Predictor
from vlm_jax.inference.request import Request, make_requests


def test_one_image_gives_a_list_of_one(echo, arrays):
    (prediction,) = Predictor(echo())(arrays[0])
    assert prediction.input == "image[0]"
    septum, polyp = prediction.landmarks
    mean = load_image(arrays[0], "", 8).mean() / 255
    assert septum.name == "fess/septum" and septum.score == pytest.approx(mean, abs=1e-6)
    assert septum.present == (mean >= 0.5) and not septum.abstained and septum.threshold == 0.5
    assert polyp.present is None and polyp.abstained and polyp.threshold is None
    assert prediction.describe.evidence == (("image[0]", None),)
    assert prediction.describe.score == pytest.approx(-1.0)
    json.dumps(prediction.to_json(), allow_nan=False)


def test_a_model_with_places_says_where_things_are(echo, arrays):
    class Marks(echo):
        def predict(self, batch):
            raw = super().predict(batch)
            shares = np.zeros((len(batch.image), 4, 8, 2), np.float32)
            shares[:, 1:3, 2:6, 0] = 0.9
            shares[:, 2, 6, 0] = 0.5
            shares[:, 0, 0, 1] = 0.4  # less than half
            return dataclasses.replace(raw, shares=shares)

    (p,) = Predictor(Marks(thresholds={"fess/septum": 0.0, "fess/polyp": 0.0}))(
        arrays[0], previous="septum", keyword="polyp", current="septum"
    )
    septum, polyp = p.landmarks
    assert septum.box == (0.25, 0.25, 0.875, 0.75) and septum.area == pytest.approx((8 * 0.9 + 0.5) / 32)
    assert polyp.box is None and polyp.area == pytest.approx(0.4 / 32)
    assert p.describe.evidence == (("image[0]", septum.box),), "the sentence names the septum"
    assert p.report.evidence == (("image[0]", None),), "what it names has no place"
    assert p.anticipate.evidence == (("image[0]", None),), "what it names is not in view yet"
    (absent,) = Predictor(Marks(thresholds={"fess/septum": 1.1, "fess/polyp": 0.0}))(arrays[0], previous="septum")
    assert absent.landmarks[0].box and absent.describe.evidence == (("image[0]", None),)
    json.dumps(p.to_json(), allow_nan=False)


def test_a_name_inside_another_name_is_not_named():
    whole = LandmarkPrediction("a/maxillary sinus", 1.0, 0.5, True, box=(0.0, 0.0, 1.0, 1.0))
    opening = LandmarkPrediction("a/opening of maxillary sinus", 1.0, 0.5, True, box=(0.4, 0.4, 0.5, 0.5))
    assert predictor_module._named("Opening of maxillary sinus seen", (whole, opening)) == opening.box
    assert predictor_module._named("the maxillary sinus, opening of maxillary sinus", (whole, opening)) == whole.box


def test_texts_reach_their_prompts_and_no_other(echo, arrays):
    (p,) = Predictor(echo())(arrays[0], keyword="polyp", context="seen", previous="septum", current="meatus")
    assert p.describe.text == "[CLS] septum [SEP] described"
    assert p.anticipate.text == "[CLS] meatus [SEP]"
    assert p.report.text == "[CLS] polyp [SEP] seen [SEP]"
    assert (p.describe.context, p.anticipate.context, p.report.context) == ("gold", "gold", "gold")


def test_without_texts_the_prompts_are_null_and_marked_so(echo, arrays):
    (p,) = Predictor(echo())(arrays[0])
    assert p.describe.text == "[CLS] [NULL] [SEP] described" and p.describe.context == "empty"
    assert p.report is None
    (p,) = Predictor(echo())(arrays[0], context=START, previous=START, keyword="")
    assert p.report.text == "[CLS] [NULL] [SEP] [START] [SEP]" and p.report.context == "gold"
    assert p.describe.text == "[CLS] [START] [SEP] described" and p.describe.context == "gold"
    (p,) = Predictor(echo())(arrays[0], keyword="polyp")
    assert p.report.text == "[CLS] polyp [SEP] [NULL] [SEP]" and p.report.context == "empty"


def test_anticipate_reads_the_models_own_description_where_none_is_given(echo, arrays):
    system = echo()
    first, second = Predictor(system)(arrays[:2], previous="left", current=["right", None])
    assert first.anticipate.text == "[CLS] right [SEP]" and first.anticipate.context == "gold"
    assert second.anticipate.context == "rolled_out"
    assert second.anticipate.text.startswith("[CLS]") and "left" in second.anticipate.text
    assert len(system.batches) == 2
    Predictor(system)(arrays[:2], current="right")
    assert len(system.batches) == 3, "nothing to roll out, nothing to compute twice"


def test_tasks_that_the_checkpoint_lacks_are_none(echo, arrays):
    (p,) = Predictor(echo(tasks=("landmarks",)))(arrays[0], keyword="polyp")
    assert p.landmarks is not None and (p.describe, p.anticipate, p.report) == (None, None, None)
    (p,) = Predictor(echo(tasks=("anticipate", "report")))(arrays[0])
    assert p.landmarks is None and p.describe is None
    assert p.anticipate.text == "[CLS] [NULL] [SEP]" and p.anticipate.context == "empty"


def test_text_thresholds_make_the_model_abstain(echo, arrays):
    thresholds = {"fess/septum": 0.5, "fess/polyp": 0.5, "describe": -1.2}
    sure, unsure = Predictor(echo(thresholds=thresholds))(arrays[:2])
    assert not sure.describe.abstained and unsure.describe.abstained
    assert sure.describe.threshold == -1.2 and sure.anticipate.threshold is None


@pytest.mark.parametrize("n", [1, 3, 4, 5])
def test_uneven_batches_are_padded_to_one_shape(echo, arrays, n):
    system = echo()
    images = (arrays * 2)[:n]
    padded = Predictor(system, batch_size=3)(images, current="meatus")
    assert {b.image.shape for b in system.batches} == {(3, 1, 8, 8, 3)}
    assert [b.valid.sum() for b in system.batches] == [3] * (n // 3) + ([n % 3] if n % 3 else [])
    assert (system.batches[-1].uid == -1).sum() == (-n) % 3
    single = [Predictor(echo(), batch_size=1)(image, current="meatus")[0] for image in images]
    assert [p.landmarks for p in padded] == [p.landmarks for p in single]
    assert [p.input for p in padded] == [f"image[{i}]" for i in range(n)]


@pytest.mark.parametrize(("n", "shapes"), [(1, [1]), (2, [2]), (3, [4]), (6, [4, 2])])
def test_without_a_batch_size_the_batch_fits_the_images(echo, arrays, n, shapes):
    system = echo()
    Predictor(system)(arrays[:n], current="x")
    assert [len(b.image) for b in system.batches] == shapes


def test_an_odd_evaluation_batch_is_never_exceeded(echo, arrays):
    system = echo(eval_batch=3)
    Predictor(system)(arrays[:3], current="x")
    assert [len(b.image) for b in system.batches] == [3]


def test_paths_pil_and_arrays_mean_the_same(echo, arrays, folder):
    path = folder / "b.png"
    with Image.open(path) as pil:
        inputs = [path, str(path), pil, arrays[0]]
        results = Predictor(echo())(inputs)
    assert len({p.landmarks for p in results}) == 1
    assert [p.input for p in results] == [str(path), str(path), "image[2]", "image[3]"]
    np.testing.assert_array_equal(load_image(arrays[0], "", 8), decode_image(path, 8))
    stacked = Predictor(echo())(np.stack(arrays[:2]))
    assert len(stacked) == 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_pil_modes_of_eight_bits_are_read(mode):
    assert load_image(Image.new(mode, (5, 4)), "x", 8).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4), np.uint8), "uint8[4, 4]; expected uint8[H, W, 3]"),
        (np.zeros((4, 4, 3), np.float32), "float32[4, 4, 3]"),
        (np.zeros((0, 4, 3), np.uint8), "uint8[0, 4, 3]"),
        (Image.new("CMYK", (4, 4)), "mode CMYK"),
        (Image.new("I;16", (4, 4)), "mode I;16"),
        (Image.new("RGB", (0, 5)), "0 x 5 pixels"),
        (b"bytes", "a bytes; expected a path"),
        (None, "a NoneType"),
    ],
)
def test_what_is_no_image_is_one_line(image, said):
    with pytest.raises(UserError) as error:
        load_image(image, "image[3]", 8)
    assert str(error.value).startswith("image[3]: ") and said in str(error.value) and "\n" not in str(error.value)


def test_an_opened_image_may_be_given_twice(echo, tmp_path):
    """Pillow reads it when its pixels are first asked for, which two threads must not do at once."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    wanted = Predictor(echo())([noise])[0].landmarks
    for _ in range(5):
        with Image.open(tmp_path / "a.png") as image:
            assert {p.landmarks for p in Predictor(echo())([image] * 4)} == {wanted}


def test_a_closed_image_is_one_line(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(UserError, match="one that was closed"):
        load_image(image, "x", 8)


def test_a_damaged_file_behind_a_pil_image_is_one_line(bad_images):
    with Image.open(bad_images.paths["truncated"]) as image, pytest.raises(UserError, match="truncated"):
        load_image(image, "x", 8)


def test_bad_images_raise_or_are_handed_over(echo, arrays, bad_images):
    for what, path in bad_images.paths.items():
        with pytest.raises(UserError, match=what) as error:
            Predictor(echo())([arrays[0], path])
        assert str(path) in str(error.value) and "\n" not in str(error.value)

    requests = make_requests([arrays[0], *bad_images.paths.values(), arrays[1]])
    bad = []
    good = list(Predictor(echo(), batch_size=3).stream(requests, lambda request, error: bad.append(request.name)))
    assert [p.input for p in good] == ["image[0]", "image[7]"]
    assert bad == [str(p) for p in bad_images.paths.values()]


def test_a_machines_fault_is_never_skipped(echo, arrays, monkeypatch):
    def vanish(*_):
        raise EnvironmentFault("the mount is gone")

    monkeypatch.setattr(predictor_module, "load_frames", vanish)
    with pytest.raises(EnvironmentFault, match="gone"):
        list(Predictor(echo()).stream(make_requests(arrays[0]), lambda *_: None))


def test_stream_is_lazy(echo, arrays):
    taken = []

    def requests():
        for i in range(100):
            taken.append(i)
            yield Request(arrays[0], str(i))

    stream = Predictor(echo(), batch_size=2).stream(requests())
    assert next(stream).input == "0" and len(taken) == 2


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"keyword": ["a"]}, "keyword has 1 texts for 2 images"),
        ({"context": ["a", 3]}, r"image\[1\]: context is a int; expected a string or None"),
        ({"keyword": 5}, "keyword is a int; expected a string, or a list"),
        ({"keyword": "nez bouch\udce9"}, "keyword holds half of a character"),
        ({"before": np.zeros((2, 4, 4, 3), np.uint8)}, "before is a ndarray; give a list"),
        ({"before": ["a.jpg", "b.jpg"]}, "before is a str; give a list of frames for each image"),
    ],
)
def test_texts_that_do_not_fit_the_images(echo, arrays, texts, said):
    with pytest.raises(UserError, match=said):
        Predictor(echo())(arrays[:2], **texts)


def test_a_blank_text_is_none_and_a_start_is_one_however_it_is_written(echo, arrays):
    plain, blank = (Predictor(echo())(arrays[0], previous=text, keyword=text)[0] for text in (None, "  "))
    assert blank == plain and blank.report is None
    starts = [Predictor(echo())(arrays[0], previous=text)[0] for text in ("[START]", " [start]")]
    assert starts[0] == starts[1] and starts[0].describe.text.startswith("[CLS] [START]")


def test_texts_that_lose_their_beginning_are_counted(echo, arrays):
    requests = make_requests([*arrays[:2]], previous=["septum " * 39, "septum"], context="polyp")
    (line,) = notices(echo(), requests)
    assert line.startswith("1 of 2 inputs have a text that is too long: the last 40 tokens")


def test_keywords_that_nobody_taught_are_named(echo, arrays):
    system = echo()
    system.meta = {"sources": {"a": {"keywords": ["decongestion", "Wound care"]}, "b": {}}}
    (line,) = notices(system, make_requests([*arrays[:2]], keyword=["decongestoin", "wound care"]))
    assert line.startswith(
        "'decongestoin' (did you mean 'decongestion'?): not among the 2 keywords of the training data"
    )
    assert not list(notices(system, make_requests([*arrays[:2]], keyword=[None, "Decongestion"])))


@pytest.mark.parametrize("size", [0, 2.5, "4"])
def test_batch_size_must_be_positive(echo, size):
    with pytest.raises(UserError, match="at least 1"):
        Predictor(echo(), batch_size=size)


@pytest.mark.parametrize("other", ["a.jpg", None, np.zeros((4, 4, 3), np.uint8)])
def test_a_stream_of_something_else_is_one_line(echo, other):
    says = f"stream got a {type(other).__name__}; expected vlm_jax.inference.request.Request"
    with pytest.raises(UserError, match=says):
        list(Predictor(echo(), batch_size=np.int64(2)).stream([other]))


def test_no_images_give_no_predictions(echo):
    assert Predictor(echo())([]) == []


def test_names_of_paths():
    assert [r.name for r in make_requests([Path("a/b.png"), "c.png", epath.Path("d.png")])] == [
        "a/b.png",
        "c.png",
        "d.png",
    ]
    with pytest.raises(UserError, match=r"a.*b.png'?: no path that a disk can hold"):
        load_image("a\0b.png", "a\0b.png", 8)
    with pytest.raises(UserError, match="gs://x/y.jpg is remote"):
        load_image("gs://x/y.jpg", "gs://x/y.jpg", 8)
