import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from softlan.errors import UsageError
from softlan.net.address import DEFAULT_PORT, HostPort, parse_listen, parse_relay

ports = st.integers(1, 65535)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(str)
names = st.from_regex(r"\A[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]([a-z0-9-]{0,20}[a-z0-9])?){0,3}\Z")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("relay.example.net", "relay.example.net", 443),
        ("relay.example.net:4433", "relay.example.net", 4433),
        ("relay.example.net.", "relay.example.net.", 443),
        (" relay \n", "relay", 443),
        ("my_relay-2", "my_relay-2", 443),
        ("m\u00fcller.example", "xn--mller-kva.example", 443),
        ("192.0.2.7", "192.0.2.7", 443),
        ("192.0.2.7:4433", "192.0.2.7", 4433),
        ("2001:db8::7", "2001:db8::7", 443),
        ("[2001:db8::7]", "2001:db8::7", 443),
        ("[2001:db8::7]:4433", "2001:db8::7", 4433),
        ("fe80::1%eth0", "fe80::1%eth0", 443),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7", 443),
    ],
)
def test_relay_addresses(text: str, host: str, port: int) -> None:
    assert parse_relay(text) == HostPort(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ":443",
        "[]:443",
        "relay:",
        "relay:0",
        "relay:65536",
        "relay:-1",
        "relay:+1",
        "relay:https",
        "relay:4\u0663",
        "[::1",
        "[::1]443",
        "[::1]:",
        "[192.0.2.7]:443",
        "[relay]:443",
        "[::g]:443",
        "2001:db8::7:99999",
        "a:b:c",
        "https://relay.example.net",
        "relay.example.net/443",
        "player@relay",
        "two words",
        "-relay",
        "relay-.example",
        "a..b",
        ".relay",
        "x" * 64,
        "x." * 127 + "xx",
        "10.1",
        "256.1.1.1",
        "1.2.3.4.5",
        "0x7f.1",
        "relay\x00",
        "re\nlay",
    ],
)
def test_what_is_no_relay_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_relay(text)
    assert str(caught.value).startswith("relay address: ")
    assert str(caught.value).isprintable()


@given(names | ipv4, ports)
def test_relay_round_trip(host: str, port: int) -> None:
    assert parse_relay(f"{host}:{port}") == HostPort(host, port)
    assert parse_relay(str(HostPort(host, port))) == HostPort(host, port)
    assert parse_relay(host) == HostPort(host, DEFAULT_PORT)


@given(ipv6, ports)
def test_relay_round_trip_of_ipv6(host: str, port: int) -> None:
    assert parse_relay(str(HostPort(host, port))) == HostPort(host, port)
    assert parse_relay(host) == parse_relay(f"[{host}]") == HostPort(host, DEFAULT_PORT)


@example("::%]")
@given(st.text(max_size=60) | st.text("a1.:[]%/-@", max_size=20))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for parse in (parse_relay, parse_listen):
        try:
            address = parse(text)
        except UsageError:
            continue
        assert 0 <= address.port <= 65535
        assert parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("443/udp", "", 443),
        ("443/UDP", "", 443),
        ("443", "", 443),
        (":443", "", 443),
        (":4433/udp", "", 4433),
        ("0", "", 0),
        ("0.0.0.0:443", "0.0.0.0", 443),
        ("0.0.0.0", "0.0.0.0", 443),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("127.0.0.1:4433/udp", "127.0.0.1", 4433),
        ("[::]:443", "::", 443),
        ("::", "::", 443),
        ("[::1]:0", "::1", 0),
        ("[fe80::1%eth0]:443", "fe80::1%eth0", 443),
    ],
)
def test_listen_addresses(text: str, host: str, port: int) -> None:
    assert parse_listen(text) == HostPort(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/udp",
        "443/tcp",
        "443/udp/x",
        "443/",
        "65536",
        "99999/udp",
        "123456",
        "-1",
        "localhost:443",
        "relay.example.net:443",
        "0.0.0.0:x",
        "[::]443",
        "eth0",
    ],
)
def test_what_is_no_listen_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_listen(text)
    assert str(caught.value).startswith("listen address: ")
    assert str(caught.value).isprintable()


@given(st.ip_addresses(), st.integers(0, 65535))
def test_listen_round_trip(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    address = HostPort(str(host), port)
    assert parse_listen(str(address)) == parse_listen(f"{address}/udp") == address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (HostPort("relay", 443), "relay:443"),
        (HostPort("::1", 443), "[::1]:443"),
        (HostPort("", 443), ":443"),
    ],
)
def test_str_has_brackets_for_ipv6(address: HostPort, text: str) -> None:
    assert str(address) == text
