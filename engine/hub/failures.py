"""What the hubs' libraries raise, as our errors; their texts, which may quote a token, are never shown."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.checkpoint.files import shown
from engine.downloads import Repository
from engine.errors import (
    AccessDenied,
    ChecksumMismatch,
    DiskFull,
    DownloadError,
    EngineError,
    HubUnreachable,
    UnknownRepository,
)
from engine.hub.repositories import HUB_NAMES
from engine.values import Hub

_LOGIN = {
    Hub.HUGGINGFACE: "Run `hf auth login`, or set HF_TOKEN; then get it again.",
    Hub.MODELSCOPE: "Run `modelscope login`, or set MODELSCOPE_API_TOKEN; then get it again.",
}
_MIRROR = {Hub.HUGGINGFACE: "HF_ENDPOINT", Hub.MODELSCOPE: "MODELSCOPE_ENDPOINT"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_RESUMES = "Get it again: it goes on from here."
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY, _SERVER = 401, 403, 404, 429, 500


def explained(error: BaseException, repository: Repository) -> EngineError:
    """The error that a person is told of: the first in the chain of causes that is known."""
    causes = list(_chain(error))
    for cause in causes:
        if (clear := _clear(cause, repository)) is not None:
            return clear
    for cause in causes:
        names = {kind.__name__ for kind in type(cause).__mro__}
        for known, explain in _KNOWN:
            if names & known:
                return explain(repository)
        if (status := _status(cause)) is not None:
            return _by_status(status, repository)
    return _unexpected(error, causes)


def _clear(cause: BaseException, repository: Repository) -> EngineError | None:
    """What needs no library to be understood, however deep in the chain it is."""
    if isinstance(cause, EngineError):
        return cause
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _untrusted(repository)
    if isinstance(cause, OSError) and cause.errno in _FULL:
        return DiskFull("The disk is full.", f"Free some space. {_RESUMES}")
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """The HTTP status that a library's error carries."""
    status = getattr(error, "status_code", None) or getattr(
        getattr(error, "response", None), "status_code", None
    )
    return status if isinstance(status, int) else None


def _by_status(status: int, repository: Repository) -> DownloadError:
    if status == _NOT_FOUND:
        return _unknown(repository)
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        return _denied(repository)
    hub = HUB_NAMES[repository.hub]
    if status == _TOO_MANY:
        return HubUnreachable(f"{hub} says that too much was asked of it.", f"Wait some minutes. {_RESUMES}")
    if status >= _SERVER:
        return HubUnreachable(f"{hub} has a fault of its own ({status}).", f"Wait. {_RESUMES}")
    return HubUnreachable(f"{hub} refused with status {status}.", "Check the name and the revision.")


def _unknown(repository: Repository) -> UnknownRepository:
    name = f"{repository.repo_id}@{repository.revision}" if repository.revision else repository.repo_id
    message = f"{HUB_NAMES[repository.hub]} has no model {shown(name)} that it would show."
    return UnknownRepository(message, f"Check the name. If it is private: {_LOGIN[repository.hub]}")


def _unknown_revision(repository: Repository) -> UnknownRepository:
    message = f"{shown(repository.repo_id)} has no revision {shown(repository.revision or 'of that name')}."
    return UnknownRepository(message, "Look on its page for branches and tags.")


def _denied(repository: Repository) -> AccessDenied:
    message = (
        f"{HUB_NAMES[repository.hub]} does not give {shown(repository.repo_id)} without a token it knows."
    )
    return AccessDenied(message, _LOGIN[repository.hub])


def _gated(repository: Repository) -> AccessDenied:
    message = f"{shown(repository.repo_id)} is gated: its owner wants terms accepted first."
    return AccessDenied(message, f"Accept them on its page on the hub. {_LOGIN[repository.hub]}")


def _offline(repository: Repository) -> HubUnreachable:
    hub = HUB_NAMES[repository.hub]
    return HubUnreachable(f"HF_HUB_OFFLINE is set, so nothing is asked of {hub}.", "Unset it.")


def _unreachable(repository: Repository) -> HubUnreachable:
    message = f"{HUB_NAMES[repository.hub]} cannot be reached, or went silent."
    hint = f"Check the network and the proxy (HTTPS_PROXY), or set a mirror ({_MIRROR[repository.hub]})."
    return HubUnreachable(message, f"{hint} {_RESUMES}")


def _untrusted(repository: Repository) -> HubUnreachable:
    message = f"{HUB_NAMES[repository.hub]} shows a certificate that nobody known here vouches for."
    hint = "If a proxy of yours inspects TLS, name its certificates in SSL_CERT_FILE and REQUESTS_CA_BUNDLE."
    return HubUnreachable(message, f"{hint} {_RESUMES}")


def _changed(repository: Repository) -> ChecksumMismatch:
    message = f"{HUB_NAMES[repository.hub]} sends something else than it lists."
    return ChecksumMismatch(message, "Get it again; it may have been changed meanwhile.")


def _unexpected(error: BaseException, causes: list[BaseException]) -> DownloadError:
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return DownloadError(
                f"The operating system refused: {cause.strerror}.", "Check the cache's folder."
            )
    return DownloadError(f"The hub's library met {type(error).__name__}{_where(error)}.", _RESUMES)


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})" if trace else ""


# More specific ones first: a gated repository is also one that is not found.
_KNOWN: tuple[tuple[set[str], Callable[[Repository], DownloadError]], ...] = (
    ({"GatedRepoError"}, _gated),
    ({"RevisionNotFoundError"}, _unknown_revision),
    ({"RemoteEntryNotFoundError", "FileIntegrityError"}, _changed),
    ({"RepositoryNotFoundError", "DisabledRepoError", "NotExistError"}, _unknown),
    ({"OfflineModeIsEnabled"}, _offline),
    ({"AuthenticationError", "PermissionDeniedError"}, _denied),
    (
        {"TransportError", "TooManyRedirects", "NetworkError", "RequestException", "FileMetadataError"},
        _unreachable,
    ),
    ({"_DownloadDeadlineError", "ConnectionError", "TimeoutError"}, _unreachable),
)
