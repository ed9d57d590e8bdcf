"""The operator's configuration from its environment."""

from dataclasses import fields

import pytest

from modelserver_operator.config import PREFIX, OperatorConfig
from modelserver_operator.errors import InvalidConfiguration


def config_from(**settings):
    given = {"RUNTIME_IMAGE": "image", **settings}
    return OperatorConfig.from_environment({PREFIX + k: v for k, v in given.items()})


def test_only_the_image_must_be_set():
    config = config_from()
    assert config == OperatorConfig(runtime_image="image")
    assert config.namespaces == ()


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("NAMESPACES", "a, b,", "namespaces", ("a", "b")),
        ("HUB_ENDPOINT", "http://hub:80/x", "hub_endpoint", "http://hub:80/x"),
        ("ALLOW_FILE_MODELS", "True", "allow_file_models", True),
        ("HISTORY_LIMIT", "0", "history_limit", 0),
        ("RESYNC_SECONDS", "1.5", "resync_seconds", 1.5),
        ("POD_LABELS", "app=x,team=y", "pod_labels", {"app": "x", "team": "y"}),
        ("LOG_LEVEL", "DEBUG", "log_level", "DEBUG"),
        ("NAMESPACE", "", "namespace", "modelserver-system"),  # empty means the default
    ],
)
def test_a_setting_is_read(variable, text, field, value):
    assert getattr(config_from(**{variable: text}), field) == value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"RUNTIME_IMAGE": ""},
            (
                "MODELSERVER_OPERATOR_RUNTIME_IMAGE is not set; give the runtime's image, best with"
                " its digest"
            ),
        ),
        (
            {"RUNTIME_IMAGE": "a b"},
            "MODELSERVER_OPERATOR_RUNTIME_IMAGE is 'a b'; it must be an image reference",
        ),
        (
            {"HUB_ENDPOINT": "huggingface.co"},
            (
                "MODELSERVER_OPERATOR_HUB_ENDPOINT is 'huggingface.co'; it must be an http:// or"
                " https:// URL"
            ),
        ),
        (
            {"CONCURRENCY": "many"},
            "MODELSERVER_OPERATOR_CONCURRENCY is 'many'; it must be a whole number",
        ),
        ({"CONCURRENCY": "0"}, "MODELSERVER_OPERATOR_CONCURRENCY is 0; it must be 1 or more"),
        (
            {"ALLOW_FILE_MODELS": "yes"},
            "MODELSERVER_OPERATOR_ALLOW_FILE_MODELS is 'yes'; it must be true or false",
        ),
        (
            {"POD_LABELS": "app"},
            (
                "MODELSERVER_OPERATOR_POD_LABELS is 'app'; it must be key=value pairs separated by"
                " commas"
            ),
        ),
        (
            {"METRICS_PORT": "70000"},
            "MODELSERVER_OPERATOR_METRICS_PORT is 70000; it must be a port from 1 to 65535",
        ),
        (
            {"LOG_LEVEL": "LOUD"},
            (
                "MODELSERVER_OPERATOR_LOG_LEVEL is 'LOUD'; it must be DEBUG or INFO or WARNING or"
                " ERROR"
            ),
        ),
        (
            {"LEASE_RENEW_SECONDS": "20"},
            (
                "MODELSERVER_OPERATOR_LEASE_DURATION_SECONDS must be greater than"
                " LEASE_RENEW_SECONDS, and that greater than LEASE_RETRY_SECONDS; 15, 10 and 2 are"
                " usual"
            ),
        ),
        (
            {"RUNTIME_IMGAE": "x"},
            "unknown setting MODELSERVER_OPERATOR_RUNTIME_IMGAE; remove it or correct its name",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_what_to_write(settings, message):
    with pytest.raises(InvalidConfiguration) as refused:
        config_from(**settings)
    assert str(refused.value) == message


def test_variables_of_a_service_with_our_name_are_not_ours():
    config_from(SERVICE_HOST="10.0.0.1", SERVICE_PORT_METRICS="9090", PORT="tcp://10.0.0.1:9090")


def test_every_field_is_a_setting():
    settings = {one.name.upper(): "" for one in fields(OperatorConfig)}
    config_from(**{**settings, "RUNTIME_IMAGE": "image"})
