"""The ControllerRevision: a revision's spec and pins, kept so that it can come back as it was."""

from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.kinds import CONTROLLER_REVISION
from modelserver_operator.resources.metadata import make_child
from modelserver_operator.resources.revision import Revision


def make_controller_revision(
    server: ModelServer, revision: Revision, *, number: int
) -> dict[str, Any]:
    """`number` grows with each time that a revision is asked for: the highest is the newest."""
    name = names.revision_child(server.name, revision.name)
    body = {"data": revision.data, "revision": number}
    return make_child(
        server,
        CONTROLLER_REVISION,
        name,
        body,
        revision=revision.name,
        more_labels={labels.SPEC_HASH: revision.served.hash},
    )
