"""The hub's own client and our fetch, against a hub that fails in every way we answer for."""

from dataclasses import replace
from functools import partial

import huggingface_hub
import pytest

from modelserver_runtime.artifacts import (
    ArtifactPolicy,
    HubAccess,
    ModelSource,
    Progress,
    Tuning,
    fetch,
    resolve,
)
from modelserver_runtime.artifacts.download import partial_path
from modelserver_runtime.artifacts.patience import Pace
from modelserver_runtime.artifacts.selection import RemoteFile
from modelserver_runtime.errors import (
    ArtifactAuth,
    ArtifactCorrupt,
    ArtifactNotFound,
    ArtifactRefused,
    ArtifactUnreachable,
    DiskFull,
    InvalidConfiguration,
    UnsupportedModel,
)
from support.artifacts import CONFIG, model_files, safetensors_bytes
from support.hub import Hub, a_hub

NAME = "acme/chat"
URI = f"hf://{NAME}"
QUICK = Tuning(pace=Pace(first_seconds=0.01, longest_seconds=0.05))


@pytest.fixture
def hub():
    with a_hub() as hub:
        hub.commit(NAME, model_files())
        yield hub


def access(hub: Hub, *, token: str | None = None, patience: float = 0.3) -> HubAccess:
    return HubAccess(endpoint=hub.url, token=token, patience_seconds=patience)


def resolved(hub: Hub, *, uri: str = URI, revision: str = "", token: str | None = None, **policy):
    source = ModelSource(uri=uri, revision=revision, policy=ArtifactPolicy(**policy))
    return resolve(source, hub=access(hub, token=token), progress=Progress(), tuning=QUICK)


def fetched(hub, directory, *, revision="", token=None, patience=0.3, progress=None, **policy):
    return fetch(
        ModelSource(uri=URI, revision=revision, policy=ArtifactPolicy(**policy)),
        directory=directory,
        hub=access(hub, token=token, patience=patience),
        progress=progress or Progress(),
        tuning=QUICK,
    )


class TestTheHubIsOneForItsOwnClient:
    """Otherwise the tests below would prove nothing."""

    def test_snapshot_download(self, hub, tmp_path):
        huggingface_hub.snapshot_download(
            NAME, local_dir=tmp_path, endpoint=hub.url, token=False, revision="main"
        )
        for path, content in model_files().items():
            assert (tmp_path / path).read_bytes() == content

    def test_tree_of_many_pages_and_paths_info(self, hub):
        hub.commit(
            "acme/wide",
            {f"folder/{number:04}.txt": b"x" for number in range(1500)} | {"a.bin": b"y"},
        )
        api = huggingface_hub.HfApi(endpoint=hub.url, token=False)
        tree = list(api.list_repo_tree("acme/wide", recursive=True))
        assert len(tree) == 1502
        assert [entry.path for entry in api.list_repo_tree("acme/wide")] == ["folder", "a.bin"]
        (info,) = api.get_paths_info("acme/wide", ["a.bin"])
        assert info.lfs.size == 1

    def test_auth_check_refuses_a_gated_repository(self, hub):
        hub.repositories[NAME].gated = True
        with pytest.raises(huggingface_hub.errors.GatedRepoError):
            huggingface_hub.HfApi(endpoint=hub.url, token=False).auth_check(NAME)


class TestResolve:
    def test_a_branch_becomes_its_commit_with_size_and_number_of_files(self, hub):
        files = model_files(seed=1)
        commit = hub.commit(NAME, files, branch="v2")
        summary = resolved(hub, revision="v2")
        assert summary.as_json() == {
            "revision": commit,
            "sizeBytes": sum(map(len, files.values())),
            "files": 3,
        }

    def test_no_revision_means_the_default_branch(self, hub):
        assert resolved(hub).revision == hub.repositories[NAME].refs["main"]

    def test_a_commit_stays_itself_after_the_branch_has_moved(self, hub):
        old = hub.repositories[NAME].refs["main"]
        hub.commit(NAME, model_files(seed=9))
        assert resolved(hub, revision=old).revision == old

    def test_nothing_is_downloaded(self, hub):
        resolved(hub)
        assert not [seen for seen in hub.seen if "/resolve/" in seen.path]

    def test_only_what_would_be_fetched_is_counted(self, hub):
        hub.commit(
            NAME, model_files() | {"model.gguf": b"x" * 5000, "pytorch_model.bin": b"y" * 5000}
        )
        assert resolved(hub).files == 3


def gate(hub):
    hub.repositories[NAME].gated = True


def make_private(hub):
    hub.repositories[NAME].private = True


def lose_repository(hub):
    del hub.repositories[NAME]


def hide_missing(hub):
    lose_repository(hub)
    hub.hides_missing = True


def gate_for_token(hub):
    gate(hub)
    hub.tokens = {"stranger"}


def forbid(hub):
    hub.tokens = {"stranger"}
    hub.break_("status", path="/api/*", status=403)


REFUSALS = [
    (lose_repository, "", None, ArtifactNotFound, "The repository acme/chat does not exist at"),
    (
        hide_missing,
        "",
        None,
        ArtifactAuth,
        "asked without a token: it is private or does not exist",
    ),
    (
        make_private,
        "",
        None,
        ArtifactAuth,
        "asked without a token: it is private or does not exist",
    ),
    (lambda _: None, "nope", None, ArtifactNotFound, "acme/chat has no revision 'nope'"),
    (lambda _: None, "f" * 40, None, ArtifactNotFound, f"acme/chat has no revision '{'f' * 40}'"),
    (gate, "", None, ArtifactAuth, "acme/chat is gated, and the hub answered 401"),
    (gate_for_token, "", "stranger", ArtifactAuth, "acme/chat is gated, and the hub answered 403"),
    (lambda _: None, "", "expired", ArtifactAuth, "the token of spec.model.credentials.secretRef"),
    (forbid, "", "stranger", ArtifactAuth, "answered 403 for acme/chat: the token of"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("command", ["resolve", "fetch"])
def test_what_the_hub_refuses_is_said_and_not_tried_again(hub, tmp_path, refusal, command):
    spoil, revision, token, failure, sentence = refusal
    act = resolved if command == "resolve" else partial(fetched, directory=tmp_path)
    spoil(hub)
    with pytest.raises(failure) as caught:
        act(hub, revision=revision, token=token)
    assert sentence in caught.value.message
    assert caught.value.hint
    assert len([seen for seen in hub.seen if seen.path.startswith("/api/")]) == 1


def test_a_gated_repository_names_its_licence_page_and_the_secret(hub):
    gate(hub)
    with pytest.raises(ArtifactAuth) as caught:
        resolved(hub)
    assert f"Accept its licence at {hub.url}/{NAME}" in caught.value.hint
    assert "spec.model.credentials.secretRef" in caught.value.hint


def test_a_gated_repository_opens_with_an_accepted_licence(hub, tmp_path):
    gate(hub)
    hub.tokens = hub.accepted_licences = {"friend"}
    assert fetched(hub, tmp_path, token="friend").files == 3


def test_a_mirror_that_names_no_codes_still_gets_a_missing_repository_told(hub):
    lose_repository(hub)
    hub.names_codes = False
    with pytest.raises(ArtifactNotFound, match="The repository acme/chat"):
        resolved(hub)


def test_the_token_does_not_go_to_the_host_of_large_files(hub, tmp_path):
    hub.large_file_host = "localhost"
    hub.tokens = {"friend"}
    fetched(hub, tmp_path, token="friend")
    tokens = {seen.token for seen in hub.seen if seen.path.startswith("/_large/")}
    assert tokens == {""}
    assert {seen.token for seen in hub.seen if seen.path.startswith("/api/")} == {"friend"}


def test_a_token_of_the_machine_is_never_sent(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "of-the-machine")
    resolved(hub)
    assert {seen.token for seen in hub.seen} == {""}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_a_hub_in_trouble_is_given_up_after_patience(hub, status):
    hub.break_("status", status=status)
    with pytest.raises(ArtifactUnreachable, match=rf"answers {status}.*gave up after") as caught:
        resolved(hub)
    assert len(hub.seen) > 1
    assert "network policy" in caught.value.hint


@pytest.mark.parametrize("status", [500, 503, 429])
@pytest.mark.parametrize("path", ["/api/*", "*/resolve/*", "/_large/*"])
def test_a_hub_that_recovers_is_forgiven(hub, tmp_path, status, path):
    hub.break_("status", path=path, status=status, times=3)
    assert fetched(hub, tmp_path, patience=30).files == 3


def test_a_hub_that_is_down_is_given_up(hub):
    hub.stop()
    with pytest.raises(ArtifactUnreachable, match=r"does not answer .*refused.*gave up after"):
        resolved(hub)


def test_an_unknown_host_is_named_as_such():
    nowhere = HubAccess(endpoint="http://hub.invalid", patience_seconds=0)
    with pytest.raises(ArtifactUnreachable, match=r"http://hub\.invalid does not answer .*[Nn]ame"):
        resolve(ModelSource(uri=URI), hub=nowhere, progress=Progress(), tuning=QUICK)


def test_down_in_the_middle_and_back_again(hub, tmp_path):
    commit = hub.commit(NAME, model_files(size=500_000))
    hub.break_("cut", path="/_large/*", at=100_000, times=1)
    waits = WaitsThat(hub.stop, hub.start)
    fetched(hub, tmp_path, revision=commit, patience=30, progress=waits)
    assert waits.messages, "the fetch never waited"
    assert (tmp_path / "model.safetensors").read_bytes() == safetensors_bytes(500_000)


class WaitsThat(Progress):
    """Does one thing when the fetch first says that it waits, and another when it says so again."""

    def __init__(self, *actions):
        super().__init__()
        self.actions = list(actions)
        self.messages = []

    def say(self, message):
        super().say(message)
        if "trying again" in message:
            self.messages.append(message)
            if self.actions:
                self.actions.pop(0)()


def test_retry_after_is_obeyed(hub):
    hub.break_("status", status=429, headers={"Retry-After": "1"}, times=1)
    waits = WaitsThat()
    resolve(ModelSource(uri=URI), hub=access(hub, patience=30), progress=waits, tuning=QUICK)
    assert waits.messages == [f"{hub.url} answers 429; trying again in 1 s"]


def test_the_rate_limit_header_is_obeyed(hub):
    headers = {"ratelimit": '"api";r=0;t=1', "ratelimit-policy": '"fixed window";"api";q=5;w=300'}
    hub.break_("status", status=429, headers=headers, times=1)
    waits = WaitsThat()
    resolve(ModelSource(uri=URI), hub=access(hub, patience=30), progress=waits, tuning=QUICK)
    assert waits.messages == [f"{hub.url} answers 429; trying again in 1 s"]


def test_a_wish_beyond_patience_ends_at_once(hub):
    hub.break_("status", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(ArtifactUnreachable, match="asks to wait 3600 s; gave up after 1 attempt"):
        resolved(hub)
    assert len(hub.seen) == 1


def test_an_endpoint_that_is_no_hub_is_said(hub):
    hub.break_("status", status=200)
    with pytest.raises(ArtifactUnreachable, match="does not speak the hub's API"):
        resolved(hub)


def test_a_strange_status_is_not_tried_again(hub):
    hub.break_("status", status=418)
    with pytest.raises(ArtifactUnreachable, match="418"):
        resolved(hub)
    assert len(hub.seen) == 1


def test_offline_mode_is_said(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ArtifactUnreachable, match="HF_HUB_OFFLINE is set"):
        resolved(hub)


BAD_URIS = [
    "gpt2",
    "s3://bucket/model",
    "hf://",
    "hf://a/b/c",
    "hf://acme/chat@v1",
    "hf:///x",
    "hf://a--b/..",
]


@pytest.mark.parametrize(
    "uri", [*BAD_URIS, "pvc://claim/path", "file:///models/chat", "hf://acme/a..b"]
)
def test_an_uri_that_cannot_be_fetched_is_refused_before_asking(hub, uri):
    with pytest.raises(InvalidConfiguration):
        resolved(hub, uri=uri)
    assert not hub.seen


def test_an_endpoint_must_be_an_url():
    with pytest.raises(InvalidConfiguration, match="must start with https://"):
        resolve(ModelSource(uri=URI), hub=HubAccess(endpoint="hub:80"), progress=Progress())


class TestCorruptFiles:
    def test_a_truncated_file_is_named_with_expected_and_got(self, hub, tmp_path):
        hub.break_("truncate", path="/_large/*", at=600)
        size = len(safetensors_bytes(1000))
        with pytest.raises(ArtifactCorrupt) as caught:
            fetched(hub, tmp_path)
        assert "model.safetensors of acme/chat" in caught.value.message
        assert f"expected {size} bytes, got a file of 600" in caught.value.message
        assert not (tmp_path / "model.safetensors").exists()

    @pytest.mark.parametrize("path", ["/_large/*", "*/tokenizer.json"])
    def test_a_corrupt_file_is_named_with_both_digests(self, hub, tmp_path, path):
        hub.break_("corrupt", path=path, at=5)
        with pytest.raises(
            ArtifactCorrupt, match=r"came corrupt twice: expected digest \w+, got \w+"
        ):
            fetched(hub, tmp_path)
        assert [seen.range for seen in hub.seen if seen.method == "GET" and "large" in seen.path]

    @pytest.mark.parametrize("kind", ["truncate", "corrupt"])
    def test_a_file_that_is_whole_at_the_second_time_is_taken(self, hub, tmp_path, kind):
        hub.break_(kind, path="/_large/*", at=600, times=1)
        fetched(hub, tmp_path)
        assert (tmp_path / "model.safetensors").read_bytes() == safetensors_bytes(1000)

    def test_a_file_without_announced_size_is_fetched(self, hub, tmp_path):
        hub.break_("no-length", path="/_large/*")
        fetched(hub, tmp_path)
        assert (tmp_path / "model.safetensors").read_bytes() == safetensors_bytes(1000)

    def test_a_longer_file_is_refused(self, hub, tmp_path):
        files = hub.repositories[NAME].commits[hub.repositories[NAME].refs["main"]]
        blob = files["tokenizer.json"]
        files["tokenizer.json"] = replace(blob, content=blob.content + b"more")
        hub.break_("no-length", path="*/tokenizer.json", at=4)
        with pytest.raises(ArtifactCorrupt, match=f"expected {blob.size} bytes, got more"):
            fetched(hub, tmp_path)

    def test_weights_that_were_uploaded_broken_are_found(self, hub, tmp_path):
        hub.commit(NAME, model_files() | {"model.safetensors": safetensors_bytes(1000)[:-10]})
        with pytest.raises(ArtifactCorrupt, match="its header says"):
            fetched(hub, tmp_path)


PICKLED = {"config.json": CONFIG, "pytorch_model.bin": b"pickle"}


class TestRefusedContents:
    def test_weights_as_pickle_only(self, hub, tmp_path):
        hub.commit(NAME, PICKLED)
        with pytest.raises(ArtifactRefused, match=r"pickle only \(pytorch_model.bin\)"):
            resolved(hub)
        with pytest.raises(ArtifactRefused):
            fetched(hub, tmp_path)

    def test_pickle_is_fetched_when_asked_for(self, hub, tmp_path):
        hub.commit(NAME, PICKLED)
        assert fetched(hub, tmp_path, allow_pickle=True).files == 2
        assert (tmp_path / "pytorch_model.bin").read_bytes() == b"pickle"

    def test_code_is_left_behind(self, hub, tmp_path):
        commit = hub.commit(NAME, model_files() | {"modeling.py": b"print()"})
        fetched(hub, tmp_path, revision=commit)
        assert not (tmp_path / "modeling.py").exists()

    def test_code_is_fetched_at_a_commit_when_trusted(self, hub, tmp_path):
        commit = hub.commit(NAME, model_files() | {"modeling.py": b"print()"})
        fetched(hub, tmp_path, revision=commit, trust_remote_code=True)
        assert (tmp_path / "modeling.py").exists()

    def test_code_is_not_trusted_at_a_branch(self, hub):
        with pytest.raises(ArtifactRefused, match="may only be trusted at a commit"):
            resolved(hub, revision="main", trust_remote_code=True)

    def test_a_repository_that_is_no_model(self, hub):
        hub.commit(NAME, {"model.gguf": b"x"})
        with pytest.raises(UnsupportedModel, match=r"holds no config\.json"):
            resolved(hub)

    def test_a_path_that_leads_out_of_the_directory(self, hub, tmp_path):
        hub.commit(NAME, model_files() | {"../outside.json": b"{}"})
        with pytest.raises(ArtifactRefused, match="leads out of the model's directory"):
            fetched(hub, tmp_path / "model")
        assert not (tmp_path / "outside.json").exists()


class TestDisk:
    def test_space_is_looked_at_before_the_first_byte(self, hub, tmp_path, monkeypatch):
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
        size = resolved(hub).size_bytes
        with pytest.raises(DiskFull, match=f"needs {size} more bytes .* has 100 available"):
            fetched(hub, tmp_path)
        assert not [seen for seen in hub.seen if "/resolve/" in seen.path]

    def test_a_disk_that_fills_up_meanwhile(self, hub, tmp_path):
        blob = hub.repositories[NAME].commits[resolved(hub).revision]["model.safetensors"]
        file = RemoteFile(path="model.safetensors", size=blob.size, sha256=blob.sha256)
        half = partial_path(tmp_path, file)
        half.parent.mkdir(parents=True)
        half.symlink_to("/dev/full")
        with pytest.raises(DiskFull, match=r"needs \d{4} more bytes .* has \d+ available"):
            fetched(hub, tmp_path)
