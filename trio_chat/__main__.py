"""``python -m trio_chat`` is the command ``trio-chat``."""

from .cli import main

main(prog_name="trio-chat")
