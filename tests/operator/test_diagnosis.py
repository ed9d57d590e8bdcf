"""Each code of a diagnosis, from the pods, Deployments and refusals that a real cluster shows."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.plan.values import ChildKey, Refusal
from modelserver_operator.status.diagnosis.codes import EXIT_CODES, Code
from modelserver_operator.status.diagnosis.containers import report_in, said_in
from modelserver_operator.status.wording import clean, last_part, redacted, shortened
from support import pod_outcomes
from support.pod_outcomes import NOW, Outcome, exiting, image_not_pulled, unschedulable
from support.world import COMMIT, OTHER_COMMIT, World, fetching, on_claim, pinned, unpinned

CREDENTIALS = {"credentials": {"secretRef": {"name": "hf-token", "key": "token"}}}
WITH_TOKEN = {"model": {"uri": "hf://meta/llama", "revision": COMMIT, **CREDENTIALS}}
LIMITED = {"resources": {"limits": {"memory": "2Gi", "ephemeral-storage": "1Gi"}}}


def failed(reason, message):
    """A pod that the kubelet has given up, as it stays behind."""
    return Outcome(
        name=reason,
        status_of=lambda _: {"phase": "Failed", "reason": reason, "message": message},
    )


def ended(exit_code, *, reason="Error", message="", seconds=30.0):
    """The server's container after a run of that many seconds, waiting for the next one."""
    started = datetime(2026, 1, 1, tzinfo=UTC)
    finished = started + timedelta(seconds=seconds)
    end = {
        "exitCode": exit_code,
        "reason": reason,
        "message": message,
        "startedAt": started.isoformat().replace("+00:00", "Z"),
        "finishedAt": finished.isoformat().replace("+00:00", "Z"),
    }

    def status_of(pod):
        status = exiting(exit_code).status_of(pod)
        for container in status["containerStatuses"]:
            container["lastState"] = {"terminated": end}
        return status

    return Outcome(name=f"ended {exit_code}", status_of=status_of)


LONG_AGO = "2025-12-31T23:59:00Z"
CONFIG_ERROR = "CreateContainerConfigError"
WITH_KEYS = {"access": {"apiKeys": {"secretRef": {"name": "chat-keys"}}}}
WITH_EXTRAS = {
    "extraModels": [
        {
            "name": "embedder",
            "uri": "hf://meta/embedder",
            "revision": OTHER_COMMIT,
            "credentials": {"secretRef": {"name": "extra-token"}},
        },
        {"name": "judge", "uri": "pvc://judges/small"},
    ]
}
WITH_REDIS = {
    "runtime": {"redis": {"secretRef": {"name": "shared"}}},
    "network": {"policy": "Open"},
}


def not_mounted(spec, failure):
    return World(spec, pod_outcomes.not_mounted(since=LONG_AGO), mount_failure=failure)


def cannot_mount(volume, cause):
    return f'MountVolume.SetUp failed for volume "{volume}" : {cause}'


def ends_fetching(container, exit_code, code, message):
    """One of several containers that fetch ends; those before it are done."""

    def status_of(pod):
        status = exiting(exit_code, code=code, message=message, where="init").status_of(pod)
        for one in status["initContainerStatuses"]:
            if one["name"] != container:
                one |= {"state": {"terminated": {"exitCode": 0}}, "lastState": {}}
        return status

    return Outcome(name=f"{container} ends", status_of=status_of)


def waits(message):
    return image_not_pulled(CONFIG_ERROR, message)


# name: (code, world, words that message and hint must say between them)
CASES = {
    "too little of a resource": (
        Code.INSUFFICIENT_RESOURCE,
        World(
            pinned(resources={"limits": {"nvidia.com/gpu": 2}}),
            unschedulable(
                "0/3 nodes are available: 1 node(s) had untolerated taint {a: b}, 2 Insufficient"
                " nvidia.com/gpu. no new claims to deallocate, preemption: 0/3 nodes are available:"
                " 3 Preemption is not helpful for scheduling."
            ),
        ),
        ["nvidia.com/gpu 2", "2 Insufficient nvidia.com/gpu", "spec.resources.requests"],
    ),
    "too little of two resources": (
        Code.INSUFFICIENT_RESOURCE,
        World(
            pinned(resources={"requests": {"cpu": "900", "memory": "1Ti"}}),
            unschedulable("0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory."),
        ),
        ["cpu and memory", "cpu 900, memory 1Ti"],
    ),
    "too many pods": (
        Code.INSUFFICIENT_RESOURCE,
        World(pinned(), unschedulable("0/1 nodes are available: 1 Too many pods.")),
        ["pods", "Add a node"],
    ),
    "rejected by the kubelet": (
        Code.INSUFFICIENT_RESOURCE,
        World(
            pinned(),
            failed("OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu"),
        ),
        ["cpu"],
    ),
    "taints": (
        Code.UNSCHEDULABLE,
        World(
            pinned(),
            unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}."),
        ),
        ["untolerated taint", "tolerations"],
    ),
    "claim missing": (
        Code.VOLUME_MISSING,
        World(
            on_claim(),
            unschedulable('0/1 nodes are available: persistentvolumeclaim "models" not found.'),
        ),
        ["claim models", "namespace ns", "pvc://models/chat"],
    ),
    "claim unbound": (
        Code.VOLUME_MISSING,
        World(on_claim(), unschedulable("pod has unbound immediate PersistentVolumeClaims.")),
        ["PersistentVolumeClaim models", "kubectl describe pvc models"],
    ),
    "image": (
        Code.IMAGE_PULL,
        World(
            pinned(runtime={"image": "ghcr.io/acme/x:1"}),
            image_not_pulled(
                "ErrImagePull",
                'rpc error: code = NotFound desc = failed to resolve "ghcr.io/acme/x:1": not found',
            ),
        ),
        ["ghcr.io/acme/x:1", "not found", "spec.runtime.image", "imagePullSecrets"],
    ),
    "default image": (
        Code.IMAGE_PULL,
        World(pinned(), image_not_pulled("InvalidImageName", "couldn't parse image name")),
        ["registry.example/runtime:1", "MODELSERVER_OPERATOR_RUNTIME_IMAGE"],
    ),
    "Secret of the hub": (
        Code.SECRET_MISSING,
        World(WITH_TOKEN, waits('secret "hf-token" not found')),
        ["Secret hf-token", "namespace ns", "spec.model.credentials.secretRef"],
    ),
    "key in a Secret": (
        Code.SECRET_MISSING,
        World(WITH_TOKEN, waits("couldn't find key token in Secret ns/hf-token")),
        ["Secret hf-token with key token", "spec.model.credentials.secretRef"],
    ),
    "another Secret": (
        Code.SECRET_MISSING,
        World(pinned(), waits('secret "db" not found')),
        ["Secret db", "spec.runtime.env"],
    ),
    "ConfigMap": (
        Code.CONFIG_MAP_MISSING,
        World(pinned(), waits("couldn't find key a in ConfigMap ns/settings")),
        ["ConfigMap settings with key a"],
    ),
    "Secret with the keys, which is mounted": (
        Code.SECRET_MISSING,
        not_mounted(
            on_claim(**WITH_KEYS), cannot_mount("api-keys", 'secret "chat-keys" not found')
        ),
        ["Secret chat-keys", "namespace ns", "spec.access.apiKeys.secretRef", "by itself"],
    ),
    "ConfigMap of a volume of the user's own": (
        Code.CONFIG_MAP_MISSING,
        not_mounted(pinned(), cannot_mount("mine", 'configmap "settings" not found')),
        ["ConfigMap settings", "spec.podTemplate"],
    ),
    "key in a Secret of a volume": (
        Code.SECRET_MISSING,
        not_mounted(
            pinned(), cannot_mount("mine", "references non-existent secret key: ca.crt")
        ),
        ["key ca.crt of a Secret", "Volume mine", "spec.podTemplate.spec"],
    ),
    "key in a ConfigMap of a volume": (
        Code.CONFIG_MAP_MISSING,
        not_mounted(pinned(), cannot_mount("mine", "references non-existent config key: a")),
        ["key a of a ConfigMap"],
    ),
    "a Secret that the kubelet cannot ask for yet": (
        Code.VOLUME_MISSING,
        not_mounted(
            on_claim(**WITH_KEYS),
            cannot_mount(
                "api-keys", "failed to sync secret cache: timed out waiting for the condition"
            ),
        ),
        ["Volume api-keys", "failed to sync secret cache", "tried again"],
    ),
    "storage that is not reached": (
        Code.VOLUME_MISSING,
        not_mounted(on_claim(), cannot_mount("pvc-1", "mount failed: exit status 32")),
        ["Volume pvc-1", "exit status 32", "kubectl describe pod chat-"],
    ),
    "volumes that are waited for": (
        Code.VOLUME_MISSING,
        not_mounted(on_claim(), "Unable to attach or mount volumes: unmounted volumes=[model]"),
        ["A volume of the pod", "unmounted volumes=[model]"],
    ),
    "Secret of an extra model": (
        Code.SECRET_MISSING,
        World(on_claim(**WITH_EXTRAS), waits('secret "extra-token" not found')),
        ["Secret extra-token", "spec.extraModels[embedder].credentials.secretRef"],
    ),
    "Secret with the place of Redis": (
        Code.SECRET_MISSING,
        World(on_claim(**WITH_REDIS), waits("couldn't find key url in Secret ns/shared")),
        ["Secret shared with key url", "spec.runtime.redis.secretRef"],
    ),
    "gated extra model": (
        Code.ARTIFACT_AUTH,
        World(
            pinned(**WITH_EXTRAS),
            ends_fetching("fetch-model-embedder", 41, "ArtifactAuth", "403 for meta/embedder"),
        ),
        ["403 for meta/embedder", "Secret extra-token", "spec.extraModels[embedder].credentials"],
    ),
    "extra model that is not there": (
        Code.ARTIFACT_NOT_FOUND,
        World(
            on_claim(**WITH_EXTRAS),
            ends_fetching("fetch-model-embedder", 44, "", "no JSON"),
        ),
        ["spec.extraModels[embedder].uri (hf://meta/embedder)", OTHER_COMMIT],
    ),
    "extra model in the image": (
        Code.FILE_MODELS_NOT_ALLOWED,
        World(on_claim(extraModels=[{"name": "x", "uri": "file:///opt/x"}])),
        ["file:///opt/x"],
    ),
    "folder of an extra model that cannot be mounted": (
        Code.ARTIFACT_NOT_FOUND,
        World(
            on_claim(**WITH_EXTRAS),
            waits('failed to prepare subPath for volumeMount "model-judge" of container "server"'),
        ),
        ["Folder small", "claim judges", "spec.extraModels[judge].uri"],
    ),
    "root user": (
        Code.POD_REFUSED,
        World(pinned(), waits("container has runAsNonRoot and image will run as root (pod: x)")),
        ["run as root", "securityContext"],
    ),
    "folder in a claim that cannot be mounted": (
        Code.ARTIFACT_NOT_FOUND,
        World(
            on_claim(),
            waits('failed to create subPath directory for volumeMount "model" of container "s"'),
        ),
        ["Folder chat", "claim models"],
    ),
    "gated": (
        Code.ARTIFACT_AUTH,
        World(
            WITH_TOKEN,
            exiting(41, code="ArtifactAuth", message="403 for meta/llama", where="init"),
        ),
        ["403 for meta/llama", "key token of Secret hf-token", "licence"],
    ),
    "gated, without a token": (
        Code.ARTIFACT_AUTH,
        World(pinned(), exiting(41, code="ArtifactAuth", message="401", where="init")),
        ["spec.model.credentials.secretRef", "example/tiny"],
    ),
    "hub down": (
        Code.ARTIFACT_UNREACHABLE,
        World(pinned(), exiting(42, code="ArtifactUnreachable", message="no answer", where="init")),
        ["no answer", "tried again"],
    ),
    "pickle": (
        Code.ARTIFACT_REFUSED,
        World(pinned(), exiting(43, code="ArtifactRefused", message="only pickle", where="init")),
        ["only pickle", "spec.model.allowPickle"],
    ),
    "no such revision": (
        Code.ARTIFACT_NOT_FOUND,
        World(unpinned(), exiting(44, code="ArtifactNotFound", message="no revision main")),
        ["no revision main", "empty: main"],
    ),
    "no such folder": (
        Code.ARTIFACT_NOT_FOUND,
        World(on_claim(), exiting(44, code="ArtifactNotFound", message="/model is missing")),
        ["/model is missing", "claim models", "/chat"],
    ),
    "corrupt": (
        Code.ARTIFACT_CORRUPT,
        World(pinned(), exiting(45, code="ArtifactCorrupt", message="sha differs", where="init")),
        ["sha differs", "another commit"],
    ),
    "corrupt on a claim": (
        Code.ARTIFACT_CORRUPT,
        World(on_claim(), exiting(45, code="ArtifactCorrupt", message="truncated")),
        ["Copy the model to pvc://models/chat again"],
    ),
    "unsupported": (
        Code.UNSUPPORTED_MODEL,
        World(pinned(), exiting(46, code="UnsupportedModel", message="no MambaForAll")),
        ["no MambaForAll", "spec.model.task (now Auto)", "Custom"],
    ),
    "disk full": (
        Code.DISK_FULL,
        World(
            pinned(**LIMITED),
            exiting(47, code="DiskFull", message="needs 5 GB, 1 GB is free", where="init"),
        ),
        ["needs 5 GB", "spec.resources.limits.ephemeral-storage (now 1Gi)"],
    ),
    "disk full, said by a foreign image": (
        Code.DISK_FULL,
        World(
            on_claim(engine="Custom", runtime={"image": "acme/x"}),
            ended(1, message="OSError: [Errno 28] No space left on device: '/tmp/a'"),
        ),
        ["No space left on device"],
    ),
    "evicted for its storage": (
        Code.DISK_FULL,
        World(
            pinned(),
            failed("Evicted", "Pod ephemeral local storage usage exceeds the total limit of 1Gi."),
        ),
        ["ephemeral local storage", "spec.resources.requests.ephemeral-storage"],
    ),
    "evicted for memory": (
        Code.OUT_OF_MEMORY,
        World(pinned(), failed("Evicted", "The node was low on resource: memory. Container x")),
        ["low on resource: memory", "spec.resources.requests.memory"],
    ),
    "killed by the kernel": (
        Code.OUT_OF_MEMORY,
        World(pinned(**LIMITED), pod_outcomes.out_of_memory()),
        ["limit of 2Gi", "exit code 137", "spec.resources.limits.memory (now 2Gi)"],
    ),
    "killed, without a limit": (
        Code.OUT_OF_MEMORY,
        World(pinned(), ended(137)),
        ["it has no limit", "spec.resources.limits.memory (not set)"],
    ),
    "allocation failed": (
        Code.OUT_OF_MEMORY,
        World(pinned(), exiting(48, code="OutOfMemory", message="needs 9 GB more")),
        ["needs 9 GB more"],
    ),
    "loads too long": (
        Code.LOAD_TIMEOUT,
        World(pinned(), exiting(49, code="LoadTimeout", message="loading took 1800 s")),
        ["loading took 1800 s", "--load-timeout-seconds"],
    ),
    "stopped by the startup probe": (
        Code.LOAD_TIMEOUT,
        World(pinned(), ended(0, reason="Completed", seconds=1806)),
        ["after 1806 s", "allows 1800 s", "startupProbe of container server"],
    ),
    "killed by the startup probe": (
        Code.LOAD_TIMEOUT,
        World(pinned(), ended(137, seconds=1870)),
        ["after 1870 s"],
    ),
    "killed long after it had started": (
        Code.OUT_OF_MEMORY,
        World(pinned(), ended(137, seconds=1890)),
        ["exit code 137"],
    ),
    "killed before its patience was over": (
        Code.OUT_OF_MEMORY,
        World(pinned(), ended(137, seconds=1790)),
        ["exit code 137"],
    ),
    "wrong flag": (
        Code.INVALID_CONFIGURATION,
        World(pinned(), exiting(2, code="InvalidConfiguration", message="--no is no flag")),
        ["--no is no flag", "spec.runtime.args"],
    ),
    "crash": (
        Code.RUNTIME_CRASH,
        World(pinned(), ended(1, message="Traceback:\n  File x\nValueError: broken\n")),
        ["exit code 1", "ValueError: broken", "kubectl logs -n ns", "--previous"],
    ),
    "crash by a signal": (
        Code.RUNTIME_CRASH,
        World(pinned(), ended(139)),
        ["exit code 139 (SIGSEGV)"],
    ),
    "ended for no reason": (
        Code.RUNTIME_CRASH,
        World(pinned(), ended(0, reason="Completed")),
        ["exit code 0, though it should have gone on"],
    ),
    "a foreign image may exit as it likes": (
        Code.RUNTIME_CRASH,
        World(on_claim(engine="Custom", runtime={"image": "acme/x"}), ended(41)),
        ["exit code 41"],
    ),
    "file": (
        Code.FILE_MODELS_NOT_ALLOWED,
        World({"model": {"uri": "file:///opt/model"}}),
        ["file:///opt/model", "MODELSERVER_OPERATOR_ALLOW_FILE_MODELS"],
    ),
}  # fmt: skip


def seen(world):
    world.steps(2)
    return world.diagnosis


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named(name):
    code, world, words = CASES[name]
    diagnosis = seen(world)
    assert diagnosis.get("code") == code
    said = f"{diagnosis['message']} {diagnosis['hint']}".lower()
    for word in words:
        assert word.lower() in said
    assert world.condition("Ready")["reason"] == code


def test_a_pod_that_has_just_got_its_node_is_not_asked_about():
    """Mounting takes a moment."""
    recent = pod_outcomes.not_mounted(since="2026-01-01T00:00:01Z")
    world = World(on_claim(), recent, mount_failure=cannot_mount("model", "later"))
    world.steps(3, seconds=1)
    assert world.plan.unmounted == ()
    assert world.plan.requeue_after_seconds == 5
    world.steps(3, seconds=2)
    assert len(world.plan.unmounted) == 1


def test_a_disk_has_a_minute_to_be_attached():
    recent = pod_outcomes.not_mounted(since="2026-01-01T00:00:01Z")
    world = World(on_claim(), recent, mount_failure=cannot_mount("model", "is not attached yet"))
    world.steps(2, seconds=29)
    assert world.diagnosis == {}
    world.step(seconds=5)
    assert world.diagnosis["code"] == Code.VOLUME_MISSING


def test_a_missing_secret_needs_no_such_patience():
    recent = pod_outcomes.not_mounted(since="2026-01-01T00:00:01Z")
    failure = cannot_mount("api-keys", 'secret "chat-keys" not found')
    world = World(on_claim(**WITH_KEYS), recent, mount_failure=failure)
    world.steps(2, seconds=4)
    assert world.diagnosis["code"] == Code.SECRET_MISSING


def test_a_pod_that_has_mounted_its_volumes_is_diagnosed_no_more():
    world = not_mounted(on_claim(), cannot_mount("model", "not yet"))
    world.steps(2)
    assert world.diagnosis["code"] == Code.VOLUME_MISSING
    world.outcome = pod_outcomes.FINE
    world.step()
    assert world.diagnosis == {}
    assert world.plan.unmounted == ()


def test_one_pod_of_many_is_asked_about():
    world = not_mounted(on_claim(replicas=3), cannot_mount("model", "not yet"))
    world.steps(2)
    assert len(world.plan.unmounted) == 1


def test_what_lasts_is_asked_about_less_often():
    world = not_mounted(on_claim(), cannot_mount("model", "not yet"))
    world.steps(2)
    assert world.plan.requeue_after_seconds == 31
    world.step(seconds=600)
    assert world.plan.requeue_after_seconds == 60


def deployment_failure(message):
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    return [condition | {"message": message}]


FAILURES = {
    'pods "chat-1-x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=3': (
        Code.QUOTA_EXCEEDED,
        "ResourceQuota compute",
    ),
    'pods "chat-1-x" is forbidden: failed quota: compute: must specify limits.cpu': (
        Code.QUOTA_EXCEEDED,
        "must specify limits.cpu",
    ),
    'pods "chat-1-x" is forbidden: violates PodSecurity "restricted:latest": hostNetwork': (
        Code.POD_REFUSED,
        "hostNetwork",
    ),
    'pods "chat-1-x" is forbidden: no PriorityClass with name important was found': (
        Code.POD_REFUSED,
        "spec.availability.priorityClassName",
    ),
    'admission webhook "policy.acme" denied the request: no latest tags': (
        Code.POD_REFUSED,
        "no latest tags",
    ),
}


@pytest.mark.parametrize("message", FAILURES)
def test_why_pods_cannot_be_created_is_told_by_their_deployment(message):
    code, word = FAILURES[message]
    world = World(pinned(), deployment_conditions=deployment_failure(message))
    diagnosis = seen(world)
    assert diagnosis["code"] == code
    assert word in diagnosis["message"] + diagnosis["hint"]
    assert "chat-1-x" not in diagnosis["message"], "names of pods change with every try"


DEPLOYMENT, SERVICE = ChildKey("Deployment", "chat-1"), ChildKey("Service", "chat")
TEMPLATE = {"podTemplate": {"spec": {"hostNetwork": True}}}
WRITES = [
    (SERVICE, 403, 'services "chat" is forbidden: exceeded quota: few, requested: services=1',
     {}, Code.QUOTA_EXCEEDED, "ResourceQuota few"),
    (SERVICE, 403, 'User "sa" cannot patch resource "services" in API group ""',
     {}, Code.PERMISSION_MISSING, "Service chat"),
    (SERVICE, 422, "denied: no Services on Fridays", TEMPLATE, Code.CHILD_REFUSED, "on Fridays"),
    (DEPLOYMENT, 422, "spec.template.spec.x: Invalid value", TEMPLATE, Code.INVALID_POD_TEMPLATE,
     "spec.template.spec.x"),
    (DEPLOYMENT, 422, "must be less than or equal to cpu limit", {}, Code.CHILD_REFUSED,
     "spec.resources"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "status", "message", "spec", "code", "word"), WRITES)
def test_a_refused_write_is_told(key, status, message, spec, code, word):
    world = World(pinned(**spec))
    world.step(refusals=[Refusal(key=key, status=status, message=message)])
    assert world.diagnosis["code"] == code
    assert word in world.diagnosis["message"] + world.diagnosis["hint"]
    if code is not Code.QUOTA_EXCEEDED:
        assert world.condition("Degraded")["reason"] == code


def test_a_strangers_object_is_named():
    stranger = {"kind": "Service", "metadata": {"name": "chat", "namespace": "ns"}}
    diagnosis = seen(World(pinned(), strangers={ChildKey("Service", "chat"): stranger}))
    assert diagnosis["code"] == Code.NAME_CONFLICT
    assert "Service chat of namespace ns" in diagnosis["message"]


def test_a_job_that_gets_no_pod_is_told_after_a_minute():
    world = World(unpinned(), exiting(1))
    world.step()
    world.pods = []
    assert "diagnosis" not in world.look()
    world.now += timedelta(seconds=61)
    diagnosis = world.look()["diagnosis"]
    assert diagnosis["code"] == Code.POD_REFUSED
    assert "kubectl describe job chat-resolve-" in diagnosis["hint"]


def test_a_deployment_that_gave_up_is_told_unless_its_pods_still_get_on():
    deadline = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    world = World(pinned(), pod_outcomes.starting(), deployment_conditions=[deadline])
    world.steps(2)
    assert world.diagnosis["code"] == Code.LOAD_TIMEOUT
    world.progress = {world.pods[0]["metadata"]["name"]: fetching(50)}
    assert "diagnosis" not in world.look()


def test_every_code_has_a_case():
    covered = {code for code, *_ in CASES.values()}
    covered |= {code for code, _ in FAILURES.values()}
    covered |= {code for *_, code, _ in WRITES}
    elsewhere = {Code.NAME_CONFLICT, Code.INVALID_RESOURCE}  # above; test_status.py
    assert covered | elsewhere == set(Code)


HEALTHY = [pod_outcomes.FINE, pod_outcomes.starting()]


@pytest.mark.parametrize("outcome", HEALTHY, ids=lambda outcome: outcome.name)
def test_nothing_is_wrong_with_a_server_that_serves_or_starts(outcome):
    assert seen(World(pinned(replicas=2), outcome)) == {}


def overcome(status):
    """The same pod later: restarted once, and well since."""
    for container in status["containerStatuses"]:
        end = {"exitCode": 50, "reason": "Error", "startedAt": NOW, "finishedAt": NOW}
        container |= {"lastState": {"terminated": end}, "restartCount": 1}
    return status


def test_a_crash_that_was_overcome_is_forgotten():
    fine = Outcome(
        name="recovered", status_of=lambda pod: overcome(pod_outcomes.FINE.status_of(pod))
    )
    assert seen(World(pinned(), fine)) == {}


def test_a_crash_is_remembered_while_the_next_try_starts():
    def status_of(pod):
        status = overcome(pod_outcomes.FINE.status_of(pod))
        status["conditions"][-1]["status"] = "False"
        for container in status["containerStatuses"]:
            container |= {"ready": False, "started": False}
        return status

    world = World(pinned(), Outcome(name="trying again", status_of=status_of))
    assert seen(world)["code"] == Code.RUNTIME_CRASH


def test_what_the_hub_refused_is_remembered_while_the_job_asks_again():
    """A Job's pod has no probe: it counts as ready for as long as each try runs."""

    def status_of(pod):
        status = overcome(pod_outcomes.FINE.status_of(pod)) | {"phase": "Running"}
        status["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": NOW}]
        for container in status["containerStatuses"]:
            container |= {"state": {"running": {"startedAt": NOW}}, "ready": True}
        return status

    asking_again = Outcome(name="asking again", status_of=status_of)
    world = World(unpinned(), asking_again)
    assert seen(world)["code"] == Code.RUNTIME_CRASH
    assert world.condition("Ready")["status"] == "False"


def test_a_server_that_started_well_and_is_only_not_ready_has_not_crashed():
    def status_of(pod):
        status = overcome(pod_outcomes.FINE.status_of(pod))
        status["conditions"][-1]["status"] = "False"
        return status

    assert seen(World(pinned(), Outcome(name="busy", status_of=status_of))) == {}


def test_an_eviction_is_forgotten_when_another_pod_became_ready_since():
    world = World(pinned(replicas=2))
    world.steps(3)
    gone, kept = world.pods
    gone["metadata"]["creationTimestamp"] = "2025-12-31T00:00:00Z"
    gone["status"] = failed("Evicted", "low on resource: ephemeral-storage").status_of(gone)
    assert "diagnosis" not in world.look()
    kept["status"]["conditions"][-1]["lastTransitionTime"] = "2025-12-30T00:00:00Z"
    assert world.look()["diagnosis"]["code"] == Code.DISK_FULL


def test_only_the_target_decides():
    """The old revision crashes, the new one is fine: nothing is wrong with what is asked for."""
    world = World(pinned())
    world.steps(3)
    world.outcomes = {world.status["servingRevision"]: ended(1)}
    world.outcome = pod_outcomes.starting()
    world.change(model={"uri": "hf://example/tiny", "revision": OTHER_COMMIT})
    assert seen(world) == {}


def test_a_diagnosis_goes_when_the_spec_is_right_again():
    world = World(pinned(runtime={"args": ["--no"]}), exiting(2, code="InvalidConfiguration"))
    assert seen(world)["code"] == Code.INVALID_CONFIGURATION
    world.outcome = pod_outcomes.FINE
    world.change(runtime={})
    assert seen(world) == {}


def test_an_image_is_told_in_the_same_words_during_error_and_back_off():
    cause = "failed to resolve reference: not found"
    first = seen(World(pinned(), image_not_pulled("ErrImagePull", cause)))
    message = f'Back-off pulling image "registry.example/runtime:1": ErrImagePull: {cause}'
    assert seen(World(pinned(), image_not_pulled("ImagePullBackOff", message))) == first


def test_what_the_container_said_is_cleaned_of_secrets():
    words = "Bearer abcdefghijkl failed, hf_abcdefghijklmnop, https://user:pw@host/x?sig=abc123"
    diagnosis = seen(World(pinned(), ended(1, message=words)))
    for secret in ("abcdefghijkl", "hf_abc", "user:pw", "abc123"):
        assert secret not in diagnosis["message"]
    assert "[redacted]" in diagnosis["message"]


def test_a_code_of_nobody_in_a_termination_message_is_not_believed():
    said = exiting(1, code="EverythingIsFine", message="trust me")
    assert seen(World(pinned(), said))["code"] == Code.RUNTIME_CRASH


@pytest.mark.parametrize(("exit_code", "code"), EXIT_CODES.items())
def test_an_exit_code_of_the_contract_is_enough(exit_code, code):
    assert seen(World(pinned(), ended(exit_code)))["code"] == code


SECRETS = [
    "hf_AbCdEfGhIjKlMnOp",
    "Authorization: Bearer abc.def-ghi_jkl",
    "password=correct-horse",
    '"api_key": "1234567890"',
    "token=abcdefghij",
    "AKIAIOSFODNN7EXAMPLE",
    "https://x.example/f?X-Amz-Signature=deadbeef00&x=1",
    "https://user:pass@hub.example/a",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQ\nabc\n-----END PRIVATE KEY-----",
]
HIDDEN = ["AbCdEf", "abc.def", "correct-horse", "1234567890", "abcdefghij", "IOSFODNN", "deadbeef",
          "user:pass", "c2lnbmF0", "MIIEvQ"]  # fmt: skip


@pytest.mark.parametrize(("text", "hidden"), list(zip(SECRETS, HIDDEN, strict=True)))
def test_secrets_are_redacted(text, hidden):
    shown = redacted(f"before {text} after")
    assert hidden not in shown
    assert shown.startswith("before ")


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=4096 is too many",
        "couldn't find key token in Secret ns/hf-token",
        "the token of spec.model.credentials.secretRef is not accepted",
        "ghcr.io/acme/x@sha256:0123456789abcdef not found",
        "exceeded quota: compute, requested: cpu=2",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "word", ["x", "a-", "token", "eyJ.", "-----BEGIN PRIVATE KEY-----", "://", "sk-", "Bearer "]
)
def test_no_text_of_others_keeps_the_operator_busy(word):
    """Patterns that look ahead again and again would take minutes for some of these."""
    for _ in range(20):
        clean(word * 20_000)


@given(st.text(max_size=3000), st.integers(10, 2000))
def test_shortened_text_fits_and_keeps_its_side(text, longest):
    assert len(shortened(text, longest).encode()) <= longest
    assert len(last_part(text, longest).encode()) <= longest
    if len(text.encode()) <= longest:
        assert shortened(text, longest) == last_part(text, longest) == text


@given(st.text(max_size=300))
def test_clean_text_is_one_line(text):
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", clean(text))


@given(st.text(max_size=100) | st.sampled_from(["[]", "1", "null", '{"code": 1}', "{" * 5000]))
def test_any_termination_message_can_be_read(text):
    report_in(text)
    said = said_in(text)
    assert all(isinstance(one, str) for one in (said.code, said.message, said.hint))
