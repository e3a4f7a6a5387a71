"""Where a model's files are, and a digest that names them: a folder, or a snapshot of a hub name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from recsys.artifacts import file_digest
from recsys.errors import DependencyError

_WANTED = ("*.json", "*.txt", "*.safetensors", "*.model", "*.spm")


def model_folder(op: str, name: str) -> Path:
    """The folder of a model by path or hub name; the hub is asked only for what is not on this machine.

    Raises:
        DependencyError: the model is neither here nor reachable, or has no weights in safetensors form;
            names the op and the model.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _snapshot(op, name)
    if not any(folder.glob("*.safetensors")):
        raise DependencyError(
            f"{op}: the model '{name}' has no .safetensors weights in {folder}, and other forms may run code "
            "when they are read. Save it again with `save_pretrained`, and give that folder"
        )
    return folder


def model_digest(folder: Path) -> str:
    """A hash of everything in a model's folder that decides what the model says."""
    files = sorted({path for pattern in _WANTED for path in folder.glob(pattern)})
    lines = [f"{path.name} {file_digest(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _snapshot(op: str, name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        try:
            return Path(snapshot_download(name, allow_patterns=list(_WANTED), local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(snapshot_download(name, allow_patterns=list(_WANTED)))
    except (HFValidationError, HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DependencyError(
            f"{op}: the model '{name}' is no folder here, and the hub does not give it ({reason}). Give the "
            "folder of a saved model, relative to the policy's file or in full"
        ) from error
