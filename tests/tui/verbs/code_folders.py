"""A model folder whose config names code of its own; no torch is needed for it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tui.verbs import folders

AUTO_MAP = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}


def make(folder: Path, **files: str) -> Path:
    """A folder that only its own code runs.

    Args:
        folder: is made.
        files: what files say, by name without ".py".
    """
    folders.sound(folder)
    strange = {"model_type": "strange", "architectures": ["XForCausalLM"], "auto_map": AUTO_MAP}
    (folder / "config.json").write_text(json.dumps(folders.CONFIG | strange))
    said = {"configuration_x": "class XConfig: pass\n", "modeling_x": "class XForCausalLM: pass\n"}
    for name, text in (said | files).items():
        (folder / f"{name}.py").write_text(text)
    return folder
