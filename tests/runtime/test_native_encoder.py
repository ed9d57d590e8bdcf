"""The encoder of our own computes what transformers computes, and each text by itself."""

import gc
import time
from pathlib import Path

import pytest
import torch
import transformers

from modelserver_runtime.artifacts import Phase, Progress
from modelserver_runtime.backends.base import EmbeddingItem
from modelserver_runtime.backends.detection import identify
from modelserver_runtime.backends.embedder import Embedder
from modelserver_runtime.backends.loading import LoadOptions
from modelserver_runtime.backends.native.encoder import Encoder
from modelserver_runtime.backends.native.encoder_weights import PackedEncoder, objection
from modelserver_runtime.backends.registry import load_model
from modelserver_runtime.settings import Dtype, Task
from support import tiny_models
from support.native_engine import needs_native_engine

pytestmark = needs_native_engine

VOCABULARY = 200
LONGEST = 256
# Parts of a tile of rows, of a panel of keys and of a piece of a product, and whole ones.
LENGTHS = (1, 2, 3, 11, 12, 13, 15, 16, 17, 33, 192, 193, LONGEST)
KINDS = {
    "bert": (transformers.BertModel, {}),
    "bert with gelu by tanh": (transformers.BertModel, {"hidden_act": "gelu_new"}),
    "bert with relu": (transformers.BertModel, {"hidden_act": "relu"}),
    "wide heads": (transformers.BertModel, {"num_attention_heads": 1}),
    "roberta": (transformers.RobertaModel, {"pad_token_id": 1}),
    "xlm-roberta": (transformers.XLMRobertaModel, {"pad_token_id": 0}),
    "camembert": (transformers.CamembertModel, {"pad_token_id": 1}),
    "mpnet": (transformers.MPNetModel, {"pad_token_id": 1}),
    "distilbert": (
        transformers.DistilBertModel,
        {"dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 2},
    ),
}
REFUSED = {
    "ElectraModel is not one of": (transformers.ElectraModel, {}),
    "its heads are 16": (transformers.BertModel, {"num_attention_heads": 4}),
    "inner layers 40 wide": (transformers.BertModel, {"intermediate_size": 40}),
    "its activation is silu": (transformers.BertModel, {"hidden_act": "silu"}),
    "do not see those after": (transformers.BertModel, {"is_decoder": True}),
}


def text_of(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()


def model_of(folder: Path, kind, **options) -> transformers.PreTrainedModel:
    path = tiny_models.wide_encoder(folder / "model", kind, **options)
    return transformers.AutoModel.from_pretrained(path, dtype=torch.float32).eval()


@torch.inference_mode()
def reference(model: transformers.PreTrainedModel, text: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([text])).last_hidden_state[0]


def loaded(path: Path, *, task: str = "Auto", dtype: Dtype = Dtype.AUTO):
    options = LoadOptions(directory=path, name="tiny", threads=2, dtype=dtype)
    progress = Progress(phase=Phase.LOADING, clock=time.monotonic)
    return load_model(options, identify(path, task), progress)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> PackedEncoder:
    return PackedEncoder(model_of(tmp_path_factory.mktemp("encoder"), transformers.BertModel))


@pytest.mark.parametrize("name", KINDS)
def test_tokens_have_the_vectors_that_transformers_computes(tmp_path, name):
    kind, options = KINDS[name]
    # Weights so large that attention is not nearly the same for all tokens.
    model = model_of(tmp_path, kind, initializer_range=0.2, **options)
    texts = [text_of(length, seed=length) for length in LENGTHS]
    assert objection(model) == ""
    found = Encoder(PackedEncoder(model), threads=2, longest=LONGEST).vectors(texts)
    for vectors, text in zip(found, texts, strict=True):
        expected = reference(model, text)
        assert vectors.shape == expected.shape
        # Factors of 8 bits: about 0.002. Without the least of what a layer adds (in MPNet, how near
        # tokens are) it is 0.008, with another scale of scores 0.012, without a bias 0.05 and more.
        assert ((vectors - expected).norm() / expected.norm()).item() < 0.005


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_text_has_the_same_bits_alone_and_among_others(packed, threads):
    alone = Encoder(packed, threads=1, longest=LONGEST)
    among = Encoder(packed, threads=threads, longest=LONGEST)
    texts = [text_of(length, seed=length) for length in (*LENGTHS * 4, 7)]
    assert sum(map(len, texts)) > 2 * 1024, "it takes several calls"
    for text, vectors in zip(texts, among.vectors(texts), strict=True):
        assert torch.equal(vectors, alone.vectors([text])[0])


def test_answers_of_one_batch_are_not_touched_by_the_next(packed):
    encoder = Encoder(packed, threads=2, longest=LONGEST)
    first = encoder.vectors([text_of(20, seed=1)])[0]
    before = first.clone()
    encoder.vectors([text_of(20, seed=2)])
    assert torch.equal(first, before)


def test_threads_end_with_the_encoder(packed):
    gc.collect()  # what earlier tests have left
    encoder = Encoder(packed, threads=4, longest=LONGEST)
    encoder.vectors([text_of(5)])
    before = threads()
    encoder.close()
    assert threads() == before - 3
    other = Encoder(packed, threads=4, longest=LONGEST)
    assert threads() == before
    del other
    gc.collect()
    assert threads() == before - 3


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize("reason", REFUSED)
def test_what_it_cannot_compute_is_said(tmp_path, reason):
    kind, options = REFUSED[reason]
    assert reason in objection(model_of(tmp_path, kind, **options))


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_it_computes_embeddings_within_a_thousandth_of_float32(tmp_path, stored):
    path = tiny_models.wide_encoder(tmp_path / "model", dtype=stored)
    native = loaded(path)
    assert (native.description.engine, native.description.engine_reason) == ("native", "")
    texts = [text_of(length, seed=length) for length in LENGTHS]
    model = transformers.AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    expected = torch.stack([reference(model, text).mean(0) for text in texts])
    found = vectors_of(native.backend, texts)
    assert found == pytest.approx(torch.nn.functional.normalize(expected).numpy(), abs=1e-3)


def vectors_of(backend: Embedder, texts: list[list[int]]):
    items = [EmbeddingItem(token_ids=tuple(text)) for text in texts]
    found = [
        torch.frombuffer(bytearray(vector), dtype=torch.float32) for vector in backend.run(items)
    ]
    return torch.stack(found).numpy()


@pytest.mark.parametrize(
    ("options", "chosen", "reason"),
    [
        ({}, {"dtype": Dtype.FLOAT32}, "the dtype is set to Float32"),
        ({}, {"task": Task.FEATURE_EXTRACTION}, "its answers are the tokens' vectors"),
        ({"num_attention_heads": 4}, {}, "its heads are 16"),
        # Weights so large that attention sees one token or another by the last bits of a score.
        ({"initializer_range": 2.0}, {}, "an element of its vectors differs by"),
    ],
)
def test_otherwise_transformers_computes_it_and_says_why(tmp_path, options, chosen, reason):
    path = tiny_models.wide_encoder(tmp_path / "model", **options)
    description = loaded(path, **chosen).description
    assert description.engine == "transformers"
    assert reason in description.engine_reason
    assert description.dtype == "float32"
