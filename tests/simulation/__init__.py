"""A chat whose network, disk, clocks and people are simulated, all of it driven by one seed, and judged from outside.

Real is what decides and what carries out: `open_chat` with its core, registry, committer, loader, questions and policy, the
sessions and the porch in front of them, the wire's encoding in both directions, and of the client the dialogue with its
inbox, its outbox and its requests. They run under Trio, on a virtual clock, in an order that the seed chooses.

Simulated is what surrounds them: sockets and WebSocket framing (`network`), the disk (`disk`, which is `MemoryStore` with a
power switch), the client's loop, its state file and its program (`people`), and everything that goes wrong (`script`).
"""
