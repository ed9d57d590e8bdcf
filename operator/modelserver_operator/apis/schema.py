"""From pydantic's JSON schema to the structural OpenAPI schema of a CRD.

The API server takes less than pydantic gives: no references, no `anyOf` with null, no constants, no
`additionalProperties` beside properties, bounds in OpenAPI 3.0's form.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

type Schema = dict[str, Any]

_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "default",
    "anyOf",
)
_EXTENSION = "x-kubernetes-"


def structural_schema(model: type[BaseModel], *, with_defaults: bool) -> Schema:
    """`with_defaults` is for spec; a status says only what was written."""
    schema = model.model_json_schema(by_alias=True)
    converter = _Converter(schema.get("$defs", {}), with_defaults=with_defaults)
    return converter.convert(schema)


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema], *, with_defaults: bool) -> None:
        self._definitions = definitions
        self._with_defaults = with_defaults

    def convert(self, source: Schema) -> Schema:
        inlined = self._inlined(source)
        result = {
            key: value
            for key, value in inlined.items()
            if key in _KEPT or key.startswith(_EXTENSION)
        }
        if "const" in inlined:
            result["enum"] = [inlined["const"]]
        if "description" in result:
            result["description"] = " ".join(result["description"].split())
        self._convert_children(inlined, result)
        self._convert_default(result)
        return result

    def _inlined(self, source: Schema) -> Schema:
        """References are replaced by what they lead to; what stands beside them wins."""
        choices = [one for one in source.get("anyOf", []) if one.get("type") != "null"]
        if len(choices) == 1:
            rest = {key: value for key, value in source.items() if key not in {"anyOf", "default"}}
            return self._inlined({**self._inlined(choices[0]), **rest})
        if "$ref" not in source:
            return source
        target = self._inlined(self._definitions[source["$ref"].rpartition("/")[2]])
        return {**target, **{key: value for key, value in source.items() if key != "$ref"}}

    def _convert_children(self, inlined: Schema, result: Schema) -> None:
        if "items" in inlined:
            result["items"] = self.convert(inlined["items"])
        if "properties" in inlined:
            result["properties"] = {
                name: self.convert(child) for name, child in inlined["properties"].items()
            }
        values = inlined.get("additionalProperties")
        if isinstance(values, Mapping) and "properties" not in inlined:
            result["additionalProperties"] = self.convert(dict(values))
        if values is True:
            result["x-kubernetes-preserve-unknown-fields"] = True

    def _convert_default(self, result: Schema) -> None:
        """Objects default to `{}`, and only if something in them has a default.

        Empty text, lists and maps are the same as none, and would only be noise in every object.
        """
        given = result.pop("default", None)
        if not self._with_defaults:
            return
        if "properties" in result and isinstance(given, Mapping):
            if any("default" in child for child in result["properties"].values()):
                result["default"] = {}
        elif given is not None and given not in ("", [], {}):
            result["default"] = given
