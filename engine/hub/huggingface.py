"""Hugging Face's own library lists and fetches; only a download's process imports this."""

from __future__ import annotations

import re
from pathlib import Path

from engine.downloads import Repository
from engine.hub.listing import Listing, RemoteFile, checked, remote_file

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LIST_SECONDS = 60.0
_CHUNK_BYTES = 256 * 1024


class HuggingFaceClient:
    """huggingface_hub: one request lists, `hf_hub_download` fetches; over HTTP it begins a file anew."""

    resumes = False

    def __init__(self, repository: Repository) -> None:
        """Be ready for one repository."""
        self._repository = repository
        self._commit = ""

    def list(self) -> Listing:
        """Ask for the files of the revision's commit."""
        from huggingface_hub import HfApi, constants

        # Its own 10 MiB reach the disk at once, and a slow line would look like a silent one.
        constants.DOWNLOAD_CHUNK_SIZE = _CHUNK_BYTES
        found = HfApi().model_info(
            self._repository.repo_id,
            revision=self._repository.revision or None,
            files_metadata=True,
            timeout=_LIST_SECONDS,
        )
        self._commit = found.sha or ""
        files = (
            remote_file(each.rfilename, each.size, each.lfs.sha256 if each.lfs else "", each.blob_id)
            for each in found.siblings or ()
        )
        if not _COMMIT.fullmatch(self._commit):
            raise ValueError("The listing has no commit.")
        return checked(self._commit, files)

    def fetch(self, file: RemoteFile, folder: Path) -> Path:
        """Fetch one file of the listed commit."""
        from huggingface_hub import hf_hub_download

        # What lies in the person's cache was looked at before; with an empty one, nothing is copied unseen.
        found = hf_hub_download(
            self._repository.repo_id,
            file.path,
            revision=self._commit,
            local_dir=folder,
            cache_dir=folder / "cache",
        )
        return Path(found)
