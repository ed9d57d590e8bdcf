"""Quantities of resources in the one form in which the API server stores them: 0.5 → 500m."""

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

_QUANTITY = re.compile(
    r"(?P<number>[-+]?(\d+\.?\d*|\.\d+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][-+]?\d+)?"
)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
_SMALLEST = Decimal("1e-9")  # Kubernetes rounds up to nano
_KIBI = 1024


def canonical_quantity(value: float | str) -> str:
    """As apimachinery's Quantity prints it; raises ValueError for what is none."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a quantity; write for example 500m, 2 or 8Gi")
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix in _BINARY:
        return _binary(_rounded(number * _KIBI ** _BINARY[suffix]))
    if suffix in _DECIMAL:
        return _decimal(_rounded(number.scaleb(_DECIMAL[suffix])), exponent_form=False)
    return _decimal(_rounded(number.scaleb(int(suffix[1:]))), exponent_form=True)


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_SMALLEST, rounding=ROUND_CEILING)


def _binary(amount: Decimal) -> str:
    if abs(amount) < _KIBI or amount != amount.to_integral_value():
        return _decimal(amount, exponent_form=False)
    number, power = int(amount), 0
    while number % _KIBI == 0 and power < max(_BINARY_SUFFIX):
        number, power = number // _KIBI, power + 1
    return f"{number}{_BINARY_SUFFIX.get(power, '')}"


def _decimal(amount: Decimal, *, exponent_form: bool) -> str:
    if not amount:
        return "0"
    exponent = _power_of_thousand(amount)
    mantissa = int(amount.scaleb(-exponent))
    if exponent_form:
        return f"{mantissa}e{exponent}" if exponent else f"{mantissa}"
    return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}"


def _power_of_thousand(amount: Decimal) -> int:
    """The largest of -9, -6, ..., 18 that leaves a whole number."""
    powers = sorted(_DECIMAL_SUFFIX, reverse=True)
    return next(p for p in powers if (scaled := amount.scaleb(-p)) == scaled.to_integral_value())


def canonical_quantities(value: Any) -> Any:
    """A part of a pod's spec with every quantity in it in canonical form.

    What is no quantity is left for the API server to refuse.
    """
    if isinstance(value, Mapping):
        return {key: _canonical_field(key, field) for key, field in value.items()}
    if isinstance(value, list | tuple):
        return [canonical_quantities(item) for item in value]
    return value


def _canonical_field(key: str, field: Any) -> Any:
    if key in {"requests", "limits"} and isinstance(field, Mapping):
        return {name: _tolerant(amount) for name, amount in field.items()}
    if key in {"sizeLimit", "divisor"}:
        return _tolerant(field)
    return canonical_quantities(field)


def _tolerant(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        return canonical_quantity(value)
    except ValueError:
        return value
