"""One certificate by ACME (RFC 8555), with certbot's library. It blocks: it belongs into a thread.

The library is an extra, so nothing but `renewal` imports this module, and only when there is something to get.
"""

import datetime
from pathlib import Path
from typing import Any

import requests
from acme import challenges, client, crypto_util, errors, messages
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from softlan import __version__
from softlan.errors import HostError
from softlan.host.durable import private_directory
from softlan.quic.trust import Credentials, private_pem, replace_atomically
from softlan.relay.renewal import AcmeConfig

REQUEST_TIME = 20  # seconds for one answer of the ACME server
ORDER_TIME = 90.0  # seconds for the whole of it to look at our answers and to sign


def obtain(config: AcmeConfig, answers: dict[str, bytes]) -> Credentials:
    """Get a certificate for a new key, and keep both. Raises HostError with the server's own words.

    What the server will ask for by HTTP-01 is put into `answers`, by path, before it is told to ask.
    """
    try:
        private_directory(config.directory_path)
        made = _order(config, _account_key(config.account_path), answers)
        replace_atomically(config.bundle_path, made.key + made.chain, 0o600)
    except OSError as error:
        if isinstance(error, requests.RequestException):  # which is one, too
            raise HostError("get certificate", f"cannot reach {config.directory}: {_one_line(error)}") from error
        raise HostError(
            "keep certificate", f"cannot write to {config.directory_path}: {error.strerror}; see --state-dir"
        ) from error
    except errors.ValidationError as error:
        raise HostError("get certificate", _validation(config, error)) from error
    except (errors.Error, JoseError, ValueError) as error:
        raise HostError("get certificate", f"{config.directory} says: {_one_line(error)}") from error
    return made


def _order(config: AcmeConfig, key: JWKEC, answers: dict[str, bytes]) -> Credentials:
    # Typed as a bool, and handed on to requests as it is, which takes a file as well.
    verify: Any = True if config.authorities is None else str(config.authorities)
    network = client.ClientNetwork(
        key, alg=ES256, verify_ssl=verify, user_agent=f"softlan/{__version__}", timeout=REQUEST_TIME
    )
    server = client.ClientV2(client.ClientV2.get_directory(config.directory, network), network)
    try:
        server.new_account(messages.NewRegistration.from_data(email=config.email, terms_of_service_agreed=True))
    except errors.ConflictError as known:  # the key has an account: RFC 8555, section 7.3.1
        network.account = messages.RegistrationResource(body=messages.Registration(), uri=known.location)
    secret = private_pem(ec.generate_private_key(ec.SECP256R1()))
    order = server.new_order(crypto_util.make_csr(secret, [config.name]))
    for authorization in order.authorizations:
        if authorization.body.status == messages.STATUS_VALID:  # the server remembers an answer of some days ago
            continue
        offered = authorization.body.challenges
        asked = next((each for each in offered if isinstance(each.chall, challenges.HTTP01)), None)
        if asked is None:
            raise errors.Error("it does not ask by HTTP-01 for this name, and the relay can answer nothing else")
        response, text = asked.response_and_validation(key)
        answers[asked.chall.path] = text.encode()
        server.answer_challenge(asked, response)
    # The library's deadlines are in local time.
    order = server.poll_and_finalize(order, datetime.datetime.now() + datetime.timedelta(seconds=ORDER_TIME))
    chain = x509.load_pem_x509_certificates(order.fullchain_pem.encode())
    return Credentials(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain), secret)


def _account_key(path: Path) -> JWKEC:
    """The key that is our account at that server; made at the first use, and kept."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, UnsupportedAlgorithm):
        key = ec.generate_private_key(ec.SECP256R1())
        replace_atomically(path, private_pem(key), 0o600)
    return JWKEC(key=key)


def _validation(config: AcmeConfig, error: errors.ValidationError) -> str:
    """Why the server did not believe us: what it found, and where to look."""
    faults = [
        each.error
        for authorization in error.failed_authzrs
        for each in authorization.body.challenges
        if each.error is not None
    ]
    found = _one_line(faults[0]) if faults else "no reason given"
    return (
        f"{config.name} did not answer the ACME server: {found}; the name must lead to this machine, "
        "and TCP port 80 must be open to everyone"
    )


def _one_line(error: Exception) -> str:
    """An error's own words, of which the other side may have written some: not too many, and on one line."""
    words = getattr(error, "detail", None) or str(error) or type(error).__name__
    return " ".join("".join(c if c.isprintable() else " " for c in str(words)).split())[:300]
