"""What several commands of an operator's share: the configuration, and failures in one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ..configuration import Configuration, load
from ..errors import ConfigurationError
from ..terminal.outcome import Failure

__all__ = ["config", "configured", "plainly"]

_Result = TypeVar("_Result")

config: Final = click.option("--config", type=click.Path(dir_okay=False, path_type=Path), envvar="TRIO_CHAT_CONFIG",
                       help="A TOML file with settings; trio-chat settings prints one.")  # fmt: skip


def configured(file: Path | None, **options: Any) -> Configuration:
    """The settings of `file`, the environment and these options.

    Raises:
        Failure: one of them is none, with exit code 2.
    """
    try:
        return load({name: text for name, text in os.environ.items() if name != "TRIO_CHAT_CONFIG"}, file, **options)
    except ConfigurationError as error:
        raise Failure(str(error), 2) from None


def plainly(work: Callable[[], _Result], exit_code: int = 1) -> _Result:
    """What `work` returns, its `ConfigurationError` as one sentence.

    Raises:
        Failure: with this exit code.
    """
    try:
        return work()
    except ConfigurationError as error:
        raise Failure(str(error), exit_code) from None
