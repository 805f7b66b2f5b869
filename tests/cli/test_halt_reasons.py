# SPDX-License-Identifier: MIT
"""Every halt reason (A5): driven there by scripted agents, and what is then true of status, log, state
commit, the user's checkout and the exit status."""

import os
import signal
import sys

import pytest

from conftest import wait_until

FILE = "orch-plan.demo.ini"
GOOD = "[task:good]\ncommand = echo good > good\n"
USAGE = "echo '{\"kind\":\"usage\",\"data\":{\"input\":60,\"output\":60}}' >&$ORCH_EVENT_FD; "
BAD = "[task:bad]\ncommand = exit 3\nretry_max = 0\n"
REVIEWED = "[task:seen]\ncommand = echo seen > seen\ngate = human_review\n"

# reason, exit status, plan, options, environment, keys of the plan
CASES = {
    "completed": (0, GOOD, [], {}, {}),
    "target_completed": (0, GOOD + BAD, ["--target=good"], {}, {}),
    "no_matching_tasks": (0, GOOD, ["--only=tag=none"], {}, {}),
    "filter_exhausted": (0, GOOD + "tag = y, z\n" + BAD + "tag = x\n", ["--only=status=pending", "--only",
                                                       "scope=medium,narrow", "--only=tag=y"],
                         {}, {}),
    "failed": (1, GOOD + BAD, [], {}, {}),
    "target_blocked": (1, GOOD + BAD, ["--target=bad"], {}, {}),
    "review_required": (2, GOOD + REVIEWED, [], {}, {}),
    "budget_exceeded": (3, f"[task:a]\ncommand = {USAGE}sleep 60\n", [], {}, {"token_budget": 100}),
    "cap_reached": (4, GOOD + "[task:more]\ncommand = echo > more\n", ["--cap=1"], {}, {}),
    "circuit_breaker": (5, GOOD.replace("echo", "exit 1; echo") + BAD, [],
                        {"ORCH_RETRY_BREAKER": "1"}, {"max_agents": 1}),
}


def users(repo):
    return [repo.git("symbolic-ref", "HEAD"), repo.git("rev-parse", "HEAD"),
            repo.git("ls-files", "--stage"), repo.git("status", "--porcelain"),
            (repo.path / ".git/config").read_text()]


def check(repo, reason, status, before):
    halt = repo.status()["halt"]
    assert (halt["reason"], halt["exit_status"]) == (reason, status)
    commit = halt["commit"]
    assert commit["result"] == "committed"
    assert repo.git("rev-list", "refs/orch/state") == commit["oid"]
    assert repo.git("ls-tree", "-r", "--name-only", commit["oid"]) == FILE
    assert repo.git("log", "-1", "--format=%s", commit["oid"]) == (
        f"[orch] Save plan state on halt ({reason})")
    text = repo.git("show", f"{commit['oid']}:{FILE}")
    assert text == repo.orch("plan", "export", "demo").out.strip()
    assert f"reason = {reason}" in text
    assert users(repo) == before


@pytest.mark.parametrize("reason", CASES)
def test_reason(repo, reason):
    status, text, options, env, keys = CASES[reason]
    repo.write("staged", "mine\n")
    repo.git("add", "staged")
    before = users(repo)
    result = repo.dispatch(repo.plan(text, **keys), *options, status=status, env=env)
    assert (result.halt["reason"], result.halt["exit_status"]) == (reason, status)
    check(repo, reason, status, before)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, "stop"])
def test_interrupted(repo, how):
    before = users(repo)
    process = repo.popen("dispatch", "--json", repo.plan(
        "[task:a]\ncommand = touch $HOME/up; echo half > half; sleep 60\n" + GOOD))
    wait_until((repo.home / "up").exists)
    if how == "stop":
        repo.orch("stop")
    else:
        process.send_signal(how)
    result = repo.finish(process)
    assert result.status == 130 and result.halt["reason"] == "interrupted", result
    assert (repo.task("a")["status"], repo.task("a")["outcome"]) == ("failed", "interrupted")
    assert repo.status()["halt"]["also"] == []  # nothing has failed for good
    check(repo, "interrupted", 130, before)


def test_internal_error(repo):
    """Somebody makes the database refuse what is to be saved, in the middle of it."""
    trigger = repo.home / "trigger.py"
    trigger.write_text(
        "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], timeout=30)\n"
        "db.execute(\"CREATE TRIGGER refuse BEFORE UPDATE OF commit_oid ON task BEGIN SELECT \"\n"
        "           \"RAISE(ABORT, 'refused'); END\")\ndb.commit()\n")
    before = users(repo)
    result = repo.dispatch(repo.plan(
        f"[task:a]\ncommand = {sys.executable} $HOME/trigger.py "
        "$(git rev-parse --git-common-dir)/orch/orch.db; echo a > a\n"), status=70)
    assert result.halt["reason"] == "internal_error"
    check(repo, "internal_error", 70, before)


def test_io_error(repo):
    """The disk is full where git notes that the branch of the integration has moved."""
    before = users(repo)
    plan = repo.plan(
        "[task:a]\ncommand = ln -sf /dev/full $(git rev-parse --git-common-dir)/"
        "logs/refs/heads/orch/demo/integration; echo a > a\n" + GOOD)
    result = repo.dispatch(plan, status=74)
    assert result.halt["reason"] == "io_error"
    assert "No space left on device" in result.err
    check(repo, "io_error", 74, before)
    assert repo.task("a")["status"] == "integrating"
    log = repo.path / ".git/logs/refs/heads/orch/demo/integration"
    assert log.is_symlink()
    log.unlink()
    assert repo.dispatch(plan).halt["reason"] == "completed"
    assert [repo.task(name)["attempt"] for name in ("a", "good")] == [1, 1]
    assert users(repo) == before


@pytest.mark.parametrize("options, reason", [
    (["--only=scope=medium"], "filter_exhausted"), (["--target=more"], "target_completed")])
def test_a_choice_that_completes_the_plan(repo, options, reason):
    result = repo.dispatch(repo.plan(GOOD + "[task:more]\ncommand = echo > more\ndepends_on = good\n"),
                           *options)
    assert result.halt["reason"] == reason and result.halt["exit_status"] == 0
    assert repo.status()["halt"]["also"] == ["completed"]
    assert repo.status()["status"] == "completed"


@pytest.mark.parametrize("options, reason, also", [
    ([], "review_required", ["failed"]),
    (["--cap=2"], "cap_reached", ["review_required", "failed"]),
])
def test_the_first_by_precedence_and_the_others_too(repo, options, reason, also):
    result = repo.orch("dispatch", repo.plan(BAD + REVIEWED + GOOD, max_agents=1), *options,
                       status=None)
    halt = repo.status()["halt"]
    assert (halt["reason"], halt["also"]) == (reason, also)
    assert result.status == halt["exit_status"]
    assert f"plan demo: {reason}, {', '.join(also)} (" in result.out


# ---- what is waited for ----

def test_four_kinds_of_waiting_are_told_apart(repo):
    text = repo.orch("dispatch", repo.plan(
        GOOD + BAD + REVIEWED +
        "[task:after-bad]\ncommand = true\ndepends_on = bad, good\n"
        "[task:after-seen]\ncommand = true\ndepends_on = seen\n"
        "[task:last]\ncommand = true\ndepends_on = after-seen\n"), status=2).out
    groups = {}
    for line in text[text.index("plan demo:"):].splitlines()[1:]:
        if line.endswith(":") and not line.startswith(" "):
            groups[title := line] = []
        elif line.startswith("  "):
            groups[title].append(line.strip())
    assert [line.split(":")[0] for line in groups["waits for a person:"]] == ["seen"]
    blocked, = groups["blocked for good, until a person retries or overrides it:"]
    assert blocked.startswith("bad: escalated after attempt 1: agent_error")
    assert groups["waits for a dependency:"] == [
        "after-bad: pending, needs bad (escalated)",
        "after-seen: pending, needs seen (awaiting_review)",
        "last: pending, needs after-seen (pending)"]
    waits = {task["name"]: task["waits_for"] for task in repo.status()["tasks"]}
    assert waits == {"good": [], "bad": [], "seen": [], "after-bad": ["bad"],
                     "after-seen": ["seen"], "last": ["after-seen"]}


def test_nothing_to_do_is_said(repo):
    plan = repo.plan(GOOD)
    assert "nothing to do" in repo.orch("dispatch", plan, "--only=tag=x").out
    assert "nothing to do" not in repo.orch("dispatch", plan).out
    assert "nothing to do: every task has passed" in repo.orch("dispatch", plan).out


def test_what_a_cap_left_could_start(repo):
    out = repo.orch("dispatch", repo.plan(CASES["cap_reached"][1]), "--cap=1", status=4).out
    assert "could start with the next dispatch:\n  more: pending\n" in out


def test_a_review_makes_no_deadlock(repo):
    plan = repo.plan(REVIEWED + "[task:after]\ncommand = echo x > x\ndepends_on = seen\n" + GOOD)
    for _ in range(2):
        assert repo.dispatch(plan, status=2).halt["tasks"] == {
            "awaiting_review": 1, "pending": 1, "passed": 1}
    repo.orch("approve", "seen")
    assert repo.dispatch(plan).halt["reason"] == "completed"


# ---- targets ----

CHAIN = """
[task:base]
command = echo base > base
[task:left]
command = echo left > left
depends_on = base
[task:right]
command = echo right > right
depends_on = base
[task:other]
command = echo other > other
"""


def ran(result):
    return [line["task"] for line in result.lines
            if line["type"] == "task" and line["to"] == "assigned"]


def test_a_target_comes_with_what_it_needs(repo):
    plan = repo.plan(CHAIN)
    result = repo.dispatch(plan, "--target=left")
    assert ran(result) == ["base", "left"]
    assert result.halt["tasks"] == {"passed": 2, "pending": 2}
    assert repo.dispatch(plan, "--target=left").halt["reason"] == "target_completed"
    assert ran(repo.dispatch(plan)) == ["right", "other"]


def test_targets_come_in_order(repo):
    result = repo.dispatch(repo.plan(CHAIN), "--target=other", "--target", "demo/right")
    assert ran(result) == ["other", "base", "right"]
    assert result.halt["reason"] == "target_completed"


def test_a_blocked_target_stops_there(repo):
    text = CHAIN.replace("command = echo left > left", "command = exit 1\nretry_max = 0")
    plan = repo.plan(text)
    result = repo.dispatch(plan, "--target=left", "--target=other", status=1)
    assert ran(result) == ["base", "left"] and result.halt["reason"] == "target_blocked"
    result = repo.dispatch(plan, "--target=left", "--target=other", "--auto-advance", status=1)
    assert ran(result) == ["other"] and result.halt["reason"] == "target_blocked"
    assert repo.task("right")["status"] == "pending"


def test_a_target_under_review_is_a_person_s(repo):
    plan = repo.plan(REVIEWED + CHAIN)
    result = repo.dispatch(plan, "--target=seen", "--target=base", status=2)
    assert ran(result) == ["seen"] and result.halt["reason"] == "review_required"
    result = repo.dispatch(plan, "--target=seen", "--target=base", "--auto-advance", status=2)
    assert ran(result) == ["base"]


@pytest.mark.parametrize("args, status, words", [
    (["--target=nothing"], 66, "nothing"),
    (["--target=left", "--only=tag=x"], 64, "not both"),
    (["--auto-advance"], 64, "--target"),
    (["--only=colour=red"], 64, "status, tag, scope"),
    (["--only=status=odd"], 64, "odd"),
    (["--only=priority=high"], 64, "whole number"),
    (["--only=scope=huge"], 64, "narrow"),
    (["--only=tag="], 64, "tag"),
    (["--only=tag"], 64, "'='"),
    (["--cap=0"], 64, "--cap"),
])
def test_what_is_refused(repo, args, status, words):
    plan = repo.plan(CHAIN)
    repo.orch("plan", "import", plan)
    assert words in repo.orch("dispatch", plan, *args, status=status).err


# ---- filters ----

FILTERED = """
[task:a]
command = echo a > a
tag = ui
scope = narrow
priority = 5
[task:b]
command = echo b > b
tag = core
scope = broad
[task:c]
command = echo c > c
tag = ui
depends_on = b
"""


@pytest.mark.parametrize("only, expected", [
    (["tag=ui"], ["a"]),  # c waits: a filter never cuts the graph
    (["tag=ui,core"], ["a", "b", "c"]),
    (["tag=ui", "scope=narrow"], ["a"]),
    (["priority=5"], ["a"]),
    (["priority=0,5", "scope=broad,narrow"], ["a", "b"]),
    (["harness=shell", "status=pending"], ["a", "b", "c"]),
    (["harness=other"], []),
    (["status=escalated"], []),
])
def test_filters(repo, only, expected):
    result = repo.dispatch(repo.plan(FILTERED), *[f"--only={key}" for key in only])
    assert sorted(ran(result)) == expected
    assert result.halt["reason"] == ("filter_exhausted" if expected else "no_matching_tasks")
