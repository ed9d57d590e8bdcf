"""The command line against a real API server and a running operator."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from support.command_line import Interrupted, Said, command
from support.servers import COMMIT, OTHER_COMMIT, pinned
from support.waiting import wait_until

CANARY = {"steps": [{"weightPercent": 5, "holdSeconds": 30}, {"weightPercent": 100}]}
DEADLINE = 60


@pytest.fixture
def modelserver(cluster, namespace):
    def run(*arguments: str, **more) -> Said:
        places = ("--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace)
        return command(*arguments, *places, **more)

    return run


@pytest.fixture
def chat(servers, operator, stage):
    """A server that serves its first revision."""
    servers.create("chat", pinned(rollout=CANARY))
    servers.wait_settled("chat")
    return servers


def file_of(name: str = "chat", **spec) -> str:
    manifest = {
        "apiVersion": "modelserver.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": name},
        "spec": pinned(**spec),
    }
    return yaml.safe_dump(manifest)


def changed(**spec) -> str:
    return file_of(model={"uri": "hf://example/tiny", "revision": OTHER_COMMIT}, **spec)


def plan(modelserver, text: str) -> tuple[int, dict]:
    said = modelserver("plan", "-f", "-", "-o", "json", stdin=text)
    [one] = json.loads(said.out)["servers"]
    return said.code, one


class TestPlan:
    @pytest.mark.usefixtures("chat")
    def test_what_is_there_already_changes_nothing(self, modelserver):
        code, one = plan(modelserver, file_of(rollout=CANARY))
        assert (code, one["hasChanges"], one["fields"]) == (0, False, [])

    def test_another_commit_is_a_canary_of_new_pods(self, modelserver, chat):
        before = chat.snapshot("chat")
        code, one = plan(modelserver, changed(rollout=CANARY))
        assert code == 2
        [field] = one["fields"]
        assert (field["path"], field["before"], field["after"]) == (
            *("spec.model.revision", COMMIT, OTHER_COMMIT),
        )
        assert (one["restarts"], one["strategy"]) == (True, "Canary")
        assert one["steps"][0] == "5 % for 30 s at least"
        made = {(child["verb"], child["kind"]) for child in one["children"]}
        assert {("make", "Deployment"), ("make", "Service")} <= made
        assert ("make", "Deployment", f"chat-{one['target']}") in {
            (child["verb"], child["kind"], child["name"]) for child in one["children"]
        }
        assert "room for 1 more pod" in one["needs"][0]
        assert chat.snapshot("chat") == before

    def test_the_plan_names_the_revision_that_comes(self, modelserver, chat):
        _, one = plan(modelserver, changed(rollout=CANARY))
        chat.patch("chat", {"model": {"revision": OTHER_COMMIT}})
        wait_until(
            lambda: chat.status("chat").get("targetRevision") == one["target"],
            timeout=DEADLINE,
            what=f"target {one['target']}",
        )

    @pytest.mark.usefixtures("chat")
    def test_more_replicas_restart_nothing(self, modelserver):
        code, one = plan(modelserver, file_of(rollout=CANARY, replicas=3))
        assert (code, one["restarts"]) == (2, False)
        assert one["pods"].startswith("no pod restarts")
        changes = {(child["verb"], child["kind"]) for child in one["children"]}
        assert ("change", "Deployment") in changes
        assert ("make", "PodDisruptionBudget") in changes

    def test_a_new_server_is_planned_whole(self, modelserver, servers):
        code, one = plan(modelserver, file_of("fresh"))
        assert (code, one["isNew"], one["restarts"]) == (2, True, True)
        kinds = {child["kind"] for child in one["children"]}
        assert {"Deployment", "Service", "ControllerRevision", "NetworkPolicy"} <= kinds
        assert servers.kube.get(servers.path("fresh")) is None

    def test_a_file_that_was_applied_is_planned_as_the_same_manager(self, modelserver, servers):
        wanted = servers.manifest("applied", pinned(replicas=2))
        servers.kube.apply(wanted, manager="kubectl")
        code, one = plan(modelserver, file_of("applied"))
        assert code == 2
        [field] = one["fields"]
        assert (field["path"], field["before"], field["after"]) == ("spec.replicas", 2, 1)

    def test_replicas_that_kubectl_scale_has_set_stay(self, modelserver, servers):
        servers.create("scaled")
        scale = {"spec": {"replicas": 4}}
        servers.kube.patch(f"{servers.path('scaled')}/scale", scale)
        assert plan(modelserver, file_of("scaled"))[0] == 0

    @pytest.mark.parametrize(
        ("spec", "sentence"),
        [
            (
                {"rollout": {"steps": [{"weightPercent": 50}, {"weightPercent": 5}]}},
                "weightPercent of steps must rise",
            ),
            ({"replicas": -1}, "spec.replicas"),
            ({"rollouts": {}}, 'unknown field "spec.rollouts"'),
        ],
    )
    def test_what_the_api_server_refuses_is_refused_in_its_words(self, modelserver, spec, sentence):
        code, one = plan(modelserver, file_of("bad", **spec))
        assert (code, one["accepted"]) == (1, False)
        assert sentence in one["message"]
        said = modelserver("plan", "-f", "-", stdin=file_of("bad", **spec))
        assert said.out.startswith("The API server refuses bad: ")

    @pytest.mark.usefixtures("chat")
    def test_what_is_missing_is_said(self, modelserver):
        preflight = {"goldenSet": {"configMapRef": {"name": "golden", "key": "cases"}}}
        _, one = plan(
            modelserver,
            changed(
                rollout={**CANARY, "preflight": preflight},
                traffic={"router": "Istio", "hosts": ["chat.example.com"], "gateways": ["mesh/x"]},
            ),
        )
        assert any("There is no ConfigMap golden with the key cases" in p for p in one["problems"])

    def test_somebody_elses_object_is_a_problem(self, modelserver, kube, namespace):
        kube.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "taken", "namespace": namespace},
                "spec": {"ports": [{"port": 80}]},
            }
        )
        _, one = plan(modelserver, file_of("taken"))
        [problem] = one["problems"]
        assert problem.startswith("Service taken exists and belongs to somebody else")

    @pytest.mark.usefixtures("chat")
    def test_people_read_it_in_lines(self, modelserver, namespace):
        said = modelserver("plan", "-f", "-", stdin=changed(rollout=CANARY))
        assert said.code == 2
        lines = said.out.splitlines()
        assert lines[0] == f"{namespace}/chat  changes"
        assert f'  spec.model.revision: "{COMMIT}" -> "{OTHER_COMMIT}"' in lines
        assert "  strategy: Canary" in lines
        assert any(line.startswith("    +  ") and "Deployment" in line for line in lines)


class TestOrders:
    def test_a_canary_is_paused_resumed_and_aborted(self, modelserver, chat):
        chat.patch("chat", {"model": {"revision": OTHER_COMMIT}})
        run = wait_until(
            lambda: chat.status("chat").get("rollout"), timeout=DEADLINE, what="a rollout"
        )
        assert modelserver("pause", "chat").out.startswith("done: paused")
        assert "paused: by command" in modelserver("status", "chat").out
        assert modelserver("resume", "chat").out.startswith("done: it goes on")
        said = modelserver("abort", "chat")
        assert (said.code, said.out) == (0, f"done: traffic goes back to {run['from']}\n")
        wait_until(
            lambda: chat.status("chat")["rollout"]["phase"] == "RolledBack",
            timeout=DEADLINE,
            what="rolled back",
        )
        history = json.loads(modelserver("history", "chat", "-o", "json").out)
        assert {one["revision"]: one["state"] for one in history} == {
            run["from"]: "serving",
            run["to"]: "failed",
        }
        assert "failed" in modelserver("history", "chat").out
        assert modelserver("retry", "chat").out == f"done: revision {run['to']} is tried again\n"

    def test_the_annotation_names_the_revision_and_a_new_token(self, modelserver, chat):
        chat.patch("chat", {"model": {"revision": OTHER_COMMIT}})
        run = wait_until(
            lambda: chat.status("chat").get("rollout"), timeout=DEADLINE, what="a rollout"
        )
        orders = [modelserver("promote", "chat", "--full", "--no-wait").out for _ in range(2)]
        assert len(set(orders)) == 2
        assert all(one.startswith(f"told: promote-full/{run['to']}/") for one in orders)

    def test_a_rollback_returns_to_what_served_before(self, modelserver, chat):
        first = chat.status("chat")["servingRevision"]
        rolling = {"rollout": {"strategy": "Rolling"}}
        chat.patch("chat", {"model": {"revision": OTHER_COMMIT}, **rolling})
        wait_until(
            lambda: chat.status("chat").get("servingRevision") not in {first, None},
            timeout=DEADLINE,
            what="another revision",
        )
        chat.wait_settled("chat")
        said = modelserver("rollback", "chat")
        assert said.out.startswith(f"done: revision {first} is wanted until")
        wait_until(
            lambda: chat.status("chat")["servingRevision"] == first,
            timeout=DEADLINE,
            what="the first revision again",
        )

    def test_the_operators_refusal_is_an_error(self, modelserver, chat, capsys):
        paused = {"rollout": {**CANARY, "paused": True}}
        chat.patch("chat", {"model": {"revision": OTHER_COMMIT}, **paused})
        wait_until(
            lambda: (chat.status("chat").get("rollout") or {}).get("paused"),
            timeout=DEADLINE,
            what="a rollout that is paused by the spec",
        )
        assert modelserver("resume", "chat").code == 1
        err = capsys.readouterr().err
        assert err.startswith("error: The operator refuses resume/")
        assert "it is paused by spec.rollout.paused; set that to false" in err

    @pytest.mark.parametrize("verb", ["promote", "abort", "pause", "resume"])
    @pytest.mark.usefixtures("chat")
    def test_without_a_rollout_there_is_nothing_to_tell(self, modelserver, verb, capsys):
        assert modelserver(verb, "chat").code == 1
        assert capsys.readouterr().err == (
            f"error: No rollout of chat is going on that could be told to {verb}\n"
        )


class TestStatus:
    def test_one_picture(self, modelserver, chat, namespace):
        said = modelserver("status", "chat")
        revision = chat.status("chat")["servingRevision"]
        assert said.out.splitlines()[0].startswith(f"{namespace}/chat  http://")
        [line] = [one for one in said.out.splitlines() if revision in one and "serving" in one]
        assert "100 %" in line
        assert "1/1 ready" in line
        known = json.loads(modelserver("status", "chat", "-o", "json").out)
        assert known["revisions"][0]["weightPercent"] == 100

    def test_a_pipe_gets_a_picture_for_every_change_until_ctrl_c(self, modelserver, chat):
        with ThreadPoolExecutor(1) as pool:
            pause = Interrupted(after=40)
            watching = pool.submit(modelserver, "status", "chat", "--watch", pause=pause)
            chat.patch("chat", {"replicas": 2})
            said = watching.result(DEADLINE)
        assert said.code == 130
        assert "2/2 ready" in said.out


class TestErrors:
    def test_a_server_that_does_not_exist(self, modelserver, capsys, namespace):
        assert modelserver("status", "nobody").code == 1
        err = capsys.readouterr().err
        assert f"error: There is no ModelServer nobody in namespace {namespace}" in err

    def test_an_operator_that_does_not_answer(self, modelserver, servers, kube, capsys):
        """It is given no time at all."""
        servers.create("quiet")
        status = {"failedRevisions": [{"revision": "5d9f7c1a", "reason": "Errors", "at": AT}]}
        kube.patch(f"{servers.path('quiet')}/status", {"status": status})
        said = modelserver("retry", "quiet", "--timeout", "0")
        assert said.code == 1
        assert "The operator has not answered retry/5d9f7c1a/" in capsys.readouterr().err


AT = "2026-11-21T10:00:00Z"
