# SPDX-License-Identifier: MIT
"""FIFOs where orch, or git for it, reads a file: nobody ever writes into them."""

import os
import signal
import time

import pytest

from conftest import wait_until

RECORD = "D=$(git rev-parse --git-dir); "


@pytest.mark.parametrize("file", ["HEAD", "gitdir", "commondir", "index", "orch-copied", "locked"])
def test_a_fifo_in_the_worktrees_record(repo, file):
    """The work is committed all the same, and other tasks get their worktrees."""
    result = repo.dispatch(repo.plan(
        f"[task:a]\ncommand = echo a > a; {RECORD} rm -f $D/{file}; mkfifo $D/{file}\n"
        "[task:b]\ncommand = echo b > b\ndepends_on = a\n"), timeout=40)
    assert result.halt["reason"] == "completed"
    assert repo.git("show", "orch/demo/integration:a") == "a"
    assert repo.git("show", "orch/demo/integration:b") == "b"


def test_beside_an_agent_that_made_one(repo):
    """Another task's worktree is made while the agent still works."""
    result = repo.dispatch(repo.plan(
        f"[task:a]\ncommand = echo a > a; {RECORD} rm $D/HEAD; mkfifo $D/HEAD; touch $HOME/made;"
        " while ! test -e $HOME/go; do sleep 0.02; done\n"
        "[task:b]\ncommand = while ! test -e $HOME/made; do sleep 0.02; done; echo b > b\n"
        "[task:c]\ncommand = echo c > c; touch $HOME/go\ndepends_on = b\n"), timeout=40)
    assert result.halt["reason"] == "completed"


@pytest.mark.parametrize("name", [".gitattributes", ".gitignore"])
def test_one_that_git_reads_in_the_worktree(repo, name):
    result = repo.dispatch(repo.plan(
        f"[task:a]\ncommand = echo a > a; test $ORCH_ATTEMPT != 1 || mkfifo {name}\n"), timeout=40)
    assert result.halt["reason"] == "completed"
    assert repo.orch("report", "--json").json["tasks"][0]["attempts"][0]["outcome"] == "uncommittable"
    assert name in repo.orch("report", "--json").json["tasks"][0]["attempts"][0]["reason"]


def test_one_for_the_exclude_file(repo):
    """It is the repository's: told, and left to whom it belongs to."""
    plan = repo.plan("[task:a]\ncommand = echo a > a; F=$(git rev-parse --git-common-dir)/info/exclude;"
                     " rm -f $F; mkfifo $F\n")
    repo.dispatch(plan, status=None, timeout=40)
    exclude = repo.path / ".git/info/exclude"
    result = repo.orch("dispatch", "demo", status=None, timeout=20)
    assert result.status != 0 and "FIFO" in result.err
    exclude.unlink()
    assert repo.dispatch("demo").halt["reason"] == "completed"


def test_the_first_signal_ends_a_git_that_waits(repo):
    """Deeper down nobody looks for one before git does."""
    plan = repo.plan("[task:a]\ncommand = mkdir -p d; echo a > d/a; mkfifo d/.gitignore\n"
                     "retry_max = 0\n")
    process = repo.popen("dispatch", "--drain-timeout=1s", plan)
    wait_until(lambda: repo.git("rev-parse", "--verify", "-q", "orch/demo/integration", check=False))
    wait_until(lambda: repo.task("a")["status"] == "running")
    time.sleep(1)
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = repo.finish(process)
    assert result.status == 130 and time.monotonic() - before < 45
    os.unlink(repo.task("a")["worktree"] + "/d/.gitignore")
    repo.dispatch("demo", status=None)
    assert repo.git("show", "refs/orch/demo/a/1:d/a") == "a"
