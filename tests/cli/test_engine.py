# SPDX-License-Identifier: MIT
"""While an engine runs: its lock, its socket, pause and resume, stop, decisions through it."""

import json
import os
import pathlib
import signal
import socket
import sqlite3
import stat
import time

import pytest

from conftest import wait_until

# Appends a line every 20 ms from a tool in a session of its own, until a file says stop.
TICKER = ("[task:a]\ncommand = setsid sh -c 'while [ ! -e $0 ]; do echo x >> $1; sleep 0.02; done' "
          "{stop} {log}; echo done > a\n")


class Ticker:
    def __init__(self, repo, more="", **keys):
        self.log = pathlib.Path(repo.home, "ticks")
        self.stop = pathlib.Path(repo.home, "stop")
        text = TICKER.format(stop=self.stop, log=self.log) + more
        self.repo = repo
        self.process = repo.popen("dispatch", repo.plan(text, **keys))
        wait_until(lambda: self.ticks() > 2, what="the first ticks")

    def ticks(self):
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def end(self, status=0):
        self.stop.touch()
        result = self.repo.finish(self.process)
        assert result.status == status, result
        return result

    def stands_still(self):
        before = self.ticks()
        time.sleep(0.3)  # fifteen ticks' worth: nothing may happen, so there is no event to wait for
        return self.ticks() == before


@pytest.fixture
def ticker(repo):
    return Ticker(repo)


def call(repo, method, params=None, raw=None):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        here = os.getcwd()
        os.chdir(repo.state_dir)
        try:
            s.connect("orch.sock")
        finally:
            os.chdir(here)
        message = raw or json.dumps({"jsonrpc": "2.0", "id": 7, "method": method,
                                     "params": params or {}})
        s.sendall(message.encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            got = s.recv(65536)
            if not got:
                break
            data += got
        return json.loads(data)


def test_a_second_dispatch_names_the_first(ticker):
    err = ticker.repo.orch("dispatch", status=69).err
    assert str(ticker.process.pid) in err and "dispatch" in err
    assert ticker.repo.status()["status"] == "running"
    ticker.end()


def test_files_of_an_engine(ticker):
    state = ticker.repo.state_dir
    assert stat.S_IMODE(os.stat(state / "orch.sock").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(state).st_mode) == 0o700
    assert (state / "orch.pid").read_text() == f"{ticker.process.pid}\n"
    ticker.end()
    assert not (state / "orch.sock").exists() and not (state / "orch.pid").exists()


def test_rpc(ticker):
    answer = call(ticker.repo, "ping")
    assert answer["id"] == 7 and answer["result"]["pid"] == ticker.process.pid
    assert call(ticker.repo, "status")["result"]["phase"] == "running"
    assert call(ticker.repo, "no.such")["error"]["code"] == -32601
    assert call(ticker.repo, None, raw="not json")["error"]["code"] == -32700
    assert call(ticker.repo, None, raw="[]")["error"]["code"] == -32600
    assert call(ticker.repo, None, raw='{"id":1,"id":2}')["error"]["code"] == -32700
    assert call(ticker.repo, "operate", {"kind": "explode"})["error"]["code"] == -32602
    assert call(ticker.repo, "operate", {"kind": "approve"})["error"]["code"] == -32602
    assert call(ticker.repo, "ping")["result"]["version"] == 1
    ticker.end()


def test_a_message_too_long_is_refused(ticker):
    answer = call(ticker.repo, None, raw="x" * (11 << 20))
    assert answer["error"]["data"]["code"] == "too_large"
    assert "result" in call(ticker.repo, "ping")
    ticker.end()


def test_pause_freezes_tools_too(ticker):
    repo = ticker.repo
    assert "paused" in repo.orch("pause", "demo/a").out
    assert ticker.stands_still()
    task = repo.task("a")
    assert task["paused"] is True and task["status"] == "running"
    ticker.stop.touch()
    assert ticker.stands_still()
    repo.orch("resume", "a")
    ticker.end()
    assert repo.task("a")["paused"] is False


def test_pause_of_a_plan(repo):
    ticker = Ticker(repo, "[task:b]\ncommand = touch b\ndepends_on = a\n")
    repo.orch("pause", "demo")
    assert ticker.stands_still()
    assert repo.status()["paused"] is True
    repo.orch("resume")
    wait_until(lambda: not ticker.stands_still(), what="ticks after the resume")
    ticker.end()
    assert repo.status()["status"] == "completed"


def test_a_paused_task_can_be_stopped(ticker):
    ticker.repo.orch("pause", "a")
    ticker.process.send_signal(signal.SIGTERM)
    result = ticker.repo.finish(ticker.process)
    assert result.status == 130, result
    assert ticker.repo.task("a")["outcome"] == "interrupted"


def test_a_pause_survives_the_engine(ticker):
    repo = ticker.repo
    repo.orch("pause", "a")
    ticker.process.kill()
    repo.finish(ticker.process)
    assert ticker.stands_still()
    again = repo.popen("dispatch", "demo")
    wait_until(lambda: repo.orch("status", "--json").json["engine"]["running"])
    assert ticker.stands_still()
    assert repo.task("a")["paused"] is True and repo.task("a")["attempt"] == 1
    wait_until(lambda: repo.orch("resume", "a", status=None).status == 0)
    ticker.stop.touch()
    result = repo.finish(again)
    assert result.status == 0, result
    assert repo.task("a")["attempt"] == 1


def test_a_dispatch_says_that_only_paused_tasks_are_left(repo):
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = echo a > a\n"))
    repo.orch("pause", "demo/a")
    repo.orch("plan", "approve", "demo")
    with open(repo.home / "err", "wb") as err:
        process = repo.popen("dispatch", "demo", stderr=err)
    wait_until(lambda: "nothing runs, and 1 paused task waits" in (repo.home / "err").read_text())
    repo.orch("resume", "demo/a")
    assert repo.finish(process).status == 0
    assert (repo.home / "err").read_text().count("paused") == 1


def test_a_pause_between_two_engines(ticker):
    repo = ticker.repo
    ticker.process.kill()
    repo.finish(ticker.process)
    assert not ticker.stands_still()
    repo.orch("pause", "a")
    assert ticker.stands_still()
    repo.orch("resume", "a")
    assert not ticker.stands_still()
    repo.orch("pause", "demo")
    assert ticker.stands_still()
    again = repo.popen("dispatch", "demo")
    wait_until(lambda: repo.orch("status", "--json").json["engine"]["running"])
    assert ticker.stands_still() and repo.status()["paused"] is True
    wait_until(lambda: repo.orch("resume", "demo", status=None).status == 0)
    ticker.stop.touch()
    result = repo.finish(again)
    assert result.status == 0, result
    assert repo.task("a")["attempt"] == 1


def marks(repo, table, paused):
    """The mark alone, as where the command was cut off before it told the keeper."""
    with sqlite3.connect(repo.state_dir / "orch.db") as db:
        db.execute(f"UPDATE {table} SET paused = {paused}")


def test_an_engine_freezes_and_thaws_what_it_adopts(ticker):
    repo = ticker.repo
    for paused in (1, 0):
        ticker.process.kill()
        repo.finish(ticker.process)
        marks(repo, "task", paused)
        ticker.process = repo.popen("dispatch", "demo")
        wait_until(lambda: repo.orch("status", "--json").json["engine"]["running"])
        wait_until(lambda: ticker.stands_still() == bool(paused), what=f"paused {paused}")
    ticker.end()
    assert repo.task("a")["attempt"] == 1


def test_pause_without_an_engine_holds_the_start(repo):
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = touch a\n[task:b]\ncommand = touch b\n"))
    repo.orch("plan", "approve", "demo")
    repo.orch("pause", "demo")
    process = repo.popen("dispatch", "demo")
    wait_until(lambda: repo.orch("status", "--json").json["engine"]["running"])
    wait_until(lambda: repo.orch("resume", "demo", status=None).status == 0)
    result = repo.finish(process)
    assert result.status == 0 and "plan 'demo' is paused" in result.err, result


def test_pause_of_a_task_without_an_engine_holds_its_start(repo):
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = touch a\n[task:b]\ncommand = touch b\n"))
    repo.orch("plan", "approve", "demo")
    repo.orch("pause", "demo/a")
    process = repo.popen("dispatch", "demo")
    wait_until(lambda: repo.task("b")["status"] == "passed")
    assert repo.task("a")["status"] == "pending"
    repo.orch("resume", "a")
    assert repo.finish(process).status == 0


def test_a_task_that_is_over_has_no_mark(repo):
    """One waits to be merged while another's merge is judged, and is paused there."""
    judge = "case $PWD in *+a) ;; *) touch $HOME/judging; while ! test -e $HOME/go; do sleep 0.02; done;; esac"
    process = repo.popen("dispatch", repo.plan(
        f"[invariant:slow]\ncommand = {judge}\n[task:a]\ncommand = touch a\ninvariants = slow\n"
        "[task:b]\ncommand = while ! test -e $HOME/judging; do sleep 0.02; done; touch b\n",
        max_agents=2))
    wait_until(lambda: (repo.home / "judging").exists())
    wait_until(lambda: repo.task("b")["status"] == "integrating")
    repo.orch("pause", "demo/b")
    assert repo.task("b")["paused"] is True
    (repo.home / "go").touch()
    assert repo.finish(process).status == 0
    assert (repo.task("b")["status"], repo.task("b")["paused"]) == ("passed", False)


def test_a_pause_while_the_harness_starts_its_agent(repo):
    """The keeper finds the pause and the start at the same moment: what it starts would run on."""
    plugins = os.environ["ORCH_TEST_PLUGINS"]
    process = repo.popen("dispatch", repo.plan(
        "[task:a]\ncommand = touch $HOME/runs; echo a > a\n", harness="spawn-tarry"), env={
            **repo.env, "ORCH_PLUGIN_PATH": plugins, "ORCH_CONTAINMENT": "subreaper"})
    wait_until((repo.home / "at-callback").exists)
    lock, = repo.state_dir.glob("units/*/shim.lock")
    keeper = json.loads(lock.read_text())["pid"]
    os.kill(keeper, signal.SIGSTOP)
    (repo.home / "go-on").touch()
    pause = repo.popen("pause", "a")
    wait_until(lambda: repo.task("a")["paused"])
    time.sleep(1.5)  # both wait in the keeper's sockets by now
    os.kill(keeper, signal.SIGCONT)
    assert repo.finish(pause).status == 0
    time.sleep(0.3)  # nothing may happen
    assert not (repo.home / "runs").exists()
    repo.orch("resume", "a")
    assert repo.finish(process).status == 0
    assert (repo.home / "runs").exists()


def test_stop_is_the_first_signal(ticker):
    repo = ticker.repo
    repo.orch("stop", "demo")
    result = repo.finish(ticker.process)
    assert result.status == 130, result
    assert repo.status()["halt"]["reason"] == "interrupted"
    assert repo.task("a")["outcome"] == "interrupted"
    assert repo.orch("stop", status=69).err


def test_stop_of_a_plan_that_is_not_under_way(ticker):
    repo = ticker.repo
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = true\n", name="day"))
    before = repo.status("day")
    err = repo.orch("stop", "day", status=66).err
    assert "plan 'day' is not under way; under way: demo" in err
    assert repo.status("day") == before
    assert repo.orch("stop", "night", status=66).err
    repo.orch("stop", "demo")


def test_an_approval_through_the_engine(repo):
    ticker = Ticker(repo, "[task:r]\ncommand = touch r\ngate = human_review\n"
                          "[task:s]\ncommand = test -e r && touch s\ndepends_on = r\n",
                    max_agents=2)
    wait_until(lambda: repo.task("r")["status"] == "awaiting_review")
    assert "passed" in repo.orch("approve", "r").out
    wait_until(lambda: repo.task("s")["status"] == "passed")
    refused = repo.orch("approve", "demo/a", status=1).err
    assert "it is running" in refused
    ticker.end()
    assert repo.status()["status"] == "completed"


def test_a_rejection_and_a_retry_through_the_engine(repo):
    ticker = Ticker(repo, "[task:r]\ncommand = echo $ORCH_ATTEMPT > r\ngate = human_review\n"
                          "[task:f]\ncommand = exit 3\nretry_max = 0\n", max_agents=2)
    wait_until(lambda: repo.task("r")["status"] == "awaiting_review")
    repo.orch("reject", "r", "--reason", "once more")
    wait_until(lambda: repo.task("r")["attempt"] == 2 and
               repo.task("r")["status"] == "awaiting_review")
    wait_until(lambda: repo.task("f")["status"] == "escalated")
    repo.orch("retry", "f")
    wait_until(lambda: repo.task("f")["attempt"] == 2 and repo.task("f")["status"] == "escalated")
    ticker.end(status=2)


def test_plan_set_with_and_without_an_engine(repo):
    ticker = Ticker(repo, "[task:b]\ncommand = exit 1\ndepends_on = a\nretry_max = 5\n"
                          "[task:c]\ncommand = touch c\ndepends_on = a\n")
    repo.orch("plan", "set", "demo/b", "retry_max=0", "priority=7")
    refused = repo.orch("plan", "set", "demo/a", "command=true", status=65).err
    assert "command" in refused and "nothing was changed" in refused
    repo.orch("plan", "set", "demo/a", "no_such=1", status=65)
    repo.orch("plan", "set", "demo/a", "priority", status=64)
    repo.orch("plan", "set", "demo/a", "retry_max=9")
    repo.orch("plan", "set", "demo", "max_agents=1")
    ticker.end(status=1)
    assert repo.task("b")["attempt"] == 1 and repo.task("b")["status"] == "escalated"
    assert repo.task("c")["status"] == "passed"
    exported = repo.orch("plan", "show", "demo").out
    assert "retry_max = 9" in exported and "priority = 7" in exported and "max_agents = 1" in exported
    repo.orch("plan", "set", "demo/b", "retry_max=2")
    assert "retry_max = 2" in repo.orch("plan", "show", "demo").out
    assert "command" in repo.orch("plan", "set", "demo/b", "command=true", status=65).err


@pytest.mark.parametrize("ends", ["meanwhile", "later"])
def test_an_engine_stopped_by_a_terminal_goes_on(repo, ends):
    """Ctrl+Z, then fg: the agents work on meanwhile, and what they say is not lost."""
    out, stop = repo.home / "out", repo.home / "stop"
    lines = 2000
    process = repo.popen("dispatch", repo.plan(
        f"[task:a]\ncommand = seq {lines}; touch {out}; "
        f"while [ ! -e {stop} ]; do sleep 0.02; done; echo a > a\n"))
    wait_until(lambda: repo.home.joinpath("out").exists() or process.poll() is not None)
    process.send_signal(signal.SIGSTOP)
    if ends == "meanwhile":
        stop.touch()
        time.sleep(1)  # the agent ends, and nobody is there to hear of it
    process.send_signal(signal.SIGCONT)
    stop.touch()
    result = repo.finish(process)
    assert result.status == 0, result
    assert repo.task("a")["status"] == "passed" and repo.task("a")["attempt"] == 1
    said = [json.loads(line) for line in repo.orch("log", "a", "--json").out.splitlines()]
    words = [line["data"]["text"] for line in said
             if line.get("kind") == "message" and "text" in line.get("data", {})]
    assert words == [str(n) for n in range(1, lines + 1)]
