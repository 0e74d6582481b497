"""The command line."""


def main() -> None:
    """Placeholder until the server exists."""
    raise SystemExit("trio-chat has no commands yet")
