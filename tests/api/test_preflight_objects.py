"""The preflight's objects are accepted: by the API server, and by Pod Security "restricted"."""

import json

from modelserver_operator.apis.rollout import Preflight
from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.resources.preflight_job import make_preflight_job
from modelserver_operator.resources.preflight_policy import make_preflight_policies
from modelserver_operator.resources.service_account import make_service_account
from support.kube import path_of
from support.servers import pinned

PREFLIGHT = {
    "goldenSet": {"configMapRef": {"name": "golden", "key": "cases"}},
    "apiKey": {"name": "keys", "key": "preflight"},
}


def test_the_job_its_pod_and_its_policies_are_accepted(kube, servers):
    rollout = {"preflight": PREFLIGHT}
    server = parse_model_server(servers.create("chat", pinned(rollout=rollout)))
    preflight = Preflight.model_validate_json(json.dumps(PREFLIGHT))
    job = make_preflight_job(
        server, preflight, revision="5d9f7c1a", image="registry.example/runtime:1", run="1"
    )
    template = job["spec"]["template"]
    metadata = {**template["metadata"], "name": "pod", "namespace": servers.namespace}
    kube.create(make_service_account(server))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    for manifest in (job, pod, *make_preflight_policies(server, "5d9f7c1a")):
        answer = kube.ask(
            "POST",
            path_of(manifest, collection=True),
            manifest,
            params={"dryRun": "All", "fieldValidation": "Strict"},
        )
        assert answer.status_code == 201, answer.text
        assert "would violate" not in answer.headers.get("Warning", "")
