import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.tools import require_tool

from softlan.demo import netns, topology
from softlan.demo.netns import Lab
from softlan.demo.probes import discover, lease, ping
from softlan.demo.processes import wait_for
from softlan.demo.services import Services
from softlan.demo.topology import Party
from softlan.errors import HostError

pytestmark = pytest.mark.netns


def test_a_namespace_tells_of_its_interfaces(lab: Lab) -> None:
    one, other = lab.namespace("one"), lab.namespace("other")
    lab.cable((one, "left"), (other, "right"), mtu=1400)
    one.up("left", "192.0.2.1/24", "2001:db8::1/64")
    link = one.link("left")
    assert link is not None
    assert (link.mtu, link.up) == (1400, True)
    assert link.addresses[:2] == ("192.0.2.1/24", "2001:db8::1/64")
    far = other.link("right")
    assert far is not None
    assert (far.mtu, far.up, far.addresses) == (1400, False, ())
    assert one.link("right") is None


def test_a_refusal_names_what_was_refused(lab: Lab) -> None:
    namespace = lab.namespace("one")
    with pytest.raises(HostError, match="there is no interface eth7"):
        namespace.up("eth7")
    with pytest.raises(HostError, match=r"cannot set net\.ipv4\.no_such_key: No such file"):
        namespace.sysctl("ipv4.no_such_key", 1)
    with pytest.raises(HostError, match="File exists"):
        lab.namespace("one")
    with pytest.raises(HostError, match=namespace.name):
        namespace.default_route("192.0.2.1")  # unreachable: nothing has an address


def test_the_underlay_of_the_party_is_one_internet(party: Party) -> None:
    require_tool("ping")
    for computer in (party.player, party.gateway):
        for relay in (topology.RELAY, topology.RELAY_IPV6):
            assert ping(computer, relay, count=2).received == 2
    with pytest.raises(HostError):
        ping(party.relay, topology.HOST, count=1)  # the LAN is no part of it


def test_the_lan_has_dhcp_and_games(party: Party, services: Services) -> None:
    require_tool("udhcpc")
    require_tool("dnsmasq")
    services.dhcp_server()
    services.lan_host()
    party.plug_in(party.player)  # as if the player were there in person
    address = lease(party.player, topology.LAN_INTERFACE, services.directory)
    assert address.startswith("10.77.0.1")
    assert address.endswith("/24")
    for game in ("source", "ssdp", "minecraft"):
        assert discover(party.player, game, topology.LAN_INTERFACE).address == topology.HOST


def test_nothing_is_left_of_a_lab_and_of_what_ran_in_it(swept: None) -> None:
    with Lab(tag=0) as lab:
        namespace = lab.namespace("one")
        stray = subprocess.Popen(namespace.command("sleep", "1000"))
        wait_for("sleep", lambda: namespace.pids() == [stray.pid], 10)
    assert stray.wait(10) != 0
    assert lab.prefix + "one" not in _names()


def test_a_sweep_removes_what_a_killed_builder_left_and_nothing_else(lab: Lab) -> None:
    living = lab.namespace("one").name
    with subprocess.Popen([sys.executable, "-c", BUILDER], stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        left = builder.stdout.readline().split()
        stray = int(builder.stdout.readline())
        assert len(left) == 7
        netns.sweep()
        assert set(left) <= _names()
        builder.kill()
        os.waitid(os.P_PID, builder.pid, os.WEXITED | os.WNOWAIT)  # a zombie, as in a container whose init reaps none
        netns.sweep()
    assert not set(left) & _names()
    assert living in _names()
    wait_for("the stray's end", lambda: not Path(f"/proc/{stray}/ns/net").exists(), 10)


BUILDER = """
import signal, subprocess
from softlan.demo.netns import Lab
from softlan.demo.topology import Party
lab = Lab()
party = Party.build(lab)
stray = subprocess.Popen(party.player.command("sleep", "1000"), stdout=subprocess.DEVNULL)
print(*(namespace.name for namespace in lab.namespaces))
print(stray.pid, flush=True)
signal.pause()
"""


def _names() -> set[str]:
    return {namespace.name for namespaces in netns.labs().values() for namespace in namespaces}
