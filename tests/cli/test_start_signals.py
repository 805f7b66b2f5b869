# SPDX-License-Identifier: MIT
"""A stop signal at any moment of the start: a clean end, nothing left behind."""

import fcntl
import os
import signal
import stat
import subprocess
import time

import pytest

from conftest import wait_until


def slow_git(repo, verb):
    """A git in front of the real one that stands still at one subcommand, until it is told to end."""
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True).stdout.strip()
    bin_dir = repo.home / "bin"
    bin_dir.mkdir()
    fake = bin_dir / "git"
    fake.write_text(f"""#!/bin/sh
for word in "$@"; do
	[ "$word" = {verb} ] || continue
	echo $$ > {repo.home}/at
	exec sleep 600
done
exec {real} "$@"
""")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return {**repo.env, "PATH": f"{bin_dir}:{repo.env['PATH']}"}


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("verb", ["rev-parse", "worktree", "update-ref"])
def test_signal_while_git_is_at_work(repo, verb, sig):
    plan = repo.plan("[task:a]\ncommand = touch a\n")
    process = repo.popen("dispatch", plan, env=slow_git(repo, verb))
    wait_until((repo.home / "at").exists, what=f"git {verb}")
    process.send_signal(sig)
    result = repo.finish(process, timeout=30)
    assert result.status == 130, result
    assert not (repo.state_dir / "orch.sock").exists()
    repo.orch("dispatch", plan)
    assert repo.task("a")["status"] == "passed" and repo.task("a")["attempt"] == 1


@pytest.mark.parametrize("delay", range(0, 40, 3))
def test_signal_at_some_early_moment(repo, delay):
    plan = repo.plan("[task:a]\ncommand = touch a\n")
    process = repo.popen("dispatch", plan)
    try:
        process.wait(timeout=delay / 1000)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    result = repo.finish(process, timeout=30)
    # Before main has blocked the signal, the shell's own ending (-15) is the truth.
    assert result.status in (0, 130, -signal.SIGTERM), result
    if result.status == -signal.SIGTERM:
        assert not os.path.exists(repo.state_dir)
    assert not (repo.state_dir / "orch.sock").exists()
    repo.orch("dispatch", plan)
    assert repo.task("a")["status"] == "passed"


def test_signal_while_the_git_of_a_dead_engine_is_waited_for(repo):
    plan = repo.plan("[task:a]\ncommand = touch a\n")
    repo.orch("plan", "import", plan)
    with open(repo.state_dir / "git.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = repo.popen("dispatch", plan)
        wait_until((repo.state_dir / "lock").exists)
        time.sleep(0.5)  # whether it waits yet is all the same
        process.send_signal(signal.SIGTERM)
        result = repo.finish(process)
        assert result.status == 130 and str(os.getpid()) in result.err, result
    repo.orch("dispatch", plan)
    assert repo.task("a")["status"] == "passed" and repo.task("a")["attempt"] == 1


WORK = "[task:a]\ncommand = touch a\n"


def reader_of(fifo):
    """A descriptor to write to it, once orch has opened it."""
    def try_open():
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None
    return wait_until(try_open, what=f"a reader of {fifo}")


@pytest.mark.parametrize("what", ["plan", "prompt", "config", "stdin"])
def test_a_signal_while_orch_reads_from_a_pipe(repo, what):
    """Somebody has yet to write into it, and perhaps never will."""
    fifo = repo.home / "fifo"
    os.mkfifo(fifo)
    plan = repo.plan("[task:a]\nprompt_file = fifo\n" if what == "prompt" else WORK)
    args = {"plan": ["dispatch", fifo], "prompt": ["dispatch", plan], "stdin": ["dispatch", "-"],
            "config": ["--config", fifo, "dispatch", plan]}[what]
    stdin, end = os.pipe()
    process = repo.popen(*args, stdin=stdin)
    os.close(stdin)
    if what == "stdin":
        wait_until((repo.state_dir / "lock").exists)
    else:
        os.close(end)
        end = reader_of(fifo)
    process.send_signal(signal.SIGINT)
    try:
        result = repo.finish(process, timeout=30)
    finally:
        os.close(end)
    assert result.status == 130 and "was stopped" in result.err, result
    assert not (repo.state_dir / "orch.sock").exists()


def test_a_plan_that_is_written_little_by_little(repo):
    fifo = repo.home / "fifo"
    os.mkfifo(fifo)
    text = open(repo.plan(WORK)).read()
    process = repo.popen("dispatch", fifo)
    end = reader_of(fifo)
    os.write(end, text[:9].encode())
    time.sleep(0.2)
    os.write(end, text[9:].encode())
    os.close(end)
    assert repo.finish(process).status == 0
    assert repo.task("a")["status"] == "passed"
