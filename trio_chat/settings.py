"""Limits and times: one frozen value, every number with its unit and its reason.

Sizes are bytes, times are seconds, rates are per second, unless a name says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .errors import ConfigurationError

__all__ = ["Settings"]


def _count(reason: str) -> Any:
    return Meta(ge=1, description=reason)


def _seconds(reason: str) -> Any:
    return Meta(gt=0, description=reason)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits and times of one `open_chat` and of the listeners that serve it.

    Every field's reason is its `description` in the type's metadata. Build one with keywords, or `Settings.of` to have the
    values checked.
    """

    # What one frame and one message may weigh.
    frame_bytes: Annotated[int, Meta(ge=1024, description="A client's frame; larger ones close with 1009.")] = 64 * 1024
    text_bytes: Annotated[int, _count("A message's text, UTF-8; larger ones are refused with too_large.")] = 16 * 1024
    server_frame_bytes: Annotated[
        int, Meta(ge=1024, description="Server frames end here, so that a small device can bound its buffer.")
    ] = 64 * 1024
    fragments: Annotated[int, _count("Fragments per message: thousands of empty ones cost memory for nothing.")] = 64
    message_seconds: Annotated[float, _seconds("From the first byte of a message to its last.")] = 30.0

    # How much may be under way for one connection.
    window: Annotated[int, _count("Entries sent to a device and not yet acknowledged.")] = 256
    window_bytes: Annotated[int, _count("The same in bytes; at least one entry is always sent.")] = 256 * 1024
    uncommitted: Annotated[int, _count("A connection with this much uncommitted or unanswered is not read.")] = 256
    uncommitted_bytes: Annotated[int, _count("The same in bytes.")] = 128 * 1024
    outbox_bytes: Annotated[int, _count("A connection with this much unsent output is not read.")] = 64 * 1024
    bad_frames: Annotated[
        int, _count("Bad frames a user may send in a minute; then the connection is closed with 4429.")
    ] = 20

    # How much may be under way in all.
    batch: Annotated[int, _count("Messages per transaction: beyond some hundreds, sharing an fsync gains nothing.")] = 512
    waiting: Annotated[int, _count("Messages waiting for a commit in all; further ones are refused as overloaded.")] = 32_768
    waiting_bytes: Annotated[int, _count("The same in bytes.")] = 64 * 1024 * 1024
    connections: Annotated[int, _count("Connections per chat; further ones are refused with 503.")] = 10_000
    half_open: Annotated[int, _count("Connections still in their handshake; further ones are refused with 503.")] = 200
    per_address: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Connections per client address; unlimited, for phones share addresses."),
    ] = None
    user_connections: Annotated[int, _count("Connections of one user: its devices, and as many that only send.")] = 64
    devices: Annotated[int, _count("Devices the server remembers per user.")] = 32
    new_devices: Annotated[int, _count("New device names per user and hour.")] = 100
    blocks: Annotated[int, _count("Users one user may block; further ones are refused with not_allowed.")] = 1000
    queries: Annotated[int, _count("Requests of a connection that may wait while one is answered.")] = 8
    mailbox: Annotated[int, _count("Undelivered messages per user; then its senders are told mailbox_full.")] = 100_000
    mailbox_bytes: Annotated[int, _count("The same in bytes.")] = 64 * 1024 * 1024

    # How fast one user may send.
    send_rate: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Sends a second per user, refilling the burst; None turns every bucket off but that of bad frames."
        ),
    ] = 20.0
    send_burst: Annotated[int, _count("Sends a user may make at once.")] = 100
    request_rate: Annotated[float, Meta(gt=0, description="Requests a second per user, refilling the burst.")] = 20.0
    request_burst: Annotated[int, _count("Requests a user may make at once.")] = 100
    byte_rate: Annotated[float, Meta(gt=0, description="Bytes of text a second per user, refilling the burst.")] = 128 * 1024
    byte_burst: Annotated[int, _count("Bytes of text a user may send at once.")] = 4 * 1024 * 1024
    refusals: Annotated[
        int, _count("Refusals for want of patience a user may collect in a minute; then the connection is closed with 4429.")
    ] = 1000
    frame_rate: Annotated[float, Meta(gt=0, description="Frames a second per user, of any kind; read no faster.")] = 1000.0
    retry_after: Annotated[float, Meta(ge=1, description="The pause asked for after a retryable refusal, at least.")] = 1.0

    # When silence is too long.
    ping_interval: Annotated[float, _seconds("Silence before a ping; below the 60 s after which proxies cut.")] = 25.0
    ping_timeout: Annotated[float, _seconds("Further silence before a connection is closed with 4408.")] = 10.0
    handshake_timeout: Annotated[float, _seconds("TLS, request head and authentication together.")] = 5.0
    write_timeout: Annotated[float, _seconds("Each slice of 16 KiB of a write, so that slow is not dead.")] = 10.0
    close_timeout: Annotated[float, _seconds("The peer's answer to a close frame.")] = 1.0
    drain_timeout: Annotated[float, _seconds("From the beginning of a drain to the cancelling of stragglers.")] = 10.0
    retry_spread: Annotated[float, _seconds("Clients are told to come back at a moment within this, to avoid a herd.")] = 5.0
    ack_delay: Annotated[float, _seconds("How long an ack may wait for a batch to ride in.")] = 0.25
    presence_delay: Annotated[float, _seconds("From the last connection's end to telling that the user is away.")] = 3.0
    hook_timeout: Annotated[
        float, _seconds("A hook of the application; less than the silence that closes a connection.")
    ] = 5.0
    revalidate_interval: Annotated[float, _seconds("How often revalidate is asked about each connection.")] = 30.0
    revalidate_grace: Annotated[
        float, _seconds("A connection that revalidate could not be asked about for so long is closed with 1011.")
    ] = 100.0
    revalidations: Annotated[int, _count("Calls of revalidate at once: it may share a database with all else.")] = 32

    # How long what is stored is kept.
    retain_days: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="Entries older than this leave the logs; None keeps them.")
    ] = None
    retain_per_user: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="All but so many entries of each log leave it; None: none do.")
    ] = None
    retain_bytes: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="The oldest messages leave until the rest weighs no more, each its text and 300; None: none do."),
    ] = None
    undelivered_days: Annotated[
        float, Meta(gt=0, description="What no device of a user's has taken stays in that user's log for so long.")
    ] = 30.0
    retain_every: Annotated[float, _seconds("From one look at what has to go to the next.")] = 3600.0

    def __post_init__(self) -> None:
        if self.text_bytes > self.frame_bytes:
            raise ValueError("text_bytes is more than frame_bytes: no frame could carry such a text")
        if self.window_bytes < self.text_bytes:
            raise ValueError("window_bytes is less than text_bytes: the longest text would not fit")
        if self.hook_timeout >= self.ping_interval + self.ping_timeout:
            raise ValueError(
                "hook_timeout is not less than ping_interval and ping_timeout together: who waits for a hook would seem dead"
            )
        if self.revalidate_grace < self.revalidate_interval:
            raise ValueError(
                "revalidate_grace is less than revalidate_interval: everybody would be closed before their turn"
            )

    @classmethod
    def of(cls, **values: object) -> Settings:
        """The settings with `values` in place of the defaults, checked; `open_chat` checks those it is given.

        Raises:
            ConfigurationError: a name is unknown or a value is out of its range; one sentence says which.
        """
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"settings: {error}") from None
