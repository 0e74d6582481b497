"""FastAPI on uvicorn, that is, on asyncio, with ``trio-chat serve`` beside it.

Needs the extra: pip install 'trio-chat[jwt]'. Run both::

    head -c 32 /dev/urandom > chat.key && chmod 600 chat.key
    trio-chat serve --jwt-key-file chat.key --jwt-audience chat
    uvicorn fastapi_sidecar:app

The application's log-in mints the tokens that let its users in to the chat; its own code sends with the client.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from trio_chat import authenticators
from trio_chat.client import open_client

URL = os.environ.get("CHAT_URL", "ws://127.0.0.1:6662/ws")
KEY = Path(os.environ.get("CHAT_KEY", "chat.key")).read_bytes()
PASSWORDS = {"alice": "wonderland", "bob": "builder"}  # in real life: what you have already


def token(user: str, seconds: int) -> str:
    """What lets `user` in to the chat for so long."""
    return authenticators.mint(KEY, {"sub": user, "aud": "chat", "exp": int(time.time()) + seconds})


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One connection for all that the application itself says; it comes back by itself. Its token is good for a year."""
    async with open_client(URL, token=token("shop", 365 * 24 * 3600), send_only=True) as chat:
        app.state.chat = chat
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/log-in")
async def log_in(who: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> dict[str, str]:
    """Who has the password gets a token, for an hour."""
    if PASSWORDS.get(who.username) != who.password:
        raise HTTPException(401)
    return {"token": token(who.username, 3600)}


@app.post("/orders/{user}")
async def order(user: str) -> dict[str, int]:
    """Tell a user something: when this returns it is stored, and is delivered when the user is there."""
    stored = await app.state.chat.send(user, "Your order is on its way.")
    return {"seq": stored.seq}
