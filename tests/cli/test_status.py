# SPDX-License-Identifier: MIT
"""orch status: what it tells, and that looking disturbs nobody."""

import fcntl
import hashlib
import json
import os
import pty
import shutil
import signal
import time

import pytest

from conftest import wait_until

TASK_KEYS = ["id", "name", "status", "paused", "reason", "attempt", "outcome", "harness", "branch",
             "commit", "worktree", "depends_on", "waits_for", "gate", "invariants"]
PLAN_KEYS = ["id", "name", "status", "paused", "base", "branch", "halt", "tokens", "findings",
             "tasks"]

BLOCKED = """
[task:hold]
command = echo waiting; read line < "$HOME/fifo"; echo "$line" > held
[task:after]
command = echo done > after
depends_on = hold
"""


@pytest.fixture
def running(repo):
    """A dispatch whose first task waits for a line in a FIFO."""
    os.mkfifo(repo.home / "fifo")
    process = repo.popen("dispatch", repo.plan(BLOCKED))
    wait_until(lambda: repo.orch("status", "--json").json["plans"] and
               repo.task("hold")["status"] == "running", what="the task runs")
    yield process
    if process.poll() is None:
        (repo.home / "fifo").write_text("x\n")
        assert repo.finish(process).status == 0


def test_where_nothing_was_dispatched(repo):
    assert repo.orch("status").out == "no plans\n"
    status = repo.orch("status", "--json").json
    assert list(status) == ["version", "engine", "plans"]
    assert status["version"] == 1 and status["plans"] == []
    assert status["engine"]["running"] is False and status["engine"]["pid"] is None
    assert not repo.state_dir.exists()


def test_outside_a_repository(place):
    assert place.orch("status").out == "no plans\n"
    assert os.listdir(place.path) == []


def test_an_unknown_plan(repo):
    repo.orch("status", "nobody", status=66)
    repo.orch("status", "one", "two", status=64)


def test_every_key_is_always_there(repo):
    repo.orch("plan", "import", repo.plan(
        "[task:a]\ncommand = true\n[task:b]\ncommand = true\ndepends_on = a\n"))
    plan = repo.status("demo")
    assert list(plan) == PLAN_KEYS
    assert [list(task) for task in plan["tasks"]] == [TASK_KEYS] * 2
    assert plan["status"] == "draft" and plan["halt"] is None and plan["branch"] is None
    assert plan["tokens"] == {"input": 0, "output": 0, "cache_read": 0, "cache_write": 0}
    assert plan["findings"] == {"count": 0, "sha256": None}
    a, b = plan["tasks"]
    assert (a["attempt"], a["outcome"], a["reason"], a["commit"]) == (0, None, None, None)
    assert a["harness"] == "shell" and a["gate"] == "auto" and a["invariants"] == []
    assert b["depends_on"] == ["a"] and b["waits_for"] == ["a"]


def test_after_a_failure(repo):
    repo.orch("dispatch", repo.plan(
        "[invariant:red]\ncommand = exit 3\n"
        "[task:a]\ncommand = echo a > a\ninvariants = red\nretry_max = 1\n"
        "[task:b]\ncommand = true\ndepends_on = a\n"), status=1)
    plan = repo.status("demo")
    a, b = plan["tasks"]
    assert plan["status"] == "failed" and plan["base"] == "main"
    assert plan["branch"] == "orch/demo/integration"
    assert list(plan["halt"]) == ["reason", "exit_status", "at", "also", "commit"]
    assert plan["halt"]["reason"] == "failed" and plan["halt"]["exit_status"] == 1
    assert list(plan["halt"]["commit"]) == ["result", "oid", "why"]
    assert plan["halt"]["at"].endswith("Z") and plan["halt"]["at"][10] == "T"
    assert (a["status"], a["attempt"], a["outcome"]) == ("escalated", 2, "ok")
    assert a["reason"].startswith("gate_failed: red: exit 3")
    assert a["branch"] == "orch/demo/task/a"
    assert a["commit"] == repo.git("rev-parse", a["branch"])
    assert os.path.isdir(a["worktree"])
    assert b["waits_for"] == ["a"]
    text = repo.orch("status").out
    assert "escalated" in text and "exit 3" in text and "waits for a" in text


def test_a_reason_is_that_of_the_present_state(repo):
    repo.orch("dispatch", repo.plan(
        "[invariant:second]\ncommand = test -e second\n"
        "[task:a]\ninvariants = second\n"
        "command = touch first; test $ORCH_ATTEMPT = 1 || touch second\n"))
    task = repo.task("a")
    assert (task["status"], task["attempt"], task["reason"]) == ("passed", 2, None)


def test_the_findings_are_chained(repo):
    repo.orch("dispatch", repo.plan(
        "[task:a]\ncommand = touch a\n"
        "    printf '%s\\n' '{\"kind\":\"finding\",\"data\":{\"severity\":\"high\",\"title\":\"one\"}}' >&$ORCH_EVENT_FD\n"
        "    printf '%s\\n' '{\"kind\":\"finding\",\"data\":{\"severity\":\"low\",\"title\":\"two\"}}' >&$ORCH_EVENT_FD\n"
        "    printf '%s\\n' '{\"kind\":\"message\",\"data\":{\"text\":\"no finding\"}}' >&$ORCH_EVENT_FD\n"))
    findings = repo.status()["findings"]
    h = "0" * 64
    events = [e for e in repo.orch("log", "a", "--json").lines if e["kind"] == "finding"]
    assert [e["data"]["title"] for e in events] == ["one", "two"]
    for event in events:
        data = json.dumps(event["data"], separators=(",", ":"), sort_keys=False)
        h = hashlib.sha256(f"{h}\na\n{data}".encode()).hexdigest()
    assert findings == {"count": 2, "sha256": h}


def test_a_running_engine(repo, running):
    status = repo.orch("status", "--json").json
    assert status["engine"]["running"] is True and status["engine"]["pid"] == running.pid
    assert status["plans"][0]["status"] == "running" and status["plans"][0]["halt"] is None
    assert f"pid {running.pid}" in repo.orch("status").out
    assert str(running.pid) in repo.orch("dispatch", status=69).err


def test_looking_never_makes_a_dispatch_fail(repo):
    plan = repo.plan("[task:a]\ncommand = touch a\n")
    repo.orch("dispatch", plan)
    lookers = [repo.popen("status", "--watch", "--json") for _ in range(4)]
    try:
        for _ in range(5):
            repo.orch("dispatch", plan)
    finally:
        for looker in lookers:
            looker.send_signal(signal.SIGINT)
        results = [repo.finish(looker) for looker in lookers]
    assert [r.status for r in results] == [0] * 4
    for result in results:
        assert result.lines[-1]["plans"][0]["status"] == "completed"


def test_a_database_that_is_just_being_made(repo):
    """Somebody holds the lock and has not yet made the tables: that is waited for."""
    repo.orch("dispatch", repo.plan("[task:a]\ncommand = touch a\n"))
    whole = repo.home / "whole.db"
    for name in ("orch.db-wal", "orch.db-shm"):
        assert not (repo.state_dir / name).exists()
    shutil.copy(repo.state_dir / "orch.db", whole)
    (repo.state_dir / "orch.db").write_bytes(b"")
    with open(repo.state_dir / "lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = repo.popen("status")
        time.sleep(0.2)  # not for the result: so that it looks before the tables are there
        os.rename(whole, repo.state_dir / "orch.db")
        result = repo.finish(process)
    assert result.status == 0 and "completed" in result.out, result


def test_a_lock_that_nobody_holds_is_no_engine(repo):
    """The holder's text stays behind; and a pid may be given away."""
    repo.orch("dispatch", repo.plan("[task:a]\ncommand = touch a\n"))
    assert repo.orch("status", "--json").json["engine"]["running"] is False
    (repo.state_dir / "lock").write_text('{"pid":1,"starttime":1,"boot_id":"x"}\n')
    engine = repo.orch("status", "--json").json["engine"]
    assert engine["running"] is False and engine["pid"] is None


def test_watch_prints_only_what_is_new(repo, running):
    watch = repo.popen("status", "--watch")
    first = watch.stdout.readline()
    assert b"engine: running" in first
    (repo.home / "fifo").write_text("x\n")
    text = b""
    deadline = time.monotonic() + 30
    while b"2 of 2 passed" not in text and time.monotonic() < deadline:
        text += watch.stdout.readline()
    assert b"2 of 2 passed" in text
    watch.send_signal(signal.SIGINT)
    rest = repo.finish(watch)
    assert rest.status == 0
    # What is shown does not change any more, so it is not shown again.
    assert rest.out.count("completed") == 0


def test_watch_on_a_terminal_redraws(repo):
    master, slave = pty.openpty()
    watch = repo.popen("status", "--watch", stdout=slave, stdin=slave,
                       env={**repo.env, "TERM": "xterm"})
    os.close(slave)
    seen = b""
    while seen.count(b"\033[H") < 2:
        seen += os.read(master, 4096)
    watch.send_signal(signal.SIGINT)
    assert watch.wait(timeout=30) == 0
    os.close(master)
    assert seen.count(b"no plans") >= 1


def test_a_thousand_tasks(repo):
    tasks = "[task:t0]\ncommand = true\n" + "".join(
        f"[task:t{i}]\ncommand = true\ndepends_on = t{i - 1}, t{i // 2}\ninvariants = ok\n"
        if i // 2 != i - 1 else f"[task:t{i}]\ncommand = true\ndepends_on = t{i - 1}\n"
        for i in range(1, 1000))
    repo.orch("plan", "import", repo.plan("[invariant:ok]\ncommand = true\n" + tasks))
    plan = repo.status()
    assert len(plan["tasks"]) == 1000
    assert sorted(plan["tasks"][100]["depends_on"]) == ["t50", "t99"]
    assert plan["tasks"][100]["invariants"] == ["ok"]
