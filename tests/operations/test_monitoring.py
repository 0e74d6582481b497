"""The dashboard, the alert rules and the documentation name what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trio_chat.operations.metrics import ANSWERS, METRICS, STATES

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "examples" / "monitoring"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
NAMES = {f"trio_chat_{row.name}{suffix}" for row in METRICS for suffix in SUFFIXES[row.kind]}
NAMES |= {f"trio_chat_{name}" for name in STATES}
LABELS = {"instance", "job", "le"} | {label for row in METRICS for label in row.labels}


def expressions(value: Any) -> Iterator[str]:
    """Every query in a dashboard, wherever it stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("expr", "query") and isinstance(inner, str) and inner != "prometheus":
                yield inner
            else:
                yield from expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions(inner)


def dashboard() -> list[str]:
    return list(expressions(json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))))


def alerts() -> list[str]:
    return re.findall(r"^\s+expr: (.+)$", (MONITORING / "alerts.yaml").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("query", [*dashboard(), *alerts()])
def test_a_query_names_what_there_is(query: str) -> None:
    """Else a panel is empty for ever, or an alert never fires: Prometheus takes a name that does not exist for silence."""
    named = set(re.findall(r"\btrio_chat_\w+", query))
    assert named <= NAMES
    assert named or query == 'up{job="trio-chat"} == 0'
    for labels in re.findall(r"\{([^}]*)\}", query):
        assert {label.partition("=")[0].strip() for label in labels.split(",")} <= LABELS
    for codes in re.findall(r'code="([^"]+)"', query):
        assert codes == "overloaded"
    for answers in re.findall(r'answer="([^"]+)"', query):
        assert answers in ANSWERS
    assert query.count("(") == query.count(")")


def test_the_dashboard_shows_everything() -> None:
    """A metric that nobody sees is found on the day after it would have told something."""
    shown = {name for query in dashboard() for name in re.findall(r"\btrio_chat_\w+", query)}
    for row in METRICS:
        assert any(f"trio_chat_{row.name}{suffix}" in shown for suffix in SUFFIXES[row.kind]), row.name


def _named(labels: tuple[str, ...]) -> str:
    """How the documentation names the labels of a metric."""
    return f" Label{'s' if labels[1:] else ''}: {', '.join(f'`{label}`' for label in labels)}." if labels else ""


def test_the_documentation_lists_them() -> None:
    """Else who writes a query of their own looks for metrics in the code, or finds some that are gone."""
    text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `trio_chat_(\w+)` \| (\w+) \| (.*?) \|$", text, re.MULTILINE)
    listed = [
        (
            row.name + "_total" * (row.kind == "counter"),
            row.kind,
            row.meaning + _named(row.labels),
        )
        for row in METRICS
    ]
    assert rows == listed + [(name, "gauge", meaning) for name, meaning in STATES.items()]
