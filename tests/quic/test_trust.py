"""Certificates: made, kept, pinned, and refused with a line that helps."""

import base64
import datetime
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.tools import require_tool
from tests.support.wire import RELAY, Link, Recorder, World

from softlan.errors import HostError, UsageError
from softlan.quic.configuration import client_configuration
from softlan.quic.door import Door
from softlan.quic.handler import CloseCause
from softlan.quic.trust import (
    DEV_RENEW_BEFORE,
    DEV_VALIDITY,
    Credentials,
    Trust,
    development_credentials,
    load_credentials,
    load_trust,
    write_der,
)

NOW = datetime.datetime.now(datetime.UTC)
NAME = "relay.example"


def later(**span: int) -> datetime.datetime:
    """Certificates that a test makes begin at a whole second of their own."""
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2, **span)


class OpenSsl:
    """What people make with the tool that everyone has."""

    def __init__(self, directory: Path) -> None:
        self._tool = require_tool("openssl")
        self._directory = directory

    def run(self, *arguments: str) -> None:
        subprocess.run([self._tool, *arguments], cwd=self._directory, check=True, capture_output=True)

    def self_signed(self, name: str, *options: str, key: str = "ec", days: int = 30) -> tuple[Path, Path]:
        """``openssl req -x509``: a CA in its basicConstraints, whatever it is meant for."""
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"] if key == "ec" else ["-newkey", key]
        cert, private = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        self.run(
            "req", "-x509", *kind, "-nodes", "-keyout", str(private), "-out", str(cert), "-days", str(days), *options
        )
        return cert, private

    def signed_by(self, ca: tuple[Path, Path], name: str, alternative: str) -> tuple[Path, Path]:
        """A leaf with a CA's signature."""
        extensions = self._directory / "extensions"
        extensions.write_text(f"subjectAltName={alternative}\nbasicConstraints=CA:FALSE\n")
        request, cert, private = (self._directory / f"{name}.{kind}" for kind in ("csr", "pem", "key"))
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self.run("req", *kind, "-keyout", str(private), "-out", str(request), "-subj", f"/CN={name}")
        authority = ["-CA", str(ca[0]), "-CAkey", str(ca[1]), "-CAcreateserial", "-extfile", str(extensions)]
        self.run("x509", "-req", "-in", str(request), "-out", str(cert), "-days", "30", *authority)
        return cert, private


@pytest.fixture
def openssl(tmp_path: Path) -> OpenSsl:
    return OpenSsl(tmp_path)


def shake_hands(credentials: Credentials, trust: Trust) -> Recorder:
    """A relay with `credentials`, and a client that accepts `trust`."""
    world = World()
    world.endpoint(world.sock(RELAY, Link(latency=0.0)), Door(credentials, Recorder))
    client = world.connect(configuration=client_configuration(trust))
    world.run(lambda: client.ready or client.end, within=1)
    return client


def names(credentials: Credentials) -> list[str]:
    leaf = x509.load_pem_x509_certificate(credentials.chain)
    return [str(name.value) for name in leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


# The development certificate


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    made = development_credentials(tmp_path / "state", NAME, NOW)
    assert development_credentials(tmp_path / "state", NAME, NOW + datetime.timedelta(days=300)) == made
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["dev-cert.pem", "dev-key.pem"]
    assert (tmp_path / "state" / "dev-key.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("name", "carried"),
    [
        (NAME, ["localhost", NAME]),
        ("localhost", ["localhost"]),
        ("Relay.Example.", ["localhost", NAME]),
        ("192.0.2.1", ["localhost", "192.0.2.1"]),
        ("2001:db8:0::1", ["localhost", "2001:db8::1"]),
    ],
)
def test_it_carries_the_servers_name_and_is_kept_however_that_is_written(
    tmp_path: Path, name: str, carried: list[str]
) -> None:
    made = development_credentials(tmp_path, name, NOW)
    assert names(made) == carried
    assert development_credentials(tmp_path, name, NOW) == made


def test_a_pinned_one_is_accepted(tmp_path: Path) -> None:
    made = development_credentials(tmp_path, NAME, NOW)
    write_der(tmp_path / "relay.der", made)
    for pin in ("relay.der", "dev-cert.pem"):
        assert shake_hands(made, load_trust(tmp_path / pin, NAME, NOW)).ready


def test_it_is_valid_on_a_clock_that_is_behind_and_made_anew_in_time(tmp_path: Path) -> None:
    made = development_credentials(tmp_path, NAME, NOW)
    load_trust(tmp_path / "dev-cert.pem", NAME, NOW - datetime.timedelta(hours=23))
    end = NOW + DEV_VALIDITY
    assert development_credentials(tmp_path, NAME, end - DEV_RENEW_BEFORE - datetime.timedelta(hours=1)) == made
    assert development_credentials(tmp_path, NAME, end - DEV_RENEW_BEFORE + datetime.timedelta(hours=1)) != made


def test_another_name_needs_another_one(tmp_path: Path) -> None:
    made = development_credentials(tmp_path, NAME, NOW)
    other = development_credentials(tmp_path, "other.example", NOW)
    assert other != made
    assert names(other) == ["localhost", "other.example"]


@pytest.mark.parametrize("file", ["dev-cert.pem", "dev-key.pem"])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("garbage")], ids=["lost", "garbage"])
def test_half_of_one_is_replaced(tmp_path: Path, file: str, harm: Callable[[Path], object]) -> None:
    made = development_credentials(tmp_path, NAME, NOW)
    (tmp_path / "dev-key.pem.new").write_text("left by a crash, readable for all")
    harm(tmp_path / file)
    again = development_credentials(tmp_path, NAME, NOW)
    assert again != made
    assert load_credentials(tmp_path / "dev-cert.pem", tmp_path / "dev-key.pem") == again
    assert (tmp_path / "dev-key.pem").stat().st_mode & 0o777 == 0o600


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"^cannot write to \S+: .+; choose a directory with --state-dir$"):
        development_credentials(tmp_path / "file", NAME, NOW)
    with pytest.raises(HostError, match=r"^cannot write \S+: .+"):
        write_der(tmp_path, development_credentials(tmp_path / "state", NAME, NOW))


# Pins


@pytest.mark.parametrize(
    "options",
    [("-subj", "/CN=relay", "-addext", f"subjectAltName=DNS:{NAME}"), ("-subj", f"/CN={NAME}")],
    ids=["with subjectAltName", "with a common name only"],
)
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_what_openssl_makes_in_one_line_works_as_a_pin(
    openssl: OpenSsl, tmp_path: Path, options: tuple[str, ...], encoding: Encoding
) -> None:
    """It calls itself a CA, which strict verifiers refuse as a server's."""
    credentials = load_credentials(*openssl.self_signed("relay", *options))
    pin = tmp_path / "pin"
    pin.write_bytes(x509.load_pem_x509_certificate(credentials.chain).public_bytes(encoding))
    trust = load_trust(pin, NAME, later())
    assert trust.fingerprint is not None
    assert shake_hands(credentials, trust).ready


def test_rsa_works_too(openssl: OpenSsl) -> None:
    cert, key = openssl.self_signed("relay", "-subj", f"/CN={NAME}", key="rsa:2048")
    assert shake_hands(load_credentials(cert, key), load_trust(cert, NAME, later())).ready


def test_a_private_ca_can_be_pinned(openssl: OpenSsl) -> None:
    ca = openssl.self_signed("ca", "-subj", "/CN=our party")
    credentials = load_credentials(*openssl.signed_by(ca, "relay", f"DNS:{NAME},DNS:*.party.example,IP:192.0.2.1"))
    for name in (NAME, "192.0.2.1", "any.party.example"):
        trust = load_trust(ca[0], name, later())
        assert trust.fingerprint is None
        assert shake_hands(credentials, trust).ready
    for name in ("other.example", "192.0.2.2", "a.b.party.example"):
        client = shake_hands(credentials, load_trust(ca[0], name, later()))
        assert client.end is not None
        assert client.end[0] is CloseCause.ERROR


def test_one_of_several_cas_is_enough(openssl: OpenSsl, tmp_path: Path) -> None:
    ours, theirs = (openssl.self_signed(name, "-subj", f"/CN={name}") for name in ("ours", "theirs"))
    both = tmp_path / "both.pem"
    both.write_bytes(theirs[0].read_bytes() + ours[0].read_bytes())
    credentials = load_credentials(*openssl.signed_by(ours, "relay", f"DNS:{NAME}"))
    assert shake_hands(credentials, load_trust(both, NAME, later())).ready


def test_a_wrong_pin_fails_the_handshake_and_says_so(openssl: OpenSsl, tmp_path: Path) -> None:
    mine = development_credentials(tmp_path / "mine", NAME, NOW)
    other = development_credentials(tmp_path / "other", NAME, NOW)
    write_der(tmp_path / "other.der", other)
    client = shake_hands(mine, load_trust(tmp_path / "other.der", NAME, NOW))
    assert client.end is not None
    assert client.end[0] is CloseCause.ERROR
    assert "Fingerprints did not match" in client.end[1]

    ca, _ = openssl.self_signed("ca", "-subj", "/CN=our party")
    client = shake_hands(mine, load_trust(ca, NAME, later()))
    assert client.end == (CloseCause.ERROR, "unable to get local issuer certificate")


def test_without_a_pin_the_system_decides_and_trusts_no_stranger(tmp_path: Path) -> None:
    assert load_trust(None, NAME, NOW) == Trust(NAME)
    client = shake_hands(development_credentials(tmp_path, NAME, NOW), load_trust(None, NAME, NOW))
    assert client.end is not None
    assert client.end[0] is CloseCause.ERROR


@pytest.mark.parametrize("store", ["a file", "a directory"])
def test_without_a_pin_a_ca_in_the_systems_store_is_enough(
    openssl: OpenSsl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """The store is this test's own: OpenSSL's environment variables say where it is."""
    ca = openssl.self_signed("ca", "-subj", "/CN=everybody's CA")
    credentials = load_credentials(*openssl.signed_by(ca, "relay", f"DNS:{NAME}"))
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(ca[0] if store == "a file" else tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "store"))
    if store == "a directory":
        (tmp_path / "store" / "ca.pem").write_bytes(ca[0].read_bytes())
        openssl.run("rehash", str(tmp_path / "store"))
    assert shake_hands(credentials, load_trust(None, NAME, NOW)).ready
    for stranger, name in ((credentials, "other.example"), (development_credentials(tmp_path, NAME, NOW), NAME)):
        client = shake_hands(stranger, load_trust(None, name, NOW))
        assert client.end is not None
        assert client.end[0] is CloseCause.ERROR


@pytest.mark.parametrize("name", ["any.party.example", "ANY.Party.Example."])
def test_a_wildcard_covers_one_label(openssl: OpenSsl, name: str) -> None:
    pin, _ = openssl.self_signed("relay", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:*.party.example")
    assert load_trust(pin, name, later()).fingerprint is not None
    for wrong in ("a.b.party.example", "party.example"):
        with pytest.raises(UsageError, match=r"does not name \S+; give one of its names with --server-name: \*\.party"):
            load_trust(pin, wrong, later())


def test_a_pin_that_cannot_work_is_refused_before_anything_is_tried(openssl: OpenSsl, tmp_path: Path) -> None:
    pin, _ = openssl.self_signed("relay", "-subj", "/CN=x", "-addext", f"subjectAltName=DNS:{NAME},IP:192.0.2.1")
    garbage, empty = tmp_path / "garbage", tmp_path / "empty"
    garbage.write_bytes(bytes(range(256)))
    empty.write_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
    for path, name, days, complaint in (
        (
            pin,
            "other.example",
            0,
            "does not name other.example; give one of its names with --server-name: 192.0.2.1, rela",
        ),
        (pin, NAME, 31, "is valid from .* to .*; get the relay's current one, or set this machine's clock"),
        (pin, NAME, -1, "is valid from .* to .*; get the relay's current one, or set this machine's clock"),
        (garbage, NAME, 0, "holds no certificate; give the relay's, as DER or PEM"),
        (empty, NAME, 0, "holds no certificate; give the relay's, as DER or PEM"),
        (tmp_path / "missing", NAME, 0, "No such file or directory.*; give --relay-ca-cert a file that exists"),
    ):
        with pytest.raises(UsageError, match=complaint) as caught:
            load_trust(path, name, later(days=days))
        assert "\n" not in str(caught.value)


# A relay's own


@pytest.mark.parametrize("kind", ["ec", "rsa:2048"])
def test_chain_and_key_may_be_in_one_file_with_words_between(openssl: OpenSsl, tmp_path: Path, kind: str) -> None:
    cert, key = openssl.self_signed("one", "-subj", f"/CN={NAME}", key=kind)
    ca, _ = openssl.self_signed("ca", "-subj", "/CN=ca")
    bundle = tmp_path / "bundle.pem"
    parts = [b"Bag Attributes: none", key.read_bytes(), b"a leaf", cert.read_bytes(), b"a CA", ca.read_bytes()]
    bundle.write_bytes(b"\r\n".join(part.replace(b"\n", b"\r\n") for part in parts))
    together = load_credentials(bundle, bundle)
    assert together.key == load_credentials(cert, key).key
    assert together.chain == cert.read_bytes() + ca.read_bytes()
    assert shake_hands(together, load_trust(cert, NAME, later())).ready


@pytest.mark.parametrize("keep", [0.4, 0.9])
def test_a_chain_that_is_cut_short_is_refused(openssl: OpenSsl, tmp_path: Path, keep: float) -> None:
    cert, key = openssl.self_signed("one", "-subj", f"/CN={NAME}")
    ca, _ = openssl.self_signed("ca", "-subj", "/CN=ca")
    chain = cert.read_bytes() + ca.read_bytes()
    (tmp_path / "cut.pem").write_bytes(chain[: int(keep * len(chain))])
    with pytest.raises(UsageError, match=r"must be a PEM certificate|ends in the middle of a certificate"):
        load_credentials(tmp_path / "cut.pem", key)


def test_what_a_certificate_says_of_itself(tmp_path: Path) -> None:
    made = development_credentials(tmp_path, NAME, NOW)
    end = made.leaf.not_valid_after_utc
    assert made.names == ["localhost", NAME]
    assert (made.days_left(NOW), made.days_left(end), made.days_left(end + datetime.timedelta(hours=1))) == (824, 0, -1)
    assert made.holds(NOW)
    assert not made.holds(end)
    assert not made.holds(NOW - datetime.timedelta(days=2))
    assert "PRIVATE" not in repr(made), "a key is not to end in a log"


UNKNOWN = bytes.fromhex("06032a0304")
"""An algorithm that nobody has heard of: object identifier 1.2.3.4."""


@pytest.mark.parametrize("part", ["certificate", "key"])
def test_a_kind_of_key_that_nobody_knows_is_refused(tmp_path: Path, part: str) -> None:
    made = development_credentials(tmp_path / "state", NAME, NOW)
    (tmp_path / "chain.pem").write_bytes(made.chain)
    (tmp_path / "key.pem").write_bytes(made.key)
    if part == "key":
        # PKCS #8 (RFC 5208, section 5): version 0, the algorithm, no key to speak of.
        write_pem(
            tmp_path / "key.pem", "PRIVATE KEY", bytes.fromhex("300e0201003005") + UNKNOWN + bytes.fromhex("04020500")
        )
    else:
        ec_key = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey (RFC 5480, section 2.1.1)
        other = bytes.fromhex("06072a030405060708")
        assert made.leaf_der.count(ec_key) == 1
        write_pem(tmp_path / "chain.pem", "CERTIFICATE", made.leaf_der.replace(ec_key, other))
    with pytest.raises(UsageError, match=r"^endpoints do not offer the kind of key in .*; use an EC P-256 or RSA key$"):
        load_credentials(tmp_path / "chain.pem", tmp_path / "key.pem")


def write_pem(path: Path, label: str, der: bytes) -> None:
    path.write_text(f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n")


def test_credentials_that_do_not_belong_together_are_refused(openssl: OpenSsl, tmp_path: Path) -> None:
    cert, key = openssl.self_signed("one", "-subj", f"/CN={NAME}")
    _, other = openssl.self_signed("two", "-subj", f"/CN={NAME}")
    modern, modern_key = openssl.self_signed("three", "-subj", f"/CN={NAME}", key="ed25519")
    for files, complaint in (
        ((cert, other), "the key in .* does not belong to the certificate in"),
        ((key, cert), "must be a PEM certificate and its unencrypted PEM key"),
        ((modern, modern_key), "endpoints do not offer the kind of key in .*; use an EC P-256 or RSA key"),
        ((tmp_path / "missing", key), "No such file or directory.*; give --cert a file that exists"),
        ((cert, tmp_path / "missing"), "No such file or directory.*; give --key a file that exists"),
    ):
        with pytest.raises(UsageError, match=complaint) as caught:
            load_credentials(*files)
        assert "\n" not in str(caught.value)
