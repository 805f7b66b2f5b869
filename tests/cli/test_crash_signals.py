# SPDX-License-Identifier: MIT
"""The first and the second signal, state by state (A8.7)."""

import fcntl
import json
import os
import signal
import subprocess
import time

import pytest

from conftest import descendants, left_processes, orch_bin, wait_until

F_SETPIPE_SZ = 1031  # fcntl has it since Python 3.10
HELD = ("echo $ORCH_ATTEMPT > part; echo $ORCH_TASK $ORCH_ATTEMPT >> $HOME/starts;"
        " while ! test -e $HOME/go; do sleep 0.02; done; echo $ORCH_TASK > $ORCH_TASK")
# Takes no notice of SIGTERM, nor do its children in sessions of their own.
STUBBORN = ("trap '' TERM; echo part > part; echo start >> $HOME/starts;"
            " setsid sh -c 'trap \"\" TERM; while ! test -e $HOME/go; do sleep 0.05; done' &"
            " while ! test -e $HOME/go; do sleep 0.05; done; echo > done")


def starts(repo):
    file = repo.home / "starts"
    return sorted(file.read_text().splitlines()) if file.exists() else []


def begun(repo, plan, *args, until=None, **kwargs):
    process = repo.popen("dispatch", "--json", *args, plan, **kwargs)
    until = until or (lambda: starts(repo))
    wait_until(lambda: until() or process.poll() is not None)
    assert process.poll() is None, repo.finish(process)
    return process


def stop(repo, process, number=signal.SIGTERM):
    process.send_signal(number)
    result = repo.finish(process)
    assert result.status == 130, result
    assert result.halt["reason"] == "interrupted" and result.halt["exit_status"] == 130
    assert descendants() == []
    return result


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_running_becomes_failed_interrupted_with_its_tree(repo, number):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\nretry_max = 0\n"
                     "[task:b]\ncommand = echo b > b\ndepends_on = a\n")
    result = stop(repo, begun(repo, plan), number)
    last = result.last("a")
    assert (last["to"], last["outcome"]) == ("failed", "interrupted")
    assert last["reason"].startswith("interrupted")
    assert result.moves("b") == []
    assert result.halt["tasks"] == {"failed": 1, "pending": 1}
    assert repo.git("show", "refs/orch/demo/a/1:part") == "1"
    assert "Orch-Outcome: interrupted" in repo.git("log", "-1", "--format=%B",
                                                   "refs/orch/demo/a/1")
    (repo.home / "go").touch()
    again = repo.dispatch(plan)
    assert again.halt["tasks"] == {"passed": 2} and again.last("a")["attempt"] == 2
    assert repo.db("SELECT retries_used FROM task") == [{"retries_used": 0}] * 2


def test_the_summary_names_the_command_to_go_on_with(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n")
    process = repo.popen("dispatch", plan)
    wait_until(lambda: starts(repo))
    process.send_signal(signal.SIGINT)
    result = repo.finish(process)
    assert result.status == 130 and "orch dispatch demo" in result.out
    (repo.home / "go").touch()
    assert repo.dispatch("demo").status == 0


def test_the_state_is_committed_after_the_last_save(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n")
    stop(repo, begun(repo, plan))
    text = repo.git("show", "refs/orch/state:orch-plan.demo.ini")
    assert "[state:a]" in text and "interrupted" in text
    assert "(interrupted)" in repo.git("log", "-1", "--format=%s", "refs/orch/state")


def test_an_agent_may_end_by_itself_on_sigterm_but_is_not_judged(repo):
    """Half-done work is never judged, whatever the agent says after it was asked to end."""
    plan = repo.plan("[task:a]\ncommand = trap 'echo tidy > tidy; exit 0' TERM;"
                     " echo start >> $HOME/starts; while :; do sleep 0.02; done\n")
    result = stop(repo, begun(repo, plan))
    assert result.last("a")["outcome"] == "interrupted"
    assert repo.git("show", "refs/orch/demo/a/1:tidy") == "tidy"


def test_the_drain_ends_with_sigkill(repo):
    plan = repo.plan(f"[task:a]\ncommand = {STUBBORN}\n")
    process = begun(repo, plan, "--drain-timeout=700ms")
    before = time.monotonic()
    stop(repo, process)
    assert 0.6 < time.monotonic() - before < 30
    assert repo.git("show", "refs/orch/demo/a/1:part") == "part"


def test_signals_close_together_are_one(repo):
    plan = repo.plan("[task:a]\ncommand = trap 'sleep 0.6; echo tidy > tidy; exit 0' TERM;"
                     " echo start >> $HOME/starts; while :; do sleep 0.02; done\n")
    process = begun(repo, plan)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    stop(repo, process, signal.SIGTERM)
    assert repo.git("show", "refs/orch/demo/a/1:tidy") == "tidy"
    assert repo.git("rev-parse", "refs/orch/state")


def test_the_second_signal_ends_everything_at_once(repo):
    plan = repo.plan(f"[task:a]\ncommand = {STUBBORN}\n"
                     f"[task:b]\ncommand = {STUBBORN}\n")
    process = begun(repo, plan, "--drain-timeout=60s", until=lambda: len(starts(repo)) == 2)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)  # more than what makes two signals one
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = repo.finish(process)
    assert time.monotonic() - before < 30  # half of the drain
    assert result.status == 130
    assert wait_until(lambda: descendants() == [])
    assert repo.git("for-each-ref", "refs/orch/state") == ""
    (repo.home / "go").touch()
    again = repo.dispatch(plan)
    assert again.halt["tasks"] == {"passed": 2}
    for task in "ab":
        assert repo.git("show", f"refs/orch/demo/{task}/1:part") == "part"
        assert "interrupted" in repo.git("log", "-1", "--format=%B", f"refs/orch/demo/{task}/1")


def test_commits_that_the_second_signal_cut_off_are_made_first(repo, tmp_path):
    """git takes longer than half a second."""
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "git").write_text(
        "#!/bin/sh\ncase \" $* \" in *' write-tree '*) touch $HOME/writing; sleep 30;; esac\n"
        f"PATH={repo.env['PATH']} exec git \"$@\"\n")
    (slow / "git").chmod(0o755)
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n")
    process = begun(repo, plan, env={**repo.env, "PATH": f"{slow}:{repo.env['PATH']}"})
    process.send_signal(signal.SIGTERM)
    wait_until((repo.home / "writing").exists, what="the commit")
    time.sleep(1)
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = repo.finish(process)
    assert result.status == 130 and time.monotonic() - before < 25
    assert repo.git("for-each-ref", "refs/orch") == ""
    assert repo.task("a")["status"] == "running"
    (repo.home / "go").touch()
    again = repo.dispatch(plan)
    assert again.last("a")["attempt"] == 2 and again.last("a")["to"] == "passed"
    assert again.moves("a")[:2] == ["failed", "pending"]
    assert repo.git("show", "refs/orch/demo/a/1:part") == "1"
    assert "Orch-Outcome: interrupted" in repo.git("log", "-1", "--format=%B",
                                                   "refs/orch/demo/a/1")


def test_assigned_and_never_ran_is_pending_again(repo):
    plan = repo.plan("[task:a]\ncommand = echo start >> $HOME/starts; echo a > a\n", setup=(
        "touch $HOME/setup; while ! test -e $HOME/go; do sleep 0.02; done"))
    process = begun(repo, plan, until=(repo.home / "setup").exists)
    result = stop(repo, process)
    assert result.moves("a") == ["assigned", "pending"]
    (repo.home / "go").touch()
    again = repo.dispatch(plan)
    assert again.last("a")["attempt"] == 1 and starts(repo) == ["start"]


GATED = ("[invariant:check]\ncommand = case $PWD in */{where}) touch $HOME/gate;"
         " while ! test -e $HOME/go; do sleep 0.02; done;; esac; test -e a\n"
         "[task:a]\ncommand = echo start >> $HOME/starts; echo a > a\ninvariants = check\n")


@pytest.mark.parametrize("where,state", [("demo+a", "checking"), ("demo+", "integrating")])
def test_a_gate_is_ended_and_runs_anew(repo, where, state):
    plan = repo.plan(GATED.replace("{where}", where))
    process = begun(repo, plan, until=(repo.home / "gate").exists)
    result = stop(repo, process)
    assert result.last("a")["to"] == state and result.last("a")["outcome"] == "ok"
    assert repo.git("rev-parse", "orch/demo/integration") == repo.git("rev-parse", "main")
    (repo.home / "go").touch()
    again = repo.dispatch(plan)
    assert again.last("a")["to"] == "passed" and again.last("a")["attempt"] == 1
    assert starts(repo) == ["start"]


def test_awaiting_review_is_untouched(repo):
    plan = repo.plan("[task:r]\ncommand = echo r > r\ngate = human_review\n"
                     f"[task:a]\ncommand = {HELD}\n")
    process = begun(repo, plan, until=lambda: starts(repo) and repo.task("r")["status"]
                    == "awaiting_review")
    stop(repo, process)
    assert repo.task("r")["status"] == "awaiting_review"


def test_a_task_that_waits_for_its_next_attempt_stays_pending(repo):
    plan = repo.plan("[task:a]\ncommand = echo start >> $HOME/starts; exit 1\nretry_max = 5\n")
    process = begun(repo, plan, env={**repo.env, "ORCH_RETRY_BACKOFF": "60s"}, until=lambda: (
        starts(repo) and repo.task("a")["status"] == "pending"))
    stop(repo, process)
    assert repo.task("a")["status"] == "pending"


# ---- how signals come ----

def test_an_ignored_hangup_stays_ignored(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}; grep SigIgn /proc/self/status > ign\n")
    process = begun(repo, plan,
                    preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    (repo.home / "go").touch()
    assert repo.finish(process).status == 0
    ignored = int(repo.git("show", "orch/demo/integration:ign").split()[1], 16)
    assert ignored & (1 << (signal.SIGHUP - 1)), "children get what the caller had"


def test_under_nohup_a_term_still_stops(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n")
    process = begun(repo, plan,
                    preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    stop(repo, process)


def test_a_blocked_mask_of_the_caller_does_not_matter(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n")
    process = begun(repo, plan, preexec_fn=lambda: signal.pthread_sigmask(
        signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD]))
    stop(repo, process)


def test_a_kill_of_the_process_group_reaches_orch_alone(repo):
    plan = repo.plan("[task:a]\ncommand = trap 'echo once >> $HOME/terms; exit 0' TERM INT;"
                     " echo start >> $HOME/starts; while :; do sleep 0.02; done\n")
    process = begun(repo, plan, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)
    assert repo.finish(process).status == 130
    assert (repo.home / "terms").read_text() == "once\n"


def test_sigkill_of_the_process_group_leaves_the_agent(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n")
    process = begun(repo, plan, start_new_session=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.communicate()
    (repo.home / "go").touch()
    assert repo.dispatch(plan).last("a")["attempt"] == 1
    assert starts(repo) == ["a 1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_of_the_start(repo, number):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n")
    for ms in range(0, 70, 4):
        # orch holds signals back from main on: wait for that, the loader cannot.
        process = repo.popen("dispatch", plan)
        mask = f"/proc/{process.pid}/status"
        wait_until(lambda: (int(next(line for line in open(mask) if line.startswith("SigBlk"))
                                .split()[1], 16) & (1 << (number - 1))) != 0)
        time.sleep(ms / 1000)
        process.send_signal(number)
        result = repo.finish(process)
        assert result.status == 130, (ms, result)
        assert descendants() == [], ms
    (repo.home / "go").touch()
    repo.dispatch(plan)


def test_a_signal_in_the_preflight_ends_the_agents_of_an_earlier_engine(repo, tmp_path):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "git").write_text(
        "#!/bin/sh\ncase \" $* \" in *' cat-file '*)\n"
        "test -e $HOME/slow || { touch $HOME/slow; exec sleep 30; };; esac\n"
        f"PATH={repo.env['PATH']} exec git \"$@\"\n")
    (slow / "git").chmod(0o755)
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n[task:b]\ncommand = echo b > b\n",
                     max_agents=1)
    process = begun(repo, plan)
    process.kill()
    process.wait()
    assert descendants()
    process = begun(repo, plan, env={**repo.env, "PATH": f"{slow}:{repo.env['PATH']}"},
                    until=(repo.home / "slow").exists)
    result = stop(repo, process)
    assert result.halt["tasks"] == {"failed": 1, "pending": 1}
    assert repo.git("show", "refs/orch/demo/a/1:part") == "1"


def test_stopped_agents_end_too(repo):
    """What is stopped does not act on SIGTERM."""
    plan = repo.plan("[task:a]\ncommand = echo start >> $HOME/starts; kill -STOP $$; echo > x\n")
    process = begun(repo, plan, "--drain-timeout=2s")
    wait_until(lambda: any(line.split()[2] == "T" for pid in descendants()
                           for line in [open(f"/proc/{pid}/stat").read()]))
    before = time.monotonic()
    stop(repo, process)
    assert time.monotonic() - before < 30


def stopped_keeper(repo):
    lock, = repo.state_dir.glob("units/*/shim.lock")
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGSTOP)


def test_a_stopped_keeper_hears_of_the_stop(repo):
    process = begun(repo, repo.plan(f"[task:a]\ncommand = {HELD}\n"), "--drain-timeout=1s")
    stopped_keeper(repo)
    assert stop(repo, process).last("a")["outcome"] == "interrupted"
    assert repo.git("show", "refs/orch/demo/a/1:part") == "1"


def test_a_stopped_keeper_hears_of_the_second_stop(repo):
    process = begun(repo, repo.plan(f"[task:a]\ncommand = {STUBBORN}\n"), "--drain-timeout=60s")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)  # or it is the same signal
    stopped_keeper(repo)
    process.send_signal(signal.SIGTERM)
    assert repo.finish(process).status == 130
    assert left_processes() == []


def test_nohup_itself(repo):
    plan = repo.plan("[task:a]\ncommand = echo a > a\n")
    repo.sh(f"nohup {orch_bin()} dispatch {plan} >/dev/null 2>&1")
    assert repo.task("a")["status"] == "passed"


# ---- a reader that does not read ----

def many(repo, count=150):
    """What their dispatch says is more than the smallest pipe holds."""
    return repo.plan("[task:held]\npriority = 9\n" + f"command = {HELD}\n" + "".join(
        f"[task:t{n}]\ncommand = exit 1\nretry_max = 0\n" for n in range(count)),
        isolation="none", max_agents=8)


def unread(repo, plan, *args, **kwargs):
    """A dispatch whose output nobody reads, once all but one task have ended."""
    repo.env["ORCH_RETRY_BREAKER"] = "100000"
    out, end = os.pipe()
    fcntl.fcntl(end, F_SETPIPE_SZ, 4096)
    process = repo.popen("dispatch", *args, plan, stdout=end, **kwargs)
    os.close(end)
    wait_until(lambda: starts(repo) and {task["status"] for task in repo.status()["tasks"]
                                         if task["name"] != "held"} == {"escalated"},
               what="the end of the others")
    return process, out


@pytest.mark.parametrize("err", [subprocess.PIPE, subprocess.STDOUT])
def test_a_reader_that_does_not_read_holds_nothing_up(repo, err):
    process, out = unread(repo, many(repo), "--json", stderr=err)
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = repo.finish(process)
    assert result.status == 130 and time.monotonic() - before < 30
    assert repo.task("held")["outcome"] == "interrupted"
    assert b'"halt"' not in os.read(out, 1 << 20)
    os.close(out)


def test_orch_stop_is_not_held_up_either(repo):
    process, out = unread(repo, many(repo), "--json")
    repo.orch("stop")
    assert repo.finish(process).status == 130
    os.close(out)


def test_a_reader_that_reads_late_gets_it_all(repo):
    process, out = unread(repo, many(repo), "--json")
    (repo.home / "go").touch()
    wait_until(lambda: repo.task("held")["status"] == "passed")
    with open(out) as file:
        lines = [json.loads(line) for line in file]
    assert repo.finish(process).status == 1
    assert lines[-1]["type"] == "halt" and lines[-1]["tasks"] == {"escalated": 150, "passed": 1}
    ends = [line["task"] for line in lines[:-1] if line["to"] in ("escalated", "passed")]
    assert sorted(ends) == sorted(["held"] + [f"t{n}" for n in range(150)])


def test_at_the_end_a_signal_ends_the_wait_for_the_reader(repo):
    process, out = unread(repo, many(repo), "--json")
    (repo.home / "go").touch()
    wait_until(lambda: repo.status()["halt"])
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert repo.finish(process).status == 1
    os.close(out)


def test_a_reader_that_goes_away(repo):
    process, out = unread(repo, many(repo), "--json")
    os.close(out)
    (repo.home / "go").touch()
    result = repo.finish(process)
    assert result.status == 1 and "cannot write to standard output" in result.err
    assert repo.task("held")["status"] == "passed"
