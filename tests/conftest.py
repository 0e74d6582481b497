"""How the suite runs: coroutine tests under trio, hypothesis bounded and repeatable.

There is no ``trio_mode``: it would silently run a test parametrized over AnyIO's backends under trio each time. So a
coroutine test is marked ``trio`` here unless it carries ``anyio``, which then runs it on the backends it names.
"""

from __future__ import annotations

import inspect
import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

# A shell without job control has what it starts in the background ignore SIGINT, and a process hands that down: the commands
# that these tests interrupt would go on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PROOFS = Path(__file__).parent / "proofs"
BROWSER = Path(__file__).parent / "browser"

# Only `nox -s browser` installs Playwright, and only there are these selected; elsewhere they could not even be imported.
collect_ignore = [] if find_spec("playwright") else ["browser"]

# "dev" looks a little further every time. "ci" tries the same examples every time, so that a red build is about the change.
# "proofs" is for `nox -s proofs`: it looks as far as minutes allow. No deadlines: on a virtual clock or a busy machine they
# would be about something else.
_SLOW = (HealthCheck.too_slow,)
settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW)
settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # shrinking a failure of a state machine takes minutes: "dev" does it
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=_SLOW,
)
# What differs between two Pythons shows in a few examples; the many are tried on the oldest one.
settings.register_profile("brief", settings.get_profile("ci"), max_examples=15, stateful_step_count=25)
settings.register_profile(
    "proofs", max_examples=2_000, stateful_step_count=100, deadline=None, print_blob=True, suppress_health_check=_SLOW
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark coroutine tests ``trio`` unless they carry ``anyio``, and by folder what is ``proof`` or ``browser``."""
    for item in items:
        if PROOFS in item.path.parents:  # minutes on a real server, and latencies that a busy machine spoils
            item.add_marker(pytest.mark.proof)
        if BROWSER in item.path.parents:  # needs Chromium
            item.add_marker(pytest.mark.browser)
        if not isinstance(item, pytest.Function) or item.get_closest_marker("anyio") or item.get_closest_marker("trio"):
            continue
        test = item.obj
        if handle := getattr(test, "hypothesis", None):  # @given wraps the coroutine function in a plain one
            test = handle.inner_test
        if inspect.iscoroutinefunction(test):
            item.add_marker(pytest.mark.trio)
