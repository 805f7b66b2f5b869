# SPDX-License-Identifier: MIT
"""orch log and orch gate: what happened, told to a person and to a script."""

import os
import pty
import signal
import time

import pytest

from conftest import wait_until

EVENT = "printf '%s\\n' '{}' >&$ORCH_EVENT_FD"

TWO_ATTEMPTS = """
[invariant:fine]
command = echo checked
[invariant:second]
command = echo looked; echo "not yet" >&2; test -e second
[task:a]
invariants = fine, second
command = touch first; test $ORCH_ATTEMPT = 1 || touch second
"""


@pytest.fixture
def done(repo):
    repo.orch("dispatch", repo.plan(TWO_ATTEMPTS))
    return repo


def test_the_text_tells_the_whole_story(done):
    out = done.orch("log", "demo/a").out
    lines = out.splitlines()
    assert [line.split(" ", 2)[2] for line in lines if "->" in line] == [
        "pending -> assigned", "assigned -> running", "running -> checking",
        "checking -> failed: gate_failed: second: exit 1 (red before the task, too)",
        "failed -> pending: gate_failed: second: exit 1 (red before the task, too)",
        "pending -> assigned", "assigned -> running", "running -> checking",
        "checking -> integrating", "integrating -> passed"]
    assert "#1 invariant second: failed, exit 1" in out
    assert "#2 invariant second on the merged tree: passed" in out
    ended = next(line for line in lines if "attempt 2 (shell) ended: ok, exit 0" in line)
    assert "containment " in ended and " 0 left, 0 killed" in ended and "commit " in ended
    assert lines == sorted(lines, key=lambda line: line.split()[0])


def test_one_attempt(done):
    out = done.orch("log", "a", "--attempt", "2").out
    assert "#2 " in out and "#1 " not in out
    done.orch("log", "a", "--attempt", "3", status=66)
    done.orch("log", "a", "--attempt", "x", status=64)


@pytest.mark.parametrize("verb", ["log", "gate"])
def test_names_and_operands(done, verb):
    done.orch(verb, status=64)
    done.orch(verb, "a", "b", status=64)
    done.orch(verb, "nobody", status=66)
    done.orch(verb, "demo/nobody", status=66)
    assert done.orch(verb, "1").out == done.orch(verb, "demo/a").out


@pytest.mark.parametrize("verb", ["log", "gate", "approve", "retry"])
def test_where_nothing_was_dispatched(repo, verb):
    repo.orch(verb, "a", status=66)


def test_an_ambiguous_name_lists_the_candidates(done):
    done.orch("dispatch", done.plan("[task:a]\ncommand = touch x\n", name="other"))
    err = done.orch("log", "a", status=64).err
    assert "demo/a" in err and "other/a" in err


def test_events_as_json(repo):
    repo.orch("dispatch", repo.plan(
        "[task:a]\ncommand = touch a\n"
        "    " + EVENT.format('{"kind":"message","data":{"text":"hello"}}') + "\n"
        "    " + EVENT.format('{"kind":"usage","data":{"input":7,"output":3}}') + "\n"
        "    " + EVENT.format('{"kind":"tool_call","data":{"id":"1","name":"read","input":{"file":"x"}}}')
        + "\n"))
    events = repo.orch("log", "a", "--json").lines
    assert all(list(e) == ["version", "seq", "at", "attempt", "kind", "data"] for e in events)
    assert [e["seq"] for e in events] == sorted(e["seq"] for e in events)
    by_kind = {e["kind"]: e["data"] for e in events}
    assert by_kind["message"]["text"] == "hello"
    assert by_kind["usage"]["input"] == 7 and by_kind["tool_call"]["name"] == "read"
    text = repo.orch("log", "a").out
    assert "says: hello" in text and "tokens: input 7, output 3" in text
    assert 'tool read: {"file":"x"}' in text
    assert repo.status()["tokens"]["input"] == 7


def test_escapes_of_agents_do_not_reach_the_terminal(repo):
    repo.orch("dispatch", repo.plan(
        "[task:a]\ncommand = touch a; printf 'plain \\033[31mred\\007\\n'\n"
        "    " + EVENT.format('{"kind":"message","data":{"text":"bad \\u001b[2J text"}}') + "\n"))
    out = repo.orch("log", "a").out
    assert "\033" not in out and "bad " in out
    assert "\033[31mred" in repo.orch("log", "a", "--raw").out  # to a file: as it was
    master, slave = pty.openpty()
    process = repo.popen("log", "a", "--raw", stdout=slave)
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:
        pass  # the other end is closed
    assert process.wait(timeout=30) == 0
    os.close(master)
    assert b"plain" in seen and b"\033" not in seen and b"\007" not in seen


def test_raw_goes_alone(done):
    done.orch("log", "a", "--raw", "--json", status=64)
    done.orch("log", "a", "--raw", "-f", status=64)


def test_follow_ends_with_the_task(repo):
    os.mkfifo(repo.home / "fifo")
    dispatch = repo.popen("dispatch", repo.plan(
        '[task:a]\ncommand = echo begun; read line < "$HOME/fifo"; echo "$line" > a\n'))
    wait_until(lambda: repo.orch("status", "--json").json["plans"] and
               repo.task("a")["status"] == "running")
    follow = repo.popen("log", "a", "-f")
    seen = b""
    while b"assigned -> running" not in seen:
        seen += follow.stdout.readline()
    (repo.home / "fifo").write_text("go\n")
    assert repo.finish(dispatch).status == 0
    rest = repo.finish(follow)
    assert rest.status == 0 and "integrating -> passed" in rest.out
    assert repo.orch("log", "a").out == seen.decode() + rest.out


def test_follow_is_interrupted(repo):
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = true\n"))
    follow = repo.popen("log", "a", "-f")
    follow.send_signal(signal.SIGINT)
    assert repo.finish(follow).status in (130, -signal.SIGINT)


# ---- gate ----


def test_gate_json(done):
    gate = done.orch("gate", "a", "--json").json
    assert list(gate) == ["version", "task", "attempt", "results"]
    assert (gate["version"], gate["task"], gate["attempt"]) == (1, "a", 2)
    task = gate["results"]
    assert [list(r) for r in task] == [
        ["invariant", "passed", "exit_code", "signal", "timed_out", "cached", "red_before",
         "duration_ms", "stdout", "stderr"]] * 2
    assert [r["invariant"] for r in task] == ["fine", "second"]
    assert task[0]["stdout"] == "checked\n" and task[0]["passed"] is True
    assert done.orch("gate", "a").out.count("(on the merged tree)") == 2


def test_gate_json_of_a_red_merge(repo):
    """Green where it was made, red on what another has merged meanwhile."""
    wait = "while test ! -e $HOME/merged; do sleep 0.05; done; "
    plan = repo.plan("[invariant:alone]\ncommand = test $(ls *.part | wc -l) = 1\n"
                     "[task:a]\ncommand = touch a.part; touch $HOME/up\ninvariants = alone\n"
                     f"[task:b]\ncommand = touch b.part; {wait}\ninvariants = alone\nretry_max = 0\n")
    process = repo.popen("dispatch", plan)
    wait_until((repo.home / "up").exists)
    wait_until(lambda: repo.task("a")["status"] == "passed")
    (repo.home / "merged").touch()
    assert repo.finish(process).status == 1
    own, merged = repo.orch("gate", "b", "--json").json["results"]
    assert own["passed"] is True and "stage" not in own
    assert merged["passed"] is False and merged["stage"] == "merge"


def test_gate_of_an_earlier_attempt(done):
    gate = done.orch("gate", "a", "--json", "--attempt=1").json
    red = gate["results"][1]
    assert gate["attempt"] == 1 and red["passed"] is False and red["exit_code"] == 1
    assert red["signal"] is None and red["red_before"] is True
    assert (red["stdout"], red["stderr"]) == ("looked\n", "not yet\n")
    text = done.orch("gate", "a", "--attempt=1").out
    assert "second: failed, exit 1" in text and "not yet" in text
    done.orch("gate", "a", "--attempt=9", status=66)


def test_gate_of_a_timeout_and_a_signal(repo):
    repo.orch("dispatch", repo.plan(
        "[invariant:slow]\ncommand = echo partial >&2; sleep 60\ntimeout = 300ms\n"
        "[invariant:killed]\ncommand = kill -SEGV $$\n"
        "[task:a]\ncommand = touch a\nretry_max = 0\ninvariants = slow, killed\n"), status=1)
    slow, killed = repo.orch("gate", "a", "--json").json["results"]
    assert slow["timed_out"] is True and slow["passed"] is False
    assert slow["stderr"].startswith("partial\n")
    assert slow["stderr"].rstrip("\n").endswith("timed out after 0.300s")
    assert killed["signal"] == signal.SIGSEGV and killed["exit_code"] is None
    assert killed["timed_out"] is False


def test_gate_without_results(repo):
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = true\n"))
    assert repo.orch("gate", "a", "--json").json == {
        "version": 1, "task": "a", "attempt": 0, "results": []}
    assert repo.orch("gate", "a").out == "no results\n"


def test_a_task_to_which_nothing_has_happened(repo):
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = true\n"))
    assert repo.orch("log", "a").out == "demo/a: nothing has happened yet\n"
    assert repo.orch("log", "a", "--json").out == ""
    assert repo.orch("-q", "log", "a").out == ""


def test_what_is_old_is_forgotten(repo):
    """Unit directories and events go after [log] keep; findings, and how attempts ended, stay."""
    repo.dispatch(repo.plan(
        "[task:a]\ncommand = " + EVENT.format('{"kind":"message","data":{"text":"hello"}}') +
        "; orch finding --severity=low --title=odd < /dev/null; echo a > a\n", "old"))
    kinds = {line["kind"] for line in repo.orch("log", "old/a", "--json").lines}
    assert kinds >= {"message", "finding"}
    ended, = repo.db("SELECT max(ended_at) AS at FROM unit")
    wait_until(lambda: time.time() * 1000 > ended["at"] + 1000, what="a second")
    repo.dispatch(repo.plan("[task:b]\ncommand = echo b > b\n", "new"),
                  env={"ORCH_LOG_KEEP": "1s"})
    assert [line["kind"] for line in repo.orch("log", "old/a", "--json").lines] == ["finding"]
    assert len(repo.db("SELECT id FROM unit")) == len(list((repo.state_dir / "units").iterdir())) == 1
    assert repo.status("old")["findings"]["count"] == 1
    assert "ended: ok" in repo.orch("log", "old/a").out
