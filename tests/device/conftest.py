from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.device.cards import Far
from tests.device.namespaces import Namespace, namespaces, wire


@pytest.fixture
def boxes() -> Iterator[tuple[Namespace, Namespace]]:
    """A gateway's box with `lan0`, and a LAN with `far0` at the other end, silent both."""
    with namespaces(2) as (box, lan):
        for namespace in (box, lan):
            with namespace.entered():
                Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1")
        wire(box, "lan0", lan, "far0")
        yield box, lan


@pytest.fixture
def box(boxes: tuple[Namespace, Namespace]) -> Namespace:
    return boxes[0]


@pytest.fixture
def far(boxes: tuple[Namespace, Namespace]) -> Iterator[Far]:
    with boxes[1].entered():
        far = Far("far0")
    with closing(far):
        yield far
