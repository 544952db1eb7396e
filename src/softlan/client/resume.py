"""The resume string of the last session, kept so that a restart takes its own ghost's place at once."""

import contextlib
import hashlib
from pathlib import Path

from softlan.client.session import Identity
from softlan.host.durable import private_directory, write_private


class ResumeFile:
    """One small file (0600) for each relay, room, role and MAC. Without it this process remembers, and no other."""

    def __init__(self, state_dir: Path, identity: Identity, relay: str) -> None:
        mac = identity.mac.hex() if identity.mac else ""
        key = f"{relay} {identity.room} {identity.role.value} {mac}"
        self._path = state_dir / f"resume-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        self._last: str | None = None

    def load(self) -> str | None:
        """The string of the last welcome, if there was one."""
        if self._last is not None:
            return self._last
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = self._path.read_text("utf-8")
            if 0 < len(text) <= 128:
                return text
        return None

    def save(self, resume: str) -> None:
        """Keep the string of this welcome."""
        self._last = resume
        draft = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            private_directory(self._path.parent)
            write_private(draft, resume, sync=False)
            draft.replace(self._path)
