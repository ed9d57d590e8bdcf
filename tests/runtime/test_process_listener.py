"""Clients that come together are taken together, also while the server is busy with others."""

import asyncio
import contextlib
import socket

import uvloop

from modelserver_runtime.process.listener import Listener
from modelserver_runtime.process.listening import listen
from support.web import until

CLIENTS = 96
# One turn for each client would be as many turns as clients.
MOST_TURNS = 20


async def nothing(scope, receive, send):
    pass


async def turns_until_taken(listening):
    """Of a loop that always has something to do, as a busy server's."""
    listener = Listener(nothing)
    serving = asyncio.create_task(listener.serve(sockets=[listening]))
    turns = 0
    while len(listener.server_state.connections) < CLIENTS:
        before = len(listener.server_state.connections)
        await asyncio.sleep(0)
        turns += bool(before)
    listener.end(0.0)
    await serving
    return turns


def test_who_waits_for_a_connection_has_it_after_a_few_turns():
    listening = listen("127.0.0.1", 0)
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(turns_until_taken(listening)) < MOST_TURNS


def test_nothing_is_listened_to_after_the_end():
    listening = listen("127.0.0.1", 0)
    address = listening.getsockname()
    with (
        socket.create_connection(address),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(asyncio.wait_for(_served_once(listening), 60))
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(address).close()
        raise AssertionError("somebody still listens")


async def _served_once(listening):
    listener = Listener(nothing)
    serving = asyncio.create_task(listener.serve(sockets=[listening]))
    await until(lambda: listener.server_state.connections)
    listener.end(0.0)
    await serving
