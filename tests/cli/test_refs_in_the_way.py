# SPDX-License-Identifier: MIT
"""Refs that stand where an attempt's are to be."""

import pytest

TASK = "refs/heads/orch/demo/task/one"
GIT = 'd=$(git rev-parse --path-format=absolute --git-common-dir); '


@pytest.mark.parametrize("script", [
    "git branch orch/demo/task/one/sub",
    "git branch orch/demo/task/one/sub; git pack-refs --all",
    "git branch orch/demo/task",
    "git update-ref refs/orch/demo/one HEAD",
    "git update-ref refs/orch/demo/one/1/x HEAD",
    GIT + f'mkdir -p "$d/refs/heads/orch/demo/task"; : > "$d/{TASK}"',
    GIT + f'mkdir -p "$d/refs/heads/orch/demo/task"; echo "ref: refs/heads/none" > "$d/{TASK}"',
    GIT + f'mkdir -p "$d/{TASK}"; echo text > "$d/{TASK}/x"',
    GIT + f'mkdir -p "$d/{TASK}"; echo text > "$d/{TASK}/x"; git branch orch/demo/task/one/sub',
    GIT + f'mkdir -p "$d/refs/heads/orch/demo/task"; echo text > "$d/{TASK}"',
    GIT + 'mkdir -p "$d/refs/orch/demo/one"; : > "$d/refs/orch/demo/one/1"',
], ids=["below", "packed", "above", "attempt-above", "attempt-below", "empty", "dangling", "garbage",
        "both", "text", "attempt-empty"])
def test_in_the_way(repo, script):
    first = repo.git("rev-parse", "main")
    repo.write("agent.sh", f"set -e; echo one > one; {script}\n")
    result = repo.dispatch(repo.plan(f"[task:one]\ncommand = sh {repo.path}/agent.sh\n"))
    assert repo.task("one")["status"] == "passed"
    assert "in the way" in result.err or "ref: " in script  # which git replaces
    assert repo.git("rev-parse", TASK) == repo.git("rev-parse", "refs/orch/demo/one/1") != first
    # What was a ref is one still.
    kept = repo.git("for-each-ref", "--format=%(objectname)", "refs/orch/+in-the-way/").split()
    moved = "branch" in script or "update-ref" in script
    assert kept == ([first] if moved else [])


def test_a_lock_that_was_left(repo):
    repo.write("agent.sh", f'set -e; echo one > one; {GIT} mkdir -p "$d/refs/heads/orch/demo/task" '
               f'"$d/refs/orch/demo/one"; touch "$d/{TASK}.lock" "$d/refs/orch/demo/one/1.lock"\n')
    repo.dispatch(repo.plan(f"[task:one]\ncommand = sh {repo.path}/agent.sh\n"))
    assert repo.task("one")["status"] == "passed"


def test_a_branch_that_cannot_be_moved(repo):
    """The attempt's own ref is what holds the work."""
    repo.write("agent.sh", f'set -e; echo one > one; {GIT} mkdir -p "$d/refs/heads/orch/demo/task"; '
               f'mkdir -p "$d/{TASK}.lock/x"\n')
    result = repo.dispatch(repo.plan(f"[task:one]\ncommand = sh {repo.path}/agent.sh\n"))
    assert repo.task("one")["status"] == "passed"
    assert "orch/demo/task/one" in result.err
    repo.sh(f'{GIT} rm -r "$d/{TASK}.lock"')
