import pytest

from softlan.device.netdev import name_fault


@pytest.mark.parametrize("name", ["softlan0", "a", "eth0.7", "fifteen-letters", "wlp0s20f3"])
def test_names_that_an_interface_may_have(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    "name", ["", "sixteen-letters-", "\u00e9" * 8, ".", "..", "a/b", "a b", "a%d", "a:1", "a\x1b[31m", "a\0"]
)
def test_names_that_none_has(name: str) -> None:
    assert name_fault(name) is not None
