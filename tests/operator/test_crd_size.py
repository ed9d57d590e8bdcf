"""The definition stays small enough for every way of installing it."""

from pathlib import Path

CRD = Path(__file__).parents[2] / "crds" / "modelserver.yaml"
# What the README says. `kubectl apply` keeps the whole object in an annotation as well, for which
# the API server has 256 KiB.
MOST_BYTES = 120 * 1024


def test_the_definition_is_no_larger_than_it_is_said_to_be():
    assert CRD.stat().st_size < MOST_BYTES
