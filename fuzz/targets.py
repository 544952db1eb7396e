"""What is fuzzed: one function of a byte string for each parser, which raises when the parser breaks a promise.

They run under a coverage-guided fuzzer (`fuzz.run`) and, on seeds and their mutations, in the tests.
"""

import dataclasses
import json
import random
from collections.abc import Callable, Iterator

from fuzz import joining
from fuzz.receivers import harm
from tests.support.corpus import EVASIONS, LEGITIMATE, ROOM_MTU
from tests.support.packets import CLIENT, OTHER_CLIENT

from softlan.ctrl.framing import MAX_MESSAGE, MIN_MESSAGE, FrameDecoder, encode_frame
from softlan.ctrl.messages import BadMessage, RejectCode, decode, encode
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto import overlay
from softlan.proto.drop import DropReason
from softlan.proto.ip import TORN, UNDETERMINED, Found, Walked, link, walk

_CLIENTS = {CLIENT: None, OTHER_CLIENT: None}

_RULES = {
    DropReason.INVALID_SOURCE: "invalid_source",
    DropReason.JUMBO: "jumbo",
    DropReason.SWITCH_CONTROL: "switch_control",
    DropReason.DHCP_SERVER: "dhcp_server",
    DropReason.DHCPV6_SERVER: "dhcpv6_server",
    DropReason.IPV6_RA: "ipv6_ra",
    DropReason.AMBIGUOUS: "ambiguous",
    DropReason.ARP_SPOOF: "arp_spoof",
    DropReason.ND_SPOOF: "nd_spoof",
    DropReason.ND_REDIRECT: "nd_redirect",
    DropReason.ICMP_REDIRECT: "icmp_redirect",
}
_FOR_BOTH = {
    None,
    DropReason.RUNT,
    DropReason.INVALID_SOURCE,
    DropReason.JUMBO,
    DropReason.SWITCH_CONTROL,
    DropReason.ETHERTYPE,
}
_DEFAULT = PolicyEngine(Policy())


def walker(data: bytes) -> None:
    """The header walker: bounds, the place of the frame does not matter, no cut makes it surer."""
    walked = walk(data)
    found, first, second, third = walked
    if found in (Found.ICMPV6, Found.ICMPV6_PART):
        assert data[second] == first
        assert second + 4 <= third <= len(data)
    elif found in (Found.UDP4, Found.UDP6):
        assert 0 <= first <= 0xFFFF
        assert 0 <= second <= 0xFFFF
    moved = walk(b"\xff" * 5 + data, 5)
    assert moved == _moved(walked, 5), (moved, walked)
    kind, start, end, tags = link(data)
    assert kind == TORN or 14 <= start <= len(data)
    assert end <= len(data)
    assert 4 * tags <= len(data)
    cut = walk(data[:-1])
    assert cut in (walked, UNDETERMINED) or walked == UNDETERMINED


def _moved(walked: Walked, by: int) -> Walked:
    found, first, second, third = walked
    if found in (Found.ICMPV6, Found.ICMPV6_PART):
        return found, first, second + by, third + by
    return walked


def policy(data: bytes) -> None:
    """The policy: no receiver finds harm in what passes, a reason has its rule, fewer rules stop no more.

    Two bytes switch rules off, the rest is the frame; the highest bit makes it the client's own.
    """
    if len(data) < 2:
        return
    off, frame = int.from_bytes(data[:2], "big"), data[2:]
    if off & 0x8000 and len(frame) >= 12:
        frame = frame[:6] + CLIENT + frame[12:]

    verdict = _DEFAULT.verdict(frame, 0, CLIENT, _CLIENTS, ROOM_MTU)
    if verdict is None:
        assert harm(frame) is None, harm(frame)
    assert _DEFAULT.verdict(b"\x10\0\0\1" + frame, 4, CLIENT, _CLIENTS, ROOM_MTU) is verdict
    if frame[6:12] == CLIENT:
        to_lan = DropReason.UNKNOWN_UNICAST if verdict is None and frame[:6] in _CLIENTS else verdict
        assert _DEFAULT.onto_lan(frame, 0, _CLIENTS, ROOM_MTU) is to_lan
    assert _DEFAULT.verdict(frame, 0, None, _CLIENTS, ROOM_MTU) in _FOR_BOTH

    off_rules = {rule: False for bit, rule in enumerate(_RULES.values()) if off >> bit & 1}
    laxer = PolicyEngine(dataclasses.replace(Policy(), **off_rules))  # type: ignore[arg-type]
    lax = laxer.verdict(frame, 0, CLIENT, _CLIENTS, ROOM_MTU)
    assert lax is None or verdict is not None
    assert lax is None or _RULES.get(lax) not in off_rules
    strict = PolicyEngine(Policy(ra_from_lan=False)).verdict(frame, 0, None, _CLIENTS, ROOM_MTU)
    assert strict in _FOR_BOTH | {DropReason.IPV6_RA}


def datagrams(data: bytes) -> None:
    """The overlay header: what parses is what would be built."""
    parsed = overlay.parse(data)
    if parsed is None:
        return
    kind, peer = parsed
    assert 0 <= peer <= 0xFFFF
    assert data[:4] == overlay.header(kind, peer)
    assert overlay.encode(kind, peer, data[4:]) == data
    if kind is overlay.Kind.PROBE:
        probe = overlay.encode_probe(peer, overlay.probe_nonce(data), len(data))
        assert probe[:12] == data[:12]
        assert len(probe) == len(data)


def framing(data: bytes) -> None:
    """The control stream: cutting it elsewhere changes nothing, a bad length is for good.

    The first byte says how long the pieces are, 0 for one; the rest is the stream.
    """
    if not data:
        return
    size, stream = data[0] or len(data), data[1:]
    whole, failed = _fed([stream])
    pieces, pieces_failed = _fed([stream[at : at + size] for at in range(0, len(stream), size)])
    assert pieces_failed == failed
    assert pieces[: len(whole)] == whole
    assert failed or pieces == whole
    assert all(MIN_MESSAGE <= len(message) <= MAX_MESSAGE for message in pieces)
    assert stream.startswith(b"".join(map(encode_frame, pieces)))


def _fed(pieces: list[bytes]) -> tuple[list[bytes], bool]:
    decoder = FrameDecoder()
    messages: list[bytes] = []
    for number, data in enumerate(pieces):
        try:
            messages += decoder.feed(data)
        except BadMessage:
            for later in pieces[number:]:
                try:
                    decoder.feed(later)
                except BadMessage:
                    continue
                raise AssertionError("a decoder that has failed took more") from None
            return messages, True
    return messages, False


def messages(data: bytes) -> None:
    """Control messages: a value that survives the way back, or one line with a code of the protocol."""
    try:
        message = decode(data)
    except BadMessage as error:
        _check_refusal(error)
        return
    if message is None:
        assert isinstance(json.loads(data)["type"], str)
        return
    written = encode(message)
    assert decode(written) == message
    assert encode_frame(written)[4:] == written or len(written) > MAX_MESSAGE


def _check_refusal(error: BadMessage) -> None:
    RejectCode(error.code)
    assert str(error).isprintable()
    assert 0 < len(str(error)) <= 200


Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {
    "walker": walker,
    "policy": policy,
    "datagrams": datagrams,
    "framing": framing,
    "messages": messages,
    "invitation": joining.invitation,
    "hello": joining.hello,
    "sealed": joining.sealed,
    "config": joining.config,
}

_MESSAGES = (
    b'{"type":"hello","version":1,"role":"client","room":"den","mac":"02:00:00:00:00:01","datagram_budget":1440}',
    b'{"type":"hello","version":1,"role":"gateway","room":"den","mac":null,"datagram_budget":1440,"features":["a"],'
    b'"software":"softlan","room_token":"t","resume":"r"}',
    b'{"type":"hello","version":2}',
    b'{"type":"welcome","version":1,"mode":"ethernet","peer_id":1,"room":"den","room_mtu":1418,"effective_mtu":1418,'
    b'"datagram_budget":1440,"gateway_present":true,"resume":"r","stats_interval":10,"features":[]}',
    b'{"type":"reject","code":"redirect","message":"elsewhere","redirect":"relay.example:443","retry_after":1.5}',
    b'{"type":"peer_joined","peer_id":2,"role":"client","mac":"02:00:00:00:00:02"}',
    b'{"type":"peer_left","peer_id":2,"reason":"timeout"}',
    b'{"type":"stats","counters":{"frames_in":1},"rtt_ms":12.5}',
    b'{"type":"disconnect","reason":"bye","message":"good bye"}',
    b'{"type":"of_tomorrow","x":[1,{"y":null}]}',
)


def seeds(name: str) -> list[bytes]:
    """Where the fuzzer of a target starts from."""
    frames = [*(case.frame for case in EVASIONS), *(case.frame for case in LEGITIMATE)]
    if name == "walker":
        return frames
    if name == "policy":
        return [b"\x80\x00" + frame for frame in frames]
    if name == "datagrams":
        return [
            *(overlay.encode(overlay.Kind.ETHERNET, 7, frame) for frame in frames[:4]),
            overlay.encode(overlay.Kind.SEALED, 7, bytes(38)),
            overlay.encode_probe(0, 2**64 - 1, 64),
        ]
    if name == "framing":
        return [b"\x03" + encode_frame(_MESSAGES[0]) + encode_frame(_MESSAGES[5]), b"\x01\0\0\0\1x"]
    if name in joining.SEEDS:
        return joining.SEEDS[name]
    return list(_MESSAGES)


def mutations(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """Yield neighbours of a seed: cut, grown, with bytes changed, moved and doubled."""
    yield data[: chance.randrange(len(data) + 1)]
    yield data + chance.randbytes(chance.randrange(9))
    for _ in range(6):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            if changed:
                at = chance.randrange(len(changed))
                changed[at] = chance.choice((0, 1, 0xFF, changed[at] ^ 1 << chance.randrange(8), chance.randrange(256)))
        yield bytes(changed)
    start, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    yield data[:start] + data[end:]
    yield data[:end] + data[start:]


def run_short(name: str, rounds: int, seed: int) -> int:
    """Run a target on its seeds and on mutations of them, the same ones for the same `seed`; how many inputs."""
    chance = random.Random(seed)
    target, count = TARGETS[name], 0
    pool = seeds(name)
    for data in pool:
        target(data)
    for _ in range(rounds):
        for data in pool:
            for mutated in mutations(data, chance):
                target(mutated)
                count += 1
    return count
