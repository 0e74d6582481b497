"""Proofs: the promises, tried on the real server in a process of its own. Each prints its seed and its figures."""
