"""Quantities as the API server stores them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.quantity import canonical_quantities, canonical_quantity


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (0, "0"),
        (1, "1"),
        (0.5, "500m"),
        ("0.5", "500m"),
        ("1.0", "1"),
        (".5", "500m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("100m", "100m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1500000", "1500k"),
        ("1000M", "1G"),
        ("1.5G", "1500M"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("512Ki", "512Ki"),
        ("1000Ki", "1000Ki"),
        ("0.5Ki", "512"),
        ("0.1Gi", "107374182400m"),
        ("1Ki", "1Ki"),
        ("1Ei", "1Ei"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("100e-3", "100e-3"),
        ("5n", "1m"),
        ("0.1n", "1m"),
        ("1u", "1m"),
        ("0Gi", "0"),
        ("9999999999999Gi", "9223372036854775807"),
        ("1e99", "1e99"),
        ("1e19", "10e18"),
        ("10E", "10E"),
        ("0.0001", "1m"),
        ("1.00001Gi", "1073752561419m"),
    ],
)
def test_a_quantity_has_one_stored_form(written, stored):
    assert canonical_quantity(written) == stored


@pytest.mark.parametrize("text", ["", "Gi", "1Q", "1 Gi", "1.2.3", "one", "1i", "--1", "1e"])
def test_what_is_no_quantity_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="is not a quantity; write for example 500m, 2 or 8Gi"):
        canonical_quantity(text)


def test_a_number_beyond_all_range_is_refused():
    with pytest.raises(ValueError, match="is out of the range of quantities"):
        canonical_quantity(f"1e{10**7}")


@given(
    st.decimals(min_value=0, max_value=10**12, places=3, allow_nan=False),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]),
)
def test_the_stored_form_is_stored_as_it_is(number, suffix):
    stored = canonical_quantity(f"{number:f}{suffix}")
    assert canonical_quantity(stored) == stored


def test_quantities_inside_a_pod_are_found_and_everything_else_is_left():
    pod = {
        "containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5}, "claims": ["1000m"]}}],
        "volumes": ({"emptyDir": {"sizeLimit": "1024Mi"}},),
        "labels": {"x": "1000m"},
    }
    assert canonical_quantities(pod) == {
        "containers": [
            {"name": "a", "resources": {"limits": {"cpu": "500m"}, "claims": ["1000m"]}}
        ],
        "volumes": [{"emptyDir": {"sizeLimit": "1Gi"}}],
        "labels": {"x": "1000m"},
    }


@pytest.mark.parametrize("odd", ["lots", True, None, ["1"]])
def test_what_is_no_quantity_inside_a_pod_is_left_for_the_api_server(odd):
    assert canonical_quantities({"limits": {"cpu": odd}}) == {"limits": {"cpu": odd}}
