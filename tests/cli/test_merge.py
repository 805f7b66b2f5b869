# SPDX-License-Identifier: MIT
"""orch merge and orch cleanup: the end of a plan."""

import os
import signal

import pytest

from conftest import wait_until

ONE = "[task:a]\ncommand = echo a > a\n"


def head(repo, ref="main"):
    return repo.git("rev-parse", ref)


@pytest.fixture
def done(repo):
    repo.orch("dispatch", repo.plan("[invariant:ok]\ncommand = test -e a\n" + ONE
                                    + "invariants = ok\n"))
    return repo


def test_a_merge_brings_the_work_into_base_and_checkout(done):
    before = head(done)
    assert "merged plan 'demo' into 'main'" in done.orch("merge", "demo").out
    assert (done.path / "a").read_text() == "a\n"
    assert done.git("status", "--porcelain") == ""
    assert done.git("rev-parse", "main^1") == before
    assert done.git("rev-parse", "main^2") == head(done, "orch/demo/integration")
    assert "Orch-Plan: demo" in done.git("log", "-1", "--format=%B")
    assert not [w for w in done.git("worktree", "list").splitlines() if "+final" in w]
    assert "Already merged" in done.orch("merge", "demo").out
    assert done.orch("merge", "demo", "--json").json["result"] == "already_merged"


def test_a_dry_run_moves_nothing(done):
    before = head(done)
    result = done.orch("merge", "demo", "--dry-run", "--json").json
    assert list(result) == ["version", "plan", "result", "base", "from", "to", "reason", "results"]
    assert result["result"] == "would_merge" and result["from"] == before
    assert [(r["invariant"], r["passed"]) for r in result["results"]] == [("ok", True)]
    assert head(done) == before and not (done.path / "a").exists()
    assert "stays at" in done.orch("merge", "demo", "--dry-run").out


def test_what_was_judged_already_is_not_judged_again(done):
    """Main did not move: the merge has the tree that the gate of the task has seen."""
    assert [r["cached"] for r in done.orch("merge", "demo", "--json").json["results"]] == [True]


def test_a_red_merge_is_refused(repo):
    repo.orch("dispatch", repo.plan(
        "[invariant:few]\ncommand = ls; echo too many >&2; test $(ls | wc -l) -lt 3\n" + ONE
        + "invariants = few\n"))
    repo.write("b", "b\n")
    repo.git("add", "b")
    repo.git("commit", "-q", "-m", "b")
    before = head(repo)
    result = repo.orch("merge", "demo", status=1)
    assert "few: failed" in result.out and "too many" in result.out and "few" in result.err
    assert head(repo) == before
    assert repo.orch("merge", "demo", "--json", status=1).json["result"] == "red"


def test_an_advisory_one_does_not_block(repo):
    repo.orch("dispatch", repo.plan(
        "[invariant:no]\ncommand = false\nadvisory = yes\n" + ONE, invariants="no"))
    assert "no: failed" in repo.orch("merge", "demo").out
    assert (repo.path / "a").exists()


def test_what_was_red_on_the_base_may_be_ignored(repo):
    repo.orch("dispatch", repo.plan(
        "[invariant:lint]\ncommand = test -e never\nred_before = ignore\n" + ONE
        + "invariants = lint\n"))
    repo.orch("merge", "demo")
    assert (repo.path / "a").exists()


def test_setup_and_copies_are_there(repo):
    repo.write(".env", "X=1\n")
    repo.write(".git/info/exclude", ".env\n")
    repo.orch("dispatch", repo.plan(
        "[invariant:ok]\ncommand = test -e .env && test -e made\n" + ONE + "invariants = ok\n",
        setup="touch made; echo made >> .git/info/exclude 2>/dev/null || true", copy=".env"))
    repo.write("b", "b\n")
    repo.git("add", "b")
    repo.git("commit", "-q", "-m", "b")
    repo.orch("merge", "demo")


def test_a_conflict(repo):
    repo.orch("dispatch", repo.plan("[task:a]\ncommand = echo theirs > same\n"))
    repo.write("same", "mine\n")
    repo.git("add", "same")
    repo.git("commit", "-q", "-m", "mine")
    before = head(repo)
    assert "conflicts in: same" in repo.orch("merge", "demo", status=1).err
    assert head(repo) == before and repo.git("status", "--porcelain") == ""


def test_a_dirty_checkout_is_never_touched(done):
    done.write("README", "changed\n")
    before = head(done)
    err = done.orch("merge", "demo", status=1).err
    assert "uncommitted changes" in err and "stash" in err
    assert head(done) == before and (done.path / "README").read_text() == "changed\n"
    done.git("checkout", "-q", "README")
    done.write("a", "in the way\n")
    assert done.orch("merge", "demo", status=1).err
    assert (done.path / "a").read_text() == "in the way\n" and head(done) == before


@pytest.mark.parametrize("where", ["apart", "link", "submodule"])
def test_a_checkout_whose_repository_lies_elsewhere(repo, where):
    """Of which git names the repository for the checkout."""
    if where == "apart":
        repo.sh("git init -q --separate-git-dir ../apart.git")
    elif where == "link":
        repo.sh("mv .git ../real.git; ln -s ../real.git .git")
    else:
        repo.sh("git init -q ../above; cd ../above; git commit -q --allow-empty -m above;"
                "git -c protocol.file.allow=always submodule --quiet add ../work below")
        repo.path = repo.path.parent / "above" / "below"
    repo.orch("dispatch", repo.plan(ONE))
    repo.write("README", "mine\n")
    before = head(repo)
    err = repo.orch("merge", "demo", status=1).err
    assert f"checked out at '{repo.path}', where files have uncommitted changes" in err
    assert head(repo) == before
    repo.git("checkout", "README")
    repo.orch("merge", "demo")
    assert (repo.path / "a").exists() and repo.git("status", "--porcelain") == ""


def test_a_base_that_was_replaced(done):
    done.sh("git checkout -q --orphan new; git commit -qm new; git branch -f main;"
            "git checkout -q main")
    before = head(done)
    err = done.orch("merge", "demo", status=1).err
    assert "'main' and orch/demo/integration have no commit in common" in err
    assert head(done) == before


@pytest.mark.parametrize("base", ["main~1", "main^{commit}", "main@{0}", "HEAD"])
def test_a_base_that_is_no_branch(repo, base):
    repo.git("commit", "-q", "--allow-empty", "-m", "second")
    repo.orch("dispatch", repo.plan(ONE, base=base))
    before = head(repo)
    err = repo.orch("merge", "demo", status=1).err
    assert f"the plan's base '{base}' is no branch" in err and "git merge orch/demo" in err
    assert head(repo) == before


def test_a_base_that_is_not_checked_out(done):
    done.git("checkout", "-q", "-b", "other")
    done.write("README", "changed\n")
    done.orch("merge", "demo")
    assert done.git("show", "main:a") == "a"
    assert (done.path / "README").read_text() == "changed\n" and not (done.path / "a").exists()


def test_work_that_is_missing(done):
    done.git("update-ref", "refs/heads/orch/demo/integration", "main")
    err = done.orch("merge", "demo", status=65).err
    assert "(a)" in err
    assert "a" in done.orch("dispatch", "demo", status=65).err


def test_nothing_to_merge(repo, done):
    repo.orch("merge", status=64)
    repo.orch("merge", "nobody", status=66)
    repo.orch("plan", "import", repo.plan(ONE, name="fresh"))
    assert "nothing has been integrated" in repo.orch("merge", "fresh", status=1).err
    repo.orch("dispatch", repo.plan("[task:a]\ncommand = touch x\n", name="here", isolation="none"))
    assert "checkout itself" in repo.orch("merge", "here", status=1).err


def test_ctrl_c_moves_nothing(repo):
    repo.orch("dispatch", repo.plan(
        '[invariant:slow]\ncommand = test ! -e b || { touch "$HOME/begun"; sleep 1000; }\n' + ONE
        + "invariants = slow\n"))
    repo.write("b", "b\n")
    repo.git("add", "b")
    repo.git("commit", "-q", "-m", "b")
    before = head(repo)
    process = repo.popen("merge", "demo")
    wait_until((repo.home / "begun").exists)
    process.send_signal(signal.SIGINT)
    assert repo.finish(process).status == 130
    assert head(repo) == before
    assert "+final" not in repo.git("worktree", "list")


# ---- cleanup ----


def orch_refs(repo):
    return repo.git("for-each-ref", "--format=%(refname)", "refs/heads/orch/demo",
                    "refs/orch/demo").split()


def test_cleanup_after_a_merge(done):
    done.orch("merge", "demo")
    assert orch_refs(done)
    assert "removed" in done.orch("cleanup", "demo").out
    assert orch_refs(done) == []
    plan = done.status()
    assert plan["status"] == "completed" and plan["branch"] is None
    assert plan["tasks"][0]["branch"] is None and plan["tasks"][0]["worktree"] is None
    assert done.orch("log", "a").out.count("passed") >= 1
    done.orch("cleanup", "demo")  # nothing is left, and that is fine


def test_cleanup_refuses_what_is_not_merged(done):
    refs = orch_refs(done)
    err = done.orch("cleanup", "demo", status=1).err
    assert "orch/demo/integration" in err and "--force" in err
    assert orch_refs(done) == refs
    done.orch("cleanup", "demo", "--force")
    assert orch_refs(done) == []


def test_cleanup_removes_worktrees_and_superseded_attempts(repo):
    repo.orch("dispatch", repo.plan(
        "[invariant:two]\ncommand = test -e two\n"
        "[task:a]\ninvariants = two\ncommand = touch one; test $ORCH_ATTEMPT = 1 || touch two\n"
        "[task:b]\ncommand = false\nretry_max = 0\n"), status=1)
    worktree = repo.task("b")["worktree"]
    assert os.path.isdir(worktree)
    repo.orch("merge", "demo")
    repo.orch("cleanup", "demo")
    assert orch_refs(repo) == [] and not os.path.exists(worktree)
    assert len(repo.git("worktree", "list").splitlines()) == 1


def test_cleanup_after_a_set_up_that_failed(repo):
    """The agent was never started: none is left that somebody would have to take over."""
    repo.orch("dispatch", repo.plan(ONE + "retry_max = 0\n", setup="false"), status=1)
    repo.orch("cleanup", "demo")
    assert len(repo.git("worktree", "list").splitlines()) == 1


def test_cleanup_after_a_set_up_that_was_interrupted(repo):
    dispatch = repo.popen("dispatch", repo.plan(ONE, setup="touch $HOME/began; sleep 100"))
    wait_until((repo.home / "began").exists)
    dispatch.send_signal(signal.SIGINT)
    assert repo.finish(dispatch).status == 130
    repo.orch("cleanup", "demo")
    assert len(repo.git("worktree", "list").splitlines()) == 1


def test_a_plan_that_was_cleaned_up_goes_on_from_its_base(repo):
    repo.orch("dispatch", repo.plan(
        ONE + "[task:b]\ndepends_on = a\nretry_max = 0\ncommand = test -e \"$HOME/go\" && "
        "cp a b\n"), status=1)
    repo.orch("merge", "demo")
    repo.orch("cleanup", "demo")
    (repo.home / "go").touch()
    repo.orch("retry", "b")
    repo.orch("dispatch", "demo")
    assert repo.git("show", "orch/demo/integration:b") == "a"


def test_what_was_given_up_is_not_taken_for_done(repo):
    repo.orch("dispatch", repo.plan(
        ONE + "[task:b]\ndepends_on = a\ncommand = false\nretry_max = 0\n"), status=1)
    repo.orch("cleanup", "demo", "--force")
    repo.orch("retry", "b")
    err = repo.orch("dispatch", "demo", status=65).err
    assert "any more: a" in err and "orch plan delete demo --yes" in err
    repo.orch("plan", "delete", "demo", "--yes")


REVIEWED = "[task:r]\ncommand = touch r\ngate = human_review\n"


def test_an_approval_is_refused_where_the_branch_is_gone(repo):
    repo.orch("dispatch", repo.plan(ONE + REVIEWED), status=2)
    repo.orch("cleanup", "demo", "--force")
    before = repo.status()
    err = repo.orch("approve", "r", status=1).err
    assert "left as it is" in err and "orch/demo/integration is gone" in err
    assert repo.orch("approve", "r", "--json", status=1).json["refused"] is True
    assert repo.status() == before and orch_refs(repo) == []
    assert "plan delete" in repo.orch("dispatch", "demo", status=65).err


def test_a_branch_that_a_dispatch_makes_again_takes_an_approval(repo):
    repo.orch("dispatch", repo.plan(REVIEWED), status=2)
    repo.orch("cleanup", "demo", "--force")
    repo.orch("approve", "r", status=1)
    repo.orch("dispatch", "demo", status=2)
    repo.orch("approve", "r")
    assert repo.status()["status"] == "completed"


def test_a_plan_that_is_done_and_cleaned_up_makes_nothing(done):
    assert "work: branch" in done.orch("dispatch", "demo").out
    done.orch("merge", "demo")
    done.orch("cleanup", "demo")
    result = done.orch("dispatch", "demo")
    assert "nothing to do" in result.out and "work:" not in result.out
    assert orch_refs(done) == [] and done.status()["branch"] is None
    done.orch("plan", "delete", "demo", "--yes")


def test_a_plan_that_is_done_and_given_up_is_told_so(done):
    done.orch("cleanup", "demo", "--force")
    assert "any more: a" in done.orch("dispatch", "demo", status=65).err
    assert orch_refs(done) == []


def test_the_work_of_a_task_that_failed_is_work(repo):
    repo.orch("dispatch", repo.plan(
        ONE + "[task:b]\ncommand = touch half; false\nretry_max = 0\n"), status=1)
    repo.orch("merge", "demo")
    assert "orch/demo/task/b" in repo.orch("cleanup", "demo", status=1).err
    assert repo.git("show", "orch/demo/task/b:half") == ""


def test_cleanup_names_what_keeps_the_work(repo):
    """A merge keeps what has passed, and nothing else."""
    bad = "[task:bad]\ncommand = touch half; false\nretry_max = 0\n"
    repo.orch("dispatch", repo.plan(bad), status=1)
    repo.orch("merge", "demo")
    err = repo.orch("cleanup", "demo", status=1).err
    assert "`orch retry demo/bad`" in err and "`orch approve demo/bad --override" in err
    assert "--force" in err and "orch merge" not in err and "orch dispatch" not in err
    repo.orch("retry", "demo/bad")
    err = repo.orch("cleanup", "demo", status=1).err
    assert "`orch dispatch demo`" in err and "orch retry" not in err

    repo.orch("dispatch", repo.plan(ONE + REVIEWED + bad, name="two"), status=2)
    err = repo.orch("cleanup", "two", status=1).err
    assert "`orch merge two`" in err and "`orch approve two/r`" in err and "orch retry two/bad" in err
    repo.orch("dispatch", repo.plan(ONE, name="three"))
    err = repo.orch("cleanup", "three", status=1).err
    assert "`orch merge three` keeps it, --force gives it up" in err and "retry" not in err


def test_cleanup_all(repo):
    repo.orch("cleanup", "--all")
    repo.orch("dispatch", repo.plan(ONE))
    repo.orch("dispatch", repo.plan("[task:c]\ncommand = touch c\n", name="other"))
    repo.orch("merge", "demo")
    assert "other" in repo.orch("cleanup", "--all", status=1).err
    assert orch_refs(repo) == [] and repo.git("rev-parse", "orch/other/integration")
    repo.orch("cleanup", "--all", "--force")
    repo.orch("cleanup", status=64)
    repo.orch("cleanup", "--all", "demo", status=64)


def test_a_branch_that_the_user_has_checked_out_stays(done):
    done.orch("merge", "demo")
    done.git("checkout", "-q", "orch/demo/integration")
    assert "checked out" in done.orch("cleanup", "demo", status=1).err
    assert "refs/heads/orch/demo/integration" in orch_refs(done)


# ---- plan reset, plan delete ----


def test_reset_keeps_what_passed(repo):
    repo.orch("dispatch", repo.plan(
        ONE + "[task:b]\ncommand = test $ORCH_ATTEMPT = 2 && touch b\nretry_max = 0\n"
        "[task:c]\ncommand = touch c\ndepends_on = b\n"), status=1)
    assert "1 task set back" in repo.orch("plan", "reset", "demo").out
    assert [t["status"] for t in repo.status()["tasks"]] == ["passed", "pending", "pending"]
    assert "escalated -> pending" in repo.orch("log", "b").out
    repo.orch("dispatch", "demo")
    assert [t["attempt"] for t in repo.status()["tasks"]] == [1, 2, 1]


def test_delete_needs_a_word_and_no_refs(done):
    done.orch("plan", "delete", "demo", status=64)
    assert "orch cleanup" in done.orch("plan", "delete", "demo", "--yes", status=1).err
    done.orch("cleanup", "demo", "--force")
    done.orch("plan", "delete", "demo", "--yes")
    assert done.orch("status").out == "no plans\n"
    done.orch("plan", "delete", "demo", "--yes", status=66)
    done.orch("dispatch", done.plan(ONE))  # the name is free again


def test_agents_that_a_dead_engine_left_are_not_cleaned_up_under(repo):
    os.mkfifo(repo.home / "fifo")
    process = repo.popen("dispatch", repo.plan(
        '[task:a]\ncommand = read line < "$HOME/fifo"; echo "$line" > a\n'))
    wait_until(lambda: repo.orch("status", "--json").json["plans"] and
               repo.task("a")["status"] == "running")
    process.kill()
    repo.finish(process)
    assert repo.orch("status", "--json").json["engine"]["running"] is False
    for verb in (["cleanup", "demo", "--force"], ["plan", "reset", "demo"],
                 ["plan", "delete", "demo", "--yes"]):
        assert "orch dispatch" in repo.orch(*verb, status=1).err
    again = repo.popen("dispatch", "demo")
    (repo.home / "fifo").write_text("adopted\n")
    assert repo.finish(again).status == 0
    assert repo.git("show", "orch/demo/integration:a") == "adopted"
