"""What there is to compute with is told with reasons, and a named device is used or refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from modelserver_runtime.app.loader import load
from modelserver_runtime.artifacts import Progress
from modelserver_runtime.backends import hardware_accelerators
from modelserver_runtime.backends.base import EmbeddingItem, TaskItem
from modelserver_runtime.backends.hardware import Device
from modelserver_runtime.backends.hardware_choice import choose
from modelserver_runtime.backends.hardware_detection import detected
from modelserver_runtime.backends.hardware_processor import instruction_sets, processor
from modelserver_runtime.errors import InvalidConfiguration, UnsupportedModel
from support.runtime_server import settings_for

pytestmark = pytest.mark.slow

FOUND = (
    Device(kind="cuda", name="cuda", reason="there is no device, or no driver for it"),
    Device(kind="xpu", name="xpu:0"),
    Device(kind="xpu", name="xpu:1"),
    Device(kind="openvino", name="openvino:CPU"),
    Device(kind="openvino", name="openvino:GPU"),
    Device(kind="qnn", name="qnn", reason="no backend of this runtime computes with QNN"),
    Device(kind="cpu", name="cpu"),
)
ORDER = ("cuda", "xpu", "cpu")


@pytest.mark.parametrize(
    ("wanted", "order", "chosen"),
    [
        ("Auto", ORDER, "xpu:0"),
        ("Auto", ("cuda", "cpu", "xpu"), "cpu"),
        ("Auto", ("openvino", "cpu"), "openvino:CPU"),
        ("Auto", ("openvino:GPU", "cpu"), "openvino:GPU"),
        ("xpu", ORDER, "xpu:0"),
        ("xpu:1", ORDER, "xpu:1"),
        ("openvino:GPU", ORDER, "openvino:GPU"),
        ("cpu", (), "cpu"),
    ],
)
def test_a_named_device_is_used_and_auto_takes_the_first_that_is_usable(wanted, order, chosen):
    assert choose(wanted, order, FOUND, may_fall_back=False).name == chosen


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("cuda", "there is no device, or no driver for it"),
        ("cuda:1", "there is no device, or no driver for it"),
        ("xpu:7", "there is no such device; there are xpu:0, xpu:1"),
        ("qnn", "no backend of this runtime computes with QNN"),
    ],
)
def test_a_named_device_that_is_unusable_is_refused_or_replaced_where_allowed(
    wanted, reason, caplog
):
    with pytest.raises(InvalidConfiguration) as refused:
        choose(wanted, ORDER, FOUND, may_fall_back=False)
    assert refused.value.message == f"The device {wanted} cannot be used: {reason}"
    assert "Usable are xpu:0, xpu:1, openvino:CPU, openvino:GPU, cpu" in refused.value.hint
    assert choose(wanted, ORDER, FOUND, may_fall_back=True).name == "xpu:0"
    assert f"{wanted} cannot be used: {reason}; taking the next" in caplog.text


def test_an_order_without_a_usable_device_says_why_for_each():
    with pytest.raises(InvalidConfiguration, match=r"cuda: there is no device.*; qnn: no backend"):
        choose("Auto", ("cuda", "qnn"), FOUND, may_fall_back=True)


def test_a_device_that_cannot_serve_the_task_is_the_models_problem():
    def objection(device: Device) -> str:
        return "not this task" if device.kind == "openvino" else ""

    with pytest.raises(UnsupportedModel, match="openvino cannot be used: not this task"):
        choose("openvino", ORDER, FOUND, may_fall_back=False, objection=objection)
    order = ("openvino", "cpu")
    assert choose("Auto", order, FOUND, may_fall_back=False, objection=objection).name == "cpu"


def test_every_kind_is_told_found_or_not_with_a_reason():
    kinds = {device.kind for device in detected()}
    assert kinds == {"cuda", "rocm", "xpu", "mps", "openvino", "qnn", "cpu"}
    for device in detected():
        assert device.is_usable == (device.reason == "")
        assert json.loads(json.dumps(device.as_json()))["name"] == device.name
    usable = {device.name for device in detected() if device.is_usable}
    assert {"cpu", "openvino:CPU"} <= usable


def test_a_driver_that_does_not_answer_is_a_reason_and_no_crash(monkeypatch):
    def broken() -> bool:
        raise RuntimeError("CUDA driver initialization failed\nmore")

    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.version.hip", None)
    monkeypatch.setattr("torch.cuda.is_available", broken)
    [device] = hardware_accelerators.cuda()
    assert device.reason == "CUDA does not answer: CUDA driver initialization failed"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "flags : fpu avx avx2 fma avx512f avx512_bf16 amx_tile amx_bf16",
            "avx avx2 fma avx512f avx512_bf16 amx_tile amx_bf16",
        ),
        ("Features : fp asimd sve i8mm", "neon sve i8mm"),
        ("vendor : nobody", "unknown"),
    ],
)
def test_instruction_sets_have_the_names_that_people_know(tmp_path, line, expected):
    path: Path = tmp_path / "cpuinfo"
    path.write_text(f"processor : 0\nmodel name : Some CPU\n{line}\n")
    [device] = processor(path)
    assert device.details[0] == f"instruction sets: {expected}"
    assert device.description == "Some CPU"
    assert device.is_usable


def test_a_processor_without_known_sets_has_none():
    assert instruction_sets(frozenset({"fpu"})) == ()


def loaded(directory: Path, device: str, **changes: object):
    model = load(settings_for(directory, device=device, **changes), Progress())
    assert model.description.device.startswith(device)
    return model.backend


def test_openvino_embeds_as_torch_does(embedder_directory):
    items = [EmbeddingItem(token_ids=tuple(range(5, 5 + length))) for length in (3, 9, 20)]
    expected, found = (
        [np.frombuffer(vector, "<f4") for vector in loaded(embedder_directory, device).run(items)]
        for device in ("cpu", "openvino")
    )
    for one, other in zip(expected, found, strict=True):
        assert np.abs(one - other).max() < 1e-4


def test_openvino_answers_as_torch_does_and_holds_no_second_copy(classifier_directory):
    plain, compiled = (
        load(settings_for(classifier_directory, device=device), Progress())
        for device in ("cpu", "openvino")
    )
    for text in ("the quick brown fox", "lazy"):
        [expected], [found] = (
            model.backend.run([TaskItem(inputs=text)]) for model in (plain, compiled)
        )
        assert [label["label"] for label in found] == [label["label"] for label in expected]
        scores = [label["score"] for label in expected]
        assert [label["score"] for label in found] == pytest.approx(scores, abs=1e-4)
    assert compiled.description.device == "openvino:CPU"
    assert compiled.description.parameters == plain.description.parameters
    network = compiled.backend._pipeline.model
    held = sum(parameter.untyped_storage().nbytes() for parameter in network.parameters())
    assert held < compiled.description.memory_bytes / 100


def test_openvino_does_not_generate_and_says_so(causal_directory):
    with pytest.raises(UnsupportedModel, match="OpenVINO does not compute TextGeneration here"):
        load(settings_for(causal_directory, device="openvino"), Progress())
    settings = settings_for(causal_directory, device="openvino", device_fallback=True)
    assert load(settings, Progress()).description.device == "cpu"
