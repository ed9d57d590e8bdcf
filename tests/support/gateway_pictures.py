"""Draws the pictures of docs/gateway.md: `PYTHONPATH=runtime:tests:. python -m support.gateway_pictures`.

What is on them is played: the models, their traffic, and the answer in the playground.
"""

import asyncio
import tempfile
from pathlib import Path

from modelserver_runtime.gateway.cluster import Address
from support.browser import Tab, browser
from support.gateway_page import PageWorld, page_world, played_servers
from support.web import Upstream, chat_events, serving, stream_answer

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
DESKTOP, PHONE = (1280, 1010), (390, 844)
_QUESTION = "Why does a canary need traffic?"
_ANSWER = (
    "Because evidence is counted in requests. A new revision that answers nobody can neither "
    "pass nor fail: with 5 % of the traffic it takes twenty times as long until a difference of "
    "the error rates can be told from chance."
)


def play(world: PageWorld, at: Address) -> None:
    servers = played_servers()
    pods = {"chat": (at, True), "embeddings": (at, True), "llama": (at, False)}
    world.follow(servers, pods)
    world.play_traffic(servers[0], per_second=14, seconds=0.62)
    world.play_traffic(servers[1], per_second=31, seconds=0.021)


async def draw(tab: Tab, url: str, name: str, size: tuple[int, int], *, is_dark: bool) -> None:
    await tab.be(*size, is_dark=is_dark)
    await tab.open(url)
    await tab.until("document.querySelectorAll('.card').length === 5")
    await tab.write("#question", _QUESTION)
    await tab.click("#send")
    await tab.until("document.querySelector('#pace').innerText.includes('tokens/s')")
    await tab.until("document.querySelector('#stop').disabled")
    path = IMAGES / f"gateway-{name}.png"
    await asyncio.to_thread(path.write_bytes, await tab.picture())


async def main() -> None:
    words = [f"{word} " for word in _ANSWER.split()]
    pod = Upstream("pod", stream_answer(*chat_events(*words)))
    async with (
        serving(pod) as pod_url,
        page_world() as (world, url),
        browser(Path(tempfile.mkdtemp())) as tab,
    ):
        host, _, port = pod_url.removeprefix("http://").rpartition(":")
        play(world, Address(host, int(port)))
        for is_dark in (False, True):
            theme = "dark" if is_dark else "light"
            await draw(tab, url, f"desktop-{theme}", DESKTOP, is_dark=is_dark)
            await draw(tab, url, f"phone-{theme}", PHONE, is_dark=is_dark)
        assert not tab.problems, tab.problems


if __name__ == "__main__":
    asyncio.run(main())
