"""The real nginx with the configuration that is shipped: but for ports, certificate and one time limit, as it stands."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import trustme

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "nginx.conf"
READ_TIMEOUT: Final = 6
"""Seconds of silence after which nginx cuts a connection: here, and 60 in the world."""

_MAIN: Final = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    proxy_read_timeout {timeout}s;
    include {folder}/chat.conf;
}}
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class Nginx(AbstractContextManager["Nginx"]):
    """In front of a server at `port`; a process that can be stopped and started again."""

    def __init__(self, folder: Path, port: int, *, timeout: int = READ_TIMEOUT) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        self._folder = folder
        self.port = _free_port()
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "key.pem")
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        conf = EXAMPLE.read_text(encoding="utf-8")
        for theirs, ours in {
            "listen 80;": f"listen 127.0.0.1:{_free_port()};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
            "server 127.0.0.1:6662;": f"server 127.0.0.1:{port};",
            "/etc/ssl/chat.example.com/fullchain.pem": f"{folder}/key.pem",
            "/etc/ssl/chat.example.com/privkey.pem": f"{folder}/key.pem",
        }.items():
            assert conf.count(theirs) == 1, theirs
            conf = conf.replace(theirs, ours)
        (folder / "chat.conf").write_text(conf, encoding="utf-8")
        (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, timeout=timeout), encoding="utf-8")
        self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/"

    def start(self) -> None:
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        assert Path(program).exists(), "there is no nginx; `nox -s browser` installs it"
        self._process = subprocess.Popen([program, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")])
        while True:  # until it listens
            assert self._process.poll() is None, (self._folder / "error.log").read_text(encoding="utf-8")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            except ConnectionRefusedError:
                continue
            break

    def stop(self) -> None:
        """At once, as a restart does: whoever is connected is cut off."""
        self._process.terminate()
        assert self._process.wait(timeout=20) == 0
