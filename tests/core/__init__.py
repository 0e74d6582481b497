"""Tests of what the server decides. None needs an event loop."""
