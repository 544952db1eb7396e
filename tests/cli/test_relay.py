"""The relay's flags: what becomes of them, and which do not go together."""

import datetime
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from softlan.cli.relay import AcmeOptions, CertificateOptions, RoomOptions
from softlan.demo.processes import environment
from softlan.errors import UsageError
from softlan.net.address import HostPort
from softlan.quic.trust import development_credentials, load_credentials
from softlan.relay.certificates import PemFiles
from softlan.relay.renewal import LETS_ENCRYPT, AcmeConfig

PATIENCE = 15.0
DEVELOPMENT = CertificateOptions()


def softlan(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "softlan", "relay", *argv]
    env = {**environment(), "COLUMNS": "80"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=env)


def test_help_is_in_groups_that_fit_a_screen() -> None:
    groups = re.findall(r"^╭─ (.+?) ─+╮$", softlan("--help").stdout, re.MULTILINE)
    assert groups == [
        "Parameters",
        "Certificate",
        "Certificate from an ACME server",
        "Rooms and limits",
        "State and logs",
    ]


def test_a_relay_that_nobody_could_join_says_so(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("open_rooms = false\n")
    ended = softlan("--config", str(file), "--state-dir", str(tmp_path / "state"))
    assert ended.returncode == 2
    assert ended.stderr == (
        f"softlan: {file} has open_rooms = false and lists no room, so nobody could join; "
        "add the lines of `softlan room show --relay-config`\n"
    )
    assert softlan("--config", str(file), "--print-config").returncode == 0


# The certificate


def test_without_files_it_is_a_development_certificate_that_nobody_watches(tmp_path: Path) -> None:
    der = tmp_path / "relay.der"
    made, files = CertificateOptions(server_name="relay.example", dev_cert_der_out=der).load(tmp_path / "state")
    assert made.names == ["localhost", "relay.example"]
    assert files is None
    assert der.read_bytes() == made.leaf_der


def test_given_files_are_watched(tmp_path: Path) -> None:
    development_credentials(tmp_path, "relay.example", datetime.datetime.now(datetime.UTC))
    cert, key = tmp_path / "dev-cert.pem", tmp_path / "dev-key.pem"
    loaded, files = CertificateOptions(cert=cert, key=key).load(tmp_path / "state")
    assert (loaded, files) == (load_credentials(cert, key), PemFiles(cert, key))
    assert not (tmp_path / "state").exists()


# ACME


def test_a_name_is_enough(tmp_path: Path) -> None:
    assert AcmeOptions(acme="Relay.Example.NET.").checked(DEVELOPMENT, tmp_path) == AcmeConfig(
        "relay.example.net", tmp_path, directory=LETS_ENCRYPT, listen=HostPort("", 80)
    )


def test_all_of_it(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    options = AcmeOptions(
        acme="bücher.example",
        acme_email="someone@example.net",
        acme_directory="https://ca.example/acme",
        acme_ca=ca,
        acme_http_listen="192.0.2.7:8080/tcp",
    )
    assert options.checked(DEVELOPMENT, tmp_path) == AcmeConfig(
        "xn--bcher-kva.example",
        tmp_path,
        "someone@example.net",
        "https://ca.example/acme",
        ca,
        HostPort("192.0.2.7", 8080),
    )


def test_without_it_there_is_none(tmp_path: Path) -> None:
    assert AcmeOptions().checked(DEVELOPMENT, tmp_path) is None


@pytest.mark.parametrize(
    ("options", "certificate", "complaint"),
    [
        (AcmeOptions(acme_email="a@example.net"), DEVELOPMENT, "need --acme with the name of the relay"),
        (AcmeOptions(acme_http_listen="8080"), DEVELOPMENT, "need --acme with the name of the relay"),
        (AcmeOptions(acme="192.0.2.1"), DEVELOPMENT, "--acme 192.0.2.1: certificates are for names"),
        (AcmeOptions(acme="2001:db8::1"), DEVELOPMENT, "--acme 2001:db8::1: certificates are for names"),
        (AcmeOptions(acme="a/b"), DEVELOPMENT, "--acme 'a/b' is not a name; write"),
        (AcmeOptions(acme="x.example"), CertificateOptions(cert=Path("c"), key=Path("k")), "leave out --cert"),
        (AcmeOptions(acme="x.example"), CertificateOptions(dev_cert_der_out=Path("d")), "and --dev-cert-der-out"),
        (AcmeOptions(acme="x.example", acme_directory="http://ca"), DEVELOPMENT, "begins with https://"),
        (AcmeOptions(acme="x.example", acme_ca=Path("no.pem")), DEVELOPMENT, "give --acme-ca a file that exists"),
        (AcmeOptions(acme="x.example", acme_http_listen="x:80"), DEVELOPMENT, "is not an IP address"),
    ],
)
def test_what_does_not_go_together_is_said(
    options: AcmeOptions, certificate: CertificateOptions, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=re.escape(complaint)) as caught:
        options.checked(certificate, tmp_path)
    assert "\n" not in str(caught.value)


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'softlan\[acme\]'"):
        AcmeOptions(acme="x.example").checked(DEVELOPMENT, tmp_path)


def test_a_port_that_is_taken_ends_the_first_start_with_one_line(tmp_path: Path) -> None:
    """Before anyone is asked for a certificate."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ("--acme", "relay.example", "--acme-http-listen", f"127.0.0.1:{port}", "--log-level", "error")
        done = softlan("--listen", "127.0.0.1:0", *flags, "--state-dir", str(tmp_path / "state"))
    assert done.returncode == 1
    assert re.fullmatch(rf"softlan: cannot listen on TCP port {port}, [^\n]+\n", done.stderr)
    assert not (tmp_path / "state").exists()


# Limits


def test_limits_are_checked() -> None:
    limits = RoomOptions(max_rooms=3, max_peers=5, max_room_peers=2, redirect="relay.example").limits()
    assert (limits.max_rooms, limits.max_peers, limits.max_room_peers) == (3, 5, 2)
    assert limits.redirect == "relay.example:443"
    for wrong in (RoomOptions(room_mtu=100), RoomOptions(max_rooms=0), RoomOptions(max_room_peers=60001)):
        with pytest.raises(UsageError, match=r"^--\S+ "):
            wrong.limits()
