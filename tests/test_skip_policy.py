import pytest
from tests.support.tools import require_tool, unavailable


def test_what_is_missing_skips_a_test_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="the command no-such-tool is missing"):
        require_tool("no-such-tool")


def test_under_ci_nothing_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no tun device"):
        unavailable("no tun device")


def test_what_is_there_is_found() -> None:
    assert require_tool("sh").endswith("/sh")
