"""A server on this machine that answers as the Hugging Face hub does, for repositories that lie in a local folder.

Of the hub's interface it has what reading files takes: a data set or model at a revision, what lies in a data set's
folders, and the files, whole or by range. The path of every request is noted, to tell which revision was asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.asked.append(url.path)
        if match := re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)/revision/[^/]+", url.path):
            self._send(
                json.dumps({"id": match[1], "sha": COMMIT, "private": False, "tags": [], "siblings": []}).encode()
            )
        elif match := re.fullmatch(r"/api/datasets/[^/]+/[^/]+/tree/[^/]+/?(.*)", url.path):
            self._send(json.dumps(self._tree(unquote(match[1]))).encode())
        elif match := re.fullmatch(r"(?:/datasets)?/[^/]+/[^/]+/resolve/[^/]+/(.+)", url.path):
            self._file(self.folder / unquote(match[1]))
        else:
            self._send(b"{}", 404)

    do_HEAD = do_GET

    def _tree(self, path: str) -> list[dict]:
        """What lies in a folder of the repository."""
        found = []
        for place in sorted((self.folder / path).iterdir()):
            about = {"type": "directory" if place.is_dir() else "file", "size": place.stat().st_size}
            name = place.relative_to(self.folder).as_posix()
            found.append({"path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), **about})
        return found

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._send(b"", 404)
        content, status, extra = path.read_bytes(), 200, {}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
            extra = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            content, status = content[first : last + 1], 206
        etag = hashlib.sha1(path.read_bytes()).hexdigest()
        self._send(content, status, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes", **extra})

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def local_hub(folder: Path):
    """(address, paths asked for) of a hub whose every data set and model lies in `folder`."""
    asked: list[str] = []
    handler = type("Local", (Handler,), {"folder": folder, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
