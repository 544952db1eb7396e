"""What both sides ask of QUIC and TLS."""

import pytest
from tests.support.wire import Link, World, credentials, trust

from softlan.quic.configuration import client_configuration, server_configuration
from softlan.quic.handler import CloseCause


def test_the_key_exchange_is_safe_from_tomorrows_computers() -> None:
    """X25519MLKEM768: recorded today, the traffic is not read when there are quantum computers."""
    world = World()
    client, server = world.pair()
    tls = server.connection._quic.tls
    assert tls is not None
    assert tls._x25519_kyber_768_private_key is not None, "made by a server that takes this exchange"
    # Its key share alone is 1216 bytes: a ClientHello with it takes two datagrams.
    assert [length for length, _ in client.sock.sent[:2]] == [1280, 1280]


def test_another_protocol_is_refused_by_either_side() -> None:
    world = World()
    server = world.serve()
    configuration = client_configuration(trust())
    configuration.alpn_protocols = ["h3"]
    client = world.connect(configuration=configuration)
    world.run(lambda: client.end, within=1)
    assert client.end is not None
    assert client.end[0] is CloseCause.PEER
    assert not client.ready
    assert not server.peers[0].ready


def test_datagrams_of_any_size_are_offered() -> None:
    world = World()
    client, server = world.pair()
    assert (client.connection.datagram_limit, server.connection.datagram_limit) == (65535, 65535)


@pytest.mark.parametrize("size", [1472, 1200])
def test_a_server_sends_no_packet_above_its_size(size: int) -> None:
    assert server_configuration(credentials(), size).max_datagram_size == size
    world = World(Link(mtu=1500 if size == 1472 else 1280))
    _, server = world.pair()
    assert server.connection.capacity == size - 32
    server.connection.send_datagram(b"x" * server.connection.capacity)
    world.run(within=0.1)
    assert max(length for length, _ in server.sock.sent) <= max(size, 1280 if size == 1472 else 1200)
