"""A few of each fault, so that none of the promises breaks unseen; `python -m tests.faults` does all of them."""

from pathlib import Path

import pytest
from tests.faults import clocks, disks, lines, moves

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("swept")]

SEED = 1


def test_a_nat_that_gives_another_port_or_address_is_followed(tmp_path: Path) -> None:
    assert [line for result in moves.nat_rebound(tmp_path, times=1) for line in result.broken] == []


def test_a_player_whose_router_was_replaced_finds_the_new_one(tmp_path: Path) -> None:
    assert moves.moved(tmp_path, "new-router", times=0).broken == []


def test_nobody_goes_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    assert clocks.clock_set(tmp_path, [clocks.NAMES], (clocks.HOUR, -clocks.HOUR)).broken == []


def test_a_full_disk_is_one_line_or_no_matter_and_never_in_the_way_of_the_next_start(tmp_path: Path) -> None:
    assert disks.full_at_start(tmp_path, ["no page"], ["client"]).broken == []


def test_on_a_bad_line_nobody_who_came_or_went_is_missed(tmp_path: Path) -> None:
    assert lines.bad_line(tmp_path, SEED, comings=3).broken == []
