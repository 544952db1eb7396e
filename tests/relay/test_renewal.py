"""When a certificate is got, and what happens when that fails. The ACME server is one of these tests' own."""

import asyncio
import contextlib
import datetime
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.support.live_relay import eventually

from softlan.errors import HostError, UsageError
from softlan.net.address import HostPort
from softlan.obs.logging import get_logger
from softlan.quic.trust import Credentials, development_credentials
from softlan.relay import renewal
from softlan.relay.renewal import AcmeConfig, Renewal, renewal_due, require_library

NOW = datetime.datetime.now(datetime.UTC)
NAME = "relay.example"


class Authority:
    """Signs what it is asked for, after some refusals."""

    def __init__(self, directory: Path, *refusals: BaseException) -> None:
        self.config = AcmeConfig(NAME, directory / "state", listen=HostPort("127.0.0.1", 0))
        self.asked = 0
        self.threads: set[threading.Thread] = set()
        self._refusals = list(refusals)
        self._directory = directory

    def obtain(self, config: AcmeConfig, answers: dict[str, bytes]) -> Credentials:
        assert config is self.config
        assert answers == {}
        self.asked += 1
        self.threads.add(threading.current_thread())
        if self._refusals:
            raise self._refusals.pop(0)
        return self.certificate()

    def certificate(self, **ago: int) -> Credentials:
        """A certificate for 825 days that was made so long ago."""
        made = NOW - datetime.timedelta(**ago)
        return development_credentials(self._directory / f"{self.asked}-{ago}", NAME, made)

    def renewal(self) -> Renewal:
        return Renewal(self.config, get_logger("relay"), self.obtain)


def test_it_is_due_when_a_third_of_its_life_is_left(tmp_path: Path) -> None:
    made = development_credentials(tmp_path, NAME, NOW)
    begin, end = made.leaf.not_valid_before_utc, made.leaf.not_valid_after_utc
    third = (end - begin) / 3
    assert not renewal_due(made, begin)
    assert not renewal_due(made, end - third - datetime.timedelta(seconds=1))
    assert renewal_due(made, end - third)
    assert renewal_due(made, end + third)


async def test_the_first_one_comes_from_a_thread_of_its_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with capture_logs() as logs:
        made = await asyncio.wait_for(authority.renewal().first(), 10)
    assert made == authority.certificate()
    assert threading.main_thread() not in authority.threads
    assert [line["event"] for line in logs] == ["acme.first", "acme.obtained"]


def noted_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how many seconds it pauses, each time that it does."""
    waits: list[float] = []
    pause = Renewal._pause

    async def note(self: Renewal, seconds: float) -> None:
        waits.append(seconds)
        await pause(self, seconds)

    monkeypatch.setattr(Renewal, "_pause", note)
    return waits


async def test_it_tries_again_later_each_time_twice_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "FIRST_RETRY", 0.02)
    monkeypatch.setattr(renewal, "LAST_RETRY", 0.05)

    class Panic(BaseException):
        """What a library in another language raises."""

    refusals = [HostError("get certificate", "it says no"), KeyError("newOrder"), Panic("no JSON")]
    authority = Authority(tmp_path, *refusals)
    waits = noted_pauses(monkeypatch)
    with capture_logs() as logs:
        await asyncio.wait_for(authority.renewal().first(), 10)
    assert authority.asked == 4
    assert waits == [pytest.approx(expected, rel=0.11) for expected in (0.02, 0.04, 0.05)]
    failed = [line for line in logs if line["event"] == "acme.failed"]
    assert [line["why"] for line in failed] == ["it says no", "KeyError('newOrder')", "Panic('no JSON')"]
    assert {line["log_level"] for line in failed} == {"warning"}


async def test_who_hurries_does_not_wait(tmp_path: Path) -> None:
    authority = Authority(tmp_path, HostError("get certificate", "no"))
    trying = authority.renewal()
    task = asyncio.create_task(trying.first())
    with capture_logs() as logs:
        await eventually(lambda: any(line["event"] == "acme.failed" for line in logs), "the first attempt")
        trying.hurry()
        await asyncio.wait_for(task, 10)
    assert authority.asked == 2


async def test_at_the_first_start_a_fault_of_this_machine_ends_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path, HostError("keep certificate", "cannot write to the directory"))
    with pytest.raises(HostError, match="cannot write"):
        await asyncio.wait_for(authority.renewal().first(), 10)
    taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        config = AcmeConfig(NAME, tmp_path, listen=HostPort("127.0.0.1", port))
        with pytest.raises(HostError, match="cannot listen on TCP port"):
            await asyncio.wait_for(Renewal(config, get_logger("relay"), authority.obtain).first(), 10)
    assert authority.asked == 1


async def test_what_is_due_is_renewed_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "FIRST_RETRY", 0.01)
    # A fault that would have ended the first start: later, there is a party to go on with.
    authority = Authority(tmp_path, HostError("keep certificate", "disk full"))
    shown: list[Credentials] = []
    task = asyncio.create_task(authority.renewal().keep(authority.certificate(days=700), shown.append))
    await eventually(lambda: shown or task.done(), "a new one is shown")
    assert shown == [authority.certificate()]
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert authority.asked == 2


async def test_one_that_is_due_at_once_is_left_alone_for_hours_unless_somebody_hurries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's clock is years ahead: what the CA signs today has nearly ended by it, and so has the next one."""
    monkeypatch.setattr(renewal, "_today", lambda: NOW + datetime.timedelta(days=700))
    waits = noted_pauses(monkeypatch)
    authority = Authority(tmp_path)
    trying = authority.renewal()
    shown: list[Credentials] = []
    task = asyncio.create_task(trying.keep(authority.certificate(), shown.append))
    await eventually(lambda: waits or task.done(), "it waits")
    assert authority.asked == len(shown) == 1
    trying.hurry()
    await eventually(lambda: len(waits) == 2 or task.done(), "it waits again")
    assert authority.asked == len(shown) == 2
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert set(waits) == {renewal.LAST_RETRY}


async def test_one_that_cannot_be_shown_is_got_anew_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "LAST_RETRY", 0.01)
    authority = Authority(tmp_path)
    shown: list[Credentials] = []

    def show(credentials: Credentials) -> None:
        if authority.asked == 1:
            raise UsageError("endpoints do not offer that")
        shown.append(credentials)

    with capture_logs() as logs:
        task = asyncio.create_task(authority.renewal().keep(authority.certificate(days=700), show))
        await eventually(lambda: shown or task.done(), "the second one is shown")
    assert shown == [authority.certificate()]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    [refused] = [line for line in logs if line["event"] == "acme.refused"]
    assert (refused["log_level"], refused["why"]) == ("warning", "endpoints do not offer that")


async def test_what_is_not_due_is_let_be_until_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "CALENDAR", 0.005)
    today = [NOW]
    looks = 0

    def look() -> datetime.datetime:
        nonlocal looks
        looks += 1
        return today[0]

    monkeypatch.setattr(renewal, "_today", look)
    authority = Authority(tmp_path)
    shown: list[Credentials] = []
    task = asyncio.create_task(authority.renewal().keep(authority.certificate(days=1), shown.append))
    await eventually(lambda: looks >= 5 or task.done(), "some looks at the calendar")
    assert authority.asked == 0
    today[0] += datetime.timedelta(days=560)  # the clock was wrong
    await eventually(lambda: shown or task.done(), "a new one is shown")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("ends", [True, False], ids=["at work", "waiting"])
async def test_who_stops_it_lets_what_is_at_work_come_to_rest_but_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """A thread inside OpenSSL while the process exits is a crash."""
    monkeypatch.setattr(renewal, "LINGER", 10.0 if ends else 0.01)
    begun, released, over = threading.Event(), threading.Event(), threading.Event()

    def obtain(config: AcmeConfig, answers: dict[str, bytes]) -> Credentials:
        begun.set()
        released.wait(20)
        over.set()
        raise HostError("get certificate", "stopped")

    task = asyncio.create_task(Renewal(Authority(tmp_path).config, get_logger("relay"), obtain).first())
    await eventually(begun.is_set, "it is at work")
    if ends:
        threading.Timer(0.05, released.set).start()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert over.is_set() is ends
    released.set()
    await eventually(over.is_set, "the thread is gone")


def test_what_is_kept_must_fit_and_be_valid(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    trying = authority.renewal()
    path = authority.config.bundle_path
    path.parent.mkdir(parents=True)
    assert trying.kept() is None
    for content in (b"", b"garbage", authority.certificate(days=900).key + authority.certificate(days=900).chain):
        path.write_bytes(content)
        assert trying.kept() is None
    good = authority.certificate()
    path.write_bytes(good.key + good.chain)
    assert trying.kept() == good


def test_a_trial_server_has_a_place_of_its_own(tmp_path: Path) -> None:
    real = AcmeConfig(NAME, tmp_path)
    trial = AcmeConfig(NAME, tmp_path, directory="https://acme-staging-v02.api.letsencrypt.org/directory")
    assert real.bundle_path == tmp_path / "acme/acme-v02.api.letsencrypt.org-directory/relay.example.pem"
    assert trial.bundle_path.parent != real.bundle_path.parent
    odd = AcmeConfig(NAME, tmp_path, directory="https://[::1]:1/../../etc?x=" + "y" * 300)
    assert odd.directory_path.parent == tmp_path / "acme"
    assert len(odd.directory_path.name) <= 100


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_library()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'softlan\[acme\]'$"):
        require_library()
