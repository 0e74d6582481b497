"""Durable, real-time, one-to-one messages by user ID for Trio applications.

``async with open_chat("chat.db") as chat`` runs a chat; `serve_tcp` lets clients connect to it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from . import authenticators as authenticators
    from .chat import Chat as Chat
    from .chat import Statistics as Statistics
    from .chat import open_chat as open_chat
    from .errors import BadFrame as BadFrame
    from .errors import BadQuery as BadQuery
    from .errors import ChatClosed as ChatClosed
    from .errors import ChatError as ChatError
    from .errors import CloseCode as CloseCode
    from .errors import ConfigurationError as ConfigurationError
    from .errors import ErrorCode as ErrorCode
    from .errors import IdConflict as IdConflict
    from .errors import NotAllowed as NotAllowed
    from .errors import Refused as Refused
    from .errors import Rejected as Rejected
    from .errors import RequestRefused as RequestRefused
    from .errors import SchemaMismatch as SchemaMismatch
    from .errors import StoreBusy as StoreBusy
    from .errors import StoreError as StoreError
    from .errors import StoreFull as StoreFull
    from .errors import StoreLocked as StoreLocked
    from .errors import StoreUnavailable as StoreUnavailable
    from .errors import TooLarge as TooLarge
    from .keeping import Retained as Retained
    from .model import Identity as Identity
    from .model import Message as Message
    from .observation import BlockChanged as BlockChanged
    from .observation import DeviceConnected as DeviceConnected
    from .observation import DeviceDisconnected as DeviceDisconnected
    from .observation import EventStream as EventStream
    from .observation import MessageStored as MessageStored
    from .observation import Missed as Missed
    from .observation import ReadMarked as ReadMarked
    from .observation import ReceiptChanged as ReceiptChanged
    from .operations.admin import serve_admin as serve_admin
    from .policy import Hooks as Hooks
    from .policy import Outgoing as Outgoing
    from .push.settings import Push as Push
    from .push_frames import PushProvider as PushProvider
    from .push_frames import PushSettings as PushSettings
    from .push_frames import PushTarget as PushTarget
    from .retrieval import Conversation as Conversation
    from .retrieval import ConversationsPage as ConversationsPage
    from .retrieval import ConversationsQuery as ConversationsQuery
    from .retrieval import Device as Device
    from .retrieval import HistoryPage as HistoryPage
    from .retrieval import HistoryQuery as HistoryQuery
    from .retrieval import SearchHit as SearchHit
    from .retrieval import SearchPage as SearchPage
    from .retrieval import SearchQuery as SearchQuery
    from .serve import handle as handle
    from .serve import handle_websocket as handle_websocket
    from .serve import serve_listeners as serve_listeners
    from .serve import serve_tcp as serve_tcp
    from .settings import Settings as Settings
    from .store.base import Store as Store
    from .store.sqlite import SqliteStore as SqliteStore
    from .transport.http import Request as Request
    from .transport.pages import demo_pages as demo_pages
    from .voice import Sent as Sent

__version__ = "0.1.0.dev0"

# Where each public name is, for it is loaded when it is asked for: a program that is a client, or a command that sends one
# message, does not wait for the import of a server. tests/test_public.py compares this with what type checkers read above.
_HOMES: Final = {
    ".chat": ("Chat", "Statistics", "open_chat"),
    ".errors": (
        "BadFrame",
        "BadQuery",
        "ChatClosed",
        "ChatError",
        "CloseCode",
        "ConfigurationError",
        "ErrorCode",
        "IdConflict",
        "NotAllowed",
        "Refused",
        "Rejected",
        "RequestRefused",
        "SchemaMismatch",
        "StoreBusy",
        "StoreError",
        "StoreFull",
        "StoreLocked",
        "StoreUnavailable",
        "TooLarge",
    ),
    ".keeping": ("Retained",),
    ".model": ("Identity", "Message"),
    ".observation": (
        "BlockChanged",
        "DeviceConnected",
        "DeviceDisconnected",
        "EventStream",
        "MessageStored",
        "Missed",
        "ReadMarked",
        "ReceiptChanged",
    ),
    ".operations.admin": ("serve_admin",),
    ".policy": ("Hooks", "Outgoing"),
    ".push.settings": ("Push",),
    ".push_frames": ("PushProvider", "PushSettings", "PushTarget"),
    ".retrieval": (
        "Conversation",
        "ConversationsPage",
        "ConversationsQuery",
        "Device",
        "HistoryPage",
        "HistoryQuery",
        "SearchHit",
        "SearchPage",
        "SearchQuery",
    ),
    ".serve": ("handle", "handle_websocket", "serve_listeners", "serve_tcp"),
    ".settings": ("Settings",),
    ".store.base": ("Store",),
    ".store.sqlite": ("SqliteStore",),
    ".transport.http": ("Request",),
    ".transport.pages": ("demo_pages",),
    ".voice": ("Sent",),
}
_HOME: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", "authenticators", *_HOME]  # noqa: PLE0604  (all of them are strings)


def __getattr__(name: str) -> object:
    """The public name, from its home (PEP 562)."""
    if name == "authenticators":
        return import_module(".authenticators", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value  # from now on it is found without asking
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
