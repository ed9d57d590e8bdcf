"""The reference of the API in Markdown, from the same schema as the CRD."""

import json
from collections.abc import Iterator

from modelserver_operator.apis.crd import CATEGORIES, SHORT_NAMES, root_schema
from modelserver_operator.apis.schema import Schema
from modelserver_operator.apis.v1alpha1 import API_VERSION, KIND, PLURAL

_HEADER = f"""# {KIND}

`{API_VERSION}`, `{PLURAL}`, short name `{SHORT_NAMES[0]}`, in the categories {" and ".join(f"`{one}`" for one in CATEGORIES)}. Generated from the operator's
types by `make crds`; `kubectl explain modelserver.spec` says the same.

The smallest one:

```yaml
apiVersion: {API_VERSION}
kind: {KIND}
metadata: {{name: sentiment}}
spec:
  model: {{uri: hf://distilbert/distilbert-base-uncased-finetuned-sst-2-english}}
```
"""  # noqa: E501  a line of Markdown


def reference() -> str:
    root = root_schema()
    sections = [_HEADER, _rules_section("Name", root)]
    for part in ("spec", "status"):
        sections.extend(_sections(part, root["properties"][part]))
    return "\n".join(sections)


def _sections(path: str, schema: Schema) -> Iterator[str]:
    """A table for each object with fields of its own, in the order in which they are met."""
    rows = [_row(name, child, schema) for name, child in schema["properties"].items()]
    text = schema.get("description", "")
    yield f"## {path}\n" + (f"\n{text}\n" if text else "")
    yield "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"
    if "x-kubernetes-validations" in schema:
        yield _rules(schema)
    for name, child in schema["properties"].items():
        inner, suffix = _inner(child)
        if "properties" in inner:
            yield from _sections(f"{path}.{name}{suffix}", {**inner, "description": ""})


def _inner(schema: Schema) -> tuple[Schema, str]:
    return (schema["items"], "[]") if "items" in schema else (schema, "")


def _row(name: str, schema: Schema, parent: Schema) -> str:
    required = " **required**" if name in parent.get("required", []) else ""
    default = schema.get("default")
    shown = "" if default is None or isinstance(default, dict) else f"`{json.dumps(default)}`"
    text = schema.get("description", "").replace("|", "\\|")
    return f"| `{name}` | {_type(schema)}{required} | {shown} | {text} |"


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return " \\| ".join(f"`{one}`" for one in schema["enum"])
    if "x-kubernetes-int-or-string" in schema:
        return "quantity"
    if "items" in schema:
        return f"list of {_type(schema['items'])}{_bounds(schema, 'maxItems')}"
    if "additionalProperties" in schema:
        values = _type(schema["additionalProperties"])
        return f"map of {values}{_bounds(schema, 'maxProperties')}"
    return f"{schema['type']}{_range(schema)}"


def _bounds(schema: Schema, key: str) -> str:
    return f", at most {schema[key]}" if key in schema else ""


def _range(schema: Schema) -> str:
    if "maximum" in schema:
        return f", {schema.get('minimum', 0)} to {schema['maximum']}"
    return _bounds(schema, "maxLength").replace("at most", "up to")


def _rules(schema: Schema) -> str:
    messages = [rule["message"] for rule in schema["x-kubernetes-validations"]]
    return "\n".join(["Rules:", "", *(f"* {message}" for message in messages)]) + "\n"


def _rules_section(title: str, schema: Schema) -> str:
    return f"## {title}\n\n{_rules(schema)}"
