# SPDX-License-Identifier: MIT
"""How a dispatch ends: its exit status, its halt reason, its JSON lines (A4, A5)."""

import pytest

DIAMOND = """
[task:top]
command = echo top > top
[task:left]
command = cat top > left
depends_on = top
[task:right]
command = cat top > right
depends_on = top
[task:bottom]
command = cat left right > bottom
depends_on = left, right
"""


def test_a_diamond_is_integrated(repo):
    head = repo.git("rev-parse", "HEAD")
    result = repo.dispatch(repo.plan(DIAMOND))
    assert repo.git("show", "orch/demo/integration:bottom") == "top\ntop"
    assert sorted(repo.git("ls-tree", "--name-only", "orch/demo/integration").split()) == [
        "README", "bottom", "left", "right", "top"]
    assert repo.git("rev-parse", "HEAD") == head
    assert result.moves("top") == ["assigned", "running", "checking", "integrating", "passed"]
    order = [line["task"] for line in result.lines if line.get("to") == "passed"]
    assert order[0] == "top" and order[-1] == "bottom" and len(order) == 4
    for task in ("top", "left", "right", "bottom"):
        commit = repo.git("rev-parse", f"refs/orch/demo/{task}/1")
        assert repo.git("rev-parse", f"orch/demo/task/{task}") == commit
        message = repo.git("log", "-1", "--format=%B", commit)
        for trailer in ("Orch-Plan: demo", f"Orch-Task: {task}", "Orch-Attempt: 1",
                        "Orch-Outcome: ok"):
            assert trailer in message.splitlines()


def test_every_json_line_has_its_keys(repo):
    result = repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a\n"))
    for line in result.lines[:-1]:
        assert set(line) == {"version", "type", "plan", "task", "from", "to", "attempt", "outcome",
                             "reason"}
        assert (line["version"], line["type"], line["plan"], line["attempt"]) == (
            1, "task", "demo", 1)
    assert result.lines[0]["from"] == "pending" and result.lines[0]["outcome"] is None
    assert result.last("a")["outcome"] == "ok" and result.last("a")["reason"] is None
    assert result.halt == {"version": 1, "type": "halt", "plan": "demo", "reason": "completed",
                           "exit_status": 0, "tasks": {"passed": 1}}


def test_done_is_done(repo):
    plan = repo.plan("[task:a]\ncommand = echo a >> $HOME/runs; echo a > a\n")
    repo.dispatch(plan)
    again = repo.dispatch(plan)
    assert [line["type"] for line in again.lines] == ["halt"]
    assert again.halt["reason"] == "completed"
    assert (repo.home / "runs").read_text() == "a\n"


def test_failed_is_1_and_the_rest_still_runs(repo):
    result = repo.dispatch(repo.plan(
        "[task:bad]\ncommand = echo why >&2; exit 3\nretry_max = 1\n"
        "[task:after]\ncommand = echo x > x\ndepends_on = bad\n"
        "[task:good]\ncommand = echo good > good\n"), status=1)
    assert result.halt["reason"] == "failed" and result.halt["exit_status"] == 1
    assert result.halt["tasks"] == {"escalated": 1, "pending": 1, "passed": 1}
    assert result.moves("bad").count("running") == 2
    last = result.last("bad")
    assert last["to"] == "escalated" and last["outcome"] == "agent_error"
    assert last["reason"].startswith("agent_error: ")
    assert "status 3" in last["reason"] and "why" in last["reason"]
    assert result.moves("after") == []


@pytest.mark.parametrize("gate", ["human_review", "human_approve"])
def test_a_person_is_needed_is_2(repo, gate):
    result = repo.dispatch(repo.plan(
        f"[task:a]\ncommand = echo a > a\ngate = {gate}\n"), status=2)
    assert result.halt["reason"] == "review_required"
    assert result.last("a")["to"] == "awaiting_review"
    assert repo.git("rev-parse", "orch/demo/integration") == repo.git("rev-parse", "HEAD")


def test_human_approve_waits_whatever_the_colour(repo):
    red = "[invariant:no]\ncommand = false\n[task:a]\ncommand = echo a > a\ninvariants = no\n"
    result = repo.dispatch(repo.plan(red + "gate = human_approve\nretry_max = 0\n"), status=2)
    assert result.last("a")["to"] == "awaiting_review"
    assert result.last("a")["reason"].startswith("gate_failed: ")


def test_human_review_retries_red(repo):
    result = repo.dispatch(repo.plan(
        "[invariant:yes]\ncommand = test -e two\n"
        "[task:a]\ncommand = if [ $ORCH_ATTEMPT = 2 ]; then echo > two; else echo > one; fi\n"
        "invariants = yes\ngate = human_review\n"), status=2)
    assert result.moves("a").count("running") == 2
    assert result.last("a")["to"] == "awaiting_review"


def test_the_circuit_breaker_is_5(repo):
    tasks = "".join(f"[task:t{i}]\ncommand = exit 1\nretry_max = 0\n" for i in range(6))
    result = repo.dispatch(repo.plan(tasks, max_agents=1), status=5,
                           env={"ORCH_RETRY_BREAKER": "3"})
    assert result.halt["reason"] == "circuit_breaker"
    assert result.halt["tasks"] == {"escalated": 3, "pending": 3}


def test_a_cap_is_4_and_the_next_dispatch_goes_on(repo):
    tasks = "".join(f"[task:t{i}]\ncommand = echo {i} > f{i}\n" for i in range(3))
    plan = repo.plan(tasks)
    result = repo.dispatch("--cap=2", plan, status=4)
    assert result.halt["reason"] == "cap_reached"
    assert result.halt["tasks"] == {"passed": 2, "pending": 1}
    assert repo.dispatch(plan).halt["reason"] == "completed"


def test_a_cap_that_nothing_waits_for_is_not_reached(repo):
    result = repo.dispatch("--cap=1", repo.plan("[task:a]\ncommand = echo a > a\n"))
    assert result.halt["reason"] == "completed"


def test_a_spent_budget_is_3(repo):
    usage = '{"kind":"usage","data":{"input":60,"output":60}}'
    result = repo.dispatch(repo.plan(
        f"[task:a]\ncommand = echo '{usage}' >&$ORCH_EVENT_FD; echo a > a; sleep 30\n"
        "[task:b]\ncommand = echo b > b\ndepends_on = a\n", token_budget=100), status=3)
    assert result.halt["reason"] == "budget_exceeded"
    assert result.last("a")["outcome"] == "over_budget"


def test_review_comes_before_failed(repo):
    result = repo.dispatch(repo.plan(
        "[task:a]\ncommand = echo a > a\ngate = human_review\n"
        "[task:b]\ncommand = false\nretry_max = 0\n"), status=2)
    assert result.halt["reason"] == "review_required"


def test_plain_lines_and_a_summary(repo):
    result = repo.orch("dispatch", repo.plan("[task:a]\ncommand = echo a > a\n"))
    assert "a: passed (attempt 1)" in result.out.splitlines()
    assert "plan demo: completed (1 passed)" in result.out.splitlines()
    assert "orch merge demo" in result.out and "\x1b" not in result.out


def test_quiet_says_nothing_when_all_is_well(repo):
    assert repo.orch("dispatch", "--quiet", repo.plan("[task:a]\ncommand = echo a > a\n")).out == ""
