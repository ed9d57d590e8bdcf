"""Quantities of resources in the one form in which the API server stores them: 0.5 → 500m."""

import re
from decimal import ROUND_CEILING, Context, Decimal, DecimalException, localcontext
from typing import Any

_QUANTITY = re.compile(
    r"(?P<number>[-+]?(\d+\.?\d*|\.\d+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][-+]?\d+)?"
)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
_NANO, _MILLI = Decimal("1e-9"), Decimal("1e-3")
_LARGEST = Decimal(2**63 - 1)  # what a quantity with a binary suffix is capped at
_KIBI = 1024
_EXACT = Context(prec=200)  # above what the schema lets anybody write: 15 digits and e99


def canonical_quantity(value: float | str, *, smallest: Decimal = _MILLI) -> str:
    """As apimachinery prints it; raises ValueError for what is none.

    Rounded up: requests and limits to thousandths, other quantities to 1e-9.
    """
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a quantity; write for example 500m, 2 or 8Gi")
    try:
        with localcontext(_EXACT):
            return _canonical(Decimal(match["number"]), match["suffix"] or "", smallest)
    except DecimalException as failure:
        raise ValueError(f"{value!r} is out of the range of quantities") from failure


def amount_of(quantity: str) -> Decimal:
    """In units: 500m is 0.5, 1Ki is 1024. Raises ValueError for what is no quantity."""
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity; write for example 500m, 2 or 8Gi")
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix in _BINARY:
        return number * Decimal(_KIBI) ** _BINARY[suffix]
    return number.scaleb(_DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:]))


def _canonical(number: Decimal, suffix: str, smallest: Decimal) -> str:
    if suffix in _BINARY:
        amount = min(number * _KIBI ** _BINARY[suffix], _LARGEST)
        return _binary(_rounded(amount, smallest))
    if suffix in _DECIMAL:
        amount = _rounded(number.scaleb(_DECIMAL[suffix]), smallest)
        return _decimal(amount)
    return _with_exponent(_rounded(number.scaleb(int(suffix[1:])), smallest))


def _rounded(amount: Decimal, smallest: Decimal) -> Decimal:
    return amount.quantize(smallest, rounding=ROUND_CEILING)


def _binary(amount: Decimal) -> str:
    if abs(amount) < _KIBI or amount != amount.to_integral_value():
        return _decimal(amount)
    number, power = int(amount), 0
    while number % _KIBI == 0 and power < max(_BINARY_SUFFIX):
        number, power = number // _KIBI, power + 1
    return f"{number}{_BINARY_SUFFIX.get(power, '')}"


def _decimal(amount: Decimal) -> str:
    exponent = _power_of_thousand(amount, most=max(_DECIMAL_SUFFIX))
    return f"{int(amount.scaleb(-exponent))}{_DECIMAL_SUFFIX[exponent]}"


def _with_exponent(amount: Decimal) -> str:
    exponent = _power_of_thousand(amount, most=99)
    mantissa = int(amount.scaleb(-exponent))
    return f"{mantissa}e{exponent}" if exponent else f"{mantissa}"


def _power_of_thousand(amount: Decimal, *, most: int) -> int:
    """The largest multiple of three, from -9, that leaves a whole number."""
    if not amount:
        return 0
    powers = range(most - most % 3, -12, -3)
    return next(p for p in powers if (scaled := amount.scaleb(-p)) == scaled.to_integral_value())


def canonical_quantities(value: Any) -> Any:
    """A part of a pod's spec with every quantity in it in canonical form.

    What is no quantity is left for the API server to refuse.
    """
    if isinstance(value, dict):
        return {key: _canonical_field(key, field) for key, field in value.items()}
    if isinstance(value, list | tuple):
        return [canonical_quantities(item) for item in value]
    return value


def _canonical_field(key: str, field: Any) -> Any:
    if key in {"requests", "limits"} and isinstance(field, dict):
        return {name: _tolerant(amount, _MILLI) for name, amount in field.items()}
    if key in {"sizeLimit", "divisor"}:
        return _tolerant(field, _NANO)
    return canonical_quantities(field)


def _tolerant(value: Any, smallest: Decimal) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        return canonical_quantity(value, smallest=smallest)
    except ValueError:
        return value
