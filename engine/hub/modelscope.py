"""ModelScope's download layer, modelscope_hub, lists and fetches; only a download's process imports this.

`modelscope` itself is never imported: it brings torch, and functions that run a repository's code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.downloads import Repository
from engine.hub.listing import Listing, RemoteFile, checked, remote_file
from engine.hub.places import MODELSCOPE_DEFAULT

if TYPE_CHECKING:
    from modelscope_hub import HubApi


class ModelScopeClient:
    """modelscope_hub: files are listed and checked first, then fetched one by one, each with its resume."""

    resumes = True

    def __init__(self, repository: Repository) -> None:
        """Be ready for one repository."""
        self._repository = repository
        self._revision = repository.revision or MODELSCOPE_DEFAULT
        self._api: HubApi | None = None

    def list(self) -> Listing:
        """Ask for the files of the revision, on the site that has the repository."""
        from modelscope_hub import HubApi

        repo_id = self._repository.repo_id
        api = HubApi(endpoint=HubApi().resolve_endpoint_for_read(repo_id))
        found = api.list_repo_files(repo_id, "model", revision=self._revision)
        files = [remote_file(each.path, each.size, each.sha256) for each in found if not each.is_dir]
        self._api = api
        return checked(self._revision, files)

    def fetch(self, file: RemoteFile, folder: Path) -> Path:
        """Fetch one file, from where its folder shows that the last fetch ended."""
        if self._api is None:
            raise ValueError("Nothing was listed.")
        return self._api.download_file(
            self._repository.repo_id,
            "model",
            file.path,
            revision=self._revision,
            local_dir=folder,
            cache_dir=folder,
            file_size=file.size,
        )
