"""How often a board decides, from what was counted: arithmetic, by hand."""

from dataclasses import replace

import pytest

from mbx_deploy.codegen.target import Power, find_target, list_targets
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.pace import BUSY_SHARE, ListeningCost, choose_stride, least_stride, pace_of, render_pace

# 100 MHz and 2 cycles an instruction: 50 M instructions a second.
BOARD = replace(
    find_target("raspberry-pi-pico"),
    clock_hz=100_000_000,
    power=Power(2000, 5_000_000, 20_000, 10_000, 500),
)
COST = ListeningCost(run=10_000_000, frame=100_000)  # 10 M a second of frames


def test_the_share_of_the_time() -> None:
    """5 M of interrupts, 10 M of frames, a run of 10 M twice a second: 35 M of 50 M."""
    found = pace_of(BOARD, COST, 50, 100)
    assert found.decisions_per_s == 2 and found.busy_share == pytest.approx(0.7)
    assert found.idle_share == pytest.approx(0.3)
    assert found.current_ua == 0.7 * 20_000 + 0.3 * 10_000 + 500
    assert found.to_dict()["margin"] == 1.43


def test_the_least_stride_keeps_up_and_one_less_does_not() -> None:
    """45 M may be planned, 30 M of them for runs: three a second, every 34 frames."""
    least = least_stride(BOARD, COST, 100)
    assert least == 34
    assert pace_of(BOARD, COST, 34, 100).busy_share <= BUSY_SHARE < pace_of(BOARD, COST, 33, 100).busy_share
    assert least_stride(BOARD, ListeningCost(1, 450_000), 100) is None  # the frames alone are too much


def test_a_stride_that_nobody_asked_for_is_fitted() -> None:
    assert choose_stride(BOARD, COST, 50, 100, 100, None).stride_frames == 50
    assert choose_stride(BOARD, COST, 25, 100, 100, None).stride_frames == 34


def test_one_that_was_asked_for_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        choose_stride(BOARD, COST, 10, 100, 100, "--stride-ms")
    assert "a decision every 100 ms: it would take 230% of the core's time, need at most 90%" in caught.value.what
    assert caught.value.hint == "give --stride-ms 340 or more"
    with pytest.raises(InputError) as caught:
        choose_stride(BOARD, COST, 10, 100, 100, "--step-frames")
    assert caught.value.hint == "give --step-frames 34 or more"
    with pytest.raises(InputError) as caught:
        choose_stride(BOARD, ListeningCost(200_000_000, 100_000), 25, 100, 100, None)
    assert caught.value.hint == "take a smaller model, or a faster board"


def test_it_is_told_as_an_estimate() -> None:
    lines = render_pace(pace_of(BOARD, COST, 50, 100).to_dict(), 10)
    assert "2 decisions a second (one every 500 ms); the core sleeps 30% of the time" in lines[0]
    assert "17.5 mA" in lines[1] and "estimates" in lines[2]


def test_every_board_says_what_it_takes_and_where_that_is_from() -> None:
    for target in list_targets():
        assert (target.power is not None) == target.is_board, target.name
        if target.power is not None:
            assert "estimate" in dict(target.sources)["power"]
            assert target.power.asleep_ua < target.power.awake_ua
