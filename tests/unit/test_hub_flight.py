"""Single flight and the bounded memory, with threads that meet at gates and never by time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hpcimg.errors import NotFoundError
from hpcimg.hub.flight import Flights
from hpcimg.hub.memory import Memory

THREADS = 20


class Work:
    """Counts how often it is done; it waits until the gate is open."""

    def __init__(self, result: object) -> None:
        self.result = result
        self.count = 0
        self.begun = threading.Event()
        self.gate = threading.Event()

    def __call__(self) -> object:
        """Work once."""
        self.count += 1
        self.begun.set()
        assert self.gate.wait(60)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def crowd(flights: Flights, work: Work) -> list:
    """Let one thread fly, and the others come while it does; give the futures."""
    pool = ThreadPoolExecutor(THREADS)
    first = pool.submit(flights.run, "name", work)
    assert work.begun.wait(60)
    arrived = threading.Barrier(THREADS)

    def join() -> object:
        arrived.wait(60)
        return flights.run("name", work)

    others = [pool.submit(join) for _ in range(THREADS - 1)]
    arrived.wait(60)
    pool.shutdown(wait=False)
    return [first, *others]


def test_one_works_for_all():
    """Who comes while one is at it gets its result, and none works in vain."""
    flights, work = Flights(), Work("result")
    answers = crowd(flights, work)
    work.gate.set()
    assert [answer.result(60) for answer in answers] == ["result"] * THREADS
    # A thread that came after the end has worked itself, as it must.
    assert 1 <= work.count <= THREADS
    assert flights.count() == 0


def test_those_who_wait_get_the_same_error():
    """An error reaches all that waited, and the next one tries anew."""
    flights, work = Flights(), Work(NotFoundError("it is gone"))
    answers = crowd(flights, work)
    work.gate.set()
    for answer in answers:
        with pytest.raises(NotFoundError, match="it is gone"):
            answer.result(60)
    assert flights.run("name", lambda: "now it is there") == "now it is there"


def test_names_do_not_wait_for_each_other():
    """Another name is another flight."""
    flights, work = Flights(), Work("slow")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(flights.run, "slow", work)
        assert work.begun.wait(60)
        assert flights.run("other", lambda: "quick") == "quick"
        work.gate.set()
        assert slow.result(60) == "slow"


def test_memory_forgets_the_longest_unused():
    """Of three where two have room, the one that nobody read goes."""
    memory = Memory(2)
    memory.put("a", 1)
    memory.put("b", 2)
    assert memory.get("a") == 1
    memory.put("c", 3)
    assert [memory.get(key) for key in "abc"] == [1, None, 3]


def test_memory_bounds_the_weight():
    """Weights are added up, also when something takes the place of something else."""
    memory = Memory(100, 10)
    memory.put("a", 1, 6)
    memory.put("a", 2, 4)
    memory.put("b", 3, 6)
    assert (memory.weight, len(memory)) == (10, 2)
    memory.put("c", 4, 5)
    assert memory.weight <= 10
    assert memory.get("c") == 4
    memory.drop("c")
    memory.drop("c")
    assert memory.get("c") is None


def test_memory_refuses_what_is_too_heavy():
    """What alone is over the limit pushes nothing else out, and leaves no old value behind."""
    memory = Memory(100, 10)
    memory.put("a", 1, 5)
    memory.put("b", 2, 5)
    memory.put("b", 3, 11)
    assert (memory.get("a"), memory.get("b"), memory.weight) == (1, None, 5)


def test_all_marked_still_leaves_room():
    """When everything was read, something goes nevertheless."""
    memory = Memory(2)
    for key in "abcdef":
        memory.put(key, key)
        for other in "abcdef":
            memory.get(other)
    assert len(memory) == 2
    assert memory.get("f") == "f"
