"""Where each hub's cache lays a model out, and how a model that was fetched is put there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from engine.downloads import Repository
from engine.hub.client import Cache
from engine.hub.listing import Listing, RemoteFile
from engine.hub.places import (
    HUGGINGFACE_DEFAULT,
    MASKED_DOT,
    MODELSCOPE_DEFAULT,
    huggingface_caches,
    modelscope_base,
    modelscope_caches,
    ref_at,
)
from engine.hub.verify import git_digest
from engine.values import Hub, ModelRef


def cache_of(repository: Repository) -> Cache:
    """The cache of the repository's hub."""
    if repository.hub is Hub.HUGGINGFACE:
        return HuggingFaceCache(repository)
    return ModelScopeCache(repository)


class HuggingFaceCache:
    """`models--owner--name` with blobs, and snapshots that link to them.

    Attributes:
        root: of the cache.
    """

    def __init__(self, repository: Repository) -> None:
        """Find the cache; nothing is made yet."""
        self.root = huggingface_caches()[0]
        self._repository = repository
        self._folder = self.root / f"models--{repository.repo_id.replace('/', '--')}"

    def find(self, file: RemoteFile) -> Path | None:
        """A blob is named after its content."""
        name = file.sha256 or file.git_sha1
        return self._folder / "blobs" / name if name else None

    def install(self, files: dict[str, Path], listing: Listing) -> ModelRef:
        """Blobs first, which nobody sees; then the snapshot, in one step where it is new; then the name."""
        by_path = {file.path: file for file in listing.files}
        blobs = self._folder / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        names = {path: _blob_name(by_path[path], where) for path, where in files.items()}
        for path, where in files.items():
            os.replace(where, blobs / names[path])
        snapshot = self._folder / "snapshots" / listing.revision
        self._link(snapshot, names)
        self._name(listing.revision)
        return ref_at(snapshot)

    def _link(self, snapshot: Path, names: dict[str, str]) -> None:
        links = self._folder / f".links-{snapshot.name}"
        shutil.rmtree(links, ignore_errors=True)
        for path, name in names.items():
            link = links / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to("../" * (path.count("/") + 2) + f"blobs/{name}")
        snapshot.parent.mkdir(exist_ok=True)
        if not snapshot.exists():
            os.rename(links, snapshot)
            return
        # Somebody has a part of it. config.json comes last: without it, it is no model to anybody.
        for path in sorted(names, key="config.json".__eq__):
            (snapshot / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(links / path, snapshot / path)
        shutil.rmtree(links, ignore_errors=True)

    def _name(self, commit: str) -> None:
        revision = self._repository.revision or HUGGINGFACE_DEFAULT
        # A commit that was asked for has a name, too: it tells what the person wants from what is old.
        ref = self._folder / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        written = self._folder / ".ref"
        written.write_text(commit, encoding="ascii")
        os.replace(written, ref)


def _blob_name(file: RemoteFile, where: Path) -> str:
    """What the cache calls a file's content, computed where the hub did not say."""
    if file.sha256 or file.git_sha1:
        return file.sha256 or file.git_sha1
    digest = git_digest(file.size)
    digest.update(where.read_bytes())
    return digest.hexdigest()


class ModelScopeCache:
    """`models/owner--name/snapshots/revision`, plain files.

    Attributes:
        root: of the cache.
    """

    def __init__(self, repository: Repository) -> None:
        """Find the cache; nothing is made yet."""
        self.root = modelscope_base()
        self._repository = repository
        name = repository.repo_id.replace("/", "--")
        self._folder = self.root / "models" / name / "snapshots" / (repository.revision or MODELSCOPE_DEFAULT)

    def find(self, file: RemoteFile) -> Path | None:
        """In this layout, or in the one of before."""
        owner, _, name = self._repository.repo_id.partition("/")
        older = (cache / owner / name.replace(".", MASKED_DOT) for cache in modelscope_caches())
        return next(
            (path for folder in (self._folder, *older) if (path := folder / file.path).is_file()), None
        )

    def install(self, files: dict[str, Path], listing: Listing) -> ModelRef:  # noqa: ARG002 - of the protocol
        """Rename the folder of files to its place; one that is there makes room first."""
        staged = _common_folder(files)
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        before = staged.with_name("before")
        if self._folder.exists():
            shutil.rmtree(before, ignore_errors=True)
            os.rename(self._folder, before)
        os.rename(staged, self._folder)
        shutil.rmtree(before, ignore_errors=True)
        return ref_at(self._folder)


def _common_folder(files: dict[str, Path]) -> Path:
    path, where = next(iter(files.items()))
    return where.parents[path.count("/")]
