# SPDX-License-Identifier: MIT
"""orch merge and orch cleanup while an engine runs: with the same result as without one, and
nothing of a plan that is under way is touched."""

import os
import signal

import pytest

from conftest import descendants, wait_until

ONE = "[task:a]\ncommand = echo a > a\n"
UNTIL_GO = "while [ ! -e $HOME/go ]; do sleep 0.02; done"
# The second call of an invariant (that of orch merge) waits for a file.
SLOW = ("[invariant:slow]\ncommand = test ! -e b || { touch $HOME/judging;"
        " while [ ! -e $HOME/judged ]; do sleep 0.02; done; }\n" + ONE + "invariants = slow\n")
# Stands before git, and waits where cleanup deletes the refs.
GIT = ("#!/bin/sh\ncase \" $* \" in *' update-ref -m orch cleanup '*) touch $HOME/deleting;"
       " while [ ! -e $HOME/delete ]; do sleep 0.02; done;; esac\nPATH={path} exec git \"$@\"\n")


class Busy:
    """An engine that is at work for a plan until it is told to end."""

    def __init__(self, repo, tasks="", name="busy"):
        self.repo = repo
        self.process = repo.popen("dispatch", "--json", repo.plan(
            f"[task:wait]\ncommand = touch $HOME/up; {UNTIL_GO}; echo w > w\n{tasks}", name))
        wait_until((repo.home / "up").exists, what="the agent")

    def end(self, status=0):
        (self.repo.home / "go").touch()
        result = self.repo.finish(self.process)
        assert result.status == status, result
        for name in ("go", "up"):
            (self.repo.home / name).unlink()
        return result


@pytest.fixture
def done(repo):
    repo.orch("dispatch", repo.plan(ONE))
    return repo


@pytest.fixture
def beside(done):
    """The plan demo is done, and an engine is at work for another one."""
    done.busy = Busy(done)
    return done


def head(repo, ref="main"):
    return repo.git("rev-parse", ref)


def refs(repo, plan="demo"):
    return repo.git("for-each-ref", "--format=%(refname)", f"refs/heads/orch/{plan}/",
                    f"refs/orch/{plan}/").split()


def commit(repo, name="b"):
    repo.write(name, f"{name}\n")
    repo.git("add", name)
    repo.git("commit", "-q", "-m", name)


def findings(repo):
    return repo.db("SELECT data FROM event WHERE kind = 'finding'")


def held_up(repo, tmp_path):
    """An environment in which cleanup waits, half done, until the file `delete` is there."""
    tool = tmp_path / "bin/git"
    tool.parent.mkdir()
    tool.write_text(GIT.format(path=repo.env["PATH"]))
    tool.chmod(0o755)
    return {**repo.env, "PATH": f"{tool.parent}:{repo.env['PATH']}"}


# ---- merge ----


def test_merge_beside_an_engine_at_another_plan(beside):
    before = head(beside)
    assert beside.orch("merge", "demo", "--dry-run", "--json").json["result"] == "would_merge"
    assert head(beside) == before
    result = beside.orch("merge", "demo", "--json").json
    assert (result["result"], result["from"], result["to"]) == ("merged", before, head(beside))
    assert (beside.path / "a").read_text() == "a\n" and beside.git("status", "--porcelain") == ""
    assert beside.orch("merge", "demo", "--json").json["result"] == "already_merged"
    assert "+final" not in beside.git("worktree", "list")
    beside.busy.end()


def test_the_merge_is_not_held_against_the_agents_that_run(beside):
    beside.orch("merge", "demo")
    assert "shared repository" not in beside.busy.end().err
    assert findings(beside) == []


def test_what_an_agent_changes_beside_a_merge_is_still_found(done):
    busy = Busy(done, "[task:bad]\ndepends_on = wait\ncommand = git branch mine; echo b > bad\n")
    done.orch("merge", "demo")
    busy.end()
    assert len(findings(done)) == 1


def test_a_merge_is_not_held_against_an_agent_that_a_dead_engine_left(beside):
    beside.busy.process.kill()
    beside.finish(beside.busy.process)
    beside.orch("merge", "demo")
    again = beside.popen("dispatch", "busy")
    (beside.home / "go").touch()
    assert beside.finish(again).status == 0
    assert findings(beside) == []


def test_a_red_merge_beside_an_engine(repo):
    repo.orch("dispatch", repo.plan("[invariant:no]\ncommand = test ! -e b\n" + ONE
                                    + "invariants = no\n"))
    commit(repo)
    busy, before = Busy(repo), head(repo)
    assert repo.orch("merge", "demo", "--json", status=1).json["result"] == "red"
    assert head(repo) == before
    busy.end()


def test_merge_of_the_plan_that_is_under_way(repo):
    """What it has integrated by then; the rest with a later merge."""
    process = repo.popen("dispatch", repo.plan(
        ONE + f"[task:b]\ndepends_on = a\ncommand = touch $HOME/up; {UNTIL_GO}; echo b > b\n"))
    wait_until((repo.home / "up").exists, what="the second task")
    repo.orch("merge", "demo")
    assert (repo.path / "a").exists() and not (repo.path / "b").exists()
    (repo.home / "go").touch()
    assert repo.finish(process).status == 0
    repo.orch("merge", "demo")
    assert (repo.path / "b").exists() and findings(repo) == []


@pytest.mark.parametrize("engine", [False, True])
def test_one_merge_at_a_time(repo, engine):
    repo.orch("dispatch", repo.plan(SLOW))
    commit(repo)
    busy = Busy(repo) if engine else None
    process = repo.popen("merge", "demo")
    wait_until((repo.home / "judging").exists, what="the first merge's gate")
    for verb in (["merge", "demo"], ["cleanup", "demo", "--force"]):
        err = repo.orch(*verb, status=69).err
        assert str(process.pid) in err and "orch merge demo" in err.replace("/", " ")
    (repo.home / "judged").touch()
    assert repo.finish(process).status == 0
    assert (repo.path / "a").exists() and refs(repo)
    if busy:
        busy.end()


def test_ctrl_c_beside_an_engine(repo):
    repo.orch("dispatch", repo.plan(SLOW))
    commit(repo)
    busy, before = Busy(repo), head(repo)
    process = repo.popen("merge", "demo")
    wait_until((repo.home / "judging").exists)
    process.send_signal(signal.SIGINT)
    assert repo.finish(process).status == 130
    assert head(repo) == before and "+final" not in repo.git("worktree", "list")
    busy.end()


def test_an_engine_that_starts_leaves_a_merge_alone(repo):
    """It tidies up after an earlier one, not the worktree and the files of a merge at work."""
    repo.orch("dispatch", repo.plan(SLOW))
    commit(repo)
    busy = Busy(repo)
    process = repo.popen("merge", "demo")
    wait_until((repo.home / "judging").exists)
    busy.end()
    final, = [path for path in (repo.path / ".git/worktrees").iterdir() if "+final" in path.name]
    mine = [final / "index.lock", repo.state_dir / "git-merge.x"]
    for path in mine:
        path.touch()
    repo.orch("dispatch", repo.plan("[task:c]\ncommand = echo c > c\n", "third"))
    assert all(path.exists() for path in mine)
    for path in mine:
        path.unlink()
    (repo.home / "judged").touch()
    assert repo.finish(process).status == 0 and (repo.path / "a").exists()


# ---- cleanup ----


def test_cleanup_beside_an_engine_at_another_plan(beside):
    assert "not merged" in beside.orch("cleanup", "demo", status=1).err and refs(beside)
    beside.orch("merge", "demo")
    assert "removed" in beside.orch("cleanup", "demo").out
    plan = beside.status("demo")
    assert refs(beside) == [] and plan["branch"] is None
    assert plan["tasks"][0]["branch"] is None and plan["tasks"][0]["worktree"] is None
    beside.orch("cleanup", "demo")
    beside.busy.end()
    assert findings(beside) == []
    assert not list(beside.state_dir.glob("hold-*"))


def test_a_plan_under_way_is_not_cleaned_up(beside):
    before = refs(beside, "busy")
    for force in ([], ["--force"]):
        err = beside.orch("cleanup", "busy", *force, status=1).err
        assert "under way" in err and "orch stop" in err
    assert refs(beside, "busy") == before
    assert os.path.isdir(beside.task("wait", "busy")["worktree"] or "")
    beside.busy.end()
    beside.orch("cleanup", "busy", "--force")
    assert refs(beside, "busy") == []


def test_all_leaves_out_what_is_under_way(beside):
    beside.orch("merge", "demo")
    out = beside.orch("cleanup", "--all", "--force").out
    assert "'busy' is under way" in out and refs(beside) == [] and refs(beside, "busy")
    assert beside.busy.end().halt["tasks"] == {"passed": 1}


def test_a_plan_that_the_engine_has_done_something_for(repo):
    """An approval made the engine take the plan up; when that is done, it is over."""
    repo.orch("dispatch", repo.plan(ONE + "gate = human_review\n"), status=2)
    busy = Busy(repo)
    repo.orch("approve", "demo/a")
    assert repo.status("demo")["status"] == "completed"
    repo.orch("merge", "demo")
    repo.orch("cleanup", "demo")
    assert refs(repo) == []
    busy.end()


def half_done(repo, tmp_path):
    repo.orch("dispatch", repo.plan(ONE + "[task:b]\ncommand = false\nretry_max = 0\n"), status=1)
    busy = Busy(repo)
    process = repo.popen("cleanup", "demo", "--force", env=held_up(repo, tmp_path))
    wait_until((repo.home / "deleting").exists, what="the cleanup")
    return busy, process


def test_nobody_takes_up_what_is_being_cleaned_up(repo, tmp_path):
    busy, process = half_done(repo, tmp_path)
    assert "being cleaned up" in repo.orch("retry", "demo/b", status=69).err
    (repo.home / "delete").touch()
    assert repo.finish(process).status == 0 and refs(repo) == []
    repo.orch("retry", "demo/b")
    busy.end()


def test_a_cleanup_that_is_killed_holds_nothing(repo, tmp_path):
    busy, process = half_done(repo, tmp_path)
    process.kill()
    repo.finish(process)
    (repo.home / "delete").touch()
    repo.orch("retry", "demo/b")
    repo.orch("cleanup", "demo", "--force")
    assert refs(repo) == []
    busy.end()


def test_a_cleanup_that_outlives_the_engine(repo, tmp_path):
    """The next engine does not take the plan up either, and the rows are still put right."""
    busy, process = half_done(repo, tmp_path)
    busy.end()
    assert "being cleaned up" in repo.orch("dispatch", "demo", status=69).err
    assert "being cleaned up" in repo.orch("retry", "demo/b", status=69).err
    (repo.home / "delete").touch()
    assert repo.finish(process).status == 0 and refs(repo) == []
    assert repo.status("demo")["branch"] is None
    assert repo.task("b", "demo")["worktree"] is None


def test_a_cleanup_that_meets_the_next_engine(repo, tmp_path):
    busy, process = half_done(repo, tmp_path)
    busy.end()
    busy = Busy(repo, name="third")
    (repo.home / "delete").touch()
    assert repo.finish(process).status == 0
    assert repo.status("demo")["branch"] is None
    busy.end()


def test_two_plans_in_the_checkout_itself(place):
    first = place.plan("[task:a]\ncommand = touch up; while [ ! -e go ]; do sleep 0.05; done\n",
                       isolation="none")
    second = place.plan("[task:b]\ncommand = touch b\n", name="second", isolation="none")
    process = place.popen("dispatch", first)
    wait_until(lambda: (place.path / "up").exists())
    process.kill()
    place.finish(process)
    err = place.orch("dispatch", second, status=69).err
    assert "plan 'demo'" in err and "orch dispatch demo" in err
    assert not (place.path / "b").exists()
    (place.path / "go").touch()
    wait_until(lambda: not descendants())
    place.dispatch(second)  # nobody is at work any more
    place.dispatch(first)
