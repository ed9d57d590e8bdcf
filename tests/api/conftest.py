"""The rig for tests of the operator on a real API server, without a node.

    test ──> FaultProxy ──> kube-apiserver + etcd + kube-controller-manager
               ^                  ^
    operator process(es)        Stage: scheduler and kubelet, played by the test

* `support.fault_proxy.FaultProxy`: counts requests, kills at a write, cuts and falsifies watches.
* `support.operator_process.OperatorProcess`: the operator as a process of its own, under its own
  ServiceAccount token with the RBAC of `manifests/`, through a proxy.
* `support.stage.Stage`: makes pods run, fail, crash or stay pending as told.
* `support.audit.AuditLog`: who wrote and read what, by the API server's own account.
* `support.manifests`: what `manifests/` installs, parsed.
"""

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/api" in str(item.path):
            item.add_marker(pytest.mark.api)
