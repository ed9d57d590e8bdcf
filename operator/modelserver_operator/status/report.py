"""The status of a ModelServer, whole, as it is written."""

from collections.abc import Sequence
from datetime import datetime

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.errors import InvalidResource
from modelserver_operator.plan.values import Manifest, Observed, Plan, Refusal


def status_of(
    server: ModelServer,
    observed: Observed,
    plan: Plan,
    now: datetime,
    refusals: Sequence[Refusal] = (),
) -> Manifest:
    """The whole `status`; equal to the stored one when there is nothing new to say.

    `observed` is what the plan was made from; `refusals` are the plan's writes that were not accepted.
    """
    raise NotImplementedError


def status_of_invalid(manifest: Manifest, failure: InvalidResource, now: datetime) -> Manifest:
    """For a stored object that `parse_model_server` refuses."""
    raise NotImplementedError
