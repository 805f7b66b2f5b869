# SPDX-License-Identifier: MIT
"""orch.sock: subscribe (A11). Every event once and in order, from where the subscriber says."""

import json
import os
import socket

import pytest

from conftest import wait_until


class Subscriber:
    def __init__(self, repo, params=None):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        here = os.getcwd()
        os.chdir(repo.state_dir)
        try:
            self.socket.connect("orch.sock")
        finally:
            os.chdir(here)
        self.file = self.socket.makefile("rb")
        self.send("subscribe", params)
        self.answer = self.line()

    def send(self, method, params=None):
        self.socket.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method,
                                        "params": params or {}}).encode() + b"\n")

    def line(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def rest(self):
        """The events up to the engine's end."""
        found = []
        while (line := self.line()) is not None:
            assert line["method"] == "event" and "id" not in line
            found.append(line["params"])
        return found

    def close(self):
        self.file.close()
        self.socket.close()


TALKS = """
[task:a]
command = touch $HOME/up; while [ ! -e $HOME/go ]; do sleep 0.02; done; echo a > a
    i=0; while [ $i -lt {0} ]; do echo "{{\\"kind\\":\\"progress\\",\\"data\\":{{\\"text\\":\\"$i\\"}}}}"; i=$((i+1)); done >&$ORCH_EVENT_FD
"""


@pytest.fixture
def talks(repo):
    def start(n):
        process = repo.popen("dispatch", "--json", repo.plan(TALKS.format(n)))
        wait_until((repo.home / "up").exists)
        return process
    return start


def test_every_event_once_and_in_order(repo, talks):
    process = talks(300)
    subscriber = Subscriber(repo)
    assert subscriber.answer == {"jsonrpc": "2.0", "id": 1, "result": {"from_seq": 1}}
    (repo.home / "go").touch()
    events = subscriber.rest()
    subscriber.close()
    assert repo.finish(process).status == 0
    assert [e["data"]["text"] for e in events] == [str(i) for i in range(300)]
    seqs = [e["seq"] for e in events]
    assert seqs == sorted(set(seqs))
    assert set(events[0]) == {"seq", "at", "plan", "task", "attempt", "kind", "data"}
    logged = repo.orch("log", "--json", "a").lines
    assert [event["at"] for event in events] == [event["at"] for event in logged]
    assert (events[0]["plan"], events[0]["task"], events[0]["kind"]) == ("demo", "a", "progress")


def test_from_where_the_last_one_ended(repo, talks):
    first = repo.dispatch(repo.plan(TALKS.replace(
        "while [ ! -e $HOME/go ]; do sleep 0.02; done;", "").format(20), name="early"))
    assert first.halt["reason"] == "completed"
    (repo.home / "up").unlink()
    process = talks(5)
    subscriber = Subscriber(repo, {"from_seq": 11})
    (repo.home / "go").touch()
    events = subscriber.rest()
    subscriber.close()
    assert repo.finish(process).status == 0
    assert [e["plan"] for e in events] == ["early"] * 10 + ["demo"] * 5
    assert [e["seq"] for e in events[:10]] == list(range(11, 21))


def test_one_that_does_not_read_holds_nobody_up(repo, talks):
    process = talks(20000)
    subscriber = Subscriber(repo)
    (repo.home / "go").touch()
    assert repo.finish(process, timeout=120).status == 0
    subscriber.close()


@pytest.mark.parametrize("value", ["1", -1, 1.5, None, []])
def test_a_bad_beginning(repo, talks, value):
    process = talks(1)
    subscriber = Subscriber(repo, {"from_seq": value})
    assert subscriber.answer["error"]["code"] == -32602
    subscriber.send("ping")
    assert subscriber.line()["result"]["version"] == 1
    subscriber.close()
    (repo.home / "go").touch()
    assert repo.finish(process).status == 0
