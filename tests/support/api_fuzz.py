"""Requests that are made from the OpenAPI document, right ones and wrong ones, and their judgement.

`python -m support.api_fuzz EXAMPLES` asks three servers; see `tests/runtime/test_openapi.py`.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from modelserver_runtime.backends.base import SequenceSpec
from modelserver_runtime.settings import Settings
from support import tiny_models
from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server, settings_for


class _AnyPath:
    def __contains__(self, _: object) -> bool:
        return True


ANY_PATH = _AnyPath()
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def operations(server: RunningServer) -> Iterator[Any]:
    document = server.client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=server.url)
    for result in schema.get_all_operations():
        yield result.ok()


def fuzz(
    server: RunningServer, examples: int, *, seed: int = 1, paths: Container[str] = ANY_PATH
) -> Counter[int]:
    """The statuses of all answers; an answer that breaks a promise raises."""
    seen: Counter[int] = Counter()
    for operation in operations(server):
        if operation.path not in paths:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _ask(server, operation, mode, seen, examples=examples, seed=seed)
    return seen


def _ask(
    server: RunningServer,
    operation: Any,
    mode: GenerationMode,
    seen: Counter[int],
    *,
    examples: int,
    seed: int,
) -> None:
    try:
        strategy = operation.as_strategy(generation_mode=mode)
    except Exception as error:  # a route without parameters and body cannot be asked wrongly
        if "Impossible" in repr(error) or "Unsatisfiable" in repr(error):
            return
        raise

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @hypothesis.given(case=strategy)
    def ask(case: Any) -> None:
        _name_the_model(case)
        response = case.call(session=None, timeout=30)
        seen[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        return


def _name_the_model(case: Any) -> None:
    """Nearly all made-up names are of no model, and would never get further."""
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "tiny"
    for name in ("name",):
        if name in (case.path_parameters or {}) and len(str(case.path_parameters[name])) % 2:
            case.path_parameters[name] = "tiny"


class LuckyBackend(CountingBackend):
    """Answers also what has the tokens at which the other one fails on purpose."""

    def add(self, sequence: SequenceSpec) -> None:
        super().add(sequence)
        self.prompts[sequence.sequence_id] = ()


def main(examples: int) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        chat = running_server(Settings(served_name="tiny"), fake_model(LuckyBackend()))
        classifier = settings_for(tiny_models.classifier(Path(folder) / "classifier"))
        embedder = settings_for(tiny_models.sentence_transformer(Path(folder) / "embedder"))
        servers = [chat, running_server(classifier), running_server(embedder)]
        total: Counter[int] = Counter()
        for server in servers:
            seen = fuzz(stack.enter_context(server), examples)
            print(sum(seen.values()), "cases:", dict(sorted(seen.items())), flush=True)
            total += seen
    print(sum(total.values()), "cases in all, every promise of the document kept")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
