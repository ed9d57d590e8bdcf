"""Which files of a repository make the model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.artifacts import ArtifactPolicy
from modelserver_runtime.artifacts.selection import RemoteFile, select
from modelserver_runtime.errors import ArtifactRefused, StartupFailure, UnsupportedModel

BASE = ["config.json", "model.safetensors"]
PICKLE = ArtifactPolicy(allow_pickle=True)


def chosen(paths, policy=None):
    files = [RemoteFile(path=path, size=1) for path in paths]
    return [
        file.path
        for file in select(files, policy=policy or ArtifactPolicy(), repository="acme/chat")
    ]


KEPT = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
    "additional_chat_templates/tools.jinja",
    "qwen.tiktoken",
    "README.md",
    "LICENSE",
    "1_Pooling/config.json",
    "2_Dense/model.safetensors",
    "model.safetensors.index.json",
]
LEFT = [
    "pytorch_model.bin",
    "pytorch_model-00001-of-00002.bin",
    "tf_model.h5",
    "flax_model.msgpack",
    "model.onnx",
    "onnx/model.onnx",
    "onnx/config.json",
    "openvino/openvino_model.xml",
    "model.Q4_K_M.gguf",
    "rust_model.ot",
    "coreml/model.mlpackage/data",
    "original/consolidated.00.pth",
    "consolidated.safetensors",
    "model.fp16.safetensors",
    "model.fp16-00001-of-00002.safetensors",
    "checkpoint-500/model.safetensors",
    "runs/events.out.tfevents.1",
    "training_args.bin",
    "optimizer.pt",
    "rng_state_0.pth",
    "trainer_state.json",
    "all_results.json",
    ".gitattributes",
    ".github/workflows/ci.yaml",
    "figure.png",
    "modeling_custom.py",
]


@pytest.mark.parametrize("path", KEPT)
def test_what_a_model_is_loaded_from_is_kept(path):
    assert path in chosen([*BASE, path])


@pytest.mark.parametrize("path", LEFT)
def test_duplicates_and_leftovers_stay_behind(path):
    assert chosen([*BASE, path]) == BASE


def test_a_variant_is_taken_when_it_is_all_there_is():
    assert chosen(["config.json", "model.fp16.safetensors"]) == [
        "config.json",
        "model.fp16.safetensors",
    ]


def test_safetensors_win_even_where_pickle_is_allowed():
    assert chosen([*BASE, "pytorch_model.bin"], PICKLE) == BASE


def test_pickle_only_is_refused_without_consent():
    with pytest.raises(ArtifactRefused, match=r"pytorch_model\.bin"):
        chosen(["config.json", "pytorch_model.bin"])


def test_training_state_is_no_weights():
    with pytest.raises(UnsupportedModel, match=r"no .*safetensors weights"):
        chosen(["config.json", "training_args.bin"], PICKLE)


def test_safe_parts_below_do_not_hide_pickled_weights_at_the_top():
    paths = ["config.json", "pytorch_model.bin", "2_Dense/model.safetensors"]
    with pytest.raises(ArtifactRefused):
        chosen(paths)
    assert sorted(chosen(paths, PICKLE)) == sorted(paths)


def test_code_comes_with_consent_only():
    paths = [*BASE, "modeling_custom.py"]
    assert "modeling_custom.py" not in chosen(paths)
    assert "modeling_custom.py" in chosen(paths, ArtifactPolicy(trust_remote_code=True))


@pytest.mark.parametrize(
    "path", ["../a.json", "/etc/a.json", "a/../../b.json", "a\\..\\b.json", "a\0.json"]
)
def test_no_path_leads_out_of_the_directory(path):
    with pytest.raises(ArtifactRefused, match="leads out"):
        chosen([*BASE, path])


names = st.sampled_from(
    [
        "config.json",
        "model",
        "a",
        "..",
        "onnx",
        "x.safetensors",
        "pytorch_model.bin",
        "y.py",
        "README.md",
        "/",
    ]
)


@given(
    st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), unique=True),
    st.booleans(),
    st.booleans(),
)
def test_a_selection_is_part_of_the_repository_and_never_more_than_was_consented_to(
    paths, pickle, code
):
    policy = ArtifactPolicy(allow_pickle=pickle, trust_remote_code=code)
    try:
        selected = chosen(paths, policy)
    except StartupFailure:
        return
    assert set(selected) <= set(paths)
    assert len(selected) == len(set(selected))
    assert code or not [path for path in selected if path.endswith(".py")]
    assert pickle or not [path for path in selected if path.endswith(".bin")]
    assert not [path for path in selected if ".." in path.split("/") or path.startswith("/")]
