# SPDX-License-Identifier: MIT
"""What is counted of an agent's tokens, and what a spent budget, a limit of the harness or a login that is
refused come to."""

import json

import pytest

from conftest import wait_until


def usage(**counts):
    text = json.dumps({"kind": "usage", "data": counts})
    return f"echo '{text}' >&$ORCH_EVENT_FD; "


def tokens(repo):
    return repo.status()["tokens"]


@pytest.mark.parametrize("events, expected", [
    ([{"id": "m1", "input": 10, "output": 1}, {"id": "m1", "input": 10, "output": 5}], (10, 5)),
    # a message comes again after another one
    ([{"id": "m1", "input": 10, "output": 1}, {"id": "m2", "input": 20, "output": 2},
      {"id": "m1", "input": 10, "output": 3}], (30, 5)),
    ([{"input": 1, "output": 1}, {"input": 2, "output": 2}], (3, 3)),
    # the total has the last word, upwards and downwards
    ([{"id": "m1", "input": 10, "output": 1}, {"input": 50, "output": 9, "total": True}], (50, 9)),
    ([{"id": "m1", "input": 100, "output": 9}, {"input": 50, "output": 7, "total": True}], (50, 7)),
    ([{"input": 50, "output": 9, "total": True}, {"id": "m9", "input": 5, "output": 5}], (50, 9)),
])
def test_what_is_counted(repo, events, expected):
    repo.dispatch(repo.plan("[task:a]\ncommand = " + "".join(usage(**e) for e in events) +
                            "echo a > a\n"))
    assert (tokens(repo)["input"], tokens(repo)["output"]) == expected


@pytest.mark.parametrize("events, expected, cost", [
    ([{"input": 2**63 - 1, "output": 0}, {"input": 1, "output": 2**63 - 1}], (2**53, 2**53), 0),
    ([{"id": "m", "input": 2**63 - 1, "output": 0}, {"id": "m", "input": 3, "output": 1}], (3, 1), 0),
    ([{"input": 2**63 - 1, "output": 0}, {"input": 7, "output": 1, "total": True}], (7, 1), 0),
    ([{"input": 1, "output": 1, "cost": 1.7e308}] * 2, (2, 2), 1e12),
])
def test_numbers_that_cannot_be_are_cut(repo, events, expected, cost):
    plan = repo.plan("[task:a]\ncommand = " + "".join(usage(**e) for e in events) + "echo a > a\n" +
                     "[task:b]\ncommand = " + "".join(usage(**e) for e in events[:1]) + "echo b > b\n")
    assert repo.dispatch(plan).moves("a")[-1] == "passed"
    attempt = repo.orch("report", "--json").json["tasks"][0]["attempts"][0]
    assert (attempt["tokens"]["input"], attempt["tokens"]["output"]) == expected
    assert attempt["cost"] == cost
    assert tokens(repo)["input"] == min(2**53, expected[0] + min(2**53, events[0]["input"]))
    assert repo.dispatch("demo").halt["reason"] == "completed"


def test_a_budget_is_spent_by_numbers_that_cannot_be(repo):
    plan = repo.plan(SPENDS.format("a", usage(input=2**63 - 1, output=2**63 - 1) + "sleep 60"),
                     token_budget=1000)
    assert repo.dispatch(plan, status=3).halt["reason"] == "budget_exceeded"
    assert repo.dispatch("demo", status=3).halt["reason"] == "budget_exceeded"


def test_cache_tokens_stand_apart(repo):
    repo.dispatch(repo.plan("[task:a]\ncommand = " + usage(
        id="m", input=1, output=2, cache_read=1000, cache_write=40) + "echo a > a\n",
        token_budget=100))
    assert tokens(repo) == {"input": 1, "output": 2, "cache_read": 1000, "cache_write": 40}


SPENDS = "[task:{0}]\ncommand = " + usage(input=60, output=60).replace("{", "{{").replace(
    "}", "}}") + "echo {0} > {0}; {1}\nretry_max = 3\n"


def test_raising_a_budget_lets_the_plan_go_on(repo):
    plan = repo.plan(SPENDS.format("a", "test $ORCH_ATTEMPT != 1 || sleep 60"), token_budget=100)
    result = repo.dispatch(plan, status=3)
    assert result.halt["reason"] == "budget_exceeded"
    assert result.last("a")["outcome"] == "over_budget"
    # It is spent: another dispatch starts nothing.
    assert [line["type"] for line in repo.dispatch("demo", status=3).lines] == ["halt"]
    repo.orch("plan", "set", "demo", "token_budget=1000")
    assert repo.dispatch("demo").halt["reason"] == "completed"
    assert tokens(repo)["input"] == 120


def test_raising_it_while_agents_run(repo):
    process = repo.popen("dispatch", "--json", repo.plan(
        SPENDS.format("a", "touch $HOME/up; while [ ! -e $HOME/go ]; do sleep 0.02; done;" +
                      usage(input=100, output=100) + "sleep 0.3"), token_budget=200))
    wait_until((repo.home / "up").exists)
    repo.orch("plan", "set", "demo", "token_budget=1000")
    (repo.home / "go").touch()
    assert repo.finish(process).halt["reason"] == "completed"


def test_a_tasks_own_budget_is_its_own(repo):
    result = repo.dispatch(repo.plan(
        SPENDS.format("a", "sleep 60") + "token_budget = 100\n" + SPENDS.format("b", "true")),
        status=1)
    assert result.halt["reason"] == "failed"
    assert (repo.task("a")["status"], repo.task("a")["outcome"]) == ("escalated", "over_budget")
    assert repo.task("a")["reason"].startswith("over_budget: ")
    assert repo.task("b")["status"] == "passed"


def test_a_harness_has_a_budget_in_each_plan(repo):
    repo.write("orch.ini", "[harness:dear]\nplugin = shell\ntoken_budget = 100\n")
    text = (SPENDS.format("a", "true") + "harness = dear\n" +
            "[task:b]\ncommand = echo b > b\nharness = dear\ndepends_on = a\n"
            "[task:c]\ncommand = echo c > c\ndepends_on = a\n")
    plan = repo.plan(text)
    result = repo.dispatch(plan, status=3, env={"ORCH_RETRY_BACKOFF": "0"})
    assert result.halt["reason"] == "budget_exceeded"
    assert repo.task("b")["status"] == "pending"
    repo.write("orch.ini", "[harness:dear]\nplugin = shell\ntoken_budget = 1000\n")
    assert repo.dispatch(plan).halt["reason"] == "completed"
