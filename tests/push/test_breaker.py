"""Whether a provider, or a host of its, is asked at all."""

from __future__ import annotations

from trio_chat.push.breaker import FAILURES, FIRST, LONGEST, REMEMBERED, REST, Breaker, Breakers, backoff


def test_the_wait_grows_and_is_bounded() -> None:
    """Else a provider that is down is hurried by everybody at once, or a number overflows."""
    assert backoff(0, lambda: 0.0) == FIRST
    assert backoff(0, lambda: 1.0) == 2 * FIRST
    assert backoff(10**6, lambda: 1.0) == FIRST + LONGEST


def test_failures_in_a_row() -> None:
    """Else one that answers now and then is left alone, or one that is down never is."""
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0)
    breaker.answered()
    breaker.failed(0)
    assert not breaker.tripped
    for _ in range(FAILURES):
        breaker.failed(7.0)
    assert (breaker.tripped, breaker.open_until) == (True, 7.0 + REST)
    breaker.answered()
    assert not breaker.tripped


def test_each_host_by_itself() -> None:
    """Else one hostile endpoint silences everybody's browsers."""
    hosts = Breakers()
    for _ in range(FAILURES):
        assert hosts.wait("bad", 0.0) == 0.0
        hosts.failed("bad", 0.0)
    assert (hosts.wait("bad", 10.0), hosts.wait("good", 10.0), hosts.resting(10.0)) == (REST - 10.0, 0.0, 1)
    assert (hosts.wait("bad", REST), hosts.resting(REST)) == (0.0, 0)
    hosts.begin("bad")
    hosts.begin("bad")
    hosts.end("bad")
    assert hosts.wait("bad", REST) == FIRST, "one attempt is enough to find out"
    hosts.end("bad")
    assert hosts.wait("bad", REST) == 0.0
    hosts.answered("bad")
    hosts.answered("good")
    assert len(hosts) == 0


def test_hosts_are_bounded() -> None:
    """Else whoever names a new host with every registration fills the memory."""
    hosts = Breakers()
    for n in range(2 * REMEMBERED):
        hosts.failed(f"host{n}", 0.0)
    assert len(hosts) == REMEMBERED
