"""A certificate from a real ACME server, caddy's, on an internet of one network namespace."""

import datetime
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.tools import require_tool, unavailable

from softlan.demo.netns import Lab, Namespace
from softlan.demo.processes import Process, wait_for
from softlan.quic.trust import Credentials, load_credentials, private_pem
from softlan.relay.renewal import AcmeConfig, renewal_due

pytestmark = pytest.mark.netns

NAME = "relay.example.net"
DIRECTORY = "https://localhost:14000/acme/local/directory"
PATIENCE = 20.0  # seconds; some hundred times what it takes
CADDYFILE = """
{
	storage file_system %s
	admin off
	skip_install_trust
	auto_https disable_redirects
}
https://localhost:14000 {
	tls internal
	acme_server
}
"""


def caddy() -> str:
    """The command, installed, or unpacked by `make setup`."""
    unpacked = Path(__file__).parents[2] / "build/caddy/usr/bin/caddy"
    found = shutil.which("caddy") or (str(unpacked) if os.access(unpacked, os.X_OK) else None)
    if found is None:
        unavailable("the command caddy is missing: `make setup` gets it")
    return found


class Internet:
    """A namespace in which the relay's name is known, and an ACME server in it."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        require_tool("setpriv")
        self.directory = directory
        self._namespace = namespace
        self._hosts = directory / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost {NAME}\n")
        (directory / "Caddyfile").write_text(CADDYFILE % (directory / "caddy"))
        self.root = directory / "caddy/pki/authorities/local/root.crt"
        arguments = ["run", "--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]
        self._running: list[Process] = []
        server = self.start("caddy", caddy(), *arguments)
        server.wait_for("serves", lambda: "serving initial configuration" in server.output(), PATIENCE)

    def close(self) -> None:
        """End what still runs."""
        for process in self._running:
            process.stop()

    def start(self, name: str, *argv: str) -> Process:
        """A command in there. `ip netns exec` gives it mounts of its own, so /etc/hosts can be another file."""
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'
        command = self._namespace.command("sh", "-c", script, str(self._hosts), *argv)
        self._running.append(Process(name, command, self.directory / f"{name}.log"))
        return self._running[-1]

    def relay(self) -> Process:
        """A relay on port 443 that gets its certificate by HTTP-01 on port 80."""
        argv = [sys.executable, "-m", "softlan", "relay", "--log-format", "json", "--acme", NAME]
        argv += ["--acme-directory", DIRECTORY, "--acme-ca", str(self.root), "--acme-email", "someone@example.net"]
        return self.start("relay", *argv, "--state-dir", str(self.directory / "state"))

    def look(self) -> dict[str, str]:
        """What `softlan doctor` finds at that relay, by the system's trust alone: here, caddy's root."""
        trust = ["env", f"SSL_CERT_FILE={self.root}", f"SSL_CERT_DIR={self.directory}"]
        doctor = self.start("doctor", *trust, sys.executable, "-m", "softlan", "doctor", "--relay", NAME, "--json")
        doctor.finish(PATIENCE)
        return {check["name"]: check["outcome"] for check in json.loads(doctor.output())}


@pytest.fixture
def internet(lab: Lab, tmp_path: Path) -> Iterator[Internet]:
    internet = Internet(lab.namespace("internet"), tmp_path)
    yield internet
    internet.close()


def nearly_over() -> Credentials:
    """One that has 7 of its 24 hours left, from nowhere."""
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=17))
    builder = builder.not_valid_after(now + datetime.timedelta(hours=7))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    return Credentials(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))


def test_a_certificate_is_got_kept_trusted_and_renewed(internet: Internet, tmp_path: Path) -> None:
    config = AcmeConfig(NAME, tmp_path / "state", directory=DIRECTORY)

    # The first start: it listens when it has one.
    relay = internet.relay()
    relay.wait_for("listens", lambda: relay.events("relay.listening"), PATIENCE)
    events = [json.loads(line)["event"] for line in relay.output().splitlines()]
    assert events == ["privileges", "acme.first", "acme.obtained", "relay.listening"]
    assert "net_bind_service" in str(relay.events("privileges")[0]["kept"]), "it listens on TCP port 80 at each renewal"
    got = load_credentials(config.bundle_path, config.bundle_path)
    assert got.names == [NAME]
    assert not renewal_due(got, datetime.datetime.now(datetime.UTC))
    assert {path.name: path.stat().st_mode & 0o777 for path in config.directory_path.iterdir()} == {
        "account.pem": 0o600,
        f"{NAME}.pem": 0o600,
    }
    for directory in (config.directory_path, config.directory_path.parent, config.state_dir):
        assert directory.stat().st_mode & 0o777 == 0o700
    account = config.account_path.read_bytes()
    assert relay.stop() == 0

    # A later start: it listens with the one that it has, which is due, and shows the next to newcomers.
    old = nearly_over()
    config.bundle_path.write_bytes(old.key + old.chain)
    relay = internet.relay()
    relay.wait_for("shows a new one", lambda: relay.events("relay.certificate_changed"), PATIENCE)
    events = [json.loads(line)["event"] for line in relay.output().splitlines()]
    assert events == ["privileges", "relay.listening", "acme.obtained", "relay.certificate_changed"]
    renewed = load_credentials(config.bundle_path, config.bundle_path)
    assert renewed not in (old, got)
    assert config.account_path.read_bytes() == account, "the account is the same"
    found = internet.look()
    assert (found["relay answers"], found["certificate"]) == ("ok", "warning"), "accepted, and it ends today"
    assert relay.stop() == 0

    # Now with what it has, and without a word to the ACME server.
    relay = internet.relay()
    relay.wait_for("listens", lambda: relay.events("relay.listening"), PATIENCE)
    relay.stop()
    assert "acme" not in relay.output()
    assert load_credentials(config.bundle_path, config.bundle_path) == renewed


def test_an_acme_server_that_nobody_vouches_for_gets_nothing(internet: Internet) -> None:
    internet.root = internet.directory / "other.pem"
    internet.root.write_bytes(nearly_over().chain)
    relay = internet.relay()
    wait_for("it fails", lambda: relay.events("acme.failed"), PATIENCE)
    [failed] = relay.events("acme.failed")
    assert str(failed["why"]).startswith(f"cannot reach {DIRECTORY}: ")
    assert "CERTIFICATE_VERIFY_FAILED" in str(failed["why"])
    assert relay.stop() == 0
    assert "Traceback" not in relay.output()
