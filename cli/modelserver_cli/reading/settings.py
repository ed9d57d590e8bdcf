"""The operator's settings, as its Deployment has them: plans are made with the same."""

from collections.abc import Iterable
from typing import Any

from modelserver_operator.config import PREFIX, OperatorConfig
from modelserver_operator.errors import InvalidConfiguration

type Manifest = dict[str, Any]

# Where nothing says which image serves. It only names the revision, and the plan says so.
_UNKNOWN_IMAGE = "modelserver-runtime"


def operator_config(
    deployments: Iterable[Manifest], records: Iterable[Manifest]
) -> tuple[OperatorConfig, str]:
    """With a sentence if they had to be assumed. `records` are kept revisions of the server."""
    for deployment in deployments:
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            variables = _variables(container)
            if f"{PREFIX}RUNTIME_IMAGE" in variables:
                return _parsed(variables, deployment["metadata"]["namespace"], records)
    return _assumed("no Deployment of it was found", records)


def _variables(container: Manifest) -> dict[str, str]:
    """Those with a plain value: what comes from elsewhere is about the pod itself."""
    return {one["name"]: one["value"] for one in container.get("env") or [] if "value" in one}


def _parsed(
    variables: dict[str, str], namespace: str, records: Iterable[Manifest]
) -> tuple[OperatorConfig, str]:
    try:
        given = {**variables, f"{PREFIX}NAMESPACE": namespace}
        return OperatorConfig.from_environment(given), ""
    except InvalidConfiguration as error:
        return _assumed(str(error), records)


def _assumed(why: str, records: Iterable[Manifest]) -> tuple[OperatorConfig, str]:
    image = _image_in(records)
    note = (
        f"The operator's settings are not known ({why}), so its defaults are assumed, with the"
        f" runtime image {image}; names of new revisions may differ"
    )
    return OperatorConfig(runtime_image=image), note


def _image_in(records: Iterable[Manifest]) -> str:
    """Of the newest revision that runs the operator's default."""
    newest = sorted(records, key=lambda one: -int(one.get("revision", 0)))
    pins = ((one.get("data") or {}).get("pins") or {} for one in newest)
    return next((str(one["runtimeImage"]) for one in pins if one.get("runtimeImage")), "") or (
        _UNKNOWN_IMAGE
    )
