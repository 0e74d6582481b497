"""The statistics of a chat as Prometheus reads them. Needs the extra ``metrics``.

`METRICS` is the list of what there is: the documentation's table is checked against it, and so are the queries of the
dashboard and the alert rules in ``examples/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from msgspec import Struct

from ..chat import Chat, Statistics
from ..errors import CloseCode, ConfigurationError, ErrorCode
from ..measures import Distribution
from ..push.dispatcher import ProviderFigures

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["ANSWERS", "METRICS", "STATES", "Exposition", "Row"]

Value: TypeAlias = float | Mapping[str, float] | Mapping[tuple[str, ...], float] | Distribution


class Row(Struct, frozen=True):
    """A metric: its name (without ``_total``, for a counter), what it is, and how the statistics tell it.

    `labels` name what its values are told apart by.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    value: Callable[[Statistics], Value]
    labels: tuple[str, ...] = ()


def _codes(counts: Mapping[ErrorCode, int]) -> dict[str, float]:
    """All codes, those that did not occur with 0: a rate needs a value to begin with."""
    return {code.value: counts.get(code, 0) for code in ErrorCode}


def _closings(counts: Mapping[CloseCode, int]) -> dict[str, float]:
    return {str(int(code)): counts.get(code, 0) for code in CloseCode}


def _queues(held: Statistics) -> dict[str, float]:
    queues = held.progress.queues
    return {
        "commands": held.waiting,
        "events": queues.events,
        "pages": queues.pages,
        "questions": queues.questions,
        "requests": held.requests,
        "drafts": queues.drafts,
    }


ANSWERS: Final = {"sent": "sent", "cleared": "cleared", "gone": "gone", "later": "retried", "misconfigured": "alarms"}
"""What a provider can answer, and the figure that counts it."""


def _attempts(held: Statistics) -> dict[tuple[str, ...], float]:
    return {
        (name, answer): getattr(figures, counted)
        for name, figures in held.push.items()
        for answer, counted in ANSWERS.items()
    }


def _providers(figure: Callable[[ProviderFigures], float]) -> Callable[[Statistics], dict[str, float]]:
    return lambda held: {name: figure(figures) for name, figures in held.push.items()}


METRICS: Final = (
    Row("connections", "gauge", "Connections, those in the handshake among them.", lambda held: held.connections),
    Row("handshakes", "gauge", "Connections that nobody knows yet.", lambda held: held.handshakes),
    Row("users", "gauge", "Users with a session.", lambda held: held.users),
    Row("devices", "gauge", "Devices that are connected.", lambda held: held.devices),
    Row("send_only", "gauge", "Connections that only send.", lambda held: held.sending),
    Row("devices_behind", "gauge", "Devices that have not been sent all there is.", lambda held: held.behind),
    Row("entries_in_flight", "gauge", "Entries sent and not acknowledged yet.", lambda held: held.unacknowledged),
    Row("queue_depth", "gauge", "What waits, by where it waits.", _queues, ("queue",)),
    Row("queue_bytes", "gauge", "The bytes of the commands that wait for a commit.", lambda held: held.waiting_bytes),
    Row("messages_stored", "counter", "Messages, edits and deletions stored.", lambda held: held.progress.stored),
    Row("refused", "counter", "Error frames, by code.", lambda held: _codes(held.progress.refused), ("code",)),
    Row("closed", "counter", "Connections that the server closed, by close code.", lambda h: _closings(h.closed), ("code",)),
    Row("turned_away", "counter", "Requests refused before there was a WebSocket, by HTTP status.",
        lambda held: {str(status): count for status, count in held.turned_away.items()}, ("status",)),
    Row("commit_seconds", "histogram", "How long commits took.", lambda held: held.progress.commits.seconds),
    Row("commit_seconds_max", "gauge", "How long the longest took.", lambda held: held.progress.commits.seconds.max),
    Row("commit_rows", "histogram", "How much shared a commit.", lambda held: held.progress.commits.rows),
    Row("commits_failed", "counter", "Batches that the store did not take as a whole.",
        lambda held: held.progress.commits.failed),
    Row("store_bytes", "gauge", "The size of the database file.", lambda held: held.sizes.file),
    Row("wal_bytes", "gauge", "The size of its write-ahead log.", lambda held: held.sizes.wal),
    Row("push_outbox_jobs", "gauge", "Jobs that wait for push.", lambda held: held.outbox.length),
    Row("push_outbox_age_seconds", "gauge", "How long the oldest of them waits.", lambda held: held.outbox.age),
    Row("push_attempts", "counter", "Push attempts, by provider and what it answered.", _attempts, ("provider", "answer")),
    Row("push_trying", "gauge", "Push attempts under way.", _providers(lambda line: line.trying), ("provider",)),
    Row("push_dropped", "counter", "Push jobs that were given up without an attempt.",
        _providers(lambda line: line.dropped), ("provider",)),
    Row("push_breaker_open", "gauge", "1 while the provider is left alone, after failures in a row.",
        _providers(lambda line: line.open), ("provider",)),
    Row("push_hosts_resting", "gauge", "Hosts of the provider's that are left alone.",
        _providers(lambda line: line.resting), ("provider",)),
    Row("push_misconfigured", "gauge", "1 while the provider says that it is not configured as it must be.",
        _providers(lambda line: line.misconfigured is not None), ("provider",)),
    Row("uptime_seconds", "gauge", "Since the chat began.", lambda held: held.uptime),
)  # fmt: skip
"""All metrics of the statistics, without their prefix ``trio_chat_``. Beside them there are `STATES`."""

_PREFIX: Final = "trio_chat_"
STATES: Final = {"healthy": "1 while the store can be written.", "ready": "1 while new connections are served."}


class Exposition:
    """What ``/metrics`` answers.

    Raises:
        ConfigurationError: the extra is not installed.
    """

    def __init__(self, chat: Chat) -> None:
        try:
            from prometheus_client import CollectorRegistry, core, exposition  # noqa: PLC0415  (an extra)
        except ImportError:
            raise ConfigurationError("metrics need prometheus-client: pip install 'trio-chat[metrics]'") from None
        self._chat = chat
        self._core = core
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._generate = exposition.generate_latest
        self.content_type = exposition.CONTENT_TYPE_LATEST

    def text(self) -> bytes:
        """The metrics as they are now."""
        return self._generate(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is does not change, so nothing is collected to find out. For the registry."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now. For the registry."""
        statistics = self._chat.statistics()
        for row in METRICS:
            yield self._metric(row, row.value(statistics))
        states = {"healthy": self._chat.failure is None, "ready": self._chat.healthy}
        for name, meaning in STATES.items():
            yield self._core.GaugeMetricFamily(_PREFIX + name, meaning, value=float(states[name]))

    def _metric(self, row: Row, value: Value) -> Metric:
        name = _PREFIX + row.name
        if isinstance(value, Distribution):
            buckets, total = [], 0
            for bound, count in zip((*map(str, value.bounds), "+Inf"), value.counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            return self._core.HistogramMetricFamily(name, row.meaning, buckets=buckets, sum_value=value.sum)
        family = self._core.CounterMetricFamily if row.kind == "counter" else self._core.GaugeMetricFamily
        metric = family(name, row.meaning, labels=row.labels)
        for label, number in value.items() if isinstance(value, Mapping) else [((), value)]:
            metric.add_metric([label] if isinstance(label, str) else label, float(number))
        return metric
