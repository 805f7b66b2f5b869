# SPDX-License-Identifier: MIT
"""An agent that spoils the directory of its own unit is lost, like one whose keeper died."""

import json
import os
import pathlib
import resource
import shutil
import time

import pytest

from conftest import descendants, wait_until
from test_worktree_gone import ordinary  # noqa: F401 (a fixture)

DIR = 'd=$(dirname "$ORCH_PROMPT_FILE"); '
OTHER = "[task:other]\ncommand = echo other > other\n"
ALONE = "retry_max = 0\n"


def outcomes(repo, task):
    return [row["outcome"] for row in repo.db(
        "SELECT a.outcome FROM attempt a JOIN task t ON t.id = a.task_id WHERE t.name = ?"
        " ORDER BY number", task)]


@pytest.mark.parametrize("script", [
    'rm -rf "$d"', 'mkdir -p "$d/exit.json/x"', 'rm -rf "$d"; echo > "$d"',
    'rm "$d/shim.lock"; mkdir -p "$d/exit.json/x"',
    'ln -sfn nowhere "$d/exit.json"',
], ids=["gone", "exit", "file", "lock", "link"])
def test_each_time(repo, script):
    result = repo.dispatch(repo.plan(f"[task:a]\ncommand = {DIR}{script}; echo a > a\n" + OTHER),
                           status=None)
    assert result.status in (0, 1), result
    assert repo.task("other")["status"] == "passed"
    told = outcomes(repo, "a")
    assert told == ["lost"] * 3 or told == ["ok"], result
    assert (told == ["ok"]) == script.startswith("ln"), result
    if told != ["ok"]:
        assert repo.task("a")["status"] == "escalated"
        repo.orch("status"), repo.orch("log", "a"), repo.orch("cleanup", "--force", "demo")


def test_once(repo):
    repo.dispatch(repo.plan(f"[task:a]\ncommand = test $ORCH_ATTEMPT != 1 || {{ {DIR}rm -rf \"$d\"; }};"
                            " echo a > a\n"))
    assert outcomes(repo, "a") == ["lost", "ok"]


def test_what_it_started_is_ended(repo):
    """The fixture sees that nothing is left."""
    repo.dispatch(repo.plan(f"[task:a]\ncommand = test $ORCH_ATTEMPT != 1 || {{ {DIR}"
                            "setsid sleep 100 & rm -rf \"$d\"; }; echo a > a\n"))
    assert outcomes(repo, "a") == ["lost", "ok"]


def test_without_permissions(ordinary):  # noqa: F811
    plan = ("[plan]\nname = demo\nharness = shell\n[task:a]\ncommand = test $ORCH_ATTEMPT != 1 || "
            f"{{ {DIR}chmod 555 \"$d\"; }}; echo a > a\n" + OTHER)
    ordinary("sh", "-c", 'printf %s "$1" > ../plan.ini', "sh", plan)
    ordinary(ordinary.orch, "dispatch", "../plan.ini")
    tasks = {task["name"]: (task["status"], task["attempt"]) for task in json.loads(
        ordinary(ordinary.orch, "status", "--json"))["plans"][0]["tasks"]}
    assert tasks == {"a": ("passed", 2), "other": ("passed", 1)}


def test_a_keeper_without_descriptors_does_not_spin(repo):
    """Its agent takes its descriptors away: it waits all the same, and sees how its unit ends."""
    process = repo.popen("dispatch", "--json", repo.plan(
        "[task:a]\ncommand = touch $HOME/up; while [ ! -e $HOME/go ]; do sleep 0.05; done; "
        "echo a > a\nretry_max = 0\n"))
    wait_until((repo.home / "up").exists, what="the agent")
    unit, = (path.name for path in (repo.state_dir / "units").iterdir())
    keeper = next(pid for pid in descendants() if pathlib.Path(
        f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").startswith(
            f"orch-shim {unit}".encode()))

    def ticks():
        fields = pathlib.Path(f"/proc/{keeper}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (3, 3))
    before = ticks()
    time.sleep(1)  # in which it would use all of a processor
    assert ticks() - before < os.sysconf("SC_CLK_TCK") // 4
    (repo.home / "go").touch()
    result = repo.finish(process)
    assert result.last("a")["attempt"] == 1, result


@pytest.mark.parametrize("containment", ["auto", "subreaper"])
@pytest.mark.parametrize("what", ["shim.lock", "directory"])
def test_removed_beside_a_dead_engine(repo, what, containment):
    """Somebody removes all lock files, or units/, while no engine is there. The agent lives: it must
    not get a second one into its worktree."""
    repo.env["ORCH_CONTAINMENT"] = containment
    plan = repo.plan("[task:a]\ncommand = echo $ORCH_ATTEMPT >> $HOME/starts; exec 9>$HOME/alone; "
                     "flock -n 9 || touch $HOME/overlap; while [ ! -e $HOME/go ]; do sleep 0.02; "
                     "done; echo a > a\nretry_max = 0\n")
    process = repo.popen("dispatch", plan)
    wait_until((repo.home / "starts").exists, what="the agent")
    wait_until(lambda: repo.task("a")["status"] == "running", what="the row")
    process.kill()
    process.wait()
    unit, = (repo.state_dir / "units").iterdir()
    tmpdir = pathlib.Path(json.loads((unit / "spec.json").read_text())["tmpdir"])
    assert tmpdir.exists()
    if what == "directory":
        shutil.rmtree(unit)
    else:
        (unit / what).unlink()
    process = repo.popen("dispatch", plan)
    wait_until(lambda: (repo.home / "starts").read_text() == "1\n2\n", what="the second attempt")
    (repo.home / "go").touch()
    result = repo.finish(process)
    assert result.status == 0, result
    assert not (repo.home / "overlap").exists()
    assert outcomes(repo, "a") == ["lost", "ok"]
    assert not tmpdir.exists()  # though spec.json, which names it, may be gone
