# SPDX-License-Identifier: MIT
"""How an agent is stopped, and what answers it gets."""

import pathlib

import pytest

from cli_fixtures import wait_until
from fake import DONE, EDIT, GOOD, TASK, interrupt


def test_an_interrupt_ends_the_agent_and_its_tools(fake, repo, dialect):
    agent = fake(dialect, [[EDIT, {"tools": 2}, {"say": "hanging"}, {"hang": {}}]])
    interrupt(agent, repo)
    assert repo.git("show", "refs/orch/demo/a/1:hello.txt") == "hello"


@pytest.mark.parametrize("dialect", ["codex", "acp"])
def test_an_agent_that_ignores_signals(fake, repo, dialect):
    agent = fake(dialect, [[{"say": "x"}, {"hang": {"ignore": ["TERM", "INT"]}}]])
    repo.env["ORCH_DRAIN_TIMEOUT"] = "1s"
    repo.env["ORCH_KILL_GRACE"] = "300ms"
    interrupt(agent, repo)


@pytest.mark.parametrize("dialect", ["codex", "gemini", "opencode"])
def test_a_launcher_does_not_hide_the_agent(fake, repo, dialect):
    agent = fake(dialect, [[{"launcher": True}, {"say": "x"}, {"hang": {}}]])
    repo.env["ORCH_DRAIN_TIMEOUT"] = "2s"
    repo.env["ORCH_KILL_GRACE"] = "300ms"
    interrupt(agent, repo)


@pytest.mark.parametrize("dialect", ["claude", "acp"])
def test_the_protocol_is_asked_first(fake, repo, dialect):
    # Signals do nothing to it: what ends it is its protocol.
    agent = fake(dialect, [[{"say": "x"}, {"hang": {"ignore": ["TERM", "INT"]}}, {"exit": 0}]])
    assert interrupt(agent, repo)["killed"] == 0


@pytest.mark.parametrize("dialect,policy,expected", [
    ("claude", "allow", {"behavior": "allow", "updatedInput": {"x": 1}}),
    ("claude", "deny", {"behavior": "deny", "message": "This is not permitted here. Do without it."}),
    ("acp", "allow", {"outcome": "selected", "optionId": "fine!"}),
    ("acp", "deny", {"outcome": "selected", "optionId": "no!"}),
])
def test_permission(fake, dialect, policy, expected):
    agent = fake(dialect, [[{"ask": "Bash"}, *GOOD]], f"permissions = {policy}\n")
    agent.dispatch()
    assert agent.records("answer") == [expected]


def test_nobody_answers_questions(fake):
    agent = fake("claude", [[{"ask": "AskUserQuestion"}, *GOOD]])
    agent.dispatch()
    assert agent.records("answer")[0]["behavior"] == "deny"


def test_acp_authenticates_when_asked(fake):
    agent = fake("acp", [GOOD], "args = --need-auth\nmode = free\n")
    agent.dispatch()
    assert agent.records("answer") == [
        {"method": "authenticate", "methodId": "x-api-key"},
        {"method": "session/set_mode", "sessionId": agent.records("session")[0], "modeId": "free"}]


def test_acp_refused_in_the_end(fake):
    agent = fake("acp", [[{"ask": "Bash"}, DONE]], "permissions = deny\n")
    assert agent.outcome()[0] == "blocked"


@pytest.mark.parametrize("dialect", ["claude", "acp"])
def test_send(fake, repo, dialect):
    wait = {"await_words": True} if dialect == "claude" else {"await_file": "../go"}
    steps = [EDIT, wait, *GOOD]
    agent = fake(dialect, [steps])
    process = repo.popen("dispatch", "--json", repo.plan(TASK, harness=dialect))
    wait_until(lambda: agent.record_file.exists() and agent.events("tool_result"), what="the agent")
    repo.orch("send", "a", "Mind the ü.")
    if dialect == "acp":  # in a turn of its own, when this one has ended
        wait_until(lambda: repo.task("a")["worktree"], what="the worktree")
        pathlib.Path(repo.task("a")["worktree"]).parent.joinpath("go").touch()
    assert repo.finish(process).halt["tasks"] == {"passed": 1}
    assert agent.records("answer") == ["Mind the ü."]


def test_send_where_it_cannot_be(fake, repo):
    agent = fake("codex", [[{"say": "x"}, {"hang": {}}]])
    assert "no engine" in repo.orch("send", "a", "hello", status=69).err.lower()
    process = repo.popen("dispatch", "--json", repo.plan(TASK, harness="codex"))
    wait_until(lambda: agent.record_file.exists(), what="the agent")
    wait_until(lambda: repo.task("a")["status"] == "running", what="running")
    assert "codex" in repo.orch("send", "a", "hello", status=1).err
    process.terminate()
    assert repo.finish(process).status == 130


def test_acp_that_never_answers(repo):
    repo.write("orch.ini", "[harness:acp]\ncommand = sleep 1000\nstart_timeout = 500ms\n")
    last = repo.dispatch(repo.plan(TASK, harness="acp"), status=1).last("a")
    assert last["outcome"] == "agent_error" and "initialize" in last["reason"]
