"""A server of a few files on this machine, which can be told to behave as real ones do."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """Files by name, and how they are served."""

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    tag: str = '"one"'
    length: bool = True  # said in advance
    # of the next requests, one each: only so many bytes are sent; or this state is the answer
    cuts: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    silence: float = 0.0  # seconds before every answer
    shift: int = 0  # of the first byte of a range, against the one asked for
    slow: float = 0.0  # seconds between two pieces of 1,000 bytes
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # name and range
    agents: set[str] = field(default_factory=set)

    def ranges_of(self, name: str) -> list[str | None]:
        return [asked for found, asked in self.asked if found == name]


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        name = self.path.partition("?")[0].rpartition("/")[2]
        asked = self.headers.get("Range")
        site.asked.append((name, asked))
        site.agents.add(self.headers["User-Agent"])
        time.sleep(site.silence)
        if site.states:
            self.send_error(site.states.pop(0))
            return
        if name not in site.files:
            self.send_error(404)
            return
        content = site.files[name]
        condition = self.headers.get("If-Range")
        start = 0
        if asked and site.ranges and condition in (None, site.tag):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            start += site.shift
            self.send_response(206)
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        else:
            self.send_response(200)
        if site.tag:
            self.send_header("ETag", site.tag)
        body = content[start:]
        if site.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if site.cuts:
            body = body[: site.cuts.pop(0)]
        for begin in range(0, len(body), 1000 if site.slow else 1 << 20):
            self.wfile.write(body[begin : begin + (1000 if site.slow else 1 << 20)])
            time.sleep(site.slow)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Whoever asked went away, as tests do."""


@contextmanager
def serving(**files: bytes) -> Iterator[Site]:
    """A site while the block runs; `_` in a name that is given stands for a dot."""
    site = Site({name.replace("_", "."): content for name, content in files.items()})
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
