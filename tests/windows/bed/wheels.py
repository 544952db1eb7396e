"""Which wheels the Windows Python gets: those of the project's own lock, as if it were locked for Windows."""

import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

WINDOWS = {
    "implementation_name": "cpython",
    "os_name": "nt",
    "platform_machine": "AMD64",
    "platform_python_implementation": "CPython",
    "platform_system": "Windows",
    "python_full_version": "3.11.9",
    "python_version": "3.11",
    "sys_platform": "win32",
}
"""What environment markers are to see (PEP 508)."""

UNUSED = frozenset(
    (
        *("ast-serialize", "librt", "mypy", "mypy-extensions", "pathspec", "ruff"),
        *("editables", "hatchling", "tomlkit", "trove-classifiers"),
        *("execnet", "pytest-xdist"),
    )
)
"""What only style and types, builds, and running on several cores need: nothing that runs in Wine imports it."""


def windows_part(lock: str) -> str:
    """Return the requirements of `lock` (pip's format, with hashes) that Windows needs, their markers resolved."""
    kept = []
    for entry in lock.replace("\\\n", " ").splitlines():
        line, *hashes = entry.partition("#")[0].split("--hash=")
        if not line.strip():
            continue
        requirement = Requirement(line)
        if requirement.name in UNUSED or (requirement.marker and not requirement.marker.evaluate(WINDOWS)):
            continue
        kept.append(" ".join([f"{requirement.name}{requirement.specifier}", *(f"--hash={h.strip()}" for h in hashes)]))
    return "\n".join(kept) + "\n"


def download(requirements: str, into: Path) -> list[Path]:
    """Download the wheels for Windows that `requirements` names, each held to its hash; return their paths."""
    into.mkdir(parents=True, exist_ok=True)
    for old in into.glob("*.whl"):
        old.unlink()
    listed = into / "requirements.txt"
    listed.write_text(requirements)
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
    target = ["--only-binary=:all:", "--platform", "win_amd64", "--python-version", "3.11"]
    subprocess.run([*pip, *target, "--require-hashes", "-r", str(listed), "-d", str(into)], check=True)
    return sorted(into.glob("*.whl"))


def unpack(wheels: list[Path], into: Path) -> None:
    """Install wheels that have nothing but modules: lay their files out as they are."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into)
