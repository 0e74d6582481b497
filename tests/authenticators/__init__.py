"""The ready-made authenticators."""
