"""Looks at the relay as a client would: its name, a real QUIC handshake, its certificate, what the path carries."""

import asyncio
import contextlib
import secrets
import time

from cryptography import x509

from softlan.client.doctor.verdicts import Certificate, RelayLook
from softlan.client.session import Ended, EndKind, Identity, Session
from softlan.ctrl.messages import PeerJoined, PeerLeft, RejectCode, Welcome
from softlan.errors import HostError
from softlan.net.address import HostPort, SocketAddress
from softlan.net.resolve import resolve
from softlan.obs.counters import TrafficCounters
from softlan.proto.keys import SALT_LENGTH
from softlan.proto.seal import Opener
from softlan.quic.configuration import MIN_UDP_PAYLOAD, client_configuration
from softlan.quic.connection import Connection
from softlan.quic.driver import EndpointDriver
from softlan.quic.endpoint import Endpoint
from softlan.quic.open_udp import open_udp
from softlan.quic.trust import Trust
from softlan.quic.udp import peer_address, plain_host, widest_payload

RESOLVE_TIME = 5.0  # seconds for the name service
PATIENCE = 6.0  # seconds for the relay to answer at all, as a client has
TICK = 0.05  # seconds


async def look_at_relay(
    relay: HostPort, trust: Trust, identity: Identity, *, join: bool, patience: float = PATIENCE
) -> RelayLook:
    """Try all addresses of `relay` at once, and tell of the best; with `join`, be in the room for a moment.

    Never takes much longer than `patience` seconds for an answer, and as long again for what follows.
    """
    started = time.monotonic()
    try:
        async with asyncio.timeout(RESOLVE_TIME):
            found = await resolve(relay)
    except (HostError, TimeoutError) as error:
        return RelayLook(unresolved=str(error) or f"no answer for {relay.host} from the name service")
    sock = open_udp()
    endpoint = Endpoint(sock)
    driver = EndpointDriver(endpoint, asyncio.get_running_loop())
    try:
        targets = [target for address in found if (target := peer_address(address, sock.family)) is not None]
        probes = [_Probe(endpoint, target, trust, identity, widest_payload(target), join=join) for target in targets]
        driver.flush()
        again = started + patience / 3
        while probes and not any(probe.is_done for probe in probes):
            now = time.monotonic()
            if all(probe.is_over for probe in probes):
                break
            if now - started > (2 * patience if any(probe.answered for probe in probes) else patience):
                break
            if now >= again and not any(probe.answered for probe in probes):
                again = float("inf")  # a path may lose the large packets of a handshake and carry small ones
                probes += [_Probe(endpoint, target, trust, identity, MIN_UDP_PAYLOAD, join=join) for target in targets]
            for probe in probes:
                probe.tick(now)
            driver.flush()
            await asyncio.sleep(TICK)
        for probe in probes:
            probe.leave()
        driver.flush()
        best = max(probes, key=lambda probe: probe.progress, default=None)
        addresses = tuple(dict.fromkeys(plain_host(address) for address in found))
        if best is None:
            return RelayLook(addresses=addresses, trouble="this machine has no IPv6, and the relay nothing else")
        return best.look(addresses, time.monotonic() - started)
    finally:
        driver.close()


class _Probe:
    """One address: a `session.Listener` that says hello only when it is to join."""

    def __init__(
        self, endpoint: Endpoint, target: SocketAddress, trust: Trust, identity: Identity, payload: int, *, join: bool
    ) -> None:
        """`payload`: the size of the first packets, in bytes of UDP payload."""
        self.is_done = False
        self._join = join
        self._was_verified = False
        self._has_asked = False
        self._ended: Ended | None = None
        self._welcome: Welcome | None = None
        now = time.monotonic()
        key = identity.frame_key
        salt, opener = (secrets.token_bytes(SALT_LENGTH), Opener(key)) if key is not None else (None, None)

        def accept(connection: Connection) -> Session:
            return Session(connection, identity, self, TrafficCounters(), salt=salt, opener=opener, now=now)

        configuration = client_configuration(trust, payload)
        connection = endpoint.connect(configuration, target, accept, now)
        assert isinstance(connection.handler, Session)
        self._session = connection.handler

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.is_done or self._ended is not None

    @property
    def answered(self) -> bool:
        """Whether the relay said anything."""
        connection = self._session.connection
        return connection.rtt is not None or connection.established or _certificate(connection) is not None

    @property
    def progress(self) -> tuple[bool, bool, int, bool]:
        """How far it got, to be compared."""
        return (self.is_done, self._was_verified, self._session.path.budget, self.answered)

    def tick(self, now: float) -> None:
        """What is due."""
        if not self.is_over:
            self._session.tick(now)

    def leave(self) -> None:
        """Say goodbye."""
        self._session.leave("quit", "only looked")

    def look(self, addresses: tuple[str, ...], seconds: float) -> RelayLook:
        """What was seen."""
        session, ended = self._session, self._ended
        connection = session.connection
        return RelayLook(
            addresses=addresses,
            address=plain_host(connection.address),
            answered=self.answered,
            verified=self._was_verified,
            trouble=ended.reason if ended is not None else "",
            certificate=_certificate(connection),
            rtt_ms=session.rtt_ms,
            budget=session.path.budget or None,
            welcome=self._welcome,
            refused=self._has_asked and ended is not None,
            reject=_code(ended),
            seconds=seconds,
        )

    # session.Listener

    def session_ready(self, session: Session) -> None:
        """The path is measured."""
        self._was_verified = True
        if self._join:
            self._has_asked = True
            session.say_hello(time.monotonic())
        else:
            self.is_done = True

    def session_joined(self, session: Session, welcome: Welcome) -> None:
        """In the room."""
        self._welcome = welcome
        self.is_done = True

    def session_ended(self, session: Session, ended: Ended) -> None:
        """It will not work like this."""
        self._was_verified = self._was_verified or session.connection.established
        self._ended = ended

    def peer_joined(self, peer: PeerJoined, now: float) -> None:
        """Nothing to do."""

    def peer_left(self, peer: PeerJoined | None, left: PeerLeft, now: float) -> None:
        """Nothing to do."""

    def frames_received(self, frames: list[bytes], now: float) -> None:
        """They are not for us."""


def _code(ended: Ended | None) -> str:
    """The relay's reject code, also where a room that is unlike us was given all the same; empty for none."""
    if ended is None:
        return ""
    if ended.kind is EndKind.UNLIKE:
        return RejectCode.UNAUTHORIZED.value
    return ended.reject.code.value if ended.reject is not None else ""


def _certificate(connection: Connection) -> Certificate | None:
    """What the relay showed, also when it was not accepted; None before it did."""
    shown = connection.peer_certificate
    if shown is None:
        return None
    with contextlib.suppress(ValueError):
        parsed = x509.load_der_x509_certificate(shown)
        return Certificate(parsed.not_valid_before_utc, parsed.not_valid_after_utc, _names(parsed))
    return None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )
