"""The commands that talk to a server: ``trio-chat send``, ``listen`` and ``chat``. They stand on the client alone."""
