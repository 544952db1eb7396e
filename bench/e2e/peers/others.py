"""The other VPNs in Debian that carry Ethernet and can pass through a relay, each as its documentation sets it up."""

import time
from pathlib import Path

from bench.e2e.lab import PLAYER_LAN, RELAY_FOR_GATEWAY, RELAY_FOR_PLAYER, Site, bare, local
from bench.e2e.peers.base import Peer
from softlan.demo.processes import wait_for

_RELAYS = {"player": bare(RELAY_FOR_PLAYER), "gateway": bare(RELAY_FOR_GATEWAY)}
_NAMES = ("relay", *_RELAYS)


class OpenVpn(Peer):
    """A TAP server that switches between its clients; certificates are pinned by fingerprint.

    Its MTU leaves 1,500 bytes less headers of IPv4, UDP and Ethernet and 24 of its own. The server's TAP must be up:
    nobody reads one that is down, and the first broadcast would wait for it forever.
    """

    name = "openvpn"
    package = "openvpn"
    commands = ("openvpn", "openssl")
    cipher = "AES-256-GCM"
    mtu = 1434
    options: tuple[str, ...] = ()

    def start(self) -> None:
        prints = {name: self._certificate(name) for name in _NAMES}
        for name, computer in self.roles():
            trusted = [prints[other] for other in (_RELAYS if name == "relay" else ("relay",))]
            if name == "relay":
                role = ["mode server", "tls-server", "dh none", "port 1194", "client-to-client", "keepalive 10 60"]
            else:
                role = ["client", "nobind", "connect-retry 1", f"remote {_RELAYS[name]} 1194"]
            lines = [
                *("dev tap0", "dev-type tap", "proto udp4", f"tun-mtu {self.mtu}", "data-ciphers AES-256-GCM"),
                *(f"cert {name}.crt", f"key {name}.key", f"cd {self.site.directory}", "allow-compression no"),
                *role,
                *self.options,
                *("<peer-fingerprint>", *trusted, "</peer-fingerprint>", ""),
            ]
            self.site.start(name, computer, "openvpn", "--config", self.write(f"{name}.conf", "\n".join(lines)))
            if name == "relay":
                self.site.wait_interface(computer, "tap0")
                self.site.ip(computer, "link set tap0 up")

    def _certificate(self, name: str) -> str:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
        made = ("openssl", "req", "-x509", *key, "-out", f"{name}.crt", "-days", "9", "-subj", f"/CN={name}")
        local(*made, cwd=self.site.directory)
        shown = local(
            "openssl", "x509", "-in", f"{name}.crt", "-noout", "-fingerprint", "-sha256", cwd=self.site.directory
        )
        return shown.strip().partition("=")[2]


class OpenVpnBuffers(OpenVpn):
    """With larger socket buffers, as its manual advises for high rates: they cost latency."""

    name = "openvpn-1mb"
    options = ("sndbuf 1048576", "rcvbuf 1048576")


class Fastd(Peer):
    """In TAP mode; the relay forwards between its peers."""

    name = "fastd"
    package = "fastd"
    commands = ("fastd",)
    cipher = "salsa2012+umac"
    mtu = 1434

    def start(self) -> None:
        keys = {name: self._keys(name) for name in _NAMES}
        for name, computer in self.roles():
            lines = [
                *("mode tap;", 'interface "tap0";', f"mtu {self.mtu};", f'method "{self.cipher}";'),
                f'secret "{keys[name][0]}";',
            ]
            if name == "relay":
                lines += ["bind any:10000;", "forward yes;"]
                lines += [f'peer "{other}" {{ key "{keys[other][1]}"; }}' for other in _RELAYS]
            else:
                lines.append(f'peer "relay" {{ key "{keys["relay"][1]}"; remote {_RELAYS[name]} port 10000; }}')
            self.site.start(name, computer, "fastd", "--config", self.write(f"{name}.conf", "\n".join((*lines, ""))))
        self.site.wait_interface(self.site.relay, "tap0")
        self.site.ip(self.site.relay, "link set tap0 up")

    def _keys(self, name: str) -> tuple[str, str]:
        secret = local("fastd", "--generate-key", "--machine-readable").strip().splitlines()[0]
        file = self.write(f"{name}.key", f'secret "{secret}";\n')
        return secret, local("fastd", "--show-key", "--machine-readable", "--config", str(file)).split()[-1]


class Tinc(Peer):
    """In switch mode. IndirectData sends both ends' packets by UDP to the relay, which is the only way here.

    The MTU: 1,500 bytes less headers, authentication, padding to blocks of 16 and a sequence number.
    """

    name = "tinc"
    package = "tinc"
    commands = ("tincd",)
    cipher = "AES-256-CBC, HMAC-SHA256 of 32 bits"
    mtu = 1437

    def start(self) -> None:
        home = self.site.directory
        for name in _NAMES:
            own = "DeviceType = dummy" if name == "relay" else "ConnectTo = relay\nInterface = tap0"
            self.write(f"{name}/tinc.conf", f"Name = {name}\nMode = switch\nAddressFamily = ipv4\n{own}\n")
            self.write(f"{name}/tinc-up", "#!/bin/sh\n", 0o700)
            self.write(f"{name}/hosts/{name}", "" if name == "relay" else "IndirectData = yes\n")
            local("tincd", "--config", str(home / name), "--generate-keys=2048")
        relay_key = _host(home, "relay").read_text()
        for name, relay in _RELAYS.items():
            self.write(f"relay/hosts/{name}", _host(home, name).read_text())
            self.write(f"{name}/hosts/relay", f"Address = {relay}\n{relay_key}")
        for name, computer in self.roles():
            pid = home / f"{name}.pid"
            self.site.start(name, computer, "tincd", "--no-detach", "--config", home / name, "--pidfile", pid)


class N2n(Peer):
    """Two edges that cannot reach each other: the supernode passes on what it cannot read.

    ``-r`` lets an edge take what is not for its own IP address, as a bridge must. With its default MTU of 1,400 the
    underlay fragments, since compression may make packets longer.
    """

    name = "n2n"
    package = "n2n"
    commands = ("edge", "supernode")
    cipher = "Twofish, not authenticated"
    authenticated = False
    mtu = 1360
    player_interface = "n2n0"
    gateway_interface = "n2n0"

    def start(self) -> None:
        site = self.site
        site.start("relay", site.relay, "supernode", "-l", "7654")
        own = {"player": bare(PLAYER_LAN), "gateway": "10.77.0.250"}
        for name, computer in self.roles():
            if name == "relay":
                continue
            words = ("-d", "n2n0", "-a", own[name], "-c", "bench", "-k", "secret", "-l", f"{_RELAYS[name]}:7654")
            site.start(name, computer, "edge", *words, "-M", f"{self.mtu}", "-r", "-f", "-u", "0", "-g", "0")
            # It sets the address itself, and must have done so before we take it away.
            wait_for("n2n's address", lambda computer=computer, name=name: _has(site, computer.name, own[name]), 10.0)  # type: ignore[misc]

    def settle(self) -> None:
        time.sleep(3.0)


def _host(home: Path, name: str) -> Path:
    return home / name / "hosts" / name


def _has(site: Site, namespace: str, address: str) -> bool:
    computer = next(computer for computer in site.computers if computer.name == namespace)
    link = computer.link("n2n0")
    return link is not None and any(bare(own) == address for own in link.addresses)
