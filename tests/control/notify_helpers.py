"""Servers that get messages: a webhook and a mail server, which may behave badly."""

from __future__ import annotations

import json
import queue
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_S = 30.0


class Webhook(ThreadingHTTPServer):
    """An HTTP server; what a path says is how it answers: /401, /silent, /drip, else 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.got: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.hung_up: queue.Queue[str] = queue.Queue()

    def url(self, path: str, user: str = "") -> str:
        """Return a URL as apprise has it."""
        return f"json://{user}127.0.0.1:{self.server_port}/{path}"


class _Hook(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.put((self.path, json.loads(body)))
        word = self.path.strip("/")
        if word == "silent":
            self.rfile.read(1)  # until the other side hangs up
        elif word == "drip":
            self._drip()
        else:
            self.send_response(int(word) if word.isdigit() else 200)
            self.end_headers()
            return
        self.server.hung_up.put(word)
        self.close_connection = True

    def _drip(self) -> None:
        """Answer a byte now and then, for which no timeout between bytes is short enough."""
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not threading.Event().wait(0.2):
                self.wfile.write(b"x")
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


class MailServer(socketserver.ThreadingTCPServer):
    """An SMTP server (RFC 5321, no more of it than is needed); refuses who is named `nobody`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, silent: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Mail)
        self.silent = silent
        self.got: queue.Queue[EmailMessage] = queue.Queue()

    def url(self, to: str = "admin") -> str:
        """Return a URL as apprise has it."""
        port = self.server_address[1]
        return f"mailto://127.0.0.1:{port}?from=onggi@example.org&to={to}@example.org&mode=insecure"


class _Mail(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        if self.server.silent:
            self.rfile.read()
            return
        self._say("220 here")
        while line := self.rfile.readline():
            word = line[:4].upper().strip()
            if word == b"QUIT":
                self._say("221 bye")
                return
            if word == b"RCPT" and b"nobody" in line:
                self._say("550 no such user")
            elif word == b"DATA":
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                text = b"".join(line.removeprefix(b".") for line in lines)
                self.server.got.put(message_from_bytes(text, policy=policy.default))
                self._say("250 taken")
            else:
                self._say("250 fine")

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Serve in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
