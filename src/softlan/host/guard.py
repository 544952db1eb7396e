"""The one way in which this program changes the host: written down, applied, checked, and undone.

The journal names a change before it is made, so whatever ends the process, the next start can undo what is
left (`recover`). Nothing is touched that the journal does not name.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from softlan.errors import HostError
from softlan.host.base import HostInterfaces, HostNetwork
from softlan.host.deeds import Deeds
from softlan.host.durable import private_directory, replace_file, sync_directory, write_private
from softlan.host.owner import Owner, this_process
from softlan.host.plan import Change, decode_change, encode_change

_VERSION = 1


class HostGuard:
    """Holds the changes of one run. The journal belongs to one process at a time.

    Usual life: `recover()` at the start, `apply(...)`, `restore()` at the end.
    """

    def __init__(
        self,
        network: HostNetwork,
        journal: Path,
        owner: Owner | None = None,
        interfaces: HostInterfaces | None = None,
    ) -> None:
        """`owner` is this process unless a test says otherwise; `interfaces` where their settings are changed too."""
        self._deeds = Deeds(network, interfaces)
        self._journal = journal
        self._owner = owner or this_process()
        self._held: list[Change] = []

    def recover(self) -> list[str]:
        """Undo what a run that did not end properly has left, and say so, one line a change.

        A journal of a process that still runs is left alone. After a reboot only what outlives one is undone.
        What could not be undone is said too, and stays in the journal for the next time. Raises HostError
        when the journal itself cannot be read or written.
        """
        try:
            found = self._read()
        except ValueError as error:
            aside = self._journal.with_suffix(".unreadable")
            try:
                self._journal.replace(aside)
            except OSError as failure:
                raise self._error(failure) from failure
            return [f"moved the journal {self._journal} to {aside}: {error}"]
        if found is None:
            return []
        owner, changes = found
        if owner.is_alive():
            return []
        if not owner.is_of_this_boot():
            changes = [change for change in changes if change.OUTLIVES_BOOT]
        left, failures = self._undo(changes)
        self._write(left, owner)
        undone = [f"{change.UNDO[1]} the {change}, left by an earlier run" for change in changes if change not in left]
        return undone + failures

    def apply(self, changes: Iterable[Change]) -> list[Change]:
        """Make `changes` in order, each checked by reading it back; returns those that were made.

        A change that is in place already is not ours, and stays when we go. When one fails, those made by
        this call are undone, and HostError says which it was.
        """
        self._claim()
        before = len(self._held)
        try:
            return [change for change in changes if self._make(change)]
        except HostError as error:
            left, failures = self._undo(self._held[before:])
            self._held[before:] = left
            try:
                self._write(self._held, self._owner)
            except HostError as also:
                failures.append(str(also))
            raise HostError(error.stage, "; ".join([str(error), *failures])) from error

    def restore(self) -> list[str]:
        """Undo all that `apply` made, last first, and say what could not be undone, one line a change.

        That stays in the journal, for another try here or at the next start. Nothing happens the second time.
        """
        return self.withdraw(list(self._held))

    def withdraw(self, changes: Sequence[Change]) -> list[str]:
        """As `restore`, but undo only those of `changes`, and leave the others in place."""
        if not any(change in changes for change in self._held):
            return []
        left, failures = self._undo([change for change in self._held if change in changes])
        self._held = [change for change in self._held if change not in changes or change in left]
        try:
            self._write(self._held, self._owner)
        except HostError as error:
            failures.append(str(error))
        return failures

    def _make(self, change: Change) -> bool:
        prepared = self._deeds.prepare(change)
        if prepared is None:
            return False
        is_new = prepared not in self._held
        if is_new:
            # Held and written before it is made: an interrupt from here on finds it in both places.
            self._held.append(prepared)
            self._write(self._held, self._owner)
        try:
            self._deeds.make(prepared)
        except HostError:
            if is_new:
                self._held.pop()  # it was not made, so it is not ours to undo
            raise
        if not self._deeds.is_made(prepared):
            raise HostError("change the host", f"the {change} did not appear")
        return True

    def _undo(self, changes: Sequence[Change]) -> tuple[list[Change], list[str]]:
        """Undo in reverse, past failures; the changes that are left, in order, and why."""
        left: list[Change] = []
        failures: list[str] = []
        for change in reversed(changes):
            if any(change.lies_under(later) for later in left):
                left.insert(0, change)
                continue
            try:
                self._deeds.undo(change)
            except HostError as error:
                left.insert(0, change)
                failures.append(f"could not {change.UNDO[0]} the {change}: {error}")
        return left, failures

    def _claim(self) -> None:
        """Make the journal ours, with what could not be undone of an earlier run. Raises HostError."""
        if self._held:
            return  # it is ours since the first of them
        self.recover()
        found = self._read()
        if found is None:
            return
        owner, changes = found
        if owner == self._owner:
            return
        if owner.is_alive():
            raise HostError(
                "change the host",
                f"another softlan, process {owner.pid}, uses {self._journal}: "
                "end it, or give this one a state directory of its own",
            )
        self._held = changes + self._held

    def _read(self) -> tuple[Owner, list[Change]] | None:
        """The journal's owner and changes; None without a journal. Raises ValueError and HostError."""
        try:
            text = self._journal.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(error) from error
        content = json.loads(text)
        try:
            if content["version"] != _VERSION:
                raise ValueError("it is of another version")
            owner = Owner(**content["owner"])
            return owner, [decode_change(change) for change in content["changes"]]
        except (KeyError, TypeError) as error:
            raise ValueError("it is not one of ours") from error

    def _write(self, changes: Sequence[Change], owner: Owner) -> None:
        """Replace the journal as one step that survives a power cut; without changes, remove it."""
        content = {
            "version": _VERSION,
            "owner": asdict(owner),
            "changes": [encode_change(change) for change in changes],
        }
        directory = self._journal.parent
        try:
            if changes:
                private_directory(directory)
                new = self._journal.with_suffix(".new")
                write_private(new, json.dumps(content, indent=1))
                replace_file(new, self._journal)
            elif self._journal.exists():
                self._journal.unlink()
            else:
                return
            sync_directory(directory)
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> HostError:
        return HostError(
            "journal", f"cannot use {self._journal}: {error.strerror}; choose another place with --state-dir"
        )
