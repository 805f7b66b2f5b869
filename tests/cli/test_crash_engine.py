# SPDX-License-Identifier: MIT
"""An orch that dies leaves nothing lost (A8.6): SIGKILL at many moments, then the same command."""

import json
import os
import pathlib
import signal
import stat
import subprocess
import time

import pytest

from conftest import descendants, wait_until

# Says that it has begun, waits to be let go, then does its work. Lines before and after.
HELD = ("echo $ORCH_TASK $ORCH_ATTEMPT >> $HOME/starts; echo before; "
        "while ! test -e $HOME/go; do sleep 0.02; done; echo after; echo $ORCH_TASK > $ORCH_TASK")
# Two of these at a time in one directory, and the second one says so.
ALONE = "exec 9>$HOME/alone-${PWD##*/}; flock -n 9 || echo $PWD >> $HOME/overlap"


def starts(repo):
    file = repo.home / "starts"
    return sorted(file.read_text().splitlines()) if file.exists() else []


def _command(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def kill_when(repo, process, condition, what):
    wait_until(lambda: condition() or process.poll() is not None, what=what)
    assert process.poll() is None, repo.finish(process)
    process.kill()
    process.wait()


def messages(repo, task):
    return [row["data"] for row in repo.db(
        "SELECT e.data FROM event e JOIN task t ON t.id = e.task_id WHERE t.name = ? AND"
        " e.kind = 'message' ORDER BY e.seq", task)]


def is_whole(repo):
    """What holds whenever nothing runs."""
    assert repo.db("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert repo.db("SELECT * FROM unit WHERE ended_at IS NULL") == []
    assert repo.git("fsck", "--connectivity-only") is not None
    assert repo.git("status", "--porcelain") == ""
    locks = [str(path) for path in (repo.path / ".git").rglob("*.lock")
             if path.name not in ("shim.lock", "git.lock", "merge.lock")]
    assert locks == []


def test_a_running_agent_is_adopted(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n")
    process = repo.popen("dispatch", plan)
    kill_when(repo, process, lambda: starts(repo), "the agent")
    assert descendants(), "the agent went with its engine"
    again = repo.popen("dispatch", "--json", plan)
    wait_until(lambda: repo.orch("status", "--json").json["engine"]["pid"] == again.pid)
    (repo.home / "go").touch()
    result = repo.finish(again)
    assert result.status == 0, result
    assert starts(repo) == ["a 1"] and result.last("a")["attempt"] == 1
    assert messages(repo, "a") == ['{"text":"before"}', '{"text":"after"}']
    row, = repo.db("SELECT attempt, retries_used FROM task")
    assert row == {"attempt": 1, "retries_used": 0}
    is_whole(repo)


def adopt_after_crash(repo, plan):
    process = repo.popen("dispatch", plan)
    kill_when(repo, process, lambda: starts(repo), "the agent")
    again = repo.popen("dispatch", "--json", plan)
    wait_until(lambda: repo.status()["tasks"][0]["status"] == "running" and "sock" in "".join(
        path.name for path in repo.state_dir.iterdir()), what="the second engine")
    wait_until(lambda: repo.orch("status", "--json").json["engine"]["pid"] == again.pid)
    (repo.home / "go").touch()
    result = repo.finish(again)
    assert result.status == 0, result
    return result


def test_a_lock_of_an_agents_own_git_is_left_alone(repo):
    """Locks of a git that died with the engine are removed, but not where an agent still works."""
    adopt_after_crash(repo, repo.plan(
        "[task:a]\ncommand = lock=$(git rev-parse --git-dir)/index.lock; touch $lock;"
        " echo a >> $HOME/starts; while ! test -e $HOME/go; do sleep 0.02; done;"
        " if test -e $lock; then echo kept > a; else echo gone > a; fi\n"))
    assert repo.git("show", "orch/demo/integration:a") == "kept"


def test_usage_of_a_message_that_grows_is_counted_once(repo):
    def usage(message, tokens):
        return (f"echo '{{\"kind\":\"usage\",\"data\":{{\"id\":\"{message}\","
                f"\"input\":{tokens},\"output\":0}}}}' >&$ORCH_EVENT_FD;")
    adopt_after_crash(repo, repo.plan(
        f"[task:a]\ncommand = {usage('m1', 100)} sleep 0.2; echo a >> $HOME/starts; sleep 0.2;"
        f" while ! test -e $HOME/go; do sleep 0.02; done; {usage('m1', 150)} {usage('m2', 10)}"
        " echo a > a\n"))
    assert repo.db("SELECT tokens_input FROM task") == [{"tokens_input": 160}]


def test_an_agent_that_ended_alone_is_taken_as_it_ended(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n[task:b]\ncommand = {HELD}; exit 4\n"
                     "retry_max = 0\n")
    process = repo.popen("dispatch", plan)
    kill_when(repo, process, lambda: len(starts(repo)) == 2, "the agents")
    (repo.home / "go").touch()
    wait_until(lambda: len(list(repo.state_dir.glob("units/*/exit.json"))) == 2)
    result = repo.dispatch(plan, status=1)
    assert starts(repo) == ["a 1", "b 1"]
    assert result.last("a")["to"] == "passed" and result.last("b")["outcome"] == "agent_error"
    assert messages(repo, "b") == ['{"text":"before"}', '{"text":"after"}']
    is_whole(repo)


def test_many_crashes_with_one_agent(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n")
    for _ in range(4):
        process = repo.popen("dispatch", plan)
        kill_when(repo, process, lambda: starts(repo) and repo.orch(
            "status", "--json").json["engine"]["pid"] == process.pid, "the agent")
    (repo.home / "go").touch()
    repo.dispatch(plan)
    assert starts(repo) == ["a 1"]
    assert messages(repo, "a") == ['{"text":"before"}', '{"text":"after"}']


def gate_plan(repo, which):
    """A gate that waits in the given stage, and never twice at a time."""
    where = "demo+a" if which == "task" else "demo+"
    command = (f"{ALONE}; case $PWD in */{where}) touch $HOME/gate;"
               " while ! test -e $HOME/go; do sleep 0.02; done;; esac; test -e a")
    return repo.plan(f"[invariant:check]\ncommand = {command}\n"
                     "[task:a]\ncommand = echo start >> $HOME/starts; echo a > a\n"
                     "invariants = check\n")


@pytest.mark.parametrize("which", ["task", "merge"])
def test_a_crash_in_a_gate(repo, which):
    plan = gate_plan(repo, which)
    process = repo.popen("dispatch", plan)
    kill_when(repo, process, (repo.home / "gate").exists, "the gate")
    (repo.home / "gate").unlink()
    again = repo.popen("dispatch", plan)
    wait_until((repo.home / "gate").exists, what="the gate anew")
    assert repo.git("rev-parse", "orch/demo/integration") == repo.git("rev-parse", "main")
    (repo.home / "go").touch()
    assert repo.finish(again).status == 0
    assert not (repo.home / "overlap").exists()
    assert starts(repo) == ["start"]
    is_whole(repo)


def test_a_crash_in_the_set_up(repo):
    plan = repo.plan("[task:a]\ncommand = echo start >> $HOME/starts; echo a > a\n", setup=(
        f"{ALONE}; touch $HOME/setup; while ! test -e $HOME/go; do sleep 0.02; done"))
    process = repo.popen("dispatch", plan)
    kill_when(repo, process, (repo.home / "setup").exists, "the set-up")
    (repo.home / "setup").unlink()
    again = repo.popen("dispatch", plan)
    wait_until((repo.home / "setup").exists, what="the set-up anew")
    (repo.home / "go").touch()
    assert repo.finish(again).status == 0
    assert not (repo.home / "overlap").exists()
    assert repo.db("SELECT attempt FROM task") == [{"attempt": 1}]


def keeper_pid(repo):
    """Of the one unit that runs."""
    for path in repo.state_dir.glob("units/*/shim.lock"):
        if not (path.parent / "exit.json").exists() and path.stat().st_size:
            return json.loads(path.read_text())["pid"]
    return None


def test_a_keeper_that_is_killed_is_lost_and_tried_again(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\nretry_max = 0\n")
    process = repo.popen("dispatch", "--json", plan)
    wait_until(lambda: starts(repo), what="the agent")
    os.kill(keeper_pid(repo), signal.SIGKILL)
    wait_until(lambda: len(starts(repo)) == 2, what="the second attempt")
    (repo.home / "go").touch()
    result = repo.finish(process)
    assert result.status == 0 and starts(repo) == ["a 1", "a 2"]
    lost = [line for line in result.lines if line.get("to") == "failed"]
    assert [line["outcome"] for line in lost] == ["lost"]
    assert repo.db("SELECT retries_used FROM task") == [{"retries_used": 0}]
    is_whole(repo)


def test_engine_and_keeper_killed(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\nretry_max = 0\n")
    process = repo.popen("dispatch", plan)
    wait_until(lambda: starts(repo), what="the agent")
    keeper = keeper_pid(repo)
    os.kill(process.pid, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    process.wait()
    again = repo.popen("dispatch", "--json", plan)
    wait_until(lambda: len(starts(repo)) == 2, what="the second attempt")
    (repo.home / "go").touch()
    result = repo.finish(again)
    assert result.status == 0, result
    assert starts(repo) == ["a 1", "a 2"]
    assert [line["outcome"] for line in result.lines if line.get("to") == "failed"] == ["lost"]
    is_whole(repo)


def test_an_adopted_keeper_that_hangs_is_overtaken(repo):
    """The engine's own deadline, half a minute behind the keeper's, is there after a crash, too."""
    plan = repo.plan("[task:a]\ncommand = echo $ORCH_ATTEMPT >> $HOME/starts;"
                     " [ $ORCH_ATTEMPT = 2 ] || sleep 300; echo a > a\ntimeout = 20s\n")
    process = repo.popen("dispatch", plan)
    kill_when(repo, process, lambda: starts(repo) == ["1"], "the agent")
    again = repo.popen("dispatch", plan)
    wait_until(lambda: repo.orch("status", "--json").json["engine"]["running"])
    lock, = repo.state_dir.glob("units/*/shim.lock")
    time.sleep(3)  # or it is woken to be adopted
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGSTOP)
    result = repo.finish(again, timeout=180)
    assert result.status == 0 and "does not keep its deadline" in result.err, result
    assert [row["outcome"] for row in repo.db("SELECT outcome FROM attempt ORDER BY number")] == [
        "lost", "ok"]


def test_three_lost_in_a_row_escalate(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\nretry_max = 9\n")
    process = repo.popen("dispatch", "--json", plan)
    for n in range(1, 4):
        wait_until(lambda: len(starts(repo)) == n, what=f"attempt {n}")
        os.kill(keeper_pid(repo), signal.SIGKILL)
    result = repo.finish(process)
    assert result.status == 1
    assert result.last("a")["to"] == "escalated" and result.last("a")["outcome"] == "lost"


def test_a_unit_of_another_plan_runs_to_its_end(repo):
    """Its tree is committed; nothing new starts for it."""
    first = repo.plan(f"[task:a]\ncommand = {HELD}\n[task:b]\ncommand = echo b > b\n"
                      "depends_on = a\n", "first")
    process = repo.popen("dispatch", first)
    kill_when(repo, process, lambda: starts(repo), "the agent")
    other = repo.popen("dispatch", "--json", repo.plan(
        "[task:x]\ncommand = touch $HOME/go; echo x > x\n", "other"))
    result = repo.finish(other)
    assert result.status == 0, result
    assert repo.git("show", "refs/orch/first/a/1:a") == "a"
    assert not repo.git("for-each-ref", "refs/orch/first/b")
    assert repo.dispatch(first).halt["tasks"] == {"passed": 2}
    assert starts(repo) == ["a 1"]


def test_a_decision_leaves_running_agents_alone(repo):
    """What a dead engine has left is not waited for by a decision, nor ended by its Ctrl+C."""
    other = repo.plan("[invariant:slow]\ncommand = test ! -e $HOME/hold || "
                      "{ touch $HOME/judged; exec sleep 61; }\n"
                      "[task:x]\ncommand = exit 3\nretry_max = 0\n"
                      "[task:z]\ncommand = echo z > z\n"
                      "[task:y]\ncommand = until git rev-parse -q --verify "
                      "orch/other/integration:z; do sleep 0.02; done; echo y > y\n"
                      "gate = human_review\ninvariants = slow\n", "other", max_agents=3)
    repo.dispatch(other, status=2)
    held = repo.plan(f"[task:a]\ncommand = {HELD}\n", "held")
    process = repo.popen("dispatch", held)
    kill_when(repo, process, lambda: starts(repo), "the agent")
    assert repo.orch("retry", "other/x", "--json", timeout=20).json["to"] == "pending"
    assert repo.orch("reject", "held/a", "--reason=no", status=1, timeout=20)
    (repo.home / "hold").touch()
    approve = repo.popen("approve", "other/y")
    wait_until((repo.home / "judged").exists, what="the gate of the merge")
    approve.send_signal(signal.SIGINT)
    assert repo.finish(approve).status == 130
    assert repo.task("y", "other")["status"] == "integrating"
    assert repo.task("a", "held")["status"] == "running"
    commands = [_command(pid) for pid in descendants()]
    assert not any(command.startswith("sleep 61") for command in commands), commands
    assert any("go; do" in command for command in commands), commands
    (repo.home / "hold").unlink()
    (repo.home / "go").touch()
    assert repo.dispatch(other, status=1).last("y")["to"] == "passed"
    assert repo.dispatch(held).halt["tasks"] == {"passed": 1}
    assert starts(repo) == ["a 1"]


# ---- killed at every call of git ----

WRAPPER = """#!/bin/sh
# Counts; at call number $STOP_AT it stops, before or after the real one, until it is killed.
n=$(flock "$COUNT" sh -c 'n=$(($(cat "$COUNT") + 1)); echo $n > "$COUNT"; echo $n')
stop() { echo "$*" > "$STOPPED.new"; mv "$STOPPED.new" "$STOPPED"; exec sleep 60; }
[ "$n" = "$STOP_AT" ] && [ $STOP_WHEN = before ] && stop "$@"
if [ "$n" = "$STOP_AT" ]; then "$REAL_GIT" "$@"; stop "$@"; fi
exec "$REAL_GIT" "$@"
"""

STEPS = ("[invariant:check]\ncommand = test -e a\n"
         "[task:a]\ncommand = echo a >> $HOME/starts; echo a > a\ninvariants = check\n"
         "[task:b]\ncommand = echo b >> $HOME/starts; cat a > b\ndepends_on = a\n")


def wrap_git(repo, stop_at, when):
    bin_dir = repo.home / "bin"
    bin_dir.mkdir()
    wrapper = bin_dir / "git"
    wrapper.write_text(WRAPPER)
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    count = repo.home / "count"
    count.write_text("0\n")
    real = next(path for part in repo.env["PATH"].split(":")
                if os.access(path := os.path.join(part, "git"), os.X_OK))
    return {**repo.env, "PATH": f"{bin_dir}:{repo.env['PATH']}", "COUNT": str(count),
            "REAL_GIT": real, "STOP_AT": str(stop_at), "STOP_WHEN": when,
            "STOPPED": str(repo.home / "stopped")}


@pytest.mark.parametrize("part", range(4))
def test_killed_at_every_call_of_git(repo, part):
    """Before each call with an odd number, after each with an even one."""
    reached = 0
    # Sanitizers make each dispatch slow, and add nothing to what a killed git leaves.
    for call in range(1 + part, 200, 12 if os.environ.get("ORCH_SANITIZED") else 4):
        when = "before" if call % 2 else "after"
        home = repo.home
        stopped = home / "stopped"
        for leftover in (home / "bin").glob("*"):
            leftover.unlink()
        if (home / "bin").exists():
            (home / "bin").rmdir()
        env = wrap_git(repo, call, when)
        plan = repo.plan(STEPS.replace("[task:", f"[task:n{call}"
                                       ).replace("depends_on = a", f"depends_on = n{call}a"),
                         f"p{call}")
        process = repo.popen("dispatch", plan, env=env)
        wait_until(lambda: stopped.exists() or process.poll() is not None, what="git")
        if not stopped.exists():
            assert repo.finish(process).status == 0
            break
        told = stopped.read_text()
        stopped.unlink()
        reached += 1
        process.kill()
        process.wait()
        result = repo.dispatch(plan)
        assert result.halt["tasks"] == {"passed": 2}, (call, told, result)
        assert starts(repo) == ["a", "b"], (call, told)
        (home / "starts").unlink()
        assert repo.db("SELECT t.attempt, t.retries_used FROM task t JOIN plan p ON p.id ="
                       " t.plan_id WHERE p.name = ?", f"p{call}") == [
            {"attempt": 1, "retries_used": 0}] * 2, (call, told)
        assert repo.git("show", f"orch/p{call}/integration:b") == "a"
        is_whole(repo)
    assert reached > 1


# ---- killed at any time ----

def test_killed_while_many_start(repo):
    """Without worktrees a task that was assigned starts at once in the next engine. Whichever of
    them has begun goes on, and none begins twice."""
    work = "echo $ORCH_TASK >> $HOME/starts; while ! test -e $HOME/go; do sleep 0.05; done"
    plan = repo.plan("".join(f"[task:t{n}]\ncommand = {work}\n" for n in range(40)),
                     isolation="none", max_agents=40)
    for n in range(1, 9):
        process = repo.popen("dispatch", "--json", plan)
        time.sleep(0.04 * n)  # the moment is the input of this test
        process.kill()
        process.communicate()
    (repo.home / "go").touch()
    result = repo.dispatch(plan)
    assert result.halt["tasks"] == {"passed": 40}
    assert starts(repo) == sorted(f"t{n}" for n in range(40))
    assert repo.db("SELECT DISTINCT attempt, retries_used FROM task") == [
        {"attempt": 1, "retries_used": 0}]
    assert repo.db("SELECT DISTINCT outcome FROM attempt") == [{"outcome": "ok"}]


def test_killed_again_and_again(repo):
    """A little later each time, until one gets to the end."""
    work = ("echo $ORCH_TASK >> $HOME/starts; for i in 1 2 3; do echo $i; sleep 0.03; done;"
            " echo $ORCH_TASK > $ORCH_TASK")
    plan = repo.plan(
        f"[invariant:check]\ncommand = {ALONE}; sleep 0.05; ls > /dev/null\n"
        + "".join(f"[task:{name}]\ncommand = {work}\ninvariants = check\n{more}"
                  for name, more in (("a", ""), ("b", "depends_on = a\n"),
                                     ("c", "depends_on = a\n"), ("d", "depends_on = b, c\n"))),
        max_agents=1)
    crashes = 0
    for n in range(1, 200):
        process = repo.popen("dispatch", "--json", plan)
        try:
            process.wait(0.010 + n * 0.013)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            crashes += 1
    result = repo.finish(process)
    assert result.status == 0, result
    assert crashes >= 8
    assert starts(repo) == ["a", "b", "c", "d"]
    assert not (repo.home / "overlap").exists()
    for name in "abcd":
        assert messages(repo, name) == [f'{{"text":"{i}"}}' for i in (1, 2, 3)]
    assert repo.db("SELECT attempt, retries_used, status FROM task") == [
        {"attempt": 1, "retries_used": 0, "status": "passed"}] * 4
    assert repo.git("ls-tree", "--name-only", "orch/demo/integration").split() == [
        "README", "a", "b", "c", "d"]
    assert repo.git("rev-list", "--count", "--merges", "orch/demo/integration") == "4"
    is_whole(repo)


def test_a_journal_that_cannot_be_read_is_asked_for_again(repo):
    """The engine cannot know what became of the task: it ends and says why, and is not in doubt for
    ever. The next one, which can read it, takes up what there was."""
    unit = repo.home / "unit"
    journal = "${ORCH_PROMPT_FILE%/*}/events.jsonl"
    plan = repo.plan("[task:a]\ncommand = echo one; echo ${ORCH_PROMPT_FILE%/*} > " + str(unit) +
                     f"; sleep 0.3; mv {journal} {journal}.kept; ln -s nowhere {journal}; "
                     "echo two; echo a > a\n")
    result = repo.finish(repo.popen("dispatch", plan))
    assert result.status not in (0, 1, 2), result
    assert "events.jsonl" in result.err, result
    assert not descendants()
    directory = unit.read_text().strip()
    os.replace(f"{directory}/events.jsonl.kept", f"{directory}/events.jsonl")
    again = repo.orch("dispatch", plan)
    assert again.status == 0, again
    assert messages(repo, "a") == ['{"text":"one"}', '{"text":"two"}']
    row, = repo.db("SELECT attempt, retries_used, status FROM task")
    assert row == {"attempt": 1, "retries_used": 0, "status": "passed"}
    is_whole(repo)


def test_on_crash_kill_is_an_interruption(repo):
    repo.write("orch.ini", "[orch]\non_crash = kill\n")
    plan = repo.plan("[task:a]\ncommand = if [ $ORCH_ATTEMPT = 1 ]; then touch $HOME/up; sleep 300; "
                     "fi; echo a > a\nretry_max = 0\n")
    process = repo.popen("dispatch", plan)
    kill_when(repo, process, lambda: (repo.home / "up").exists(), "the agent")
    wait_until(lambda: not descendants(), what="the end of the unit, 10 s after its engine's")
    repo.dispatch(plan)
    assert [(row["outcome"]) for row in repo.db("SELECT outcome FROM attempt ORDER BY number")] == [
        "interrupted", "ok"]
    assert repo.db("SELECT retries_used FROM task") == [{"retries_used": 0}]
