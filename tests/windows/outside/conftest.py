"""A Windows PC in the demo's party: relay, gateway, LAN and all in network namespaces, the player's is Wine's."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.support.party import lan_party
from tests.windows.bed.build import windows_path
from tests.windows.outside.machine import WindowsMachine, WindowsProcess, windows_machine

from softlan.demo import topology
from softlan.demo.processes import Process
from softlan.demo.services import RELAY_NAME, ROOM, Services

BED = "SOFTLAN_WINDOWS_BED"
"""In the environment, where the bed is built: `make test-windows` sets it."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    if BED not in os.environ:
        pytest.skip("drives the Windows test bed: `make test-windows`")


@dataclass
class WindowsParty:
    """What runs."""

    services: Services
    relay: Process
    gateway: Process
    machine: WindowsMachine

    def flags(self) -> list[str]:
        """What a client on the PC is told."""
        return [
            *("--relay", topology.RELAY, "--server-name", RELAY_NAME),
            *("--relay-ca-cert", windows_path(self.services.relay_certificate), "--room", ROOM),
            *("--state-dir", windows_path(self.services.directory / "client"), "--log-format", "json"),
        ]

    def join(self) -> WindowsProcess:
        """Start the client, and wait until its adapter is up."""
        client = self.machine.start("client", "-m", "softlan", "client", *self.flags())
        client.event("tap.up")
        return client

    def journals(self) -> list[str]:
        """The files in the client's state directory that name changes of the host."""
        return sorted(file.name for file in (self.services.directory / "client").iterdir() if "host" in file.name)


@pytest.fixture(scope="module")
def windows_party(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WindowsParty]:
    """Relay and gateway running, and a PC that nobody has played on yet; one for the tests of a file."""
    with lan_party(tmp_path_factory.mktemp("party")) as services:
        services.dhcp_server()
        relay, gateway = services.relay(), services.gateway()
        with windows_machine(services.party.player) as machine:
            yield WindowsParty(services, relay, gateway, machine)
