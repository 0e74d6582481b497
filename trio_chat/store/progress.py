"""x."""

from typing import Final

LOOK_BACK: Final = 4096
"""How many entries of a log are looked at for the senders whose messages became delivered at once."""
