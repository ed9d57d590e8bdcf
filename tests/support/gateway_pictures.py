"""Draws the pictures of docs/gateway.md.

PYTHONPATH=runtime:tests:. python -m support.gateway_pictures

What is on them is played: the models, their traffic, and the answer in the playground.
"""

import asyncio
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from modelserver_runtime.gateway.cluster import Address
from support.browser import Tab, chromium, new_tab
from support.gateway_page import PageWorld, page_world, played_servers
from support.web import Asked, Upstream, chat_events, serving

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
DESKTOP, PHONE = (1280, 1340), (390, 844)
# Enough for a page of a few colours and their edges; a third of the size.
_COLOURS = 256
_QUESTION = "Why does a canary need traffic?"
_ANSWER = (
    "Because evidence is counted in requests. A new revision that answers nobody can neither "
    "pass nor fail: with 5 % of the traffic it takes twenty times as long until a difference of "
    "the error rates can be told from chance."
)


async def answer(_: Asked, __: Any, send: Any) -> None:
    """As fast as a small model on a small machine."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for event in chat_events(*(f"{word} " for word in _ANSWER.split())):
        text = event if isinstance(event, str) else json.dumps(event)
        body = f"data: {text}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b""})


def play(world: PageWorld, at: Address) -> None:
    servers = played_servers()
    pods = {"chat": (at, True), "embeddings": (at, True), "llama": (at, False)}
    world.follow(servers, pods)


def play_traffic(world: PageWorld) -> None:
    """Up to now, and nothing else."""
    world.traffic.models.clear()
    chat, embeddings, *_ = played_servers()
    world.play_traffic(chat, per_second=14, seconds=0.62)
    world.play_traffic(embeddings, per_second=31, seconds=0.021)


async def talk(tab: Tab) -> None:
    await tab.write("#question", _QUESTION)
    await tab.click("#send")
    await tab.until("document.querySelector('#pace').innerText.includes('tokens/s')")
    await tab.until("document.querySelector('#stop').disabled")


async def draw(tab: Tab, name: str) -> None:
    shot = Image.open(io.BytesIO(await tab.picture())).convert("RGB")
    rare_ones_too = Image.Quantize.MAXCOVERAGE
    small = shot.quantize(_COLOURS, method=rare_ones_too, kmeans=4, dither=Image.Dither.NONE)
    await asyncio.to_thread(small.save, IMAGES / f"gateway-{name}.png", optimize=True)


async def draw_all(world: PageWorld, tab: Tab, url: str) -> None:
    for theme in ("light", "dark"):
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            await tab.be(*size, is_dark=theme == "dark")
            play_traffic(world)
            await tab.open(url)
            await tab.until("document.querySelectorAll('.card').length === 5")
            await talk(tab)
            await tab.value("document.activeElement.blur()")
            # On a phone the models come first, and what was said is further down.
            await tab.value("scrollTo(0, 0)")
            await draw(tab, f"{name}-{theme}")


async def main(browser: int) -> None:
    async with (
        serving(Upstream("pod", answer)) as pod_url,
        page_world() as (world, url),
        new_tab(browser) as tab,
    ):
        host, _, port = pod_url.removeprefix("http://").rpartition(":")
        play(world, Address(host, int(port)))
        await draw_all(world, tab, url)
        assert not tab.problems, tab.problems


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as port:
        asyncio.run(main(port))
