"""The load: a process of its own that is told on its input what to do, and prints what it saw; one JSON object each.

It uses one thread, epoll and raw sockets, says how busy it was itself, and ends with a failure if anything is lost.
"""

from __future__ import annotations

import gc
import sys

import msgspec
from loads import Spec
from workloads import WORKLOADS

if __name__ == "__main__":
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=Spec)
    gc.disable()  # nothing here is in circles, and a million times are looked through for nothing
    sys.stdout.buffer.write(msgspec.json.encode(WORKLOADS[spec.workload](spec)) + b"\n")
