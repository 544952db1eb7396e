"""Flows are a short way to the same place: a switch that has learned some decides as one that never learns any.

The oracle is the switch itself, whose members forget everything before each frame.
"""

import copy
import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.support import packets
from tests.support.corpus import EVASIONS, LEGITIMATE, ROOM_MTU, Evasion, Legitimate
from tests.support.flows import edges, ip_packets, rests
from tests.support.oracle import many
from tests.support.packets import ICMP, TCP, UDP, ether, ipv4, kind, tcp, udp
from tests.support.relay_fakes import QUIET, FakePort, mac, member, sealed

from softlan.obs.frame_log import FrameLog, FrameLogMode
from softlan.policy import rates as rates_module
from softlan.policy.engine import PolicyEngine
from softlan.policy.rules import Policy
from softlan.proto.budget import SEAL_OVERHEAD
from softlan.proto.drop import DropReason
from softlan.proto.overlay import Kind, encode
from softlan.relay import room as room_module
from softlan.relay.room import Member, Room
from softlan.relay.switch import SealedSwitch, Switch

GATEWAY_ID = 9
BROADCAST, MULTICAST = packets.BROADCAST, packets.group("224.0.0.251")
LAN_HOSTS = [bytes.fromhex(f"001b2100000{n}") for n in range(1, 5)]
IPV4 = kind(packets.IPV4)


class Den:
    """A room with its switch. One that `forgets` never has a flow when a frame comes."""

    def __init__(
        self, mtu: int, policy: Policy, *, forgets: bool, lan_macs: int = 4096, is_sealed: bool = False
    ) -> None:
        self.room = Room("den", mtu, None, sealed=is_sealed)
        self.room.lan_macs = rates_module.LanMacs(lan_macs)
        self.records: list[dict[str, Any]] = []
        self.gone: list[Member] = []
        """Members that have left; their counters count, too."""
        self.flows_used = False
        self._policy = policy
        self._forgets = forgets
        make = SealedSwitch if is_sealed else Switch
        self._switch = make(self.room, PolicyEngine(policy), FrameLog(FrameLogMode.DROPS, self.records.append))

    def join(self, peer_id: int, address: bytes | None, budget: int, capacity: int) -> None:
        port = FakePort(capacity)
        self.room.add(member(peer_id, address, budget=budget, port=port, policy=self._policy, sealed=self.room.sealed))

    def leave(self, peer_id: int) -> None:
        leaver = self.room.members[peer_id]
        self.room.remove(leaver)
        self.gone.append(leaver)

    def send(self, peer_id: int, datagrams: list[bytes], now: float) -> None:
        ingress = self.room.members[peer_id]
        self.flows_used = self.flows_used or bool(ingress.flows)
        if not self._forgets:
            self._switch.forward(ingress, datagrams, now)
            return
        for datagram in datagrams:
            for each in self.room.members.values():
                each.flows.clear()
            self._switch.forward(ingress, [datagram], now)

    def outcome(self) -> dict[str, Any]:
        """Everything that can be seen from outside."""
        everyone = [*self.room.members.values(), *self.gone]
        return {
            "delivered": [(each.peer_id, port(each).datagrams) for each in everyone],
            "counters": [(each.peer_id, each.counters.snapshot(), each.malformed) for each in everyone],
            "seen": [(each.peer_id, each.last_seen) for each in everyone],
            "cut": [(each.peer_id, copy.copy(each.rates).report(1e9)) for each in everyone if each.rates],
            "room": (self.room.forwarded, self.room.copies, self.room.counters.drops),
            "lan": list(self.room.lan_macs._macs),
            "records": self.records,
        }


def port(of: Member) -> FakePort:
    assert isinstance(of.port, FakePort)
    return of.port


# What may happen in a room


@dataclass(frozen=True)
class Joins:
    who: int
    budget: int
    capacity: int


@dataclass(frozen=True)
class Leaves:
    who: int


@dataclass(frozen=True)
class Sends:
    """A burst of one member's; frames are made its own, but for those that are not to be."""

    who: int
    frames: list["Made"]
    later: float


@dataclass(frozen=True)
class Made:
    destination: bytes
    source: bytes | None
    """None for the sender's own."""
    rest: bytes
    flaw: bytes = b""
    """What stands in place of the first bytes of the overlay header."""
    cut: int | None = None
    """How many bytes of the datagram are left."""

    def datagram(self, peer_id: int, own: bytes, *, is_sealed: bool = False) -> bytes:
        whole = encode(Kind.ETHERNET, peer_id, self.destination + (self.source or own) + self.rest)
        flaw, cut = self.flaw, self.cut
        if is_sealed:
            whole = sealed(whole)
            flaw = {b"\x11": b"\x10"}.get(flaw, flaw)  # the kind that does not belong here
            cut = cut + SEAL_OVERHEAD if cut and cut > 17 else cut
        return (flaw + whole[len(flaw) :])[:cut]


CLIENTS = (1, 2, 3, 4)
addresses = st.sampled_from(
    [*map(mac, CLIENTS), *map(mac, CLIENTS), *LAN_HOSTS, *LAN_HOSTS, mac(77), BROADCAST, MULTICAST]
)


@st.composite
def mades(draw: st.DrawFn) -> Made:
    return Made(
        draw(addresses),
        # Mostly its own; then anyone's, for a gateway that is one of several.
        draw(st.sampled_from([None] * 9 + [*LAN_HOSTS, mac(1), mac(2), bytes(6), BROADCAST, MULTICAST])),
        draw(rests()),
        draw(st.sampled_from([b""] * 24 + [b"\x20", b"\x11", b"\x12", b"\x10\x01", b"\x10\x00\x00\x63"])),
        draw(st.sampled_from([None] * 12 + [0, 3, 4, 17, 18, 19, 38, 41, 42, 43, 45, 46, 47])),
    )


@st.composite
def bursts(draw: st.DrawFn) -> Sends:
    """Frames of all kinds, many of them twice and more, since flows are about what comes again."""
    some = draw(st.lists(mades(), min_size=1, max_size=5))
    again = [
        replace(made, rest=IPV4 + draw(ip_packets())) if draw(st.booleans()) else made
        for made in draw(st.lists(st.sampled_from(some), max_size=10))
    ]
    return Sends(
        draw(st.sampled_from([*CLIENTS, GATEWAY_ID])), some + again, draw(st.sampled_from([0.0, 0.0, 0.001, 0.1, 10.0]))
    )


budgets = st.sampled_from([1440, 1440, 1440, 318, 300, 100, 64])
joins = st.builds(Joins, st.sampled_from([*CLIENTS, GATEWAY_ID]), budgets, st.sampled_from([65535, 65535, 250, 80]))
leaves = st.builds(Leaves, st.sampled_from([*CLIENTS, GATEWAY_ID]))
events = st.one_of(bursts(), bursts(), bursts(), bursts(), joins, leaves)
SLOW = Policy(
    total_rate=1000.0,
    total_burst=65536,
    unknown_unicast_rate=5.0,
    unknown_unicast_burst=1,
    broadcast_rate=5.0,
    broadcast_burst=3,
)
policies = st.sampled_from(
    [
        Policy(),
        SLOW,
        replace(SLOW, total_burst=500),  # below what the file lets one say, so that it cuts in a short test
        Policy(jumbo=False, total_rate=0.0),
        Policy(invalid_source=False, ambiguous=False, dhcp_server=False),
        Policy(ethertypes=frozenset((0x0806, 0x86DD))),
        Policy(refused_ethertypes=frozenset((0x0800,))),
    ]
)


@dataclass
class Story:
    """Two rooms in which the same happens, one of them without a memory."""

    mtu: int
    policy: Policy
    lan_macs: int = 4096
    is_sealed: bool = False
    now: float = 0.0
    dens: list[Den] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dens = [
            Den(self.mtu, self.policy, forgets=forgets, lan_macs=self.lan_macs, is_sealed=self.is_sealed)
            for forgets in (False, True)
        ]

    def happens(self, what: Joins | Leaves | Sends) -> None:
        for den in self.dens:
            present = what.who in den.room.members
            if isinstance(what, Joins):
                if not present:
                    den.join(what.who, None if what.who == GATEWAY_ID else mac(what.who), what.budget, what.capacity)
            elif not present:
                continue
            elif isinstance(what, Leaves):
                den.leave(what.who)
            else:
                own = mac(what.who) if what.who != GATEWAY_ID else LAN_HOSTS[len(what.frames) % len(LAN_HOSTS)]
                frames = [made.datagram(what.who, own, is_sealed=self.is_sealed) for made in what.frames]
                den.send(what.who, frames, self.now + what.later)
        if isinstance(what, Sends):
            self.now += what.later
        learned, forgetful = self.dens
        assert learned.outcome() == forgetful.outcome()


@settings(parent=many, max_examples=many.max_examples // 4)
@given(
    st.sampled_from([300, 300, 1418]),
    policies,
    st.sampled_from([4096, 2, 1]),
    st.sampled_from([False, False, True]),
    st.lists(budgets, min_size=2, max_size=4),
    budgets,
    st.lists(events, min_size=1, max_size=8),
)
def test_what_was_learned_changes_nothing(
    mtu: int,
    policy: Policy,
    lan_macs: int,
    is_sealed: bool,
    client_budgets: list[int],
    gateway_budget: int,
    story: list[Any],
) -> None:
    both = Story(mtu, policy, lan_macs, is_sealed)
    for number, budget in enumerate(client_budgets, 1):
        both.happens(Joins(number, budget, 65535))
    both.happens(Joins(GATEWAY_ID, gateway_budget, 65535))
    both.happens(Sends(GATEWAY_ID, [Made(mac(1), host, IPV4 + ipv4(tcp(1, 2), TCP)) for host in LAN_HOSTS[:2]], 0.0))
    for what in story:
        both.happens(what)
    event(("sealed, " if is_sealed else "plain, ") + ("a flow was there" if both.dens[0].flows_used else "no flow"))


@settings(parent=many, max_examples=many.max_examples // 2)
@given(st.sampled_from([CLIENTS[0], GATEWAY_ID]), st.lists(ip_packets(), min_size=1, max_size=12), policies)
def test_one_flow_and_packets_of_all_kinds(who: int, carried: list[bytes], policy: Policy) -> None:
    """The densest case: all between the same two, behind an innocent packet."""
    both = Story(300, policy)
    for number in (1, 2, GATEWAY_ID):
        both.happens(Joins(number, 1440, 65535))
    innocent = ipv4(tcp(1, 2), TCP)
    both.happens(Sends(who, [Made(mac(2), None, IPV4 + packet) for packet in [innocent, *carried]], 0.0))
    both.happens(Sends(who, [Made(mac(2), None, IPV4 + packet) for packet in carried], 0.0))


def test_every_edge_of_a_header_is_seen_on_the_short_way_too() -> None:
    """Packet by packet between the same two, so that a flow is always there."""
    fates: list[dict[str, Any]] = []
    for forgets in (False, True):
        den = Den(300, Policy(total_rate=0.0), forgets=forgets)
        for number in (1, 2):
            den.join(number, mac(number), 1440, 65535)
        sender, receiver = den.room.members[1], port(den.room.members[2])
        den.send(1, [Made(mac(2), None, IPV4 + ipv4(tcp(1, 2), TCP)).datagram(1, mac(1))], 0.0)
        seen: dict[str, Any] = {}
        for name, packet in edges():
            sender.counters.drops.clear()
            receiver.datagrams.clear()
            den.send(1, [encode(Kind.ETHERNET, 1, mac(2) + mac(1) + IPV4 + packet)], 0.0)
            seen[name] = (len(receiver.datagrams), dict(sender.counters.drops))
        fates.append(seen)
    learned, forgetful = fates
    assert [(name, learned[name], forgetful[name]) for name in learned if learned[name] != forgetful[name]] == []
    assert {fate[0] for fate in learned.values()} == {0, 1}
    reasons = {reason for _, drops in learned.values() for reason in drops}
    assert reasons == {
        DropReason.AMBIGUOUS,
        DropReason.DHCP_SERVER,
        DropReason.DHCPV6_SERVER,
        DropReason.ICMP_REDIRECT,
    }


@pytest.mark.parametrize(
    ("seed", "is_sealed"), [*((seed, False) for seed in range(24)), *((seed, True) for seed in range(24, 28))]
)
def test_a_long_evening_leaves_no_difference(seed: int, is_sealed: bool) -> None:
    """A full room in which much is said again and again, and in which people come and go."""
    chance = random.Random(seed)
    odd = [packet for _, packet in edges()][seed::997]
    plain = [
        ipv4(body, number)
        for size in (1, 18, 200, 238, 239, 240, 241, 252, 253, 260)
        for number, body in ((TCP, tcp(1, 2, bytes(size))), (UDP, udp(1, 2, bytes(size))), (ICMP, bytes(8 + size)))
    ]
    everyone = [*map(mac, CLIENTS), *LAN_HOSTS]
    policy = chance.choice([Policy(), SLOW, replace(SLOW, total_burst=3000, total_rate=3000.0)])
    both = Story(300, policy, lan_macs=chance.choice([1, 2, 3, 4096]), is_sealed=is_sealed)
    for who in (*CLIENTS, GATEWAY_ID):
        both.happens(Joins(who, chance.choice([1440, 1440, 250]), chance.choice([65535, 65535, 250])))
    learned = 0
    for _ in range(60):
        who = chance.choice([*CLIENTS, GATEWAY_ID, GATEWAY_ID])
        what = chance.random()
        if what < 0.06:
            both.happens(Leaves(who))
        elif what < 0.18:
            both.happens(Joins(who, chance.choice([1440, 300, 100]), 65535))
        else:
            some = [*chance.sample(everyone, 3), BROADCAST]
            hosts = chance.sample(LAN_HOSTS, 2) if who == GATEWAY_ID else [None]
            frames = [
                Made(
                    chance.choices(some, (8, 8, 4, 1))[0],
                    chance.choice(hosts),
                    IPV4 + chance.choice(plain if chance.random() < 0.7 else odd),
                    flaw=chance.choice([b""] * 30 + [b"\x11"]),
                    cut=chance.choice([None] * 15 + [41, 42, 46]),
                )
                for _ in range(chance.choice([1, 8, 30]))
            ]
            both.happens(Sends(who, frames, chance.choice([0.0, 0.0, 0.1, 1.0])))
        learned += sum(len(each.flows) for each in both.dens[0].room.members.values())
    assert learned > 10


# What a client may not send, behind what it may


def innocent(to: bytes, source: bytes = packets.CLIENT) -> bytes:
    """What a flow is learned from."""
    return ether(IPV4, ipv4(tcp(50000, 445, bytes(20)), TCP), dst=to, src=source)


class Home:
    """A room with the corpus's client, another one and a LAN that has been heard."""

    def __init__(self) -> None:
        # Room enough that the rules decide, and not the budget.
        self.client = member(1, packets.CLIENT, budget=65535)
        self.other = member(2, packets.OTHER_CLIENT)
        self.gateway = member(GATEWAY_ID, None)
        self.room = Room("den", ROOM_MTU, None)
        for each in (self.client, self.other, self.gateway):
            self.room.add(each)
        self.switch = Switch(self.room, PolicyEngine(Policy()), QUIET)
        for host in (packets.LAN_HOST, packets.ROUTER, *LAN_HOSTS):
            self.send(self.gateway, innocent(packets.CLIENT, host))
        self.arrived()

    def send(self, ingress: Member, *frames: bytes, now: float = 0.0) -> None:
        self.switch.forward(ingress, [encode(Kind.ETHERNET, ingress.peer_id, frame) for frame in frames], now)

    def arrived(self) -> list[bytes]:
        """The frames that came out anywhere since the last look."""
        found = []
        for each in self.room.members.values():
            found += [datagram[4:] for datagram in port(each).datagrams]
            port(each).datagrams.clear()
        return found

    def learn(self, *destinations: bytes) -> None:
        """Let the client have flows, and be sure of it."""
        for destination in destinations:
            frame = innocent(destination)
            before = len(self.client.flows)
            self.send(self.client, frame, frame)
            assert len(self.client.flows) == before + 1
            assert self.arrived() == [frame, frame]


def unicast(frame: bytes, to: bytes) -> bytes:
    return to + frame[6:]


def name_of(case: Evasion | Legitimate) -> str:
    return case.name


DESTINATIONS = (packets.LAN_HOST, packets.ROUTER, packets.OTHER_CLIENT)


@pytest.mark.parametrize("case", EVASIONS, ids=name_of)
def test_an_evasion_does_not_pass_behind_an_innocent_frame(case: Evasion) -> None:
    """As it is in the corpus, and sent to those with whom the client has flows."""
    home = Home()
    home.learn(*DESTINATIONS)
    dropped = 0
    for frame in (case.frame, *(unicast(case.frame, to) for to in DESTINATIONS)):
        before, after = innocent(DESTINATIONS[0]), innocent(DESTINATIONS[1])
        home.send(home.client, before, frame, after)
        arrived = home.arrived()
        if frame is case.frame or case.reason is not DropReason.SWITCH_CONTROL:
            assert sorted(arrived) == sorted([before, after])
            dropped += 1
            assert home.client.counters.drops.get(case.reason) == dropped


@pytest.mark.parametrize("case", LEGITIMATE, ids=name_of)
def test_what_a_client_must_be_able_to_send_passes_behind_an_innocent_frame_too(case: Legitimate) -> None:
    home = Home()
    home.learn(*DESTINATIONS)
    frames = [unicast(case.frame, to) for to in DESTINATIONS]
    home.send(home.client, *frames, *frames)
    assert sorted(home.arrived()) == sorted([*frames, *frames])
    assert home.client.counters.drops == {}


def test_no_evasion_is_a_flow_itself() -> None:
    """One that was stopped is stopped again, however often it comes."""
    home = Home()
    home.learn(*DESTINATIONS)
    for case in EVASIONS:
        home.send(home.client, *[case.frame] * 3)
    assert home.arrived() == []
    assert sum(home.client.counters.drops.values()) == 3 * len(EVASIONS)


# What is forgotten, and when


class Party:
    """A room with clients 1 and 2, a gateway, and flows among all of them."""

    def __init__(self, policy: Policy | None = None, *, lan_macs: int = 4096) -> None:
        self.policy = policy or Policy()
        self.one, self.two = (member(n, mac(n), policy=self.policy) for n in (1, 2))
        self.gateway = member(GATEWAY_ID, None)
        self.room = Room("den", 1418, None)
        self.room.lan_macs = rates_module.LanMacs(lan_macs)
        for each in (self.one, self.two, self.gateway):
            self.room.add(each)
        self.switch = Switch(self.room, PolicyEngine(self.policy), QUIET)
        self.send(self.gateway, mac(1), source=LAN_HOSTS[0])
        self.send(self.gateway, mac(1), source=LAN_HOSTS[0])
        self.send(self.one, LAN_HOSTS[0], mac(2), LAN_HOSTS[0], mac(2))
        assert len(self.one.flows) == 2
        self.everything()

    def send(self, ingress: Member, *destinations: bytes, source: bytes | None = None, now: float = 0.0) -> None:
        """A burst of TCP, a frame to each."""
        frames = [innocent(to, source or ingress.mac or LAN_HOSTS[0]) for to in destinations]
        self.switch.forward(ingress, [encode(Kind.ETHERNET, ingress.peer_id, frame) for frame in frames], now)

    def everything(self) -> dict[int, list[bytes]]:
        """The destinations of what came to each since the last look."""
        found = {}
        for each in (*self.room.members.values(), self.one, self.two, self.gateway):
            if port(each).datagrams:
                found[each.peer_id] = [datagram[4:10] for datagram in port(each).datagrams]
                port(each).datagrams = []
        return found


def test_a_second_frame_goes_the_short_way_to_the_same_place() -> None:
    party = Party()
    party.send(party.one, LAN_HOSTS[0], mac(2), mac(2), LAN_HOSTS[0])
    assert party.everything() == {GATEWAY_ID: [LAN_HOSTS[0]] * 2, 2: [mac(2)] * 2}
    assert (party.one.counters.frames_in, party.room.forwarded, party.room.copies) == (8, 10, 10)


@pytest.mark.parametrize("address", [mac(3), LAN_HOSTS[0]], ids=["new", "the LAN host's"])
def test_who_joins_gets_what_is_for_it(address: bytes) -> None:
    """Also one whose MAC has been on the LAN before: the player who moved his computer from there to the tunnel."""
    party = Party()
    party.send(party.gateway, mac(1), source=address)
    party.send(party.one, address)
    assert party.everything() == {1: [mac(1)], GATEWAY_ID: [address]}
    newcomer = member(3, address)
    party.room.add(newcomer)
    party.send(party.one, address, address)
    assert party.everything() == {3: [address, address]}
    party.send(party.gateway, mac(1), source=address)
    assert party.everything() == {}
    assert party.gateway.counters.drops == {DropReason.INVALID_SOURCE: 1}


def test_who_left_gets_nothing_and_what_is_for_it_goes_to_the_lan() -> None:
    party = Party()
    party.room.remove(party.two)
    party.send(party.one, mac(2))
    assert party.everything() == {GATEWAY_ID: [mac(2)]}
    assert party.two.counters.frames_out == 2


def test_who_came_back_with_the_same_mac_gets_it_and_its_old_self_nothing() -> None:
    party = Party()
    party.room.remove(party.two)
    again = member(3, mac(2))
    party.room.add(again)
    party.send(party.one, mac(2), mac(2))
    assert party.everything() == {3: [mac(2)] * 2}


def test_without_a_gateway_there_is_no_lan() -> None:
    party = Party()
    party.room.remove(party.gateway)
    party.send(party.one, LAN_HOSTS[0], mac(2))
    assert party.everything() == {2: [mac(2)]}
    assert party.one.counters.drops == {DropReason.NO_GATEWAY: 1}


def test_another_gateway_has_another_lan() -> None:
    """Nobody is known there yet."""
    party = Party(Policy(unknown_unicast_rate=1.0, unknown_unicast_burst=3))
    party.room.remove(party.gateway)
    party.room.add(member(GATEWAY_ID + 1, None))
    party.send(party.one, *[LAN_HOSTS[0]] * 10)
    assert party.everything() == {GATEWAY_ID + 1: [LAN_HOSTS[0]] * 3}


def test_a_host_of_the_lan_that_is_no_longer_known_is_unknown() -> None:
    """The table of the LAN's MACs is bounded: what was forgotten for another one is flooded there, at its rate."""
    party = Party(Policy(unknown_unicast_rate=1.0, unknown_unicast_burst=3), lan_macs=1)
    party.send(party.gateway, BROADCAST, source=LAN_HOSTS[0])
    party.send(party.one, *[LAN_HOSTS[0]] * 10)
    assert party.everything()[GATEWAY_ID] == [LAN_HOSTS[0]] * 10
    party.send(party.gateway, BROADCAST, source=LAN_HOSTS[1])
    assert LAN_HOSTS[0] not in party.room.lan_macs
    party.everything()
    party.send(party.one, *[LAN_HOSTS[0]] * 10)
    assert party.everything() == {GATEWAY_ID: [LAN_HOSTS[0]] * 3}


def test_a_host_that_was_forgotten_and_speaks_again_is_known_again() -> None:
    party = Party(Policy(unknown_unicast_rate=1.0, unknown_unicast_burst=3), lan_macs=1)
    for host in (LAN_HOSTS[0], LAN_HOSTS[1], LAN_HOSTS[0]):
        party.send(party.gateway, mac(1), source=host)
    assert LAN_HOSTS[0] in party.room.lan_macs
    party.everything()
    party.send(party.one, *[LAN_HOSTS[0]] * 10)
    assert party.everything() == {GATEWAY_ID: [LAN_HOSTS[0]] * 10}


def test_to_a_host_that_has_not_been_heard_there_is_no_flow() -> None:
    party = Party(Policy(unknown_unicast_rate=1.0, unknown_unicast_burst=3))
    before = len(party.one.flows)
    party.send(party.one, *[LAN_HOSTS[3]] * 10)
    assert len(party.one.flows) == before
    assert party.everything() == {GATEWAY_ID: [LAN_HOSTS[3]] * 3}


def test_members_have_flows_of_their_own() -> None:
    """That one may send somewhere says nothing of another, nor does its number for another's frame."""
    party = Party()
    frame = innocent(LAN_HOSTS[0], mac(1))
    as_one = encode(Kind.ETHERNET, 1, frame)
    as_two = encode(Kind.ETHERNET, 2, frame)
    party.switch.forward(party.two, [as_one, as_two], 0.0)
    assert party.everything() == {}
    assert party.two.counters.drops == {DropReason.MALFORMED: 1, DropReason.INVALID_SOURCE: 1}


@pytest.mark.parametrize("bound", [1, 3, 10])
def test_flows_are_bounded(monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    """A LAN of many hosts does not make the relay grow; what does not fit is just learned again."""
    party = Party()
    monkeypatch.setattr(room_module, "MAX_FLOWS", bound)
    hosts = [bytes((0, 0x1B, 0x22, 0, 0, n)) for n in range(25)]
    for _ in range(3):
        for host in hosts:
            party.send(party.gateway, mac(1), source=host)
            party.send(party.one, host, host)
            assert 1 <= len(party.one.flows) <= bound
            assert 1 <= len(party.gateway.flows) <= bound
    assert party.everything() == {1: [mac(1)] * 75, GATEWAY_ID: [host for host in hosts for _ in range(2)] * 3}


def test_flows_are_few_enough_for_the_memory_of_a_full_relay() -> None:
    assert room_module.MAX_FLOWS <= 4096


# The log


def test_a_log_of_all_frames_misses_none() -> None:
    party = Party()
    records: list[dict[str, Any]] = []
    party.switch = Switch(party.room, PolicyEngine(Policy()), FrameLog(FrameLogMode.ALL, records.append))
    party.send(party.one, *[mac(2)] * 5)
    assert [(record["action"], record["targets"]) for record in records] == [("forwarded", 1)] * 5


def test_a_log_of_drops_has_those_on_the_short_way_too() -> None:
    party = Party(replace(SLOW, total_burst=200))
    records: list[dict[str, Any]] = []
    party.switch = Switch(party.room, PolicyEngine(party.policy), FrameLog(FrameLogMode.DROPS, records.append))
    party.two.budget = 60
    before = len(party.one.flows)
    party.send(party.one, mac(2), *[LAN_HOSTS[0]] * 4, now=1000.0)
    assert len(party.one.flows) == before
    assert [(record["reason"], record["peer"], record.get("target")) for record in records] == [
        ("egress_budget", 1, 2),
        *[("rate_total", 1, None)] * 3,
    ]
