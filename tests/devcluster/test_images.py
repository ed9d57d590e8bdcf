"""Names of images, and their layers out of the engine's own store."""

import base64
import gzip
import hashlib
import io
import json
import tarfile

import pytest

from devcluster import docker_store, image_build
from devcluster.docker_store import Layer, StoredImage
from devcluster.errors import CommandError
from devcluster.image_build import ImageSpec, Part, Variant, content_hash, stage
from devcluster.layer_link import writable_folder

FILES = {"etc/name": b"value\n", "empty": b"", "big": bytes(range(256)) * 9000}


def a_layer_tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tar_split(tar_bytes):
    """The entries that Docker keeps of a layer: headers and padding, files by name."""
    entries, end = [], 0
    with tarfile.open(fileobj=io.BytesIO(tar_bytes)) as tar:
        for member in tar:
            entries.append(segment(tar_bytes[end : member.offset_data]))
            entries.append({"type": 1, "name": member.name, "size": member.size, "payload": "AAA="})
            end = member.offset_data + member.size
    return [*entries, segment(tar_bytes[end:])]


def segment(content):
    return {"type": 2, "payload": base64.b64encode(content).decode()}


@pytest.fixture
def layer(tmp_path, monkeypatch):
    """One layer in a store laid out as Docker does."""
    monkeypatch.setenv("DEVCLUSTER_CACHE", str(tmp_path))
    content = a_layer_tar()
    digest = hashlib.sha256(content).hexdigest()
    database = tmp_path / "docker/image/overlay2/layerdb/sha256" / digest
    database.mkdir(parents=True)
    (database / "cache-id").write_text("unpacked")
    lines = "".join(json.dumps(entry) + "\n" for entry in tar_split(content))
    (database / "tar-split.json.gz").write_bytes(gzip.compress(lines.encode()))
    for name, data in FILES.items():
        path = tmp_path / "docker/overlay2/unpacked/diff" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Layer(diff_id=f"sha256:{digest}", chain_id=f"sha256:{digest}", parent_id="")


def test_a_layer_comes_out_as_it_was_hashed(layer):
    content = b"".join(layer.content())
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer.diff_id
    assert layer.size() == len(content)


@pytest.mark.parametrize("is_wanted", [True, False])
def test_an_archive_names_every_layer_and_holds_the_wanted_ones(layer, is_wanted):
    image = StoredImage(name="localhost/x:1", config=b"{}", layers=(layer,))
    output = io.BytesIO()
    docker_store.write_archive(image, [layer] if is_wanted else [], output)
    with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as tar:
        blobs = {member.name: tar.extractfile(member).read() for member in tar}
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]
    (descriptor,) = json.loads(blobs["index.json"])["manifests"]
    assert descriptor["annotations"] == {"io.containerd.image.name": "localhost/x:1"}
    manifest = json.loads(blobs[f"blobs/{descriptor['digest'].replace(':', '/')}"])
    assert manifest["layers"][0]["digest"] == layer.diff_id
    assert (f"blobs/{layer.diff_id.replace(':', '/')}" in blobs) is is_wanted


def test_chain_ids_follow_the_image_specification():
    first, second = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    chained = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert docker_store.chain_ids([first, second]) == [first, f"sha256:{chained}"]


def test_an_image_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVCLUSTER_CACHE", str(tmp_path))
    assert not docker_store.has_image("localhost/x:1")
    store = tmp_path / "docker/image/overlay2"
    store.mkdir(parents=True)
    names = {"localhost/x": {"localhost/x:1": "sha256:" + "a" * 64}}
    (store / "repositories.json").write_text(json.dumps({"Repositories": names}))
    assert docker_store.has_image("localhost/x:1")
    assert not docker_store.has_image("localhost/x:2")


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("mount -t bind /s/1/fs /t -o rw,rbind", "/s/1/fs"),
        (
            "mount -t overlay overlay /t -o workdir=/s/2/work,upperdir=/s/2/fs,lowerdir=/s/1/fs",
            "/s/2/fs",
        ),
    ],
)
def test_the_folder_of_a_snapshot_is_read_from_its_mount(command, folder):
    assert str(writable_folder(command)) == folder


def test_a_snapshot_of_another_kind_is_refused():
    with pytest.raises(CommandError, match="mounts a snapshot in an unknown way"):
        writable_folder("mount -t zfs pool/x /target -o rw")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(image_build, "REPOSITORY", tmp_path)
    for name in ("Dockerfile.operator", "LICENSE", "requirements/operator.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    code = tmp_path / "operator/modelserver_operator"
    code.mkdir(parents=True)
    (code / "a.py").write_text("a = 1")
    return tmp_path


def name_in(checkout):
    return ImageSpec(part=Part.OPERATOR).name(checkout)


@pytest.mark.parametrize(
    "changed",
    ["Dockerfile.operator", "requirements/operator.lock", "operator/modelserver_operator/a.py"],
)
def test_the_name_changes_with_every_input(checkout, changed):
    before = name_in(checkout)
    (checkout / changed).write_text("changed")
    assert name_in(checkout) != before


def test_the_name_changes_when_a_file_is_renamed(checkout):
    before, code = name_in(checkout), checkout / "operator/modelserver_operator"
    (code / "a.py").rename(code / "b.py")
    assert name_in(checkout) != before


def test_compiled_files_do_not_count(checkout):
    before = name_in(checkout)
    cache = checkout / "operator/modelserver_operator/__pycache__"
    cache.mkdir()
    (cache / "a.pyc").write_bytes(b"compiled")
    assert name_in(checkout) == before


def test_the_staged_copy_keeps_its_meaning_while_the_checkout_changes(checkout, tmp_path):
    image = stage(ImageSpec(part=Part.OPERATOR), tmp_path / "staged")
    (checkout / "operator/modelserver_operator/a.py").write_text("a = 2")
    assert (image.context / "operator/modelserver_operator/a.py").read_text() == "a = 1"
    assert name_in(checkout) != image.name


def test_variants_of_the_runtime_have_names_of_their_own(tmp_path):
    (tmp_path / "file").write_text("x")
    arguments = [
        ImageSpec(part=Part.RUNTIME, variant=variant, torch_index=index).arguments
        for variant, index in ((Variant.CPU, ""), (Variant.CUDA, ""), (Variant.CPU, "https://x"))
    ]
    files = [(tmp_path / "file").relative_to(tmp_path)]
    assert len({content_hash(tmp_path, files, each) for each in arguments}) == 3


def test_the_gateway_s_image_is_the_runtime_s_code_with_fewer_libraries():
    spec = ImageSpec(part=Part.GATEWAY)
    inputs = {str(path) for path in spec.inputs()}
    assert {"Dockerfile.gateway", "LICENSE", "requirements/gateway.lock"} <= inputs
    assert "runtime/modelserver_runtime/gateway/front/door.py" in inputs
    assert spec.repository.endswith("-gateway")
    assert spec.arguments == {}


def test_the_gateway_s_image_has_what_the_runtime_has_of_its_libraries_and_no_model():
    def pinned(part):
        lines = (image_build.REPOSITORY / f"requirements/{part}.lock").read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line and not line.startswith(" ")}

    slim, whole = pinned("gateway"), pinned("runtime")
    assert slim < whole
    names = {line.partition("==")[0] for line in slim}
    assert not names & {"torch", "transformers", "fastapi", "numpy", "tokenizers"}
