# SPDX-License-Identifier: MIT
"""Which plan a dispatch takes, where it may be called from, and a plan file that has changed."""

import os
import subprocess

import pytest

from conftest import wait_until

ONE = "[task:a]\ncommand = echo a > a\n"
HELD = "[task:a]\ncommand = echo a > a; while ! test -e $HOME/go; do sleep 0.02; done\n"


def test_prompt_with_a_harness(repo):
    repo.write("orch.ini", "[harness:shell]\ncommand = true\n")
    env = {"ORCH_HARNESS_SHELL_COMMAND": "cat > said"}
    result = repo.dispatch("--harness=shell", "--prompt=Write a file", env=env)
    plan = result.halt["plan"]
    tip = f"orch/{plan}/integration"
    assert "Write a file" in repo.git("show", f"{tip}:said")
    assert result.halt["tasks"] == {"passed": 1}


def test_the_same_prompt_again_is_done_again(repo):
    (repo.path / "orch.ini").write_text("[harness:shell]\ncommand = date +%N > said\n")
    first = repo.dispatch("--harness=shell", "--prompt=Say when")
    second = repo.dispatch("--harness=shell", "--prompt=Say when")
    assert first.halt["plan"] != second.halt["plan"]
    assert second.halt["tasks"] == {"passed": 1}


def test_harness_overrides_every_task(repo):
    plan = repo.plan("[task:a]\ncommand = echo a > a\nharness = other\n[task:b]\n"
                     "command = echo b > b\n", harness="none")
    result = repo.dispatch("--harness=shell", plan)
    assert result.halt["tasks"] == {"passed": 2}


def test_harness_alone_takes_plan_ini(repo):
    repo.write("plan.ini", "[plan]\nname = here\nharness = nowhere\n" + ONE)
    assert repo.dispatch("--harness=shell").halt["plan"] == "here"


def test_without_a_plan_the_unfinished_one_goes_on(repo):
    plan = repo.plan(ONE + "[task:b]\ncommand = echo b > b\n")
    repo.dispatch("--cap=1", plan, status=4)
    repo.write("plan.ini", "[plan]\nname = other\nharness = shell\n" + ONE)
    assert repo.dispatch().halt == {"version": 1, "type": "halt", "plan": "demo",
                                    "reason": "completed", "exit_status": 0,
                                    "tasks": {"passed": 2}}


def test_several_unfinished_are_64_with_their_names(repo):
    for name in ("first", "second"):
        repo.dispatch("--cap=1", repo.plan(ONE + "[task:b]\ncommand = echo > b\n", name), status=4)
    err = repo.orch("dispatch", status=64).err
    assert "first" in err and "second" in err


def test_nothing_to_dispatch_is_66_and_says_what_to_type(repo):
    assert "orch dispatch --" in repo.orch("dispatch", status=66).err
    assert "no-such.ini" in repo.orch("dispatch", "no-such.ini", status=66).err
    assert "no-such" in repo.orch("dispatch", "no-such", status=66).err


def test_a_draft_by_name_is_2_and_names_plan_approve(repo):
    repo.orch("plan", "import", repo.plan(ONE))
    assert "orch plan approve demo" in repo.orch("dispatch", "demo", status=2).err
    assert not repo.git("for-each-ref", "refs/orch", "refs/heads/orch")
    repo.orch("plan", "approve", "demo")
    assert repo.dispatch("demo").halt["reason"] == "completed"


def test_where_there_are_only_drafts_it_names_them_and_plan_approve(repo):
    repo.orch("plan", "import", repo.plan(ONE))
    repo.orch("plan", "import", repo.plan(ONE, name="other"))
    err = repo.orch("dispatch", status=2).err
    assert "demo, other" in err and "orch plan approve" in err
    repo.orch("plan", "approve", "other")
    assert repo.dispatch().halt["plan"] == "other"
    repo.write("plan.ini", "[plan]\nname = file\nharness = shell\n" + ONE)
    assert repo.dispatch().halt["plan"] == "file"


def test_dispatching_the_file_of_a_draft_approves_it(repo):
    plan = repo.plan(ONE)
    repo.orch("plan", "import", plan)
    assert repo.dispatch(plan).halt["reason"] == "completed"


def test_a_name_may_be_a_unique_prefix(repo):
    repo.dispatch(repo.plan(ONE, "alpha"))
    repo.dispatch(repo.plan(ONE, "alps"))
    assert repo.dispatch("alph").halt["plan"] == "alpha"
    err = repo.orch("dispatch", "alp", status=64).err
    assert "alpha" in err and "alps" in err


@pytest.mark.parametrize("args", [
    ["--max-agents=0"], ["--cap=0"], ["--cap=x"], ["--timeout=soon"], ["--harness=a/b"],
    ["a.ini", "b.ini"], ["a.ini", "--prompt=x"], ["--drain-timeout="],
    ["--drain-timeout=off"]])
def test_bad_options_are_64(repo, args):
    repo.orch("dispatch", *args, status=64)


def test_a_second_dispatch_is_69_naming_the_pid(repo):
    process = repo.popen("dispatch", repo.plan(HELD))
    wait_until(lambda: list(repo.state_dir.glob("units/*/shim.lock")), what="the agent")
    result = repo.orch("dispatch", repo.plan(ONE, "other"), status=69)
    assert f"pid {process.pid} " in result.err and "stop it with `orch stop`" in result.err
    (repo.home / "go").touch()
    assert repo.finish(process).status == 0


def test_from_a_subdirectory_and_with_C(repo):
    (repo.path / "deep" / "er").mkdir(parents=True)
    repo.write("deep/plan.ini", "[plan]\nname = deep\nharness = shell\n" + ONE)
    assert repo.dispatch(cwd=repo.path / "deep").halt["plan"] == "deep"
    repo.write("deep/other.ini", "[plan]\nname = other\nharness = shell\n" + ONE)
    assert repo.dispatch("-C", repo.path / "deep", "other.ini", cwd="/").halt["plan"] == "other"
    assert sorted(repo.git("branch", "--list", "orch/*/integration").split()) == [
        "orch/deep/integration", "orch/other/integration"]
    assert not list(repo.path.glob("deep/.orch"))


def test_from_a_linked_worktree(repo):
    linked = repo.home / "linked"
    repo.git("worktree", "add", "-q", "-b", "side", linked)
    (linked / "side").write_text("side\n")
    repo.git("add", "side", cwd=linked)
    repo.git("commit", "-qm", "side", cwd=linked)
    repo.dispatch(repo.plan(ONE), cwd=linked)
    assert repo.git("show", "orch/demo/integration:side") == "side"
    assert (repo.state_dir / "orch.db").exists()
    assert os.path.realpath(linked / ".orch") == str(repo.state_dir)
    assert repo.git("status", "--porcelain", cwd=linked) == ""


def test_the_base_that_the_plan_names(repo):
    repo.sh("git checkout -q -b older; echo old > old; git add old; git commit -qm old;"
            "git checkout -q main")
    repo.dispatch(repo.plan(ONE, base="older"))
    assert repo.git("show", "orch/demo/integration:old") == "old"


def test_a_base_that_is_not_there_is_66_and_makes_nothing(repo):
    assert "nowhere" in repo.orch("dispatch", repo.plan(ONE, base="nowhere"), status=66).err
    assert not repo.git("for-each-ref", "refs/orch", "refs/heads/orch")


# ---- without git ----

def test_isolation_none_outside_of_git(place):
    result = place.dispatch(place.plan(
        "[invariant:there]\ncommand = test -e a\n"
        "[task:a]\ncommand = pwd > a\ninvariants = there\n"
        "[task:b]\ncommand = cat a > b\ndepends_on = a\n", isolation="none"))
    assert result.moves("b") == ["assigned", "running", "checking", "passed"]
    assert (place.path / "b").read_text() == f"{place.path}\n"
    assert (place.path / ".orch" / "orch.db").exists()


def test_isolation_none_runs_one_by_one(place):
    tasks = "".join(f"[task:t{i}]\ncommand = mkdir busy && sleep 0.05 && rmdir busy\n"
                    "allow_empty = yes\nretry_max = 0\n" for i in range(4))
    assert place.dispatch(place.plan(tasks, isolation="none")).halt["tasks"] == {"passed": 4}


def test_worktrees_need_a_repository(place):
    err = place.orch("dispatch", place.plan(ONE), status=66).err
    assert "git init" in err and "isolation = none" in err


# ---- a file that has changed ----

def test_new_tasks_are_added(repo):
    repo.dispatch(repo.plan(ONE))
    result = repo.dispatch(repo.plan(ONE + "[task:b]\ncommand = cat a > b\ndepends_on = a\n"))
    assert result.moves("a") == [] and result.halt["tasks"] == {"passed": 2}
    assert repo.git("show", "orch/demo/integration:b") == "a"


def test_tasks_not_started_are_updated_or_removed(repo):
    repo.dispatch("--cap=1", repo.plan(
        "[task:a]\ncommand = echo a > a\npriority = 9\n"
        "[task:b]\ncommand = echo old > b\n[task:c]\ncommand = echo c > c\n"), status=4)
    result = repo.dispatch(repo.plan(
        "[task:a]\ncommand = echo a > a\npriority = 9\n[task:b]\ncommand = echo new > b\n"))
    assert repo.git("show", "orch/demo/integration:b") == "new"
    assert result.halt["tasks"] == {"passed": 2}


def test_a_started_task_may_change_some_things(repo):
    task = "[task:a]\ncommand = test $ORCH_ATTEMPT = 2; echo a > a; exit 1\n"
    repo.dispatch(repo.plan(task + "retry_max = 0\n"), status=1)
    repo.dispatch(repo.plan(task + "retry_max = 5\npriority = 3\ntag = x\ntimeout = 5m\n"
                            "gate = human_review\n"), status=1)
    assert repo.db("SELECT retry_max, priority, gate FROM task") == [
        {"retry_max": 5, "priority": 3, "gate": "human_review"}]


@pytest.mark.parametrize("change", [
    "command = echo other > a\n", "command = echo a > a\nscope = broad\n", None,
    "command = echo a > a\nallow_empty = yes\n", "command = echo a > a\nharness = other\n"])
def test_other_changes_of_a_started_task_refuse_the_file(repo, change):
    rest = "[task:b]\ncommand = echo b > b\n"
    repo.dispatch(repo.plan(ONE + rest))
    before = repo.db("SELECT * FROM task"), repo.db("SELECT * FROM plan")
    new = (f"[task:a]\n{change}" if change else "") + rest + "[task:new]\ncommand = echo > n\n"
    result = repo.orch("dispatch", repo.plan(new), status=65)
    assert "a" in result.err and "nothing was changed" in result.err
    assert (repo.db("SELECT * FROM task"), repo.db("SELECT * FROM plan")) == before
    assert not repo.git("for-each-ref", "refs/orch/demo/new")


def test_a_bad_plan_file_is_65_with_every_mistake(repo):
    plan = repo.plan("[task:a]\ncommand = x\ndepends_on = gone\nbogus = 1\n[task:b]\n")
    err = repo.orch("dispatch", plan, status=65).err
    assert f"{plan}:" in err and "gone" in err and "bogus" in err and "b" in err
    assert not list(repo.state_dir.glob("units/*"))
    assert repo.db("SELECT * FROM plan") == []


def test_a_harness_that_is_not_here_is_a_warning_at_check(repo):
    plan = repo.plan("[task:a]\nprompt = x\n[task:b]\nprompt = y\nharness = other\n"
                     "[task:c]\ncommand = true\nharness = shell\n", harness="nowhere")
    for verb in ("check", "import"):
        result = repo.orch("plan", verb, plan)
        first, second = result.err.splitlines()
        assert first.startswith(f"{plan}: warning: harness 'nowhere' not found"), result
        assert second.startswith(f"{plan}:7: warning: harness 'other' not found"), result


def test_a_command_may_have_a_prompt(repo):
    repo.dispatch(repo.plan("[task:a]\nprompt = Write it down.\ncommand = cat > told\n"))
    assert repo.git("show", "orch/demo/integration:told").startswith("Write it down.")
