"""Lets the LAN's computers reach this PC through the TAP: one rule of Windows' firewall, for as long as we run.

A network without a gateway is "unidentified" to Windows, and gets the public profile, which lets nothing in; a game
hosted here is then invisible. The rule lets all in that comes by the TAP, and by no other interface. That takes
`New-NetFirewallRule -InterfaceAlias` (learn.microsoft.com/powershell/module/netsecurity/new-netfirewallrule): the
rules of ``netsh advfirewall`` know only kinds of interfaces. The parameter takes wildcards, so the name is escaped.

The rule outlives processes and reboots. So it is written to a file before it is made, and a start that finds the file
of a process that is gone removes the rule; it carries its own name, and only by that it is removed.
"""

import contextlib
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

from softlan.errors import HostError
from softlan.host.durable import private_directory, replace_file, sync_directory, write_private
from softlan.host.owner import Owner, this_process
from softlan.host.powershell import PowerShell

GROUP = "softlan"
"""The group of our rules in the firewall's list."""

_STAGE = "allow inbound"
_NAME = re.compile(r"softlan-[0-9a-f]{16}")

_ADD = (
    "Remove-NetFirewallRule -Name $env:SOFTLAN_RULE -ErrorAction SilentlyContinue; "
    "$alias = [Management.Automation.WildcardPattern]::Escape($env:SOFTLAN_ALIAS); "
    "New-NetFirewallRule -Name $env:SOFTLAN_RULE -DisplayName $env:SOFTLAN_TITLE -Group $env:SOFTLAN_GROUP "
    "-Direction Inbound -Action Allow -Profile Any -InterfaceAlias $alias | Out-Null; "
    "$filter = Get-NetFirewallRule -Name $env:SOFTLAN_RULE | Get-NetFirewallInterfaceFilter; "
    "if (@($filter.InterfaceAlias) -notcontains $env:SOFTLAN_ALIAS) { "
    "Remove-NetFirewallRule -Name $env:SOFTLAN_RULE; throw 'the rule is not for this interface' }; 'made'"
)
"""A rule of that name is a dead run's. The new one is read back: one that is not for this interface is taken away at
once, and only of one that is there it says ``made``."""

_REMOVE = (
    "$rule = Get-NetFirewallRule -Name $env:SOFTLAN_RULE -ErrorAction SilentlyContinue; "
    "if ($rule) { $rule | Remove-NetFirewallRule }"
)


class AllowInbound:
    """The rule of one TAP. Its calls wait for PowerShell, for seconds: make them outside of the event loop.

    Usual life, all of it in one process: `recover()` at the start, `add()` with the player's consent, `remove()` at
    the end.
    """

    def __init__(
        self, journal: Path, alias: str, *, shell: PowerShell | None = None, owner: Owner | None = None
    ) -> None:
        """`alias` is the connection's name as Windows shows it; `owner` is this process unless a test says else."""
        self._journal = journal
        self._alias = alias
        self._shell = shell or PowerShell()
        self._owner = owner
        self._held: str | None = None

    def recover(self) -> list[str]:
        """Remove the rule that a run which did not end properly has left, and say so, a line each.

        What could not be removed is said too, and stays for the next time. Nothing is done without a journal.
        """
        try:
            found = self._read()
        except HostError as error:
            return [str(error)]
        if found is None:
            return []
        rule, owner = found
        if owner is not None and owner.is_alive():
            return []
        complaints = self._take_away(rule)
        return complaints or [f"removed the firewall rule {rule}, left by an earlier run"]

    def add(self) -> None:
        """Make the rule. Raises HostError, and has then changed nothing."""
        complaints = [line for line in self.recover() if self._journal.exists()]
        if self._journal.exists():
            reason = "; ".join(complaints) or "another softlan runs with it"
            raise HostError(_STAGE, f"{self._journal} is in use: {reason}; end that one first")
        rule = _rule_name(self._alias)
        self._write(rule)
        self._held = rule
        try:
            said = self._shell.run(
                _ADD,
                SOFTLAN_RULE=rule,
                SOFTLAN_ALIAS=self._alias,
                SOFTLAN_TITLE=f"softlan: the LAN party on {self._alias}",
                SOFTLAN_GROUP=GROUP,
            )
            if said.strip() != "made":
                raise HostError(_STAGE, "PowerShell did not say that it is there")
        except BaseException as error:  # an interrupt too: the rule may be half made
            complaints = self.remove()
            if isinstance(error, HostError):
                raise HostError(_STAGE, "; ".join([f"no firewall rule was made: {error}", *complaints])) from error
            raise

    def remove(self) -> list[str]:
        """Remove what `add` made; complaints, a line each. Nothing the second time."""
        if self._held is None:
            return []
        complaints = self._take_away(self._held)
        self._held = None
        return complaints

    def _take_away(self, rule: str) -> list[str]:
        try:
            self._shell.run(_REMOVE, SOFTLAN_RULE=rule)
            self._journal.unlink(missing_ok=True)
        except HostError as error:
            return [f"could not remove the firewall rule {rule}: {error}"]
        except OSError as error:
            return [f"could not remove {self._journal}: {error.strerror}"]
        return []

    def _read(self) -> tuple[str, Owner | None] | None:
        try:
            content = json.loads(self._journal.read_text(encoding="utf-8"))
            rule = content["rule"]
            if not isinstance(rule, str) or not _NAME.fullmatch(rule):
                raise ValueError("no rule of ours")
            owner: Owner | None = None
            with contextlib.suppress(KeyError, TypeError):
                owner = Owner(**content["owner"])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HostError(_STAGE, f"cannot read {self._journal}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(_STAGE, f"{self._journal} is not one of ours; remove it") from error
        return rule, owner

    def _write(self, rule: str) -> None:
        """Whole or not at all, and on the disk before the rule is made."""
        content = {"version": 1, "owner": asdict(self._owner or this_process()), "rule": rule}
        new = self._journal.with_suffix(".new")
        try:
            private_directory(self._journal.parent)
            write_private(new, json.dumps(content))
            replace_file(new, self._journal)
            sync_directory(self._journal.parent)
        except OSError as error:
            raise HostError(_STAGE, f"cannot write {self._journal}: {error.strerror}") from error


def _rule_name(alias: str) -> str:
    """Without a character of the alias: the cmdlets read brackets and stars in names as wildcards."""
    return f"softlan-{hashlib.sha256(alias.encode()).hexdigest()[:16]}"
