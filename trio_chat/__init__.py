"""Durable, real-time, one-to-one messages by user ID for Trio applications."""

__version__ = "0.1.0.dev0"
