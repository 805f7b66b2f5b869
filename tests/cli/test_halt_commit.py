# SPDX-License-Identifier: MIT
"""What a halt commits (A8.9): to refs/orch/state, to the user's branch, or nowhere; and what of the
user's is in the way of it."""

import contextlib
import ctypes
import fcntl
import os
import subprocess
import time

import pytest

TASK = "[task:a]\ncommand = echo a > a\n"
FILE = "orch-plan.demo.ini"
BRANCH = {"ORCH_HALT_COMMIT": "branch"}


def snapshot(repo):
    """All of the user's that a halt must leave as it is."""
    return {
        "head": repo.git("symbolic-ref", "-q", "HEAD", check=False),
        "commit": repo.git("rev-parse", "HEAD"),
        "index": repo.git("ls-files", "--stage"),
        "status": repo.git("status", "--porcelain", "--untracked-files=all"),
        "stash": repo.git("stash", "list"),
        "config": (repo.path / ".git/config").read_text(),
    }


def changed_paths(repo, commit):
    return repo.git("show", "--format=", "--name-only", commit).split()


def export(repo):
    return repo.orch("plan", "export", "demo").out


def committed(repo):
    """halt.commit, which must be a commit of one path, equal to the database."""
    commit = repo.status("demo")["halt"]["commit"]
    assert commit["result"] == "committed" and commit["why"] is None, commit
    assert changed_paths(repo, commit["oid"]) == [FILE]
    assert repo.git("show", f"{commit['oid']}:{FILE}") == export(repo).strip()
    return commit


def failed(repo, result, words):
    """halt.commit, which was not made, with one warning that says why."""
    commit = repo.status("demo")["halt"]["commit"]
    assert commit["result"] == "failed" and words in commit["why"], commit
    assert commit["oid"] is None
    assert result.err.count("was not committed") == 1, result
    return commit


def test_ref_touches_nothing_of_the_users(repo):
    repo.write("staged", "mine\n")
    repo.git("add", "staged")
    repo.write("README", "changed\n")
    before = snapshot(repo)
    result = repo.dispatch(repo.plan(TASK))
    commit = committed(repo)
    assert commit["oid"] == repo.git("rev-parse", "refs/orch/state")
    assert repo.git("log", "-1", "--format=%s", "refs/orch/state") == (
        "[orch] Save plan state on halt (completed)")
    assert snapshot(repo) == before and "warning" not in result.err


def test_ref_holds_one_file_for_each_plan(repo):
    repo.dispatch(repo.plan(TASK))
    repo.dispatch(repo.plan("[task:b]\ncommand = echo b > b\n", name="other"))
    assert repo.git("ls-tree", "--name-only", "refs/orch/state").split() == [
        FILE, "orch-plan.other.ini"]
    assert repo.git("rev-list", "--count", "refs/orch/state") == "2"


@pytest.mark.parametrize("env", [{}, BRANCH])
def test_what_did_not_change_is_not_committed_again(repo, env):
    plan = repo.plan(TASK)
    repo.dispatch(plan, env=env)
    first = repo.git("for-each-ref")
    repo.dispatch(plan, env=env)
    assert repo.git("for-each-ref") == first
    assert repo.status()["halt"]["commit"]["result"] == "unchanged"


def test_off(repo):
    before = snapshot(repo)
    repo.dispatch(repo.plan(TASK), env={"ORCH_HALT_COMMIT": "off"})
    assert repo.status()["halt"]["commit"] == {"result": "off", "oid": None, "why": None}
    assert repo.git("for-each-ref", "refs/orch/state") == "" and snapshot(repo) == before


def test_branch_moves_by_that_one_path(repo):
    repo.write("staged", "mine\n")
    repo.git("add", "staged")
    repo.write("README", "changed\n")
    repo.write("new", "untracked\n")
    before = snapshot(repo)
    repo.dispatch(repo.plan(TASK), env=BRANCH)
    commit = committed(repo)
    after = snapshot(repo)
    assert commit["oid"] == after["commit"] == repo.git("rev-parse", "main")
    assert repo.git("rev-parse", "HEAD^") == before["commit"]
    assert after["status"] == before["status"]
    assert [line for line in after["index"].splitlines() if FILE not in line] == (
        before["index"].splitlines())
    assert (repo.path / FILE).read_text() == export(repo)
    assert repo.git("for-each-ref", "refs/orch/state") == ""
    assert repo.git("fsck", "--no-dangling") == ""


def test_branch_is_the_one_that_the_user_is_on_by_then(repo):
    repo.dispatch(repo.plan(f"[task:a]\ncommand = git -C {repo.path} checkout -q -b other;"
                            " echo a > a\n"), env=BRANCH)
    assert repo.git("log", "-1", "--format=%s", "other").startswith("[orch] Save plan state")
    assert repo.git("log", "-1", "--format=%s", "main") == "first"


def test_branch_updates_its_own_file(repo):
    plan = repo.plan("[task:a]\ncommand = echo a > a\ngate = human_review\n")
    repo.dispatch(plan, status=2, env=BRANCH)
    repo.orch("reject", "a", "--reason", "again")
    repo.dispatch(plan, status=2, env=BRANCH)
    assert committed(repo)["oid"] == repo.git("rev-parse", "main")
    assert repo.git("rev-list", "--count", "main") == "3"
    assert repo.git("status", "--porcelain") == ""


def in_progress(repo, what):
    repo.git("checkout", "-q", "-b", "side")
    repo.write("README", "side\n")
    repo.git("commit", "-qam", "side")
    repo.git("checkout", "-q", "main")
    repo.write("README", "main\n")
    repo.git("commit", "-qam", "main")
    if what == "merge":
        repo.git("merge", "--no-commit", "--no-ff", "-s", "ours", "side")
    elif what == "unmerged":
        repo.git("merge", "side", check=False)
        os.unlink(repo.path / ".git/MERGE_HEAD")
    elif what == "rebase":
        repo.git("rebase", "side", check=False)
    elif what == "cherry-pick":
        repo.git("cherry-pick", "side", check=False)
    elif what == "bisect":
        repo.git("bisect", "start", "--no-checkout")
    elif what == "detached":
        repo.git("checkout", "-q", "--detach")
    elif what == "index.lock":
        repo.write(".git/index.lock", "")
    elif what == "ignored":
        repo.write(".git/info/exclude", "orch-plan.*\n")
    elif what == "staged":
        repo.write(FILE, "mine\n")
        repo.git("add", FILE)
    elif what == "in the way":
        repo.write(FILE, "mine\n")


OBSTACLES = {"merge": "a merge is in progress", "unmerged": "unmerged",
             "rebase": "a rebase is in progress", "cherry-pick": "a cherry-pick is in progress",
             "bisect": "a bisection is in progress", "detached": "HEAD is detached",
             "index.lock": "index.lock", "ignored": "ignored", "staged": "staged changes",
             "in the way": "move it away"}


@pytest.mark.parametrize("what", OBSTACLES)
def test_branch_refuses_what_is_under_way(repo, what):
    in_progress(repo, what)
    before = snapshot(repo)
    result = repo.dispatch(repo.plan(TASK, base="main"), env=BRANCH)
    assert result.halt["reason"] == "completed"
    failed(repo, result, OBSTACLES[what])
    assert snapshot(repo) == before


@pytest.mark.parametrize("what", OBSTACLES)
def test_ref_is_not_disturbed_by_any_of_it(repo, what):
    in_progress(repo, what)
    before = snapshot(repo)
    result = repo.dispatch(repo.plan(TASK, base="main"))
    committed(repo)
    assert snapshot(repo) == before and "warning" not in result.err


@pytest.mark.parametrize("mode", ["ref", "branch"])
def test_hooks_signing_and_identity_are_no_obstacle(repo, mode):
    for hook in ("pre-commit", "commit-msg", "post-commit", "reference-transaction"):
        file = repo.write(f".git/hooks/{hook}", "#!/bin/sh\nsleep 60\nexit 1\n")
        file.chmod(0o755)
    repo.git("config", "commit.gpgSign", "true")
    repo.git("config", "user.signingKey", "nobody")
    repo.git("config", "gpg.program", "/bin/false")
    repo.git("config", "user.useConfigOnly", "true")
    (repo.home / ".gitconfig").write_text("")
    result = repo.dispatch(repo.plan(TASK), env={"ORCH_HALT_COMMIT": mode})
    committed(repo)
    assert "warning" not in result.err


def test_a_git_that_hangs_costs_seconds_not_the_dispatch(repo):
    """A clean filter stands for any helper of git that never ends; hash-object runs it."""
    repo.write(".gitattributes", f"{FILE} filter=slow\n")
    repo.git("add", ".gitattributes")
    repo.git("commit", "-qm", "attributes")
    repo.git("config", "filter.slow.clean", "sleep 60; cat")
    repo.write(FILE, "mine\n")
    before = repo.git("rev-parse", "HEAD")
    result = repo.dispatch(repo.plan(TASK), env=BRANCH, timeout=50)
    failed(repo, result, "took too long")
    assert repo.git("rev-parse", "HEAD") == before
    assert not (repo.path / ".git/index.lock").exists()


@pytest.mark.parametrize("mode", ["ref", "branch"])
def test_from_a_subdirectory(repo, mode):
    (repo.path / "deep/er").mkdir(parents=True)
    repo.dispatch(repo.plan(TASK), env={"ORCH_HALT_COMMIT": mode}, cwd=repo.path / "deep/er")
    committed(repo)
    assert (repo.path / FILE).exists() == (mode == "branch")
    assert repo.git("status", "--porcelain") == ""


def test_from_a_linked_worktree(repo):
    linked = repo.home / "linked"
    repo.git("worktree", "add", "-q", "-b", "topic", linked)
    main = repo.git("rev-parse", "main")
    repo.dispatch(repo.plan(TASK), env=BRANCH, cwd=linked)
    commit = committed(repo)
    assert commit["oid"] == repo.git("rev-parse", "topic")
    assert repo.git("rev-parse", "main") == main
    assert (linked / FILE).exists() and not (repo.path / FILE).exists()
    assert repo.git("status", "--porcelain", cwd=linked) == ""


def test_the_state_ref_is_held(repo):
    """The lock of refs/orch/state that appears while the agent runs."""
    lock = repo.path / ".git/refs/orch/state.lock"
    result = repo.dispatch(repo.plan(f"[task:a]\ncommand = mkdir -p {lock.parent}; touch {lock};"
                                     " echo a > a\n"))
    assert result.halt["reason"] == "completed"
    failed(repo, result, "git update-ref")


PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def as_any_owner():
    """Permission bits count for root, too, once it has no capability to override them. Whoever may not
    give them up (no CAP_SETPCAP) has to be without them already, which the test checks."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@contextlib.contextmanager
def read_only_git(repo):
    """All of .git but orch's own part."""
    git = repo.path / ".git"
    paths = [git, *(path for path in git.rglob("*")
                    if git / "orch" != path and git / "orch" not in path.parents)]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(modes[path] & ~0o222)
    try:
        yield {path: path.read_bytes() for path in paths if path.is_file()}
    finally:
        for path in paths:
            path.chmod(modes[path])


@pytest.mark.parametrize("env", [{}, BRANCH])
@pytest.mark.parametrize("command, status", [("true", 0), ("false", 1)])
def test_a_git_directory_that_is_read_only(repo, env, command, status):
    """Nothing but the commit of the halt writes there where tasks run in the checkout."""
    plan = repo.plan(f"[task:a]\ncommand = {command}\nretry_max = 0\nallow_empty = yes\n",
                     isolation="none")
    repo.orch("plan", "import", plan)
    before = snapshot(repo)
    with read_only_git(repo) as content:
        refused = subprocess.run(["touch", repo.path / ".git/x"], preexec_fn=as_any_owner,
                                 capture_output=True)
        assert refused.returncode != 0, "the directory can be written to: nothing is tested"
        result = repo.finish(repo.popen("dispatch", "--json", plan, env={**repo.env, **env},
                                        preexec_fn=as_any_owner))
        left = {path: path.read_bytes() for path in content if path.exists()}
    assert result.status == status, result
    failed(repo, result, "ermission")
    assert left == content and snapshot(repo) == before


def test_no_second_engine_before_the_commit(repo):
    """Whoever gets the lock finds the commit made."""
    process = repo.popen("dispatch", "--quiet", repo.plan(TASK))
    lock = repo.state_dir / "lock"
    while process.poll() is None:
        try:
            with open(lock) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (repo.state_dir / "orch.db").exists() and repo.db(
                        "SELECT 1 FROM plan WHERE halt IS NOT NULL"):
                    assert repo.git("rev-parse", "refs/orch/state")
        except (FileNotFoundError, BlockingIOError):
            pass
        time.sleep(0.005)
    assert repo.finish(process).status == 0
    committed(repo)
