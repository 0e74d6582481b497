"""The settings of a server from outside, those of push among them: a TOML file, and over it the environment."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import msgspec

from .errors import ConfigurationError
from .push.options import PushOptions
from .settings import Settings

__all__ = ["PREFIX", "Configuration", "Line", "load"]

PREFIX: Final = "TRIO_CHAT_"
"""``window`` is ``TRIO_CHAT_WINDOW`` in the environment."""

_OFF: Final = "off"
"""What stands for None, where a setting can be that: neither TOML nor the environment has a word for it."""


class Line(msgspec.Struct, frozen=True):
    """A setting as it is shown: `value` in TOML, ``"***"`` if it is a secret; `source` says where it comes from."""

    name: str
    value: str
    source: str
    reason: str


class Configuration(msgspec.Struct, frozen=True):
    """The settings, where those that differ from the defaults come from, and what of the environment was not understood.

    Unknown variables are no error: a cluster sets some of its own for a service that is called trio-chat.
    """

    settings: Settings
    sources: dict[str, str]
    ignored: list[str]
    push: PushOptions = PushOptions()

    def lines(self) -> Iterator[Line]:
        """Every setting, in the order of the documentation."""
        for part in (self.settings, self.push):
            for name in part.__struct_fields__:
                reason, secret = _reason(name)
                yield Line(name, _shown(getattr(part, name), secret=secret), self.sources.get(name, "default"), reason)


def load(environ: Mapping[str, str], file: Path | None = None, **options: Any) -> Configuration:
    """The settings from `file`, overridden by `environ`, overridden by those of `options` that are not None.

    Raises:
        ConfigurationError: the file cannot be read or is not TOML, it names a setting that does not exist, or a value is
            not one; one sentence says which and where.
    """
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for name, value in _read(file).items() if file is not None else ():
        if name not in _HINTS:
            raise ConfigurationError(f"{file}: there is no setting {name}; trio-chat settings lists them")
        values[name] = _converted(name, value, f"{file}: {name}", strict=True)
        sources[name] = str(file)
    ignored = []
    for variable, text in environ.items():
        if variable.startswith(PREFIX):
            name = variable.removeprefix(PREFIX).lower()
            if name in _HINTS:
                values[name] = _converted(name, text, variable, strict=False)
                sources[name] = variable
            else:
                ignored.append(variable)
    for name, value in options.items():
        if value is not None:
            values[name] = _converted(name, value, name, strict=True)
            sources[name] = "command line"
    push = {name: values.pop(name) for name in PushOptions.__struct_fields__ if name in values}
    return Configuration(Settings.of(**values), sources, sorted(ignored), PushOptions.of(**push))


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from None


_HINTS: Final = {**get_type_hints(Settings, include_extras=True), **get_type_hints(PushOptions, include_extras=True)}


def _shown(value: object, *, secret: bool) -> str:
    """A value in TOML; a secret one is not told, but that there is one."""
    if value is None:
        return f'"{_OFF}"'
    if secret:
        return '"***"'
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value).lower()


def _reason(name: str) -> tuple[str, bool]:
    """Why the setting has its default, and whether its value is a secret."""
    metas = [meta for meta in get_args(_HINTS[name]) if isinstance(meta, msgspec.Meta)]
    reason = next((meta.description for meta in metas if meta.description), "")
    return reason, any((meta.extra or {}).get("secret") for meta in metas)


def _converted(name: str, value: object, where: str, *, strict: bool) -> object:
    hint = _HINTS[name]
    if value == _OFF and type(None) in get_args(get_args(hint)[0]):
        return None
    try:
        return msgspec.convert(value, hint, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
