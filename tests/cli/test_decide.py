# SPDX-License-Identifier: MIT
"""orch approve, reject, retry: what a person decides, and what follows from it."""

import os

import pytest

from conftest import wait_until

REVIEWED = "[task:a]\ncommand = echo $ORCH_ATTEMPT > a\ngate = human_review\n"


@pytest.fixture
def waiting(repo):
    """Task a of plan demo awaits review."""
    repo.orch("dispatch", repo.plan(REVIEWED), status=2)
    assert repo.task("a")["status"] == "awaiting_review"
    return repo


def test_an_approval_merges_and_completes(waiting):
    result = waiting.orch("approve", "demo/a")
    assert "passed" in result.out and "completed" in result.out
    assert waiting.git("show", "orch/demo/integration:a") == "1"
    plan = waiting.status()
    assert plan["status"] == "completed" and plan["halt"] is None
    assert plan["tasks"][0]["status"] == "passed"
    assert plan["tasks"][0]["reason"].startswith("approved")


def test_an_approval_as_json(waiting):
    assert waiting.orch("approve", "a", "--reason=looks good", "--json").json == {
        "version": 1, "plan": "demo", "task": "a", "from": "awaiting_review", "to": "passed",
        "refused": False, "reason": "approved: looks good", "plan_status": "completed"}
    assert "approved: looks good" in waiting.orch("log", "a").out


def test_a_plan_with_more_to_do_is_not_completed(repo):
    repo.orch("dispatch", repo.plan(
        REVIEWED + "[task:b]\ncommand = touch b\ndepends_on = a\n"), status=2)
    repo.orch("approve", "a")
    plan = repo.status()
    assert [t["status"] for t in plan["tasks"]] == ["passed", "pending"]
    assert plan["status"] == "halted"
    repo.orch("dispatch", "demo")
    assert repo.status()["status"] == "completed"


def test_the_last_approval_tells_what_goes_on(repo):
    repo.orch("dispatch", repo.plan(
        REVIEWED + REVIEWED.replace("task:a", "task:b").replace("> a", "> b") +
        "[task:c]\ncommand = touch c\ndepends_on = a\n"), status=2)
    assert repo.orch("approve", "demo/a").out == "demo/a: approved, passed\n"
    assert repo.orch("approve", "demo/b").out == (
        "demo/b: approved, passed; `orch dispatch demo` goes on\n")
    repo.orch("dispatch", "demo")


def test_an_approval_after_which_nothing_can_start_names_no_dispatch(repo):
    repo.orch("dispatch", repo.plan(
        REVIEWED + "[task:bad]\ncommand = false\nretry_max = 0\n"
        "[task:c]\ncommand = touch c\ndepends_on = bad\n"), status=2)
    assert repo.orch("approve", "demo/a").out == "demo/a: approved, passed\n"


def test_a_second_approval_is_refused(waiting):
    waiting.orch("approve", "a")
    err = waiting.orch("approve", "a", status=1).err
    assert "it is passed" in err
    refused = waiting.orch("approve", "a", "--json", status=1).json
    assert refused["refused"] is True and refused["to"] == "passed"


def test_a_rejection_is_feedback_for_the_next_attempt(waiting):
    waiting.orch("reject", "a", status=64)
    waiting.orch("reject", "a", "--reason= ", status=64)
    waiting.orch("reject", "a", "--reason", "use less words")
    task = waiting.task("a")
    assert task["status"] == "pending" and task["reason"] == "rejected: use less words"
    waiting.orch("dispatch", "demo", status=2)
    assert waiting.task("a")["attempt"] == 2
    waiting.orch("approve", "a")
    assert waiting.git("show", "orch/demo/integration:a") == "2"


def test_the_agent_is_told_the_reason(repo):
    repo.orch("dispatch", repo.plan(
        '[task:a]\ncommand = cp "$ORCH_PROMPT_FILE" prompt\ngate = human_review\n'), status=2)
    repo.orch("reject", "a", "--reason=use less words")
    repo.orch("dispatch", "demo", status=2)
    assert "use less words" in repo.git("show", "orch/demo/task/a:prompt")


def test_a_rejection_without_retries_left_escalates(repo):
    repo.orch("dispatch", repo.plan(REVIEWED + "retry_max = 0\n"), status=2)
    assert "retries are used up" in repo.orch("reject", "a", "--reason=no").out
    assert repo.task("a")["status"] == "escalated"
    repo.orch("dispatch", "demo", status=1)
    assert repo.task("a")["attempt"] == 1
    repo.orch("retry", "a")
    repo.orch("dispatch", "demo", status=2)
    assert repo.task("a")["attempt"] == 2


ESCALATED = """
[invariant:red]
command = test -e mended
[task:a]
command = %s
invariants = red
retry_max = 0
"""


def test_an_override_takes_the_last_commit(repo):
    repo.orch("dispatch", repo.plan(ESCALATED % "touch work"), status=1)
    repo.orch("approve", "a", status=1)
    repo.orch("approve", "a", "--override", status=64)
    # The merged tree is judged all the same: the branch never shows a red tip.
    result = repo.orch("approve", "a", "--override", "--reason=I know", status=1)
    assert "red" in result.err
    assert repo.task("a")["status"] in ("pending", "escalated")


def test_an_override_of_what_was_red_in_the_worktree_only(repo):
    repo.orch("dispatch", repo.plan(
        "[invariant:here]\ncommand = test -e ignored; exit $?\n"
        "[invariant:fine]\ncommand = true\n"
        "[task:a]\ncommand = touch work\ninvariants = here\nretry_max = 0\n",
        invariants="fine"), status=1)
    repo.orch("approve", "a", "--override", "--reason=the check is wrong")
    assert repo.git("ls-tree", "--name-only", "orch/demo/integration").split() == ["README", "work"]
    assert "the check is wrong" in repo.orch("log", "a").out


def test_a_retry_starts_anew_or_goes_on(repo):
    command = "echo $ORCH_ATTEMPT >> work; test $ORCH_ATTEMPT = 3 && touch mended; true"
    repo.orch("dispatch", repo.plan(ESCALATED % command), status=1)
    repo.orch("retry", "a")
    assert repo.task("a")["status"] == "pending"
    repo.orch("dispatch", "demo", status=1)
    assert repo.git("show", "orch/demo/task/a:work") == "2"
    repo.orch("retry", "a", "--continue")
    repo.orch("dispatch", "demo")
    assert repo.git("show", "orch/demo/integration:work").split() == ["2", "3"]


def test_a_retry_of_what_awaits_review_needs_force(waiting):
    assert "awaiting_review" in waiting.orch("retry", "a", status=1).err
    waiting.orch("retry", "a", "--force", "--continue")
    assert waiting.task("a")["status"] == "pending"
    assert waiting.task("a")["reason"] == "rejected: retried"
    waiting.orch("dispatch", "demo", status=2)
    assert waiting.task("a")["attempt"] == 2


def test_a_retry_with_force_where_no_retries_are_left(repo):
    repo.orch("dispatch", repo.plan(REVIEWED + "retry_max = 0\n"), status=2)
    repo.orch("retry", "a", "--force")
    assert repo.task("a")["status"] == "pending"


def test_a_task_that_passed_is_not_tried_again(waiting):
    waiting.orch("approve", "a")
    assert "only a failed or escalated task" in waiting.orch("retry", "a", status=1).err


def test_an_interrupted_task_can_be_retried(repo):
    os.mkfifo(repo.home / "fifo")
    process = repo.popen("dispatch", repo.plan(
        '[task:a]\ncommand = touch half; read line < "$HOME/fifo"\n'))
    wait_until(lambda: repo.orch("status", "--json").json["plans"] and
               repo.task("a")["status"] == "running")
    process.terminate()
    assert repo.finish(process).status == 130
    assert repo.task("a")["status"] == "failed"
    repo.orch("retry", "a", "--continue")
    assert repo.task("a")["status"] == "pending"


def cut_off(repo, text="", **keys):
    """Tasks a and b of plan demo are failed (interrupted)."""
    process = repo.popen("dispatch", repo.plan(
        "".join(f"[task:{name}]\ncommand = touch half $HOME/{name}; sleep 60\n" for name in "ab") +
        text, max_agents=3, **keys))
    wait_until((repo.home / "a").exists)
    wait_until((repo.home / "b").exists)
    return process


@pytest.mark.parametrize("decision", [["approve"], ["approve", "--override", "--reason=x"],
                                      ["reject", "--reason=x"]])
def test_a_refused_decision_leaves_everything_as_it_was(repo, decision):
    process = cut_off(repo)
    process.terminate()
    assert repo.finish(process).status == 130
    before = repo.status()
    err = repo.orch(*decision, "demo/a", status=1).err
    assert "left as it is: it is failed; only a" in err
    assert repo.status() == before
    repo.orch("retry", "demo/b", "--continue")
    assert repo.task("a")["status"] == "failed" and repo.task("b")["status"] == "pending"


def test_a_decision_leaves_other_tasks_as_they_were(repo):
    process = cut_off(repo, "[task:seen]\ncommand = touch seen\ngate = human_review\n")
    wait_until(lambda: repo.task("seen")["status"] == "awaiting_review")
    process.terminate()
    assert repo.finish(process).status == 130
    repo.orch("approve", "seen")
    assert [task["status"] for task in repo.status()["tasks"]] == ["failed", "failed", "passed"]
    repo.orch("retry", "demo/b", "--continue")


def test_a_decision_beside_the_engine_of_another_plan_leaves_others_as_they_were(repo):
    process = cut_off(repo, "[task:seen]\ncommand = touch seen\ngate = human_review\n")
    wait_until(lambda: repo.task("seen")["status"] == "awaiting_review")
    process.terminate()
    assert repo.finish(process).status == 130
    before = repo.status("demo")
    other = repo.popen("dispatch", repo.plan(
        "[task:c]\ncommand = touch $HOME/c; while ! test -e $HOME/go; do sleep 0.02; done; touch c\n",
        name="other"))
    wait_until((repo.home / "c").exists)
    assert "it is failed" in repo.orch("approve", "demo/a", "--override", "--reason=x", status=1).err
    assert repo.status("demo") == before
    repo.orch("approve", "demo/seen")
    tasks = [task["status"] for task in repo.status("demo")["tasks"]]
    assert tasks == ["failed", "failed", "passed"]
    repo.orch("retry", "demo/b", "--continue")
    (repo.home / "go").touch()
    assert repo.finish(other).status == 0


def test_the_help_of_approve_tells_what_an_override_takes(repo):
    assert "last commit of an escalated task" in repo.orch("approve", "--help").out


def test_a_conflict_after_an_approval(repo):
    """What was approved is carried on: its next attempt begins with its own tree."""
    repo.orch("dispatch", repo.plan(
        "[task:a]\ngate = human_review\ncommand = echo a > same\n"
        "[task:b]\ngate = human_review\ncommand = echo b > same\n"), status=2)
    repo.orch("approve", "a")
    result = repo.orch("approve", "b", status=1)
    assert "same" in result.err and "could not be merged" in result.err
    task = repo.task("b")
    assert task["status"] == "pending" and task["reason"].startswith("conflict: ")


def test_without_worktrees(repo):
    repo.orch("dispatch", repo.plan(
        "[task:a]\ncommand = touch here\ngate = human_review\n", isolation="none"), status=2)
    repo.orch("approve", "a")
    assert repo.status()["status"] == "completed"
