"""What the programs are left with once they run, and that everything which comes later works with that.

Every other test of a party runs with the same privileges: reconnecting, pins made anew, restoring and recovering are
shown there in detail.
"""

import contextlib
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.party import AMPLE, Pinger, answers, endpoint_flags, event, lan_party, routes, run, settled_routes
from tests.support.tools import require_tool, require_user_namespaces, unavailable

import softlan
from softlan.demo import topology
from softlan.demo.netns import Namespace
from softlan.demo.processes import Process, environment, wait_for
from softlan.demo.services import TAP, Services
from softlan.demo.userns import TUN
from softlan.host.privileges import Capability

pytestmark = pytest.mark.netns

NET_ADMIN = 1 << Capability.NET_ADMIN
STRANGER = 12345
"""A user that owns nothing."""
HIGH_PORT = 4433


def threads(process: Process) -> list[dict[str, str]]:
    """What proc_pid_status(5) says of each of its threads."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            lines = (task / "status").read_text().splitlines()
            found.append({key: value.strip() for key, _, value in (line.partition(":") for line in lines)})
    assert found
    return found


def assert_left_with(process: Process, capabilities: int) -> None:
    for status in threads(process):
        assert {key: int(status[key], 16) for key in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")} == {
            "CapPrm": capabilities,
            "CapEff": capabilities,
            "CapInh": 0,
            "CapBnd": 0,
            "CapAmb": 0,
        }
        assert status["NoNewPrivs"] == "1"


def end(process: Process) -> int:
    process.send_signal(signal.SIGTERM)
    return process.finish(AMPLE)


def lease(services: Services) -> str:
    """Ask for an address as a player's computer does, and take it; its text."""
    player = services.party.player
    script = services.directory / "lease"
    script.write_text('#!/bin/sh\n[ "$1" != bound ] || ip address add "$ip/$mask" dev "$interface"\n')
    script.chmod(0o755)
    run(player, "udhcpc", "-i", TAP, "-n", "-q", "-f", "-s", str(script))
    link = player.link(TAP)
    assert link is not None
    return next(address for address in link.addresses if address.startswith("10.77.0."))


def pinned(namespace: Namespace) -> list[str]:
    return [line for line in routes(namespace) if line.startswith(f"{topology.RELAY} ")]


def test_a_party_goes_on_with_what_is_left(swept: None, tmp_path: Path) -> None:
    with lan_party(tmp_path) as services:
        player = services.party.player
        services.dhcp_server()
        relay, gateway = services.relay(), services.gateway()
        client, _ = services.client("--log-level", "debug")
        for endpoint, left, kept in ((gateway, 0, "none"), (client, NET_ADMIN, "net_admin")):
            assert_left_with(endpoint, left)
            assert event(endpoint, "privileges")["kept"] == kept
        assert client.events("privileges.refused") == []

        # DHCP and the LAN; then the relay is gone, and the pin with its interface, and both come back.
        assert lease(services)
        pinger = Pinger(services, player, topology.HOST)
        pinger.wait_for_more(AMPLE)
        relay.send_signal(signal.SIGKILL)
        relay.finish(AMPLE)
        run(player, "ip", "link", "set", topology.WAN_INTERFACE, "down")
        assert pinned(player) == []
        run(player, "ip", "link", "set", topology.WAN_INTERFACE, "up")
        player.default_route("192.0.2.1")
        services.relay()
        pinger.wait_for_more(2 * AMPLE)
        wait_for("the pinned route", lambda: pinned(player), 2 * AMPLE)
        for endpoint, left in ((gateway, 0), (client, NET_ADMIN)):
            assert_left_with(endpoint, left)

        # Killed, recovered, and everything put back at the end.
        client.send_signal(signal.SIGKILL)
        client.finish(AMPLE)
        assert len(pinned(player)) == 1
        second, _ = services.client()
        assert topology.RELAY in str(event(second, "recovered")["what"])
        assert len(pinned(player)) == 1
        assert end(second) == 0
        assert pinned(player) == []
        assert player.link(TAP) is None
        assert end(gateway) == 0


# Ordinary users


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users may pass through, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="softlan-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def as_stranger(services: Services, name: str, namespace: Namespace, *arguments: str, ambient: str = "") -> Process:
    """Start softlan as an ordinary user with no capabilities, or only those in `ambient`, as systemd would.

    Python and the package may be where such a user may not look, such as in root's home: the program's own mount
    namespace shows them elsewhere. So it does with the TAP driver's device, where that is root's alone.
    """
    uids = Path("/proc/self/uid_map").read_text().split()
    if int(uids[2]) <= STRANGER:
        unavailable("this user namespace has no other users")
    closed = [path for path in map(Path, ("/root", "/home")) if path.is_dir()]
    mounts = ""
    needed = {Path(sys.base_prefix), Path(sys.prefix), Path(softlan.__file__).parent.parent}
    for top in closed:
        inside = sorted(path for path in needed if path.is_relative_to(top))
        for number, path in enumerate(inside):
            mounts += f"mkdir -p /run/sl{number} && mount --bind {shlex.quote(str(path))} /run/sl{number} && "
        if inside:
            mounts += f"mount -t tmpfs -o mode=755 tmpfs {top} && "
        for number, path in enumerate(inside):
            mounts += f"mkdir -p {shlex.quote(str(path))} && mount --move /run/sl{number} {shlex.quote(str(path))} && "
    if not TUN.stat().st_mode & stat.S_IWOTH:  # udev gives it to all; where it does not run, only root has it
        mounts += f"mknod -m 666 /run/tun c 10 200 && mount --bind /run/tun {TUN} && "
    state = services.directory / f"state-{name}"
    state.mkdir(mode=0o700)
    os.chown(state, STRANGER, STRANGER)
    user = [require_tool("setpriv"), f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    user += [f"--inh-caps=-all{ambient}", "--bounding-set=-all" + ambient]
    user += [f"--ambient-caps={ambient[1:]}"] if ambient else ["--no-new-privs"]
    argv = [*user, sys.executable, "-m", "softlan", name, *arguments, "--state-dir", str(state)]
    # `ip netns exec` has made a mount namespace of its own; /run there is as everywhere, so it is covered first.
    script = f"mount -t tmpfs tmpfs /run && {mounts}exec {shlex.join(argv)}" if mounts else f"exec {shlex.join(argv)}"
    return services.start(name, namespace, "/bin/sh", "-c", script)


def test_all_programs_run_as_ordinary_users(swept: None, open_directory: Path) -> None:
    """The relay on a high port without any capability, the gateway with CAP_NET_RAW, the client with CAP_NET_ADMIN."""
    with lan_party(open_directory) as services:
        party = services.party
        os.chown(open_directory, STRANGER, STRANGER)  # where the relay's certificate goes
        certificate = ("--dev-cert-der-out", str(services.relay_certificate), "--log-format", "json")
        listen = ("--listen", f"{HIGH_PORT}/udp", *certificate)
        relay = as_stranger(services, "relay", party.relay, *listen)
        event(relay, "relay.listening", 2 * AMPLE)
        for status in threads(relay):
            assert status["Uid"].split() == [str(STRANGER)] * 4
            assert {int(status[key], 16) for key in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")} == {0}

        at = endpoint_flags(services, f"{topology.RELAY}:{HIGH_PORT}")
        card = ("--iface", topology.GATEWAY_INTERFACE)
        gateway = as_stranger(services, "gateway", party.gateway, *at, *card, ambient=",+net_raw")
        event(gateway, "joined", 2 * AMPLE)
        assert event(gateway, "privileges")["kept"] == "none"
        assert {status["CapPrm"] for status in threads(gateway)} == {"0" * 16}
        before = settled_routes(party.player)
        client = as_stranger(services, "client", party.player, *at, ambient=",+net_admin")
        event(client, "tap.up", 2 * AMPLE)
        assert event(client, "privileges")["kept"] == "net_admin"
        for status in threads(client):
            assert status["Uid"].split() == [str(STRANGER)] * 4
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == NET_ADMIN
            assert int(status["CapAmb"], 16) == int(status["CapInh"], 16) == 0
            assert status["NoNewPrivs"] == "1"
        party.player.up(TAP, "10.77.0.50/24")
        wait_for("the LAN", lambda: answers(party.player, topology.HOST), AMPLE)
        assert len(pinned(party.player)) == 1
        assert end(client) == 0
        assert pinned(party.player) == []
        assert routes(party.player) == before
        assert end(gateway) == 0
        assert end(relay) == 0


INSIDE = """
import json, sys
from pathlib import Path
from softlan.demo.netns import Lab
from softlan.demo.services import Services
from softlan.demo.topology import Party
with Lab() as lab, Services(Party.build(lab), Path(sys.argv[1])) as services:
    services.relay()
    for process in (services.gateway(), services.client()[0]):
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        sets = {line[:6]: int(line[7:], 16) for line in status if line.startswith("Cap")}
        print(json.dumps([sets, process.events("privileges")[0]["kept"], process.stop()]))
"""


def test_in_a_user_namespace_it_is_the_same(tmp_path: Path) -> None:
    require_user_namespaces()
    enter = f"from softlan.demo import userns; userns.enter([{sys.executable!r}, '-c', {INSIDE!r}, {str(tmp_path)!r}])"
    done = subprocess.run(
        [sys.executable, "-c", enter], capture_output=True, text=True, check=False, env=environment(), timeout=60
    )
    assert done.returncode == 0, done.stderr
    none = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [none, "none", 0],
        [none | {"CapPrm": NET_ADMIN, "CapEff": NET_ADMIN}, "net_admin", 0],
    ]
