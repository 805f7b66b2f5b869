# SPDX-License-Identifier: MIT
"""What operators change of a plan, with one result whether an engine runs for it, for another plan, or
none runs at all."""

import os

import pytest

from conftest import wait_until

HOLD = "[task:hold]\ncommand = touch $HOME/up; echo hold > hold; read line < $HOME/go\n"


class Engine:
    """A dispatch of the plan that is held until go()."""

    def __init__(self, repo, plan):
        os.mkfifo(repo.home / "go")
        self.repo = repo
        self.process = repo.popen("dispatch", "--json", plan)
        # The agent may be up before its engine has heard of it.
        wait_until(lambda: (repo.home / "up").exists()
                   and repo.task("hold", "demo")["status"] == "running",
                   what="the task that holds the plan")

    def go(self, status=0):
        with open(self.repo.home / "go", "w") as file:
            file.write("go\n")
        result = self.repo.finish(self.process)
        assert result.status == status, result
        return result


class Nobody:
    def __init__(self, repo, plan):
        self.repo, self.plan = repo, plan
        repo.orch("plan", "import", plan)
        os.mkfifo(repo.home / "go")

    def go(self, status=0):
        engine = self.repo.popen("dispatch", "--json", "demo")
        self.repo.orch("plan", "approve", "demo", status=None)
        with open(self.repo.home / "go", "w") as file:
            file.write("go\n")
        result = self.repo.finish(engine)
        assert result.status == status, result
        return result


@pytest.fixture(params=["engine", "nobody"])
def start(request, repo):
    """Imports or dispatches plan demo: HOLD and the text; returns what lets it run to its end."""
    def begin(text, **keys):
        plan = repo.plan(HOLD + text, max_agents=2, **keys)
        if request.param == "engine":
            return Engine(repo, plan)
        nobody = Nobody(repo, plan)
        repo.orch("plan", "approve", "demo")
        return nobody
    return begin


def ran(result):
    return [line["task"] for line in result.lines
            if line["type"] == "task" and line["to"] == "assigned"]


AFTER = "[task:after]\ncommand = echo after > after\ndepends_on = hold\n"


def test_a_file_with_new_tasks(repo, start):
    engine = start(AFTER)
    plan = repo.plan(HOLD + AFTER.replace("echo after", "echo changed") +
                     "[task:new]\ncommand = echo new > new\ndepends_on = after\n"
                     "[task:free]\ncommand = echo free > free\n", max_agents=2)
    repo.orch("plan", "import", plan)
    result = engine.go()
    assert sorted(ran(result)) == ["after", "free", "hold", "new"]
    assert ran(result).index("after") < ran(result).index("new")
    assert repo.git("show", "orch/demo/integration:after") == "changed"
    assert result.halt["tasks"] == {"passed": 4}


def test_a_file_without_a_task(repo, start):
    engine = start(AFTER)
    repo.orch("plan", "import", repo.plan(HOLD, max_agents=2))
    assert ran(engine.go()) == ["hold"]
    assert [task["name"] for task in repo.status()["tasks"]] == ["hold"]


def test_what_has_started_is_refused_as_a_whole(repo):
    engine = Engine(repo, repo.plan(HOLD + AFTER))
    changed = repo.plan(HOLD.replace("up;", "up; true;") + "[task:new]\ncommand = true\n")
    refused = repo.orch("plan", "import", changed, status=65)
    assert "hold" in refused.err and "command" in refused.err
    assert [task["name"] for task in repo.status()["tasks"]] == ["hold", "after"]
    assert ran(engine.go()) == ["hold", "after"]


def test_set_of_what_has_not_started(repo, start):
    engine = start(AFTER)
    repo.orch("plan", "set", "demo/after", "command=echo set > after", "depends_on=",
              "retry_max=0")
    result = engine.go()
    assert sorted(ran(result)) == ["after", "hold"]
    assert repo.git("show", "orch/demo/integration:after") == "set"


@pytest.mark.parametrize("setting, status", [
    ("colour=red", 65), ("retry_max=many", 65), ("depends_on=after", 65), ("name", 64),
    ("depends_on=nothing", 65), ("prompt=", 65)])
def test_bad_settings(repo, start, setting, status):
    engine = start(AFTER)
    before = repo.orch("plan", "export", "demo").out
    repo.orch("plan", "set", "demo/after", setting, status=status)
    assert repo.orch("plan", "export", "demo").out == before
    assert sorted(ran(engine.go())) == ["after", "hold"]


def test_a_prompt_leaves_the_command(repo, start):
    engine = start(AFTER)
    repo.orch("plan", "set", "demo/after", "prompt=Say after.",
              'command=cp "$ORCH_PROMPT_FILE" after')
    repo.orch("plan", "set", "demo/after", "prompt=Say when.")
    engine.go()
    assert "Say when." in repo.git("show", "orch/demo/integration:after")


def test_without_a_value_one_of_prompt_and_command_is_unset(repo):
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = true\n"))
    repo.orch("plan", "set", "demo/a", "command=", status=65)
    repo.orch("plan", "set", "demo/a", "prompt=Say it.")
    shown = repo.orch("plan", "show", "demo").out
    assert "prompt = Say it." in shown and "command = true" in shown
    repo.orch("plan", "set", "demo/a", "command=")
    assert "command" not in repo.orch("plan", "show", "demo").out
    repo.orch("plan", "set", "demo/a", "prompt=", status=65)
    repo.orch("plan", "set", "demo/a", "command=false", "prompt=")
    assert "prompt" not in repo.orch("plan", "show", "demo").out


def test_a_plan_that_is_over_was_approved_before(repo):
    plan = repo.plan("[task:a]\ncommand = touch a\n")
    repo.orch("plan", "import", plan)
    assert repo.orch("plan", "approve", "demo").out == "plan 'demo' is approved\n"
    assert repo.orch("plan", "approve", "demo").out == "plan 'demo' is approved\n"
    repo.dispatch("demo")
    assert repo.orch("plan", "approve", "demo").out == (
        "plan 'demo' is completed: it was approved before\n")


def test_an_unknown_key_is_told_with_those_there_are(repo):
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = true\n"))
    err = repo.orch("plan", "set", "demo/a", "foo=1", status=65).err
    assert "unknown key 'foo'; the keys of a task are prompt, command, depends_on" in err
    err = repo.orch("plan", "set", "demo", "foo=1", status=65).err
    assert "the keys of a plan are" in err and "token_budget" in err
    err = repo.orch("plan", "set", "demo/a", "tiemout=1", status=65).err
    assert "did you mean 'timeout'?" in err and "the keys" not in err


def test_remove(repo, start):
    engine = start(AFTER + "[task:last]\ncommand = true\ndepends_on = after\n")
    refused = repo.orch("plan", "remove", "demo/after", status=65)
    assert "last depends on it" in refused.err
    assert "demo/last is removed" in repo.orch("plan", "remove", "demo/last").out
    repo.orch("plan", "remove", "demo/after")
    repo.orch("plan", "remove", "demo/after", status=66)
    result = engine.go()
    assert ran(result) == ["hold"] and result.halt["tasks"] == {"passed": 1}


def test_remove_of_what_has_started(repo):
    engine = Engine(repo, repo.plan(HOLD + AFTER))
    repo.orch("plan", "remove", "demo/after")
    assert "only one" in repo.orch("plan", "remove", "demo/hold", status=65).err
    engine.go()


def test_a_removed_task_does_not_keep_the_plan_from_its_end(repo):
    """It waits for a slot when it is taken out."""
    engine = Engine(repo, repo.plan(HOLD + "[task:queued]\ncommand = true\n", max_agents=1))
    repo.orch("plan", "remove", "demo/queued")
    assert engine.go().halt["reason"] == "completed"


def test_another_plan_is_imported_approved_and_deleted(repo):
    engine = Engine(repo, repo.plan(HOLD))
    other = repo.plan("[task:b]\ncommand = echo b > b\n", name="other")
    repo.orch("plan", "import", other)
    assert repo.status("other")["status"] == "draft"
    repo.orch("plan", "approve", "other")
    assert repo.status("other")["status"] == "approved"
    repo.orch("plan", "set", "other", "max_agents=3")
    assert "max_agents = 3" in repo.orch("plan", "show", "other").out
    repo.orch("plan", "delete", "other", "--yes")
    assert [p["name"] for p in repo.orch("status", "--json").json["plans"]] == ["demo"]
    engine.go()


def test_a_plan_under_way_is_not_deleted(repo):
    engine = Engine(repo, repo.plan(HOLD))
    repo.orch("plan", "delete", "demo", status=64)
    repo.orch("plan", "delete", "demo", "--yes", status=1)
    engine.go()


def test_reset_while_it_runs(repo):
    engine = Engine(repo, repo.plan(HOLD + "[task:bad]\nretry_max = 0\ncommand = "
                                    "test -e $HOME/mended || exit 1; echo ok > bad\n",
                                    max_agents=2))
    wait_until(lambda: repo.task("bad")["status"] == "escalated")
    (repo.home / "mended").touch()
    assert "1 task set back" in repo.orch("plan", "reset", "demo").out
    result = engine.go()
    assert result.halt["reason"] == "completed" and repo.task("bad")["attempt"] == 2


def test_reset_keeps_the_passed(repo):
    plan = repo.plan("[task:good]\ncommand = echo good > good\n"
                     "[task:bad]\ncommand = exit 1\nretry_max = 0\n")
    repo.dispatch(plan, status=1)
    repo.orch("plan", "reset", "demo")
    assert [task["status"] for task in repo.status()["tasks"]] == ["passed", "pending"]
    assert ran(repo.dispatch(plan, status=1)) == ["bad"]
    assert repo.task("bad")["attempt"] == 2


def test_a_review_is_decided_while_it_runs(repo):
    engine = Engine(repo, repo.plan(
        HOLD + "[task:seen]\ncommand = echo $ORCH_ATTEMPT > seen\ngate = human_review\n"
        "[task:bad]\ncommand = echo bad > bad; exit 1\nretry_max = 0\n", max_agents=3))
    wait_until(lambda: repo.task("seen")["status"] == "awaiting_review" and
               repo.task("bad")["status"] == "escalated")
    repo.orch("reject", "seen", "--reason=once more")
    wait_until(lambda: repo.task("seen")["status"] == "awaiting_review" and
               repo.task("seen")["attempt"] == 2)
    repo.orch("approve", "seen")
    repo.orch("approve", "bad", status=1)
    repo.orch("approve", "bad", "--override", status=64)
    assert "passed" in repo.orch("approve", "bad", "--override", "--reason=fine by me").out
    assert engine.go().halt["tasks"] == {"passed": 3}
    assert "fine by me" in repo.orch("log", "bad").out
    assert repo.git("show", "orch/demo/integration:seen") == "2"


def test_a_retry_that_goes_on_while_it_runs(repo):
    engine = Engine(repo, repo.plan(
        HOLD + "[task:a]\nretry_max = 0\ngate = human_review\n"
        "command = echo $ORCH_ATTEMPT >> work; test $ORCH_ATTEMPT != 1\n", max_agents=2))
    wait_until(lambda: repo.task("a")["status"] == "escalated")
    repo.orch("retry", "a", "--continue")
    wait_until(lambda: repo.task("a")["status"] == "awaiting_review")
    repo.orch("retry", "a", "--force", "--continue")
    wait_until(lambda: repo.task("a")["status"] == "awaiting_review" and
               repo.task("a")["attempt"] == 3)
    repo.orch("approve", "a")
    engine.go()
    assert repo.git("show", "orch/demo/integration:work").split() == ["1", "2", "3"]
