"""Certificates: what the relay shows, and what an endpoint accepts.

The relay shows a certificate from PEM files, or a development certificate that it makes at its first start and
keeps, so that a pin stays valid over restarts. An endpoint accepts either a pinned certificate (the relay's own,
or a CA that signed it) or what the system trusts. The name is checked in every case.
"""

import datetime
import functools
import hashlib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from softlan.errors import HostError, UsageError

DEV_VALIDITY = datetime.timedelta(days=825)  # the longest that every platform's verifier accepts
DEV_RENEW_BEFORE = datetime.timedelta(days=30)


@dataclass(frozen=True)
class Credentials:
    """What the relay shows: a PEM chain, the leaf first, and its PEM private key."""

    chain: bytes
    key: bytes = field(repr=False)

    @functools.cached_property
    def leaf(self) -> x509.Certificate:
        """The relay's own certificate, the first of the chain."""
        return x509.load_pem_x509_certificate(self.chain)

    @property
    def leaf_der(self) -> bytes:
        """The leaf certificate in DER: what an endpoint pins."""
        return self.leaf.public_bytes(serialization.Encoding.DER)

    @property
    def names(self) -> list[str]:
        """What servers it is for: DNS names in lower case and IP addresses, sorted."""
        return sorted(_names(self.leaf))

    def days_left(self, now: datetime.datetime) -> int:
        """Whole days until it ends; negative when it has ended."""
        return (self.leaf.not_valid_after_utc - now).days

    def holds(self, now: datetime.datetime) -> bool:
        """Whether it is valid at that time."""
        return self.leaf.not_valid_before_utc <= now < self.leaf.not_valid_after_utc


@dataclass(frozen=True)
class Trust:
    """What an endpoint accepts of a relay. With neither pin the system's trust store decides."""

    server_name: str
    """The name that the relay's certificate must carry."""
    fingerprint: str | None = None
    """SHA-256 of the one accepted leaf certificate, in hex; its name has been checked when it was loaded."""
    authorities: bytes | None = None
    """PEM certificates of the accepted CAs."""


def load_credentials(cert: Path, key: Path) -> Credentials:
    """Read a PEM chain and key, and check that they belong together; both may be in one file. Raises UsageError."""
    chain, private = _read(cert, "--cert"), _read(key, "--key")
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        public = certificates[0].public_key()
        secret = serialization.load_pem_private_key(private, None)
    except UnsupportedAlgorithm as error:
        raise UsageError(
            f"endpoints do not offer the kind of key in {cert} or {key}; use an EC P-256 or RSA key"
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{cert} and {key} must be a PEM certificate and its unencrypted PEM key") from error
    if len(certificates) != chain.count(b"-----BEGIN CERTIFICATE"):  # the parser passes over what has no end
        raise UsageError(f"{cert} ends in the middle of a certificate; write it anew")
    if not isinstance(secret, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise UsageError(f"endpoints do not offer the kind of key in {key}; use an EC P-256 or RSA key")
    if public != secret.public_key():
        raise UsageError(f"the key in {key} does not belong to the certificate in {cert}")
    # In the one form that the QUIC library reads: of a file with more in it, it would take the wrong part.
    return Credentials(
        b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates), private_pem(secret)
    )


def development_credentials(state_dir: Path, server_name: str, now: datetime.datetime) -> Credentials:
    """The development certificate, made at the first start and kept in `state_dir` with its key (0600).

    It is made anew only when it would not do: another name, expired or about to, unreadable. Raises HostError.
    """
    cert_path, key_path = state_dir / "dev-cert.pem", state_dir / "dev-key.pem"
    names = list(dict.fromkeys(["localhost", _canonical(server_name)]))
    try:
        kept = load_credentials(cert_path, key_path)
        if _names(kept.leaf) >= set(names) and kept.leaf.not_valid_after_utc - DEV_RENEW_BEFORE > now:
            return kept
    except (UsageError, ValueError):
        pass  # none yet, or not one of ours: make it
    made = _make_development(names, now)
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_atomically(key_path, made.key, 0o600)
        replace_atomically(cert_path, made.chain, 0o644)
    except OSError as error:
        raise HostError(
            "keep certificate",
            f"cannot write to {state_dir}: {error.strerror}; choose a directory with --state-dir",
        ) from error
    return made


def load_trust(pin: Path | None, server_name: str, now: datetime.datetime) -> Trust:
    """What to accept: the certificate in `pin` (DER or PEM, the relay's own or CAs), or the system's store.

    A leaf is told from a CA by its names: a CA has no subjectAltName (RFC 6125), nor the server's name as its own.
    Raises UsageError when the file cannot work: unreadable, expired, or a leaf that does not carry the name.
    """
    if pin is None:
        return Trust(server_name)
    found = _parse_certificates(_read(pin, "--relay-ca-cert"), pin)
    leaf = found[0]
    wanted = _canonical(server_name)
    names = _names(leaf, wanted)
    if not names:
        return Trust(
            server_name,
            authorities=b"".join(c.public_bytes(serialization.Encoding.PEM) for c in found),
        )
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise UsageError(
            f"the certificate in {pin} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to "
            f"{leaf.not_valid_after_utc:%Y-%m-%d}; get the relay's current one, or set this machine's clock"
        )
    if wanted not in names and "*." + wanted.partition(".")[2] not in names:  # a wildcard: RFC 6125, section 6.4.3
        named = ", ".join(sorted(names))
        raise UsageError(
            f"the certificate in {pin} does not name {server_name}; give one of its names with --server-name: {named}"
        )
    der = leaf.public_bytes(serialization.Encoding.DER)
    return Trust(server_name, fingerprint=hashlib.sha256(der).hexdigest())


def write_der(path: Path, credentials: Credentials) -> None:
    """Write the leaf in DER, for endpoints to pin. Raises HostError."""
    try:
        path.write_bytes(credentials.leaf_der)
    except OSError as error:
        raise HostError(
            "write certificate",
            f"cannot write {path}: {error.strerror}; give --dev-cert-der-out a file in a directory of yours",
        ) from error


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A private key as PEM (PKCS #8), not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def replace_atomically(path: Path, data: bytes, mode: int) -> None:
    """Write a file: there as a whole or not at all, and with these permissions from its beginning. Raises OSError."""
    temporary = path.with_suffix(path.suffix + ".new")
    temporary.unlink(missing_ok=True)  # one that is there keeps the mode that it has
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _make_development(names: Sequence[str], now: datetime.datetime) -> Credentials:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[-1][:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=24))  # a player's clock may be behind
        .not_valid_after(now + DEV_VALIDITY)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        # Not a CA: a self-signed CA is refused as a leaf by strict verifiers (webpki).
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Credentials(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))


def _canonical(name: str) -> str:
    """A server's name as `_names` gives it: an IP address in its shortest form, a DNS name in lower case."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    return name.lower().rstrip(".")


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: x509.Certificate, fallback: str | None = None) -> set[str]:
    """DNS names (lower case) and IP addresses of the subjectAltName extension.

    Without one, `fallback` if that is the subject's common name: what ``openssl req -x509 -subj /CN=...`` makes.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return {fallback} if fallback and any(name.value == fallback for name in common) else set()
    return {
        *(name.lower() for name in names.get_values_for_type(x509.DNSName)),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    }


def _parse_certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    try:
        found = (
            x509.load_pem_x509_certificates(data) if b"-----BEGIN" in data else [x509.load_der_x509_certificate(data)]
        )
        for certificate in found:
            _names(certificate)  # its extensions are parsed only now
    except ValueError as error:
        raise UsageError(f"{path} holds no certificate; give the relay's, as DER or PEM") from error
    return found


def _read(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror}); give {flag} a file that exists") from error
