"""The Python client, for Trio and asyncio: reconnects, resumes, loses nothing and doubles nothing.

``async with open_client("wss://…/ws", token=…) as chat`` is the way in. What it raises is in `trio_chat.errors`.
"""

from ..errors import BadFrame as BadFrame
from ..errors import BadQuery as BadQuery
from ..errors import ClosedForGood as ClosedForGood
from ..errors import ConnectionClosed as ConnectionClosed
from ..errors import IdConflict as IdConflict
from ..errors import NotAccepted as NotAccepted
from ..errors import NotAllowed as NotAllowed
from ..errors import NotOffered as NotOffered
from ..errors import Replaced as Replaced
from ..errors import RequestRefused as RequestRefused
from ..errors import StateFailed as StateFailed
from ..errors import StateUnusable as StateUnusable
from ..errors import TooLarge as TooLarge
from ..errors import Unauthorized as Unauthorized
from ..errors import WrongOwner as WrongOwner
from .client import ChatClient as ChatClient
from .handshake import Connect as Connect
from .opening import open_client as open_client
from .streams import EventStream as EventStream
from .streams import IncomingMessage as IncomingMessage
from .streams import MessageStream as MessageStream
from .timing import Timing as Timing
from .values import Connected as Connected
from .values import Disconnected as Disconnected
from .values import Event as Event
from .values import Gap as Gap
from .values import PresenceChanged as PresenceChanged
from .values import ReadElsewhere as ReadElsewhere
from .values import ReceiptChanged as ReceiptChanged
from .values import Statistics as Statistics
from .values import Stored as Stored
from .values import Typing as Typing
from .values import Undelivered as Undelivered
