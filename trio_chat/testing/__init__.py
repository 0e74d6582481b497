"""To test an application that chats: a whole server in memory, and people who connect to it.

No socket, no thread, and on a virtual clock no waiting: `open_test_chat` is the kit, `open_test_server` what it stands on.
The fixtures for pytest are in `trio_chat.testing.fixtures`, which alone needs pytest.
"""

from .kit import ChatKit, open_test_chat
from .participant import Participant
from .server import InMemoryServer, open_test_server
from .telling import PushAttempt, RecordingProvider

__all__ = [
    "ChatKit",
    "InMemoryServer",
    "Participant",
    "PushAttempt",
    "RecordingProvider",
    "open_test_chat",
    "open_test_server",
]
