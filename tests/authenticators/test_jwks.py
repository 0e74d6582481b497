"""A file of keys: which is taken, when it is read again, and what happens while it is broken."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
import trio
from trio.testing import MockClock

from trio_chat import authenticators
from trio_chat.authenticators.jwks import KeyFile
from trio_chat.errors import ConfigurationError, Refused
from trio_chat.transport.http import Request

from .tokens import ALGORITHMS, forged, jwk, private, private_pem, public_pem, still, token

Jwk = dict[str, Any]


def write(path: Path, *keys: Jwk) -> Path:
    path.write_text(json.dumps({"keys": keys}))
    return path


async def user(path: Path, shown: str, **options: Any) -> str:
    return (await authenticators.jwt(jwks=path, clock=still, **options)(asking(shown))).user


def asking(shown: str) -> Request:
    return Request("GET", "/ws", (), (("authorization", f"Bearer {shown}"),), None, secure=False, upgrade=True)


@pytest.mark.parametrize(("kind", "algorithm"), ALGORITHMS.items())
async def test_a_token_names_its_key(kind: str, algorithm: str, tmp_path: Path) -> None:
    """Else an issuer that changes its keys, and so has several, cannot be believed."""
    named: Jwk = {"alg": algorithm} if kind == "Ed448" else {}  # else PyJWT passes over the key
    keys = jwk(kind, kid="old", **named), jwk(kind, 1, kid="new", **named), jwk("RSA", 2, kid="other")
    path = write(tmp_path / "keys.json", *keys)
    for which, kid in ((0, "old"), (1, "new")):
        assert await user(path, token(private_pem(kind, which), algorithm, {"kid": kid})) == "alice"
    for which, kid in ((1, "old"), (0, "new"), (0, "other"), (0, "unknown"), (0, "")):
        with pytest.raises(Refused):
            await user(path, token(private_pem(kind, which), algorithm, {"kid": kid}))
    with pytest.raises(Refused):
        await user(path, token(private_pem(kind), algorithm))


async def test_a_single_key_needs_no_name(tmp_path: Path) -> None:
    """Else small issuers, which name no key, cannot be believed."""
    path = write(tmp_path / "keys.json", jwk(kid="only"), jwk("RSA", 1, kid="encrypts", use="enc"))
    assert await user(path, token(private(), "RS256")) == "alice"
    with pytest.raises(Refused):
        await user(path, token(private("RSA", 1), "RS256", {"kid": "encrypts"}))


async def test_the_set_or_the_application_says_which_algorithm(tmp_path: Path) -> None:
    """Else whoever makes a token chooses how it is checked."""
    usual = write(tmp_path / "usual.json", jwk())
    named = write(tmp_path / "named.json", jwk(alg="RS512"))
    for path, options, good in (
        (usual, {}, "RS256"),
        (named, {}, "RS512"),
        (usual, {"algorithms": ["PS256", "ES256"]}, "PS256"),
    ):
        for algorithm in ("RS256", "RS512", "PS256"):
            shown = token(private(), algorithm)
            if algorithm == good:
                assert await user(path, shown, **options) == "alice"
            else:
                with pytest.raises(Refused):
                    await user(path, shown, **options)
    secret = public_pem()
    with pytest.raises(Refused):
        await user(usual, forged({"alg": "HS256"}, {"sub": "alice", "exp": 2e9}, secret=secret))


BROKEN = {
    "empty": b"",
    "no JSON": b"-----BEGIN PUBLIC KEY-----",
    "not UTF-8": b"\xff\xfe",
    "a list": b"[]",
    "no keys": b"{}",
    "an empty list": b'{"keys": []}',
    "keys that are none": b'{"keys": [1, null]}',
    "deep": b'{"keys":' + b"[" * 100_000,
    "a key of an unknown kind": json.dumps({"keys": [{"kty": "XYZ"}]}).encode(),
    "a key without its number": json.dumps({"keys": [{"kty": "RSA", "e": "AQAB"}]}).encode(),
    "only for encryption": json.dumps({"keys": [jwk(use="enc")]}).encode(),
    "a secret": json.dumps({"keys": [{"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}).encode(),
    "a name twice": json.dumps({"keys": [jwk(kid="a"), jwk("RSA", 1, kid="a")]}).encode(),
    "a name that is none": json.dumps({"keys": [jwk(kid=[7])]}).encode(),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_told_at_the_start(data: bytes, tmp_path: Path) -> None:
    """Else a server starts that nobody can connect to, or that has a secret where anybody can read it."""
    path = tmp_path / "keys.json"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"keys\.json") as refused:
        KeyFile(path, None)
    assert "\n" not in str(refused.value)


def test_a_private_key_does_not_belong_there(tmp_path: Path) -> None:
    """Else a file that is copied about holds what everybody's tokens are signed with."""
    whole = json.loads(private_jwk())
    with pytest.raises(ConfigurationError, match="not public"):
        KeyFile(write(tmp_path / "keys.json", whole), None)


def private_jwk() -> str:
    return str(pyjwt.get_algorithm_by_name("RS256").to_jwk(private()))


def test_no_file_and_no_key_of_the_algorithm(tmp_path: Path) -> None:
    """Else a misspelt path, or an algorithm that does not fit, is noticed when the first user cannot connect."""
    with pytest.raises(ConfigurationError, match="No such file"):
        KeyFile(tmp_path / "nowhere.json", None)
    with pytest.raises(ConfigurationError, match="no key"):
        KeyFile(write(tmp_path / "keys.json", jwk()), ["ES256"])
    with pytest.raises(ConfigurationError, match="no key"):
        KeyFile(write(tmp_path / "keys.json", jwk()), ["HS256", "none"])


class Counted(KeyFile):
    """Counts how often it looks at its file and how often it reads it."""

    def __init__(self, path: Path) -> None:
        self.looks = self.reads = 0
        super().__init__(path, None)

    def _look(self) -> tuple[int, int, int]:
        self.looks += 1
        return super()._look()

    def _read(self) -> dict[str | None, Any]:
        self.reads += 1
        return super()._read()


async def test_a_changed_file_is_read_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Else a new key is unknown, or one that was stolen and taken out is believed, until the server is restarted."""
    path = write(tmp_path / "keys.json", jwk(kid="a"))
    keys = Counted(path)
    assert keys.key({"kid": "a"}).algorithms == ("RS256",)
    write(path, jwk(kid="b"), jwk("RSA", 1, kid="c"))
    keys.key({"kid": "b"})  # at once: its token is new
    with pytest.raises(Refused):
        keys.key({"kid": "a"})
    write(path, jwk("RSA", 1, kid="c"))
    await trio.sleep(1.1)
    with pytest.raises(Refused):
        keys.key({"kid": "b"})  # within a second: its token is old
    keys.key({"kid": "c"})
    assert keys.reads == 3


async def test_unknown_names_cost_little(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Else anybody can have the file looked at and read as often as they like."""
    keys = Counted(write(tmp_path / "keys.json", jwk(kid="a")))
    for seconds in range(1, 4):
        for n in range(1000):
            with pytest.raises(Refused):
                keys.key({"kid": f"unknown-{n}"})
        assert keys.looks <= 1 + 10 * seconds
        await trio.sleep(1.1)
    assert keys.reads == 1
    for _ in range(1000):
        keys.key({"kid": "a"})
    assert keys.looks <= 1 + 10 * 3 + 1


async def test_while_the_file_is_broken_the_keys_from_before_are_used(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a mistake in a file, or half of one, throws everybody out; or it is logged with each connection."""
    path = write(tmp_path / "keys.json", jwk(kid="a"))
    keys = Counted(path)
    for damage in (lambda: path.write_bytes(b'{"keys": [{'), path.unlink):
        caplog.clear()
        damage()
        for _ in range(3):
            await trio.sleep(1.1)
            keys.key({"kid": "a"})
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert "keys from before are used" in record.getMessage()
    write(path, jwk(kid="b"))
    keys.key({"kid": "b"})


async def test_a_file_that_cannot_be_read_is_as_one_that_is_broken(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Else a rename at the wrong moment is a failure of the server's."""
    path = write(tmp_path / "keys.json", jwk(kid="a"))
    keys = Counted(path)
    path.unlink()
    path.mkdir()
    await trio.sleep(1.1)
    keys.key({"kid": "a"})
    path.rmdir()
    write(path, jwk(kid="b"))
    keys.key({"kid": "b"})
