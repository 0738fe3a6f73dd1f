"""A repository's own classes, imported from a private copy of exactly the files that the person agreed to.

Transformers' own way (`trust_remote_code=True`) would read the folder again, after the person has seen
it, and take what it finds. Here the bytes that are hashed are the bytes that are copied, the copy lies
where nobody else can write, and its hash is taken once more from the bytes that are compiled.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import itertools
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto.auto_factory import add_generation_mixin_to_remote_model

from engine.checkpoint.files import shown
from engine.checkpoint.own_code import Reference, own_classes
from engine.errors import NeedsConsent, UnsupportedModel
from engine.hf import failures
from engine.hub.code import code_of
from engine.offload import make_folder, parent_folder
from engine.values import BudgetRequest, CodeFile

_RAISED = (*failures.FAILURES, SyntaxError, NameError, EOFError, StopIteration, SystemExit)
"""What code of a stranger raises while it is imported; an engine must not end by its SystemExit."""
_PACKAGE = "vramble_own_code"
_numbers = itertools.count(1)


class OwnCode(MetaPathFinder):
    """The classes of one model's own code, for as long as the model is loaded.

    Attributes:
        model: writes text.
        config: reads config.json.
        tokenizer: reads the tokenizer's files.
    """

    def __init__(self, folder: Path, trusted: Sequence[CodeFile]) -> None:
        """Copy and import.

        Args:
            folder: of the model.
            trusted: every file that the person agreed to.

        Raises:
            NeedsConsent: the folder's files are not exactly those.
            UnsafeCheckpoint: its code cannot be found.
            UnsupportedModel: it cannot be imported here.
        """
        origins = code_of(folder)
        _require_agreed([file for origin in origins for file in origin.files], trusted)
        self._package = f"{_PACKAGE}_{next(_numbers)}"
        self._copy = make_folder(parent_folder(BudgetRequest()))
        self._hashes: dict[str, str] = {}
        self._names: dict[str, str] = {}
        for number, origin in enumerate(origins):
            for source in origin.sources:
                package = f"{self._package}.r{number}"
                self._names[source.file.repository] = package
                self._keep(package, source.file, source.content)
        sys.meta_path.append(self)
        try:
            self._import(folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forget the modules and remove the copy."""
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{self._package}.")]:
            del sys.modules[name]
        shutil.rmtree(self._copy, ignore_errors=True)

    def load_tokenizer(self, folder: Path) -> Any:  # noqa: ANN401 - of a class that nobody here knows
        """Load the tokenizer by the repository's class, or by transformers' own where it brings none."""
        if self.tokenizer is not AutoTokenizer:
            return self.tokenizer.from_pretrained(folder, local_files_only=True)
        config = self.config.from_pretrained(folder, local_files_only=True)
        return AutoTokenizer.from_pretrained(
            folder, config=config, trust_remote_code=False, local_files_only=True
        )

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - as importlib calls it
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> ModuleSpec | None:
        """Find the packages of the copies and the modules in them; nothing else."""
        packages = {self._package, *self._names.values()}
        if fullname in packages:
            return ModuleSpec(fullname, None, is_package=True)
        digest = self._hashes.get(fullname)
        if digest is None:
            return None
        place = self._place(fullname)
        return importlib.util.spec_from_file_location(
            fullname, place, loader=_CheckedLoader(fullname, place, digest)
        )

    def _keep(self, package: str, file: CodeFile, content: bytes) -> None:
        name = f"{package}.{file.name.removesuffix('.py')}"
        self._hashes[name] = file.sha256
        place = self._place(name)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        place.write_bytes(content)

    def _place(self, module: str) -> Path:
        package, _, name = module.removeprefix(f"{self._package}.").partition(".")
        return self._copy / package / f"{name}.py"

    def _import(self, folder: Path) -> None:
        classes = own_classes(folder)
        assert classes is not None  # code_of has refused such a folder
        with foreign_errors("imported"):
            self.config: Any = self._class(classes.config) if classes.config else AutoConfig
            self.tokenizer: Any = self._class(classes.tokenizer) if classes.tokenizer else AutoTokenizer
            self.model: Any = add_generation_mixin_to_remote_model(self._class(classes.model))

    def _class(self, reference: Reference) -> Any:  # noqa: ANN401 - a class that nobody here knows
        module = importlib.import_module(f"{self._names[reference.repository]}.{reference.module}")
        return getattr(module, reference.name)


class _CheckedLoader(SourceFileLoader):
    """Compiles a file whose bytes have the hash that was agreed to, and keeps no bytecode."""

    def __init__(self, fullname: str, place: Path, sha256: str) -> None:
        """Load this file."""
        super().__init__(fullname, str(place))
        self._sha256 = sha256

    def get_code(self, fullname: str) -> CodeType:
        """Compile exactly the bytes that were checked."""
        content = Path(self.path).read_bytes()
        if hashlib.sha256(content).hexdigest() != self._sha256:
            raise ImportError(f"{shown(fullname)} was changed after it was copied", name=fullname)
        code: CodeType = self.source_to_code(content, self.path)
        return code


def _require_agreed(found: Sequence[CodeFile], trusted: Sequence[CodeFile]) -> None:
    """Refuse files that are not exactly those that the person saw."""
    differing = sorted({file.name for file in set(found) ^ set(trusted)})
    if differing:
        message = f"Its code is not what was agreed to: {shown(', '.join(differing[:3]))}."
        raise NeedsConsent(message, "Look at it again, in the list of models (Ctrl+O).")


@contextlib.contextmanager
def foreign_errors(done: str) -> Iterator[None]:
    """Say of whatever a stranger's code raises that it was that code."""
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"Its own code needs the package {shown(error.name or error)}, which is not installed here."
        raise UnsupportedModel(message, "Read what it is before you install it.") from error
    except _RAISED as error:
        line = shown(next(iter(str(error).strip().splitlines()), ""), 200)
        message = f"Its own code cannot be {done}: {type(error).__name__}: {line}"
        raise UnsupportedModel(message, "It may be written for another version of transformers.") from error
