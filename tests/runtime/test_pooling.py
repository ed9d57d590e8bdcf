"""From the vectors of tokens to one, as the files of sentence-transformers say."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modelserver_runtime.backends.pooling import read_pooling
from modelserver_runtime.errors import UnsupportedModel

ROWS = torch.tensor([[1.0, -2.0], [3.0, 4.0], [5.0, 1.0]])
# By hand. Lengths are made 1 afterwards, so that mean and mean_sqrt differ only beside others.
REDUCED = {
    "cls": [1.0, -2.0],
    "max": [5.0, 4.0],
    "mean": [3.0, 1.0],
    "mean_sqrt_len_tokens": [9 / 3**0.5, 3 / 3**0.5],
    "weightedmean": [(1 + 6 + 15) / 6, (-2 + 8 + 3) / 6],
    "lasttoken": [5.0, 1.0],
}
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def folder_with(folder: Path, config: dict, *more: str) -> Path:
    kinds = ["Transformer", "Pooling", *more]
    modules = [
        {"path": f"{index}_{kind}" if index else "", "type": f"sentence_transformers.models.{kind}"}
        for index, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for module in modules[1:]:
        (folder / module["path"]).mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    return folder


def unit(values: list[float]) -> list[float]:
    return torch.nn.functional.normalize(torch.tensor(values), dim=0).tolist()


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("is_named", [True, False])
def test_each_way_to_pool(tmp_path, name, is_named):
    config = {"pooling_mode": name} if is_named else {FLAGS[name]: True}
    pooling = read_pooling(folder_with(tmp_path, config, "Normalize"))
    assert pooling.reduce([ROWS])[0].tolist() == pytest.approx(unit(REDUCED[name]))
    assert pooling.dimensions(2) == 2


def test_several_ways_are_joined_in_one_order(tmp_path):
    flags = dict.fromkeys(reversed(FLAGS.values()), True)
    pooling = read_pooling(folder_with(tmp_path, flags))
    joined = [value for name in REDUCED for value in REDUCED[name]]
    assert pooling.reduce([ROWS])[0].tolist() == pytest.approx(unit(joined))
    assert pooling.dimensions(2) == len(joined)


def test_a_flag_that_is_off_pools_nothing(tmp_path):
    flags = {"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}
    pooling = read_pooling(folder_with(tmp_path, flags))
    assert pooling.reduce([ROWS])[0].tolist() == pytest.approx(unit(REDUCED["lasttoken"]))


def test_texts_of_a_batch_are_pooled_each_by_its_own_length(tmp_path):
    pooling = read_pooling(folder_with(tmp_path, {"pooling_mode": "mean"}))
    alone = [pooling.reduce([rows])[0].tolist() for rows in (ROWS, ROWS[:1])]
    assert pooling.reduce([ROWS, ROWS[:1]]).tolist() == alone


def test_a_dense_layer_comes_behind_what_was_joined(tmp_path):
    flags = {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}
    folder = folder_with(tmp_path, flags, "Dense")
    weight = torch.tensor([[1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 1.0, 0.0]])
    about = {
        "in_features": 4,
        "out_features": 2,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    (folder / "2_Dense" / "config.json").write_text(json.dumps(about))
    save_file({"linear.weight": weight}, folder / "2_Dense" / "model.safetensors")
    pooling = read_pooling(folder)
    # first of all (1, -2), most of all (5, 4)
    assert pooling.reduce([ROWS])[0].tolist() == pytest.approx(unit([1.0 + 8.0, -2.0 + 5.0]))
    assert pooling.dimensions(2) == 2


@pytest.mark.parametrize(
    ("config", "more", "named"),
    [({"pooling_mode": "attention"}, (), "attention"), ({}, ("LSTM",), "LSTM")],
)
def test_what_is_not_known_is_refused(tmp_path, config, more, named):
    with pytest.raises(UnsupportedModel, match=named):
        read_pooling(folder_with(tmp_path, config, *more))
