"""The cache of one kind: news in any order, the newest stays, nothing comes back from the dead."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.cluster.client import ObjectName
from modelserver_operator.cluster.store import child_store, pod_store, server_store

CHAT = ObjectName("default", "chat")


def child(name="chat", *, uid="u1", version=1, server="chat", labels=None, owner=True):
    reference = {
        "apiVersion": "modelserver.dev/v1alpha1",
        "kind": "ModelServer",
        "name": server,
        "uid": "s1",
        "controller": True,
    }
    metadata = {
        "name": name,
        "namespace": "default",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": {"modelserver.dev/server": server} if labels is None else labels,
        "ownerReferences": [reference] if owner else [],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata}


def test_a_new_object_is_news_for_its_server():
    store = child_store()
    assert store.put(child()) == {CHAT}
    assert [one["metadata"]["name"] for one in store.of_server(CHAT)] == ["chat"]


def test_what_we_know_already_is_no_news():
    store = child_store()
    store.put(child(version=5))
    assert store.put(child(version=5)) == set()
    assert store.put(child(version=4)) == set()


def test_an_object_of_the_same_name_and_another_uid_takes_its_place():
    store = child_store()
    store.put(child(uid="u1", version=1))
    store.put(child(uid="u2", version=7))
    assert store.get(CHAT)["metadata"]["uid"] == "u2"


def test_the_end_of_an_earlier_object_does_not_remove_a_later_one_of_its_name():
    store = child_store()
    store.put(child(uid="u2", version=7))
    assert store.remove(child(uid="u1", version=6)) == set()
    assert store.get(CHAT)["metadata"]["uid"] == "u2"


def test_what_we_deleted_does_not_come_back_by_events_from_before():
    store = child_store()
    store.put(child(version=5))
    store.deleted_by_us(CHAT, "u1")
    assert store.put(child(version=6)) == set()
    assert store.get(CHAT) is None


def test_a_name_that_we_deleted_may_be_used_again():
    store = child_store()
    store.put(child(version=5))
    store.deleted_by_us(CHAT, "u1")
    assert store.put(child(uid="u2", version=9)) == {CHAT}


def test_a_child_whose_owner_was_removed_by_hand_is_found_by_its_label():
    store = child_store()
    store.put(child(version=1))
    store.put(child(version=2, owner=False))
    assert len(store.of_server(CHAT)) == 1


def test_a_child_that_changes_hands_is_news_for_both_servers():
    store = child_store()
    store.put(child(version=1))
    assert store.put(child(version=2, server="other")) == {CHAT, ObjectName("default", "other")}
    assert store.of_server(CHAT) == []


def test_an_object_that_belongs_to_nobody_is_not_kept():
    store = child_store()
    assert store.put(child(owner=False, labels={})) == set()
    assert len(store) == 0


def test_a_list_forgets_what_is_not_in_it():
    store = child_store()
    store.put(child("a", uid="u1", version=1))
    store.put(child("b", uid="u2", version=2))
    assert store.retain({"u2"}, 10, "") == {CHAT}
    assert [one["metadata"]["name"] for one in store.of_server(CHAT)] == ["b"]


def test_a_list_does_not_forget_what_was_written_after_it():
    store = child_store()
    store.put(child(version=11))
    assert store.retain(set(), 10, "") == set()


def test_a_list_of_one_namespace_says_nothing_of_others():
    store = child_store()
    store.put(child(version=1))
    assert store.retain(set(), 10, "elsewhere") == set()


def test_a_server_is_its_own_key():
    store = server_store()
    manifest = child("chat", labels={}, owner=False)
    assert store.put(manifest) == {CHAT}


def test_pods_are_kept_without_what_nobody_reads():
    store = pod_store()
    pod = child("chat-x", owner=False)
    pod["metadata"]["managedFields"] = [{"manager": "kubelet"}]
    pod["spec"] = {
        "nodeName": "n1",
        "volumes": [{"name": "model"}],
        "containers": [{"name": "server", "image": "i", "env": [{"name": "SECRET"}]}],
    }
    store.put(pod)
    kept = store.of_server(CHAT)[0]
    assert "managedFields" not in kept["metadata"]
    assert kept["spec"] == {
        "nodeName": "n1",
        "initContainers": [],
        "containers": [{"name": "server", "image": "i"}],
    }


NEWS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12)


@given(NEWS, st.randoms())
def test_however_events_and_our_own_answers_interleave_the_end_is_the_newest_state(news, chance):
    """Each object lives, changes and dies in order; our answers come early or as often as watch."""
    version = itertools.count(1)
    uids, state, events = {}, {}, []
    for name, dies in news:
        if dies and name in state:
            events.append(("remove", child(name, uid=uids[name], version=next(version))))
            state.pop(name), uids.pop(name)
        elif not dies:
            uids.setdefault(name, f"{name}-{next(version)}")
            state[name] = child(name, uid=uids[name], version=next(version))
            events.append(("put", state[name]))
    store = child_store()
    for index, (what, manifest) in enumerate(events):
        ahead = [one for one in events[index : index + 3] if one[0] == "put"]
        same_life = [m for _, m in ahead if m["metadata"]["uid"] == manifest["metadata"]["uid"]]
        if same_life and chance.random() < 0.5:
            store.put(chance.choice(same_life))
        getattr(store, what)(manifest)
    found = {one["metadata"]["name"]: one for one in store.of_server(CHAT)}
    assert found == state
