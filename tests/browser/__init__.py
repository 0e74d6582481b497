"""What only a real browser can show. Runs in ``nox -s browser``."""
