"""A small server that speaks the part of the hub's protocol by which a data set is found and read."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving_hub(repository: str, files: dict[str, bytes]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Its address, and what it is asked: method and path, with the bytes of a range after it."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            paths = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}").get("paths", [])
            self.note()
            self.send([entry for entry in entries(files) if entry["path"] in paths])

        def do_GET(self) -> None:
            self.note()
            path = unquote(urlsplit(self.path).path)
            api, resolved = f"/api/datasets/{repository}", f"/datasets/{repository}/resolve/{COMMIT}/"
            if path in {api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"}:
                self.send(
                    {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                )
            elif path.startswith(f"{api}/tree/{COMMIT}"):
                self.send(entries(files, path.removeprefix(f"{api}/tree/{COMMIT}").strip("/")))
            elif path.startswith(resolved) and path.removeprefix(resolved) in files:
                self.send_file(files[path.removeprefix(resolved)])
            else:
                self.send({"error": "Repository not found"}, 404)

        def note(self) -> None:
            asked.append(
                (self.command, f"{urlsplit(self.path).path} {self.headers.get('Range', '')}".strip())
            )

        def send(self, content: Any, status: int = 200) -> None:
            self.reply(json.dumps(content).encode(), status, {"Content-Type": "application/json"})

        def send_file(self, content: bytes) -> None:
            span = self.headers.get("Range")
            headers = {"ETag": '"1"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if span is None:
                self.reply(content, 200, headers)
                return
            first, last = (int(end) for end in span.removeprefix("bytes=").split("-"))
            headers["Content-Range"] = f"bytes {first}-{min(last, len(content) - 1)}/{len(content)}"
            self.reply(content[first : last + 1], 206, headers)

        def reply(self, body: bytes, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    service = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.daemon_threads = True
    threading.Thread(target=service.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{service.server_port}", asked
    finally:
        service.shutdown()
        service.server_close()


def entries(files: dict[str, bytes], below: str = "") -> list[dict[str, Any]]:
    """Files and folders as the hub lists them."""
    folders = {name.rpartition("/")[0] for name in files} - {""}
    listed = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in sorted(folders)]
    listed += [
        {"type": "file", "oid": "1" * 40, "size": len(content), "path": name}
        for name, content in files.items()
    ]
    return [entry for entry in listed if not below or str(entry["path"]).startswith(f"{below}/")]
