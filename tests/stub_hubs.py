"""Hugging Face and ModelScope on loopback, as far as their own libraries ask them; with faults to order.

with StubHubs() as hubs:
    hubs.add("owner/name", files)
    environment = hubs.environment(tmp_path)
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]
LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".model")
_CHUNK = 16 * 1024
_MS_FILES = re.compile(r"/api/v1/models/([^/]+/[^/]+)/repo/files")
_MS_FILE = re.compile(r"/api/v1/models/([^/]+/[^/]+)/repo")
_HF_INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?")
_HF_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class StubHubs:
    """Both hubs on one port; what is set here counts from the next request on."""

    repositories: dict[tuple[str, str], Files] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    bytes_per_second: float = 0.0
    flips: Counter[str] = field(default_factory=Counter)
    """How many times a file is sent with a flipped byte."""
    cuts: Counter[str] = field(default_factory=Counter)
    """How many times a file is cut in its middle."""
    hangs: Counter[str] = field(default_factory=Counter)
    """How many times a file stops in its middle, while its connection stays open."""
    refused_ranges: int = 0
    """How many requests for the rest of a file are answered with 416."""
    certificate: Path | None = None
    """With its key in the same file: both hubs speak TLS, and nobody vouches for them."""
    statuses: list[int] = field(default_factory=list)
    """Answered in turn, instead of what was asked for."""
    claimed_sizes: dict[str, int] = field(default_factory=dict)
    claimed_names: dict[str, str] = field(default_factory=dict)
    without_checksums: bool = False
    knows_ranges: bool = True
    loops: bool = False
    """Weights are redirected to themselves."""
    redirects_to: str = ""
    """The host that weights are redirected to, as the hubs' CDNs."""
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of each file that went out."""
    headers: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Host asked and headers of every request, in order."""

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"hubs": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._is_over = threading.Event()
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def add(self, repo_id: str, files: Files, revision: str = "") -> str:
        """Publish files as a branch of both hubs' repositories; the commit on Hugging Face."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        for name in (revision,) if revision else ("main", "master"):
            self.repositories[repo_id, name] = files
        self.repositories[repo_id, commit] = files
        return commit

    def environment(self, folder: Path) -> dict[str, str]:
        """What leads the libraries here, and nowhere else."""
        endpoint = f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"
        return {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder / "hf-home"),
            "HF_HUB_CACHE": str(folder / "hf"),
            "MODELSCOPE_ENDPOINT": endpoint,
            "MODELSCOPE_CACHE": str(folder / "ms"),
            "MODELSCOPE_HOME": str(folder / "ms-home"),
            "HF_HUB_DOWNLOAD_TIMEOUT": "5",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def commit_of(self, repo_id: str, revision: str) -> str:
        files = self.repositories[repo_id, revision]
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed hangs up; that is no error here."""


class _Handler(BaseHTTPRequestHandler):
    hubs: StubHubs
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.hubs.headers.append((self.headers["Host"], dict(self.headers)))
        if self.hubs.statuses:
            self.say(self.hubs.statuses.pop(0), {})
            return
        url = urlsplit(self.path)
        path, query = unquote(url.path), {key: values[0] for key, values in parse_qs(url.query).items()}
        if found := _MS_FILES.fullmatch(path):
            self.modelscope_listing(found[1], query["Revision"])
        elif found := _MS_FILE.fullmatch(path):
            self.modelscope_file(found[1], query["Revision"], query["FilePath"])
        elif found := _HF_INFO.fullmatch(path):
            self.huggingface_listing(found[1], found[2] or "main")
        elif found := _HF_FILE.fullmatch(path):
            self.huggingface_file(*found.groups())
        else:
            self.say(404, {"Message": "nothing here"})

    def modelscope_listing(self, repo_id: str, revision: str) -> None:
        files = self.hubs.repositories.get((repo_id, revision))
        if files is None:
            self.say(404, {"Code": 10010205001, "Message": "not found"})
            return
        entries: list[dict[str, Any]] = [{"Path": "folder", "Size": 0, "Type": "tree"}]
        entries += [
            {
                "Path": self.hubs.claimed_names.get(path, path),
                "Size": self.hubs.claimed_sizes.get(path, len(content)),
                "Sha256": "" if self.hubs.without_checksums else hashlib.sha256(content).hexdigest(),
                "Type": "blob",
            }
            for path, content in files.items()
        ]
        self.say(200, {"Code": 200, "Data": {"Files": entries}})

    def modelscope_file(self, repo_id: str, revision: str, path: str) -> None:
        if repo_id in self.hubs.gated:
            self.say(403, {"Code": 10010205003, "Message": "access denied"})
            return
        if self.redirect(path):
            return
        self.send_file(path, self.hubs.repositories[repo_id, revision][path], {})

    def huggingface_listing(self, repo_id: str, revision: str) -> None:
        if (repo_id, revision) not in self.hubs.repositories:
            known = any(repo_id == name for name, _ in self.hubs.repositories)
            self.say(404, {}, {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"})
            return
        files = self.hubs.repositories[repo_id, revision]
        siblings = [self.sibling(path, content) for path, content in files.items()]
        commit = self.hubs.commit_of(repo_id, revision)
        self.say(200, {"id": repo_id, "sha": commit, "siblings": siblings, "tags": [], "private": False})

    def sibling(self, path: str, content: bytes) -> dict[str, Any]:
        size = self.hubs.claimed_sizes.get(path, len(content))
        found: dict[str, Any] = {"rfilename": self.hubs.claimed_names.get(path, path), "size": size}
        found["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if path.endswith(LFS_SUFFIXES) and not self.hubs.without_checksums:
            sha256 = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 134}
        return found

    def huggingface_file(self, repo_id: str, revision: str, path: str) -> None:
        if repo_id in self.hubs.gated:
            self.say(403, {}, {"X-Error-Code": "GatedRepo"})
            return
        content = self.hubs.repositories[repo_id, revision][path]
        commit = self.hubs.commit_of(repo_id, revision)
        etag = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if not self.redirect(path, headers):
            self.send_file(path, content, headers)

    def redirect(self, path: str, headers: dict[str, str] | None = None) -> bool:
        if self.hubs.loops and path.endswith(LFS_SUFFIXES):
            self.say(302, {}, {"Location": self.path, **(headers or {})})
            return True
        is_there = self.headers["Host"].startswith(self.hubs.redirects_to)
        if not self.hubs.redirects_to or is_there or not path.endswith(LFS_SUFFIXES):
            return False
        location = f"http://{self.hubs.redirects_to}:{self.hubs.port}{self.path}"
        self.say(302, {}, {"Location": location, **(headers or {})})
        return True

    def send_file(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        start = self.range_start()
        if start and self.hubs.refused_ranges > 0:
            self.hubs.refused_ranges -= 1
            self.say(416, {}, {**headers, "Content-Range": f"bytes */{len(content)}"})
            return
        body = content[start:]
        status, extra = 200, {}
        if start:
            status = 206
            extra = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self.send_response(status)
        for name, value in {**headers, **extra, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in self.pieces(path, body):
            self.wfile.write(piece)
            self.hubs.sent[path] += len(piece)

    def range_start(self) -> int:
        found = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found and self.hubs.knows_ranges else 0

    def pieces(self, path: str, body: bytes) -> Iterator[bytes]:
        if self.hubs.flips[path] > 0 and body:
            self.hubs.flips[path] -= 1
            body = bytes([body[0] ^ 1]) + body[1:]
        end = len(body)
        if self.hubs.cuts[path] > 0:
            self.hubs.cuts[path] -= 1
            self.close_connection = True
            end = len(body) // 2
        hangs = self.hubs.hangs[path] > 0
        if hangs:
            self.hubs.hangs[path] -= 1
            end = len(body) // 2
        for at in range(0, end, _CHUNK):
            piece = body[at : min(end, at + _CHUNK)]
            if self.hubs.bytes_per_second:
                time.sleep(len(piece) / self.hubs.bytes_per_second)
            yield piece
        if hangs:
            self.hubs._is_over.wait()
            self.close_connection = True

    def say(self, status: int, document: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
