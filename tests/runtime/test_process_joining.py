"""Answers leave a server in as few pieces as they can, and none of them stays behind."""

import asyncio

import pytest

from modelserver_runtime.process.joining import JoiningTransport

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Transport:
    def __init__(self):
        self.written = []
        self.is_closed = False

    def write(self, content):
        assert not self.is_closed
        self.written.append(content)

    def close(self):
        self.is_closed = True

    def is_closing(self):
        return self.is_closed

    def get_extra_info(self, name):
        return f"its {name}"


@pytest.fixture
def inner():
    return Transport()


@pytest.fixture
async def joining(inner):
    return JoiningTransport(inner)


async def turn_of_the_loop():
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


async def test_a_head_leaves_with_its_body(joining, inner):
    joining.write(HEAD)
    joining.write(b"body")
    assert inner.written == [HEAD + b"body"]
    await turn_of_the_loop()
    assert inner.written == [HEAD + b"body"]


async def test_a_head_does_not_wait_for_a_body_that_is_not_there(joining, inner):
    joining.write(HEAD)
    await turn_of_the_loop()
    assert inner.written == [HEAD]
    joining.write(b"first")
    joining.write(b"second")
    assert inner.written == [HEAD, b"first", b"second"]


async def test_what_was_kept_leaves_before_the_end(joining, inner):
    joining.write(HEAD)
    joining.close()
    assert inner.written == [HEAD]
    assert inner.is_closed


async def test_a_connection_that_broke_meanwhile_is_not_written_to(joining, inner):
    joining.write(HEAD)
    inner.close()
    await turn_of_the_loop()
    assert inner.written == []


async def test_everything_else_is_the_transports_own(joining):
    assert joining.get_extra_info("peername") == "its peername"
    assert not joining.is_closing()
