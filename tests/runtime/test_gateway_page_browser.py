"""The page in a real browser: live, with keys, with models that stream, sleep and fail."""

import asyncio
import contextlib
import copy

import pytest

from modelserver_runtime.access.making import make_key
from modelserver_runtime.access.record import Grants
from modelserver_runtime.gateway.cluster import Address
from support.browser import chromium, new_tab
from support.gateway_page import NOW, a_server, page_world, played_servers
from support.web import Upstream, chat_events, json_answer, serving, stream_answer

pytestmark = pytest.mark.slow  # a browser for every test

CARDS = "document.querySelectorAll('.card').length"
TABBABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"


class Stage:
    """A page in a tab, and the pod behind all of its models."""

    def __init__(self, world, url, pod, at, tab):
        self.world, self.url, self.pod, self.at, self.tab = world, url, pod, at, tab
        self.servers = played_servers()

    def follow(self, **ready):
        pods = {"chat": (self.at, True), "embeddings": (self.at, True)}
        pods |= {name: (self.at, is_ready) for name, is_ready in ready.items()}
        self.world.follow(self.servers, pods)

    async def open(self, width=1280, height=1000, **more):
        await self.tab.be(width, height, **more)
        await self.tab.open(self.url)

    async def choose(self, model):
        await self.tab.until(
            f"[...document.querySelector('#model').options].some(one => one.value === '{model}')"
        )
        await self.tab.value(
            f"document.querySelector('#model').value = '{model}';"
            "document.querySelector('#model').dispatchEvent(new Event('change'))"
        )

    async def ask(self, text):
        await self.tab.write("#question", text)
        await self.tab.press("Enter", 13)

    async def until_said(self, text):
        await self.tab.until(f"document.querySelector('#talk').innerText.includes({text!r})")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as listening:
        yield listening


@contextlib.asynccontextmanager
async def staged(browser, **settings):
    pod = Upstream("pod", stream_answer(*chat_events("Hello", " you")))
    async with (
        serving(pod) as pod_url,
        page_world(**settings) as (world, url),
        new_tab(browser) as tab,
    ):
        host, _, number = pod_url.removeprefix("http://").rpartition(":")
        stage = Stage(world, url, pod, Address(host, int(number)), tab)
        stage.follow()
        yield stage
        assert not tab.problems


@pytest.fixture
async def here(port):
    async with staged(port) as stage:
        yield stage


async def a_key(world, **grants):
    secret, key = make_key(Grants.model_validate(grants), name="test", created=NOW)
    await world.guard.keyring.add(key)
    return secret


# -- the models ----------------------------------------------------------------------------------


async def test_the_page_follows_the_cluster_and_leaves_alone_what_was_opened(here):
    tab = here.tab
    await here.open()
    await tab.until("document.querySelector('#live').innerText === 'Live'")
    await tab.click("[data-key='models/chat'] details[data-key=scaling] summary")
    await tab.value("document.querySelector('[data-key=\"models/chat\"] summary').focus()")
    here.servers[0]["status"]["rollout"]["weights"] = {"intended": 50, "confirmed": 50}
    del here.servers[3]
    here.servers.append(a_server("another"))
    here.follow(llama=True)
    await tab.until("document.querySelector('#models').innerText.includes('50 % of the requests')")
    assert await tab.value("document.querySelector('[data-key=\"models/chat\"] details').open")
    assert await tab.value("document.activeElement.tagName") == "SUMMARY"
    kinds = "`${one.dataset.name} ${one.dataset.kind}`"
    cards = f"[...document.querySelectorAll('#models [data-kind]')].map(one => {kinds})"
    assert set(await tab.value(cards)) == {
        "qwen2.5-7b-instruct ready",
        "bge-m3 ready",
        "llama-3.1-8b ready",
        "sentiment asleep",
        "another starting",
    }
    # Who does not see it is told.
    assert await tab.text("#news") == "llama-3.1-8b is ready"


async def test_what_is_searched_stays_in_sight(here):
    tab = here.tab
    await here.open()
    await tab.write("#search", "research")
    await tab.until(f"{CARDS} === 2")
    await tab.click("[data-state=failed]")
    await tab.until(f"{CARDS} === 1")
    assert await tab.value("document.querySelector('[data-state=failed]').ariaPressed") == "true"
    await tab.click("[data-state='']")
    await tab.until(f"{CARDS} === 2")


async def test_a_page_that_nobody_sees_asks_nothing(here):
    tab = here.tab
    await here.open()
    await tab.until("document.querySelector('#live').innerText === 'Live'")
    hide = (
        "Object.defineProperty(document, 'hidden', {value: HIDDEN, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    await tab.value(hide.replace("HIDDEN", "true"))
    await tab.until("document.querySelector('#live').innerText === 'Paused'")
    here.servers.append(a_server("another"))
    here.follow()
    await tab.value(hide.replace("HIDDEN", "false"))
    await tab.until(f"{CARDS} === 6")
    assert await tab.text("#live") == "Live"


async def test_a_lost_connection_is_told_and_found_again(here):
    tab = here.tab
    await here.open()
    await tab.until("document.querySelector('#live').innerText === 'Live'")
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await tab.call("Network.enable")
    await tab.call("Network.emulateNetworkConditions", offline=True, **offline)
    await tab.until("document.querySelector('#live').innerText.includes('trying again')")
    assert await tab.value(CARDS) == 5
    await tab.call("Network.emulateNetworkConditions", offline=False, **offline)
    await tab.until("document.querySelector('#live').innerText === 'Live'")


async def test_names_of_the_cluster_run_nothing(here):
    hostile = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
    here.servers.append(a_server("bad", spec={"model": {"servedName": hostile}}))
    here.follow(bad=True)
    here.pod.answer = stream_answer(*chat_events(hostile))
    await here.open()
    await here.tab.until(f"{CARDS} === 6")
    await here.tab.value(
        "const list = document.querySelector('#model');"
        "list.selectedIndex = [...list.options].findIndex(one => one.value.startsWith('<img'))"
    )
    await here.ask(hostile)
    await here.until_said("onerror")
    await here.tab.until("document.querySelector('#stop').disabled")
    assert await here.tab.value("window.hit ?? 0") == 0
    assert await here.tab.value("document.querySelectorAll('img[src=x]').length") == 0


# -- the playground ------------------------------------------------------------------------------


async def test_a_chat_streams_and_goes_on(here):
    tab, gate = here.tab, asyncio.Event()
    here.pod.answer = stream_answer(*chat_events("Hello", " you"), gate=gate, after=2)
    await here.open()
    await here.choose("qwen2.5-7b-instruct")
    await tab.click("#options summary")
    await tab.write("#system", "Be kind.")
    await here.ask("Hi")
    await here.until_said("Hello")
    # The rest is still to come.
    assert "you" not in (await tab.text("#talk .model"))
    assert await tab.value("document.querySelector('#talk').ariaBusy") == "true"
    gate.set()
    await here.until_said("Hello you")
    await tab.until("document.querySelector('#pace').innerText.includes('2 tokens')")
    assert "first token after" in await tab.text("#pace")
    await tab.until("document.querySelector('#stop').disabled")
    await here.ask("And?")
    await tab.until("document.querySelectorAll('#talk .model').length === 2")
    await tab.until("document.querySelector('#stop').disabled")
    sent = here.pod.requests[-1].json
    assert [(one["role"], one["content"]) for one in sent["messages"]] == [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Hello you"),
        ("user", "And?"),
    ]
    assert sent["stream"] is True


async def test_a_stream_can_be_stopped(here):
    tab, gate = here.tab, asyncio.Event()
    here.pod.answer = stream_answer(*chat_events("Hello", " you"), gate=gate, after=2)
    await here.open()
    await here.choose("qwen2.5-7b-instruct")
    await here.ask("Hi")
    await here.until_said("Hello")
    await tab.click("#stop")
    await tab.until("document.querySelector('#stop').disabled")
    gate.set()
    assert "failed" not in await tab.value("document.querySelector('#talk').innerHTML")
    assert await tab.value("!document.querySelector('#send').disabled")


async def test_a_model_that_sleeps_is_woken_and_how_far_it_is_is_told(here):
    tab = here.tab
    asleep = copy.deepcopy(here.servers[4])
    asleep["metadata"]["name"] = "owl"
    asleep["spec"] = {"model": {"servedName": "owl", "task": "TextGeneration"}}
    here.servers.append(asleep)
    here.follow()
    await here.open()
    await here.choose("owl")
    assert "wakes it" in await tab.text("#model-note")
    await here.ask("Hi")
    await tab.until(
        "document.querySelector('#waking-text').innerText.includes('a pod is asked for')"
    )
    assert here.world.woken == ["research/owl"]
    here.pod.answer = json_answer({"phase": "Fetching", "percent": 62}, 503)
    here.follow(owl=False)
    await tab.until("document.querySelector('#waking-text').innerText.includes('fetching 62 %')")
    assert await tab.value("document.querySelector('#waking-bar').value") == 62
    here.pod.answer = stream_answer(*chat_events("Hoo"))
    await here.until_said("Hoo")
    assert await tab.value("document.querySelector('#waking').hidden")


async def test_a_refusal_is_said_in_its_own_words(here):
    here.pod.answer = json_answer({"error": {"message": "max_tokens is too large"}}, 400)
    await here.open()
    await here.choose("qwen2.5-7b-instruct")
    await here.ask("Hi")
    await here.until_said("max_tokens is too large")
    assert await here.tab.value("document.querySelectorAll('#talk .failed').length") == 1


async def test_texts_are_compared_by_their_embeddings(here):
    vectors = [{"embedding": [1.0, 0.0]}, {"embedding": [0.6, 0.8]}]
    here.pod.answer = json_answer({"data": vectors})
    await here.open()
    await here.choose("bge-m3")
    await here.tab.write("#other", "cat")
    await here.ask("dog")
    await here.until_said("Cosine similarity: 0.6000")
    assert here.pod.requests[-1].json == {"model": "bge-m3", "input": ["dog", "cat"]}


async def test_labels_are_drawn_with_their_scores(here):
    labels = [{"label": "good", "score": 0.9}, {"label": "bad", "score": 0.1}]
    here.pod.answer = json_answer({"task": "TextClassification", "output": labels})
    here.follow(sentiment=True)
    await here.open()
    await here.choose("sentiment")
    await here.ask("lovely")
    await here.until_said("90.0 %")
    assert await here.tab.value("document.querySelector('.labels progress').value") == 0.9
    assert here.pod.requests[-1].json == {"model": "sentiment", "inputs": "lovely"}


# -- keys ----------------------------------------------------------------------------------------


async def sign_in(tab, secret):
    await tab.write("#key", secret)
    await tab.press("Enter", 13)


async def test_a_key_opens_the_page_and_stays_in_its_tab(port, tmp_path):
    async with staged(port, access_enabled=True, access_state_directory=tmp_path) as here:
        tab = here.tab
        await here.open()
        assert await tab.value("document.activeElement.id") == "key"
        assert "qwen2.5" not in await tab.value("document.documentElement.innerHTML")
        await sign_in(tab, "hf_" + "x" * 43)
        await tab.until("document.querySelector('#login-error').innerText !== ''")
        assert await tab.value("sessionStorage.length") == 0
        await sign_in(tab, await a_key(here.world))
        await tab.until(f"{CARDS} === 5")
        assert await tab.value("document.querySelector('#login').hidden")
        assert await tab.value("document.querySelector('#admin').hidden")
        assert await tab.value("localStorage.length + document.cookie.length") == 0
        await here.choose("qwen2.5-7b-instruct")
        await here.ask("Hi")
        await here.until_said("Hello you")
        await tab.open(here.url)
        await tab.until(f"{CARDS} === 5")
        await tab.click("#key-button")
        await tab.click("#forget")
        await tab.until(f"{CARDS} === 0")
        assert "qwen2.5" not in await tab.value("document.documentElement.innerHTML")
        assert await tab.value("sessionStorage.length") == 0


async def test_a_key_that_is_revoked_meanwhile_closes_the_page(port, tmp_path):
    async with staged(port, access_enabled=True, access_state_directory=tmp_path) as here:
        await here.open()
        await sign_in(here.tab, await a_key(here.world))
        await here.tab.until(f"{CARDS} === 5")
        [key] = await here.world.guard.keyring.all()
        await here.world.guard.keyring.remove(key.id)
        await here.tab.until("!document.querySelector('#login').hidden")
        assert await here.tab.text("#login-error")
        assert await here.tab.value(CARDS) == 0


async def test_an_administrator_makes_and_revokes_keys(port, tmp_path):
    async with staged(port, access_enabled=True, access_state_directory=tmp_path) as here:
        tab = here.tab
        await here.open()
        await sign_in(tab, await a_key(here.world, scopes=["inference", "admin"]))
        await tab.until("!!document.querySelector('#keys table')")
        await tab.click("#key-maker summary")
        await tab.write("#new-name", "ci")
        await tab.write("#new-models", "qwen*, bge-m3")
        await tab.write("#new-namespaces", "models")
        await tab.write("#new-requests", "60")
        await tab.write("#new-days", "7")
        await tab.press("Enter", 13)
        await tab.until("!!document.querySelector('#made-key')")
        secret = await tab.value("document.querySelector('#made-key').value")
        found = await here.world.guard.keyring.find(secret)
        assert (found.name, found.models, found.namespaces) == (
            "ci",
            ("qwen*", "bge-m3"),
            ("models",),
        )
        assert found.limits.requests_per_minute == 60
        assert found.expires.timestamp() == NOW.timestamp() + 7 * 86_400
        for answer, is_left in (("", True), ("revoke", False)):
            await tab.click(f"[data-id='{found.id}']")
            await tab.until("document.querySelector('#revoke').open")
            await tab.click(f"#revoke button[value='{answer}']")
            await tab.until("!document.querySelector('#revoke').open")
            await tab.until(
                f"!!document.querySelector(\"[data-id='{found.id}']\") === {str(is_left).lower()}"
            )
        assert await here.world.guard.keyring.find(secret) is None


# -- for everybody -------------------------------------------------------------------------------

CONTRASTS = """
(() => {
  // As WCAG 2 has it.
  const part = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) =>
    0.2126 * part(r / 255) + 0.7152 * part(g / 255) + 0.0722 * part(b / 255);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if ((colour[3] ?? 1) === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const [text, one] = [walker.currentNode.data.trim(), walker.currentNode.parentElement];
    const isSeen = one.checkVisibility() && !one.closest(":disabled, .unseen, .skip, option");
    if (!text || !isSeen) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${one.className} ${text}`);
  }
  return poor;
})()
"""


@pytest.mark.parametrize("is_dark", [False, True])
async def test_every_text_can_be_read(here, is_dark):
    await here.open(is_dark=is_dark)
    await here.choose("qwen2.5-7b-instruct")
    await here.ask("Hi")
    await here.until_said("Hello you")
    await here.tab.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert await here.tab.value(CONTRASTS) == []
    ground = await here.tab.value("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(14, 17, 23)") is is_dark


async def test_it_fits_every_screen(here):
    long_name = a_server("x" * 63, "n" * 63, spec={"model": {"servedName": "m" * 200}})
    here.servers.append(long_name)
    here.follow()
    for width in (360, 390, 768, 1280, 1920):
        await here.open(width, 800)
        await here.tab.until(f"{CARDS} === 6")
        await here.tab.value("document.querySelectorAll('details').forEach(one => one.open = true)")
        seen = await here.tab.value("[innerWidth, document.documentElement.scrollWidth]")
        assert seen == [width, width]


async def test_everything_is_reached_by_the_keyboard_and_has_a_name(here):
    tab = here.tab
    await here.open()
    await tab.call("Accessibility.enable")
    nodes = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
    roles = [one["role"]["value"] for one in nodes if not one["ignored"]]
    for role in ("banner", "main", "search", "log"):
        assert role in roles
    for one in nodes:
        role = one.get("role", {}).get("value")
        if role in {
            "button",
            "textbox",
            "searchbox",
            "combobox",
            "region",
            "progressbar",
            "article",
        }:
            assert one["name"]["value"], one
    reached = set()
    for _ in range(await tab.value(f'document.querySelectorAll("{TABBABLE}").length') + 5):
        await tab.press("Tab", 9)
        reached.add(
            await tab.value("document.activeElement.id || document.activeElement.innerText")
        )
    assert {"Skip to the content", "search", "model", "question", "send", "key-button"} <= reached
