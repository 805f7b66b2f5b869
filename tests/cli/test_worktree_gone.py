# SPDX-License-Identifier: MIT
"""A worktree that somebody removed costs the attempt that was in it, and nobody else anything."""

import shutil
import signal

from conftest import wait_until

OTHER = "[task:other]\ncommand = echo other > other\n"


def worktree(repo, task):
    return next((repo.home / "state").glob(f"orch/*/demo+{task}"))


def test_by_its_agent(repo):
    plan = repo.plan('[task:a]\ncommand = if [ $ORCH_ATTEMPT = 1 ]; then rm -rf "$PWD"; '
                     'else echo a > a; fi\n' + OTHER)
    repo.dispatch(plan)
    assert [row["outcome"] for row in repo.db(
        "SELECT a.outcome FROM attempt a JOIN task t ON t.id = a.task_id WHERE t.name = 'a'"
        " ORDER BY number")] == ["uncommittable", "ok"]
    assert "is gone" in repo.orch("log", "a").out
    assert repo.task("other")["attempt"] == 1


def test_a_link_in_its_place(repo):
    """What it leads to is neither committed nor touched."""
    other = repo.home / "other"
    other.mkdir()
    (other / "kept").write_text("mine\n")
    repo.dispatch(repo.plan(
        '[task:a]\ncommand = if [ $ORCH_ATTEMPT = 1 ]; then p="$PWD"; rm -rf "$p"; '
        'ln -s $HOME/other "$p"; else echo a > a; fi\n'))
    assert repo.task("a")["attempt"] == 2
    assert [path.name for path in other.iterdir()] == ["kept"]
    assert "kept" not in repo.git("log", "--all", "--name-only", "--format=")


def test_by_its_agent_each_time(repo):
    plan = repo.plan('[task:a]\ncommand = rm -rf "$PWD"\nretry_max = 1\n' + OTHER)
    result = repo.dispatch(plan, status=1)
    assert result.moves("other")[-1] == "passed", result
    assert repo.task("a")["reason"].startswith("uncommittable: the worktree '")
    repo.orch("cleanup", "--force", "demo")


def test_beside_a_dead_engine_and_keeper(repo):
    plan = repo.plan("[task:a]\ncommand = touch $HOME/up; test $ORCH_ATTEMPT = 2 || sleep 100;"
                     " echo a > a\n")
    process = repo.popen("dispatch", plan)
    wait_until(lambda: (repo.home / "up").exists())
    process.kill()
    process.wait()
    shutil.rmtree(worktree(repo, "a"))
    again = repo.popen("dispatch", plan)
    wait_until(lambda: (repo.orch("status", "--json").json["engine"] or {}).get("pid") == again.pid)
    again.send_signal(signal.SIGINT)
    assert repo.finish(again).status == 130
    repo.dispatch(plan)
    assert repo.task("a")["attempt"] == 2 and repo.task("a")["status"] == "passed"


def test_by_an_invariant(repo):
    plan = repo.plan('[invariant:once]\ncommand = if mkdir $HOME/once; then rm -rf "$PWD"; fi\n'
                     "[invariant:next]\ncommand = test -e a\n"
                     "[task:a]\ncommand = echo a > a\ninvariants = once, next\n" + OTHER)
    result = repo.dispatch(plan)
    assert result.moves("other").count("passed") == 1, result
    assert "gate_failed: next: could not be run" in repo.orch("log", "a").out
    assert repo.task("a")["attempt"] == 2


def test_before_its_gate(repo):
    plan = repo.plan("[invariant:slow]\ncommand = if mkdir $HOME/once; then sleep 100; fi; "
                     "test -e a\n[task:a]\ncommand = echo a > a\ninvariants = slow\n" + OTHER)
    process = repo.popen("dispatch", plan)
    wait_until(lambda: (repo.home / "once").exists())
    process.kill()
    process.wait()
    shutil.rmtree(worktree(repo, "a"))
    repo.dispatch(plan)
    assert repo.task("a")["status"] == "passed"
