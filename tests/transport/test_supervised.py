"""What a supervisor hands over and hears."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trio_chat.errors import ConfigurationError
from trio_chat.transport.supervised import Supervisor


def handed(first: int, count: int = 1, pid: int | None = None) -> Supervisor:
    environ = {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "http", "OTHER": "stays"}
    supervisor = Supervisor(environ, first=first)
    assert environ == {"OTHER": "stays"}, "no child is to believe that it is meant"
    return supervisor


async def test_a_socket_that_is_handed_over_is_served_and_stays() -> None:
    """Else a restart closes the socket, and whoever connects meanwhile is refused."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        (listener,) = handed(os.dup(held.fileno())).listeners()
        assert not os.get_inheritable(listener.socket.fileno())
        async with await trio.open_tcp_stream(*held.getsockname()) as one:
            async with await listener.accept() as accepted:
                await one.send_all(b"x")
                assert await accepted.receive_some() == b"x"
            await listener.aclose()
        async with await trio.open_tcp_stream(*held.getsockname()):  # it waits in the backlog
            pass


async def test_several_sockets() -> None:
    """Else a server that is to be reached by IPv4 and by a Unix socket listens on one of them."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0trio-chat-test-{os.getpid()}")
        other.listen()
        first = 900
        os.dup2(one.fileno(), first)
        os.dup2(other.fileno(), first + 1)
        listeners = handed(first, 2).listeners()
        assert [listener.socket.family for listener in listeners] == [socket.AF_INET, socket.AF_UNIX]
        for listener in listeners:
            await listener.aclose()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},  # meant for the process that started this one
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"},
        {"LISTEN_PID": str(os.getpid())},
    ],
    ids=str,
)
async def test_nothing_is_handed_over(environ: dict[str, str]) -> None:
    """Else the server takes descriptor 3, whatever that is, for a socket."""
    assert Supervisor(environ).listeners() == []


async def test_what_is_handed_over_must_listen(tmp_path: Path) -> None:
    """Else a mistake in the unit is a server that turns in circles, saying nothing."""
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigurationError, match="no socket"):
        handed(os.dup(file.fileno())).listeners()
    with socket.socket() as deaf, pytest.raises(ConfigurationError, match="no socket that listens"):
        handed(os.dup(deaf.fileno())).listeners()
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(ConfigurationError, match="listens"):
        handed(os.dup(datagrams.fileno())).listeners()


@pytest.mark.parametrize("abstract", [False, True])
async def test_it_is_told(abstract: bool, tmp_path: Path) -> None:
    """Else systemd waits for READY=1 until it takes the server for dead."""
    name = f"@trio-chat-notify-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(name.replace("@", "\0", 1))
        supervisor = Supervisor({"NOTIFY_SOCKET": name})
        supervisor.tell("READY=1", "STATUS=listening")
        assert hears.recv(100) == b"READY=1\nSTATUS=listening"
    supervisor.tell("STOPPING=1")  # nobody hears it any more
    Supervisor({}).tell("READY=1")


async def test_the_watchdog_hears_of_a_server_that_turns(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Else systemd kills a server that is well; or leaves one alone whose registry has ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(name := str(tmp_path / "notify"))
        hears.setblocking(False)
        supervisor = Supervisor({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())})
        turns = True
        with trio.move_on_after(70):
            await supervisor.keep_telling(lambda: turns)
        assert [hears.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        turns = False
        with trio.move_on_after(70):
            await supervisor.keep_telling(lambda: turns)
        with pytest.raises(BlockingIOError):
            hears.recv(100)


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}], ids=str)
async def test_a_watchdog_that_is_not_there(environ: dict[str, str], autojump_clock: MockClock) -> None:
    """Else a server without one keeps a task busy, or ends."""
    supervisor = Supervisor(environ)
    assert supervisor.watchdog is None
    with trio.move_on_after(1000) as scope:
        await supervisor.keep_telling(lambda: True)
    assert scope.cancelled_caught
