"""The preflight between both halves: the Job's arguments, and the message at its end."""

import json
from datetime import UTC, datetime

from modelserver_operator.apis.rollout import Preflight
from modelserver_operator.resources.preflight_job import make_preflight_job
from modelserver_operator.rollout.preflight import read_preflight
from modelserver_runtime.__main__ import _parser
from modelserver_runtime.preflight.result import Outcome, Result
from support.planning import a_server

PREFLIGHT = Preflight.model_validate(
    {"golden_set": {"config_map_ref": {"name": "golden", "key": "cases"}}, "timeout_seconds": 60}
)


def test_the_runtime_takes_the_jobs_arguments():
    job = make_preflight_job(a_server(), PREFLIGHT, revision="5d9f7c1a", image="x", run="1")
    [container] = job["spec"]["template"]["spec"]["containers"]
    taken = vars(_parser().parse_args(container["args"]))
    assert taken["url"] == "http://chat-5d9f7c1a:80"
    assert (taken["min_pass_percent"], taken["timeout"]) == (100, 60)
    [mount] = [one for one in container["volumeMounts"] if one["name"] == "golden-set"]
    assert str(taken["cases"]).startswith(mount["mountPath"])


def test_the_operator_reads_what_the_runtime_says():
    outcomes = (Outcome(name="good", complaint=""), Outcome(name="bad", complaint="it was wrong"))
    message = json.dumps(Result(outcomes=outcomes, min_pass_percent=100).as_message())
    owners = [{"uid": "1"}]
    state = {"terminated": {"exitCode": 1, "message": message}}
    pod = {
        "metadata": {"ownerReferences": owners},
        "status": {"containerStatuses": [{"state": state}]},
    }
    seen = read_preflight({"metadata": {"uid": "1"}}, [pod], datetime(2026, 1, 1, tzinfo=UTC))
    assert seen.outcome is not None
    found = (seen.outcome.passed, seen.outcome.failed, seen.outcome.message)
    assert found == (1, 1, "bad: it was wrong")
