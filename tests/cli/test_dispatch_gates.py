# SPDX-License-Identifier: MIT
"""Invariants, baselines, merges and worktrees (A6, A8.2, B4 gates)."""

import os

import pytest

from conftest import wait_until

FAST_KILL = {"ORCH_KILL_GRACE": "200ms"}


def results(repo, task="a", stage="task", attempt=1):
    return repo.db("SELECT g.* FROM gate_result g JOIN task t ON t.id = g.task_id WHERE t.name = ?"
                   " AND g.stage = ? AND g.attempt = ? ORDER BY g.id", task, stage, attempt)


def invariant(command, **keys):
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[invariant:check]\ncommand = {command}\n{lines}"


def task(command="echo a > a", name="a", **keys):
    keys = {"invariants": "check", "retry_max": 0, **keys}
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[task:{name}]\ncommand = {command}\n{lines}"


def test_a_red_gate_names_its_invariant(repo):
    result = repo.dispatch(repo.plan(invariant("echo out; echo err >&2; exit 3") + task()),
                           status=1)
    assert result.last("a")["reason"].startswith("gate_failed: check: exit 3")
    assert result.last("a")["outcome"] == "ok"
    row, = results(repo)
    assert (row["passed"], row["exit_code"], row["stdout"], row["stderr"]) == (
        0, 3, "out\n", "err\n")


def test_the_expected_exit_code(repo):
    repo.dispatch(repo.plan(invariant("exit 3", expect=3) + task()))


def test_a_killed_invariant_is_red(repo):
    repo.dispatch(repo.plan(invariant("kill -SEGV $$") + task()), status=1)
    row, = results(repo)
    assert (row["passed"], row["signal"]) == (0, 11)


def test_an_invariant_that_does_not_exist_is_127(repo):
    result = repo.dispatch(repo.plan(invariant("no-such-program") + task()), status=1)
    assert "exit 127" in result.last("a")["reason"]
    assert "no-such-program" in results(repo)[0]["stderr"]


def test_advisory_does_not_block(repo):
    repo.dispatch(repo.plan(invariant("exit 1", advisory="yes") + task()))
    row, = results(repo)
    assert (row["passed"], row["advisory"]) == (0, 1)


def test_a_timed_out_invariant(repo):
    result = repo.dispatch(repo.plan(
        invariant("echo partial; echo broken >&2; sleep 60", timeout="1s") + task()), status=1)
    assert "timed out" in result.last("a")["reason"]
    row, = results(repo)
    assert row["timed_out"] == 1 and row["stdout"] == "partial\n"
    assert row["stderr"].startswith("broken\n")
    assert row["stderr"].rstrip("\n").endswith("timed out after 1s")


def test_an_invariant_that_will_not_end_is_ended(repo):
    repo.dispatch(repo.plan(invariant(
        "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &"
        " while :; do sleep 1; done", timeout="500ms") + task()), status=1, env=FAST_KILL)
    assert results(repo)[0]["timed_out"] == 1


def test_an_invariant_that_leaves_children_behind_passes_and_they_are_ended(repo):
    repo.dispatch(repo.plan(invariant(
        "setsid sh -c 'trap \"\" TERM HUP; sleep 60; :' >/dev/null 2>&1 & exit 0") + task()))


def test_what_an_invariant_changes_is_taken_back_and_told(repo):
    repo.dispatch(repo.plan(
        "[invariant:first]\ncommand = echo spoiled > a; echo new > untracked\n"
        "[invariant:second]\ncommand = true\n"
        + task(invariants="first, second")))
    assert repo.git("show", "orch/demo/integration:a") == "a"
    assert "untracked" not in repo.git("ls-tree", "--name-only", "orch/demo/integration")
    assert [row for row in repo.db("SELECT data FROM event WHERE kind = 'progress'")
            if "changed tracked files" in row["data"] and "a" in row["data"]]


def test_invariants_are_taken_from_the_plan_not_from_the_tree(repo):
    repo.write("orch.ini", "[invariant:shared]\ncommand = test ! -e cheat\n")
    repo.sh("git add orch.ini; git commit -qm ini")
    result = repo.dispatch(repo.plan(
        "[task:a]\ncommand = touch cheat;"
        " printf '[invariant:shared]\\ncommand = true\\n' > orch.ini\n"
        "invariants = shared\nretry_max = 0\n"), status=1)
    assert result.last("a")["reason"].startswith("gate_failed: shared")


def test_red_before_fail_is_told(repo):
    result = repo.dispatch(repo.plan(invariant("test -e never") + task()), status=1)
    assert "red before" in result.last("a")["reason"]
    assert results(repo)[0]["red_before"] == 1


def test_red_before_ignore_passes_what_was_red_already(repo):
    repo.dispatch(repo.plan(invariant("test -e never", red_before="ignore") + task()))
    assert results(repo)[0]["red_before"] == 1


def test_red_before_ignore_still_fails_what_the_task_broke(repo):
    result = repo.dispatch(repo.plan(
        invariant("test ! -e a", red_before="ignore") + task()), status=1)
    assert result.last("a")["reason"].startswith("gate_failed")
    assert results(repo)[0]["red_before"] == 0


def test_red_before_ignore_holds_for_merges_alone(repo):
    """The plan's own invariants are run on merges only, so that nobody asked for a baseline yet."""
    repo.dispatch(repo.plan(
        "[invariant:old]\ncommand = test -e never\nred_before = ignore\n"
        "[invariant:new]\ncommand = test $(git rev-list --count HEAD) -gt 1\n"
        "[task:a]\ncommand = echo > a\nretry_max = 0\n", invariants="old, new"))
    assert [(row["invariant"], row["passed"], row["red_before"])
            for row in results(repo, stage="merge")] == [("old", 0, 1), ("new", 1, 0)]


def test_the_baseline_runs_once(repo):
    repo.dispatch(repo.plan(
        invariant("echo run >> $HOME/runs; test -e never", red_before="ignore")
        + task() + task("echo b > b", "b")))
    # Two tasks, two merges, one baseline of the commit that both began at.
    assert (repo.home / "runs").read_text().count("run") == 5


def test_an_ignored_file_makes_the_gate_green_and_the_merge_red(repo):
    repo.write(".gitignore", "*.o\n")
    repo.sh("git add .gitignore; git commit -qm ignore")
    result = repo.dispatch(repo.plan(
        invariant("test -e needed.o || { echo no object >&2; exit 2; }")
        + task("echo a > a; echo > needed.o", retry_max=1)), status=1)
    assert result.last("a")["reason"].startswith("merge_red: check: exit 2")
    assert result.moves("a").count("integrating") == 2
    assert repo.git("rev-parse", "orch/demo/integration") == repo.git("rev-parse", "HEAD")
    row, = results(repo, stage="merge")
    assert row["stderr"] == "no object\n"


def test_merge_red_is_feedback(repo):
    repo.write(".gitignore", "*.o\n")
    repo.sh("git add .gitignore; git commit -qm ignore")
    repo.dispatch(repo.plan(
        invariant("test -e needed.o || test -e needed.c || { echo no 'object' here >&2; exit 2; }")
        + task("cat > $HOME/prompt; echo a > a; echo > needed.o;"
               " if grep -q 'on the merge[d] tree' $HOME/prompt; then touch needed.c; fi",
               retry_max=1)))
    assert "no object here" in (repo.home / "prompt").read_text()


def test_each_task_green_and_both_together_red(repo):
    result = repo.dispatch(repo.plan(
        invariant("test ! -e a || test ! -e b") + task(name="a", command="echo > a")
        + task(name="b", command="echo > b")), status=1)
    assert sorted(result.last(t)["to"] for t in "ab") == ["escalated", "passed"]
    red, = [t for t in "ab" if result.last(t)["to"] == "escalated"]
    assert result.last(red)["reason"].startswith("merge_red")
    assert repo.git("ls-tree", "--name-only", "orch/demo/integration").split() == (
        ["README", "b" if red == "a" else "a"])


def test_the_plans_invariants_judge_merges(repo):
    result = repo.dispatch(repo.plan(
        "[invariant:strict]\ncommand = test ! -e a\n[task:a]\ncommand = echo > a\nretry_max = 0\n",
        invariants="strict"), status=1)
    assert result.last("a")["reason"].startswith("merge_red: strict")


def test_nobody_sees_a_red_tip(repo):
    """Each tip that the branch ever had is green."""
    tasks = "".join(task(f"echo {i} > f{i}", f"t{i}", retry_max=2) for i in range(5))
    repo.dispatch(repo.plan(
        invariant("test $(ls f* | wc -l) -ne 2 || test -e f0") + tasks), status=None)
    for commit in repo.git("rev-list", "--first-parent", "orch/demo/integration").split():
        names = repo.git("ls-tree", "--name-only", commit).split()
        assert len([n for n in names if n[0] == "f"]) != 2 or "f0" in names


# ---- conflicts ----

CONFLICT = """
[task:first]
command = echo first > shared
priority = 9
[task:second]
command = cat > $HOME/prompt-$ORCH_ATTEMPT; {wait} if test -e shared; then echo both > shared; else echo second > shared; fi
retry_max = 0
"""


def test_a_conflict_is_feedback_and_no_retry_is_used(repo):
    wait = ("while [ $ORCH_ATTEMPT = 1 ] && ! git cat-file -e orch/demo/integration:shared"
            " 2>/dev/null; do sleep 0.02; done;")
    result = repo.dispatch(repo.plan(CONFLICT.replace("{wait}", wait)))
    assert "conflict" in [line["reason"].split(":")[0] for line in result.lines
                          if line.get("task") == "second" and line["reason"]]
    assert repo.git("show", "orch/demo/integration:shared") == "both"
    assert "shared" in (repo.home / "prompt-2").read_text()
    row, = repo.db("SELECT retries_used FROM task WHERE name = 'second'")
    assert row["retries_used"] == 0


def test_three_conflicts_escalate(repo):
    """Somebody moves the branch under every attempt."""
    command = ("echo $ORCH_ATTEMPT > shared; sh -c 'set -e; cd $(mktemp -d);"
               " git clone -q -b orch/demo/integration \"$REPO\" c; cd c;"
               " echo other $ORCH_ATTEMPT > shared; git add shared;"
               " git commit -qm other; git push -q origin HEAD:orch/demo/integration'")
    result = repo.dispatch(repo.plan(f"[task:a]\ncommand = {command}\nretry_max = 9\n"), status=1,
                           env={"REPO": str(repo.path)})
    assert result.last("a")["reason"].startswith("conflict: ")
    assert result.last("a")["attempt"] == 3


# ---- keep_worktrees ----

@pytest.mark.parametrize("keep,kept", [
    ("all", {"demo+good", "demo+bad"}), ("failed", {"demo+bad"}), ("none", set())])
def test_keep_worktrees(repo, keep, kept):
    repo.dispatch(repo.plan("[task:good]\ncommand = echo g > g\n"
                            "[task:bad]\ncommand = echo b > b; exit 1\nretry_max = 0\n"),
                  status=1, env={"ORCH_KEEP_WORKTREES": keep})
    root, = (repo.home / "state" / "orch").iterdir()
    there = {path.name for path in root.iterdir() if path.name != "demo+"}
    assert there == kept
    listed = {os.path.basename(line.split()[0]) for line in repo.git("worktree", "list").splitlines()}
    assert listed - {"work", "demo+"} == kept


def test_nothing_is_left_of_a_completed_plan(repo):
    repo.dispatch(repo.plan(invariant("test -e a") + task()))
    assert repo.git("worktree", "list").count("\n") == 0
    root, = (repo.home / "state" / "orch").iterdir()
    assert list(root.iterdir()) == []
    assert wait_until(lambda: not list(repo.state_dir.glob("git-*.*")))


def test_the_reason_tells_how_an_invariant_ended(repo):
    repo.dispatch(repo.plan(
        "[invariant:killed]\ncommand = kill -9 $$\n[invariant:red]\ncommand = exit 7\n"
        "[task:a]\ncommand = echo a > a\ninvariants = killed, red\nretry_max = 0\n"), status=1)
    assert repo.task("a")["reason"].startswith("gate_failed: killed: signal 9")
    assert "; red: exit 7" in repo.task("a")["reason"]
