# SPDX-License-Identifier: MIT
"""A worktree that somebody removed costs the attempt that was in it, and nobody else anything."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import orch_bin, wait_until

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


def test_moved_by_its_agent(repo):
    """With its work: what git can still find is not gone."""
    repo.dispatch(repo.plan(
        '[task:a]\ncommand = echo a > a; git worktree move "$PWD" "$PWD.moved"; '
        'cd "$PWD.moved"; echo b > b\nretry_max = 0\n' + OTHER))
    assert repo.git("ls-tree", "--name-only", "orch/demo/integration").split() == [
        "README", "a", "b", "other"]
    assert len(repo.git("worktree", "list").splitlines()) == 1


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


@pytest.fixture
def ordinary():
    """run(command...): as a user whom permissions bind, in a repository of its own; orch is copied to
    where that user finds it."""
    root = os.geteuid() == 0
    base = pathlib.Path(tempfile.mkdtemp(prefix="orch-ordinary-", dir="/tmp"))
    built = pathlib.Path(orch_bin()).parent
    for name in ("orch", "orch-shim"):
        shutil.copy(built / name, base)
    (base / "plugins").mkdir()
    shutil.copy(built / "plugins" / "orch-harness-shell.so", base / "plugins")
    (base / "repo").mkdir()
    env = {**os.environ, "HOME": str(base), "XDG_STATE_HOME": str(base / "state"),
           "XDG_CONFIG_HOME": str(base / "config"), "ORCH_MIN_FREE_MEMORY": "0",
           "ORCH_MIN_FREE_DISK": "0", "ORCH_RETRY_BACKOFF": "10ms"}
    if root:
        subprocess.run(["chown", "-R", "65534:65534", base], check=True)

    def run(*command, status=0):
        who = {"user": 65534, "group": 65534, "extra_groups": []} if root else {}
        result = subprocess.run(command, cwd=base / "repo", env=env, capture_output=True, text=True,
                                timeout=120, **who)
        assert result.returncode == status, result
        return result.stdout
    run.orch = base / "orch"
    run("sh", "-ec", "git init -q -b main; git config user.name a; git config user.email a@b;"
        " echo hi > f; git add f; git commit -qm first")
    yield run
    subprocess.run(["chmod", "-R", "u+rwx", base], check=True)
    shutil.rmtree(base)


def test_a_worktree_without_permissions(ordinary):
    """Unreadable by its agent, by an invariant, and such that nothing in it can be replaced."""
    plan = """[plan]
name = demo
harness = shell
[invariant:locks]
command = if mkdir $HOME/once; then chmod 000 .; fi
[invariant:writes]
command = echo more >> f; chmod 555 .
[task:a]
command = chmod 000 .
retry_max = 0
[task:b]
command = echo b > b
invariants = locks
[task:c]
command = echo c > c
invariants = writes
[task:d]
command = echo d > d; chmod 555 .
"""
    ordinary("sh", "-c", 'printf %s "$1" > ../plan.ini', "sh", plan)
    ordinary(ordinary.orch, "dispatch", "../plan.ini", status=1)
    tasks = {task["name"]: (task["status"], task["outcome"], task["attempt"]) for task in json.loads(
        ordinary(ordinary.orch, "status", "--json"))["plans"][0]["tasks"]}
    assert tasks == {"a": ("escalated", "uncommittable", 1), "b": ("passed", "ok", 1),
                     "c": ("passed", "ok", 1), "d": ("passed", "ok", 1)}
    assert ordinary("git", "show", "orch/demo/integration:f") == "hi\n"
    ordinary(ordinary.orch, "cleanup", "--force", "demo")
    assert ordinary("git", "worktree", "list").count("\n") == 1


def test_what_is_mounted_in_it_is_left_alone(repo):
    """The directory that an agent has bound into its worktree is somebody else's."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace of our own may be made here")
    other = repo.home / "other dir"
    other.mkdir()
    (other / "kept").write_text("mine\n")
    plan = repo.plan('[task:a]\ncommand = if [ $ORCH_ATTEMPT = 1 ]; then echo "m m" > .gitignore; '
                     'mkdir "m m"; mount --bind "$HOME/other dir" "m m"; exit 1; fi; echo a > a\n'
                     "retry_max = 1\n")
    process = subprocess.run(["unshare", "-m", orch_bin(), "dispatch", plan], cwd=repo.path,
                             env=repo.env, capture_output=True, timeout=60)
    assert process.returncode in (0, 1), process
    assert (other / "kept").read_text() == "mine\n"


def test_another_git_took_a_record_while_ours_read_them(repo, tmp_path):
    """git fails where a record goes under its eyes; the second time it does not."""
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "git").write_text(
        "#!/bin/sh\ncase \" $* \" in *' worktree add '*) if mkdir $HOME/failed 2>/dev/null; then"
        " echo \"fatal: Invalid path 'x': No such file or directory\" >&2; exit 128; fi;; esac\n"
        f"PATH={repo.env['PATH']} exec git \"$@\"\n")
    (fake / "git").chmod(0o755)
    result = repo.dispatch(repo.plan(OTHER), env={"PATH": f"{fake}:{repo.env['PATH']}"})
    assert (repo.home / "failed").exists()
    assert result.moves("other") == ["assigned", "running", "checking", "integrating", "passed"]
