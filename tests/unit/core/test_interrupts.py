import signal

import pytest

from nasframe.core import Interrupts


def work(interrupts: Interrupts, *signals: signal.Signals) -> list[str]:
    """What is done of some work in which signals come, and how it ends."""
    done = []
    with interrupts:
        try:
            with interrupts.deferred():
                for number in signals:
                    signal.raise_signal(number)
                done.append("work")
        except KeyboardInterrupt:
            done.append("interrupted")
    return done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_held_back_until_work_is_done(number: signal.Signals) -> None:
    assert work(Interrupts(), number) == ["work", "interrupted"]


def test_a_second_signal_ends_work_at_once() -> None:
    assert work(Interrupts(), signal.SIGINT, signal.SIGINT) == ["interrupted"]


def test_the_echo_of_a_signal_is_none() -> None:
    assert work(Interrupts(echo_seconds=60), signal.SIGINT, signal.SIGTERM) == ["work", "interrupted"]


def test_what_another_asked_for_ends_work_like_a_signal() -> None:
    interrupts = Interrupts()
    interrupts.request()
    assert work(interrupts) == ["work", "interrupted"]
    assert work(Interrupts()) == ["work"]
