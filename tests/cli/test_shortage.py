# SPDX-License-Identifier: MIT
"""A machine that is short of descriptors: nothing is held against a task that could not be started
for it. It starts when there are some again, or the dispatch ends with 74 and the same command goes
on."""

import os
import resource
import time

import pytest

from conftest import wait_until

PLAN = ("[task:long]\ncommand = touch up; while [ ! -e go ]; do sleep 0.05; done\n"
        "[task:first]\ncommand = true\ngate = human_review\n"
        "[task:next]\ncommand = echo $ORCH_ATTEMPT > next\ndepends_on = first\nretry_max = 0\n")


@pytest.fixture
def short(place):
    """(place, process, descriptors): `first` awaits a person while `long` runs; descriptors(n) leaves
    the engine n of them, descriptors(None) all."""
    place.env["ORCH_RETRY_BACKOFF"] = "50ms"
    plan = place.plan(PLAN, isolation="none", max_agents=2)
    process = place.popen("dispatch", "--json", plan)
    wait_until(lambda: (place.path / "up").exists() and
               place.task("first")["status"] == "awaiting_review")
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)

    def descriptors(n):
        limit = before[0]
        if n is not None:
            used = {int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd")}
            limit = next(k for k in range(limit) if k - len({f for f in used if f < k}) == n)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    yield place, process, descriptors
    if process.poll() is None:
        process.kill()
        process.communicate()


def test_it_starts_when_there_are_some_again(short):
    place, process, descriptors = short
    descriptors(2)  # enough for a client of its socket, not for a unit
    place.orch("approve", "first")
    time.sleep(0.5)  # at least the first wait is over; the test holds without it too
    descriptors(None)
    (place.path / "go").touch()
    result = place.finish(process)
    assert result.status == 0, result
    assert "nothing new starts for" in result.err and "Too many open files" in result.err
    assert (place.path / "next").read_text() == "1\n"
    assert place.task("next")["attempt"] == 1
    assert [row["outcome"] for row in place.db("SELECT outcome FROM attempt")] == ["ok"] * 3


def test_a_shortage_that_stays_ends_with_74(short):
    place, process, descriptors = short
    descriptors(2)
    place.orch("approve", "first")
    result = place.finish(process)
    assert result.status == 74, result
    assert result.halt["reason"] == "io_error"
    assert "Too many open files" in result.err
    assert place.task("next")["status"] == "pending"
    (place.path / "go").touch()
    place.dispatch("demo")
    assert (place.path / "next").read_text() == "1\n"
    assert place.task("long")["attempt"] == 2  # it was ended by our stop: interrupted, no charge
    assert place.task("next")["attempt"] == 1
    assert {row["retries_used"] for row in place.db("SELECT retries_used FROM task")} == {0}
