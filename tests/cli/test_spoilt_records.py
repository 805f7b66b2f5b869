# SPDX-License-Identifier: MIT
"""What an agent does to git's records of its own worktree costs nobody anything: the tree is what
counts, and the tree is there."""

import pytest

OTHER = "[task:other]\ncommand = echo other > other\n"


@pytest.mark.parametrize("how", [
    "rm $D/HEAD",
    "echo nonsense > $D/HEAD",
    "rm $D/commondir",
    "rm -f $D/index; mkdir $D/index",
    "echo nonsense > $D/index",
    "mkdir $HOME/o; GIT_OBJECT_DIRECTORY=$HOME/o"
    " GIT_ALTERNATE_OBJECT_DIRECTORIES=$(git rev-parse --git-common-dir)/objects git add -A",
])
def test_the_tree_is_taken_by_itself(repo, how):
    repo.write("gone", "to be removed\n")
    repo.git("add", "gone")
    repo.git("commit", "-qm", "gone")
    result = repo.dispatch(repo.plan(
        f"[task:a]\ncommand = echo a > a; rm gone; D=$(git rev-parse --git-dir); {how}\n"
        "[task:b]\ncommand = test -e a && test ! -e gone && echo b > b\ndepends_on = a\n" + OTHER))
    assert repo.task("a")["attempt"] == 1 and repo.task("other")["attempt"] == 1, result
    assert repo.git("show", "refs/orch/demo/a/1:a") == "a"
    assert repo.git("ls-tree", "--name-only", "refs/orch/demo/a/1", "gone") == ""
    assert repo.status()["status"] == "completed"


def test_what_was_brought_along_is_no_work(repo):
    """Also where git's record of the worktree is of no use any more."""
    repo.write("secret", "key\n")
    repo.write(".git/info/exclude", "/secret\n")
    plan = repo.plan("[task:a]\ncommand = test -e secret && echo > $(git rev-parse --git-common-dir)"
                     "/info/exclude; echo a > a; rm $(git rev-parse --git-dir)/HEAD\n", copy="secret")
    repo.dispatch(plan)
    assert repo.git("ls-tree", "--name-only", "refs/orch/demo/a/1").split() == ["README", "a"]


def test_what_cannot_be_committed_is_kept(repo):
    """The next attempt begins with a clean tree; what the last one left stays beside it."""
    repo.dispatch(repo.plan(
        "[task:a]\ncommand = if [ $ORCH_ATTEMPT = 1 ]; then echo precious > w; "
        "git init -q sub; echo p > sub/x; "
        "else test ! -e w && echo a > a; fi\n" + OTHER))
    assert [row["outcome"] for row in repo.db(
        "SELECT a.outcome FROM attempt a JOIN task t ON t.id = a.task_id WHERE t.name = 'a'"
        " ORDER BY number")] == ["uncommittable", "ok"]
    kept, = (repo.home / "state").glob("orch/*/demo+a+1")
    assert (kept / "w").read_text() == "precious\n"
    log = repo.orch("log", "a").out
    assert str(kept) in log, log
    repo.orch("merge", "demo")
    repo.orch("cleanup", "demo")
    assert not kept.exists()
