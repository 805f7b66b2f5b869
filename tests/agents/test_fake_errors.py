# SPDX-License-Identifier: MIT
"""What an agent's errors become."""

import pytest

from fake import DONE, EDIT, GOOD, TASK


@pytest.mark.parametrize("status,outcome", [(401, "auth_failed"), (500, "agent_error")])
def test_errors_of_the_api(fake, dialect, status, outcome):
    agent = fake(dialect, [[{"fail": {"status": status, "message": "the API says no"}}]])
    got, reason = agent.outcome(status=5 if outcome == "auth_failed" else 1)
    assert got == outcome and "the API says no" in reason
    assert any("the API says no" in event["text"] for event in agent.events("error"))
    assert not agent.lost()


def test_a_rate_limit_waits_and_uses_no_retry(fake, repo, dialect):
    agent = fake(dialect, [[{"fail": {"status": 429, "message": "Please try again in 1.5s"}}], GOOD])
    result = agent.dispatch(env={"ORCH_RETRY_BACKOFF": "0"})
    assert result.halt["tasks"] == {"passed": 1} and result.last("a")["attempt"] == 2
    first, second = repo.db("SELECT outcome, started_at, ended_at FROM attempt ORDER BY number")
    assert (first["outcome"], second["outcome"]) == ("rate_limited", "ok")
    assert second["started_at"] - first["ended_at"] >= 1000


def test_the_reset_time_of_a_header(fake, repo):
    agent = fake("opencode", [[{"fail": {"status": 429, "message": "slow down"}}]])
    got, _ = agent.outcome(status=5, env={"ORCH_RETRY_MAX_WAIT": "1m"})
    assert got == "rate_limited"


@pytest.mark.parametrize("dialect", ["claude", "codex"])
def test_silent_retries_are_shown(fake, dialect):
    agent = fake(dialect, [[{"waits": {"ms": 1000, "status": 429}}, *GOOD]])
    agent.dispatch()
    event, = agent.events("rate_limit")
    assert "429" in event["text"]


def test_an_announced_wait_is_no_silence(fake):
    # It says nothing for longer than the limit, and has said why.
    agent = fake("claude", [[{"waits": {"ms": 4000, "status": 429}}, {"pause": 2.5}, *GOOD]])
    result = agent.dispatch(env={"ORCH_SILENCE_TIMEOUT": "1s"})
    assert result.halt["tasks"] == {"passed": 1}


def test_silence_without_a_word_is_one(fake):
    agent = fake("claude", [[{"say": "x"}, {"pause": 10}, *GOOD]])
    got, _ = agent.outcome(env={"ORCH_SILENCE_TIMEOUT": "1s", "ORCH_KILL_GRACE": "200ms"})
    assert got == "stalled"


def test_success_with_an_error_in_it(fake):
    agent = fake("claude", [[EDIT, {"done": {"result": "[API Error: 401 no]"}}]])
    assert agent.outcome(status=5)[0] == "auth_failed"


def test_the_last_tool_was_refused(fake):
    agent = fake("claude", [[{"ask": "Write"}, {"done": {"permission_denials": [
        {"tool_name": "Write"}]}}]], "permissions = deny\n")
    got, reason = agent.outcome()
    assert got == "blocked" and "Write" in reason


def test_a_limit_of_its_own(fake):
    agent = fake("claude", [[EDIT, {"done": {"subtype": "error_max_turns", "is_error": True}}]])
    assert agent.outcome()[0] == "over_budget"


def test_no_last_word(fake, dialect):
    got, reason = fake(dialect, [[{"say": "I begin."}, {"exit": 0}]]).outcome()
    assert got == "crashed" and "without a last word" in reason


@pytest.mark.parametrize("dialect", ["codex", "acp"])
def test_an_exit_status_with_words_on_standard_error(fake, dialect):
    got, reason = fake(dialect, [[{"stderr": "the disk of doom"}, {"exit": 3}]]).outcome()
    assert got == "agent_error" and "status 3" in reason and "disk of doom" in reason


@pytest.mark.parametrize("dialect", ["claude"])
def test_not_logged_in_on_standard_error(fake, dialect):
    agent = fake(dialect, [[{"stderr": "Not logged in. Please run /login"}, {"exit": 1}]])
    assert agent.outcome(status=5)[0] == "auth_failed"


@pytest.mark.parametrize("dialect", ["opencode"])
def test_ended_by_a_signal(fake, dialect):
    got, reason = fake(dialect, [[{"say": "I begin."}, {"die": "SEGV"}]]).outcome()
    assert got == "crashed" and "signal 11" in reason


@pytest.mark.parametrize("dialect", ["gemini"])
def test_a_line_that_is_cut(fake, dialect):
    got, _ = fake(dialect, [[{"say": "I begin."}, {"cut": '{"type":"res'}, {"exit": 0}]]).outcome()
    assert got == "crashed"


def test_done_and_a_bad_exit_status(fake):
    got, reason = fake("codex", [[EDIT, DONE, {"exit": 9}]]).outcome()
    assert got == "agent_error" and "status 9" in reason


def test_the_exit_status_of_gemini(fake):
    agent = fake("gemini", [[{"exit": 41}]])
    assert agent.outcome(status=5)[0] == "auth_failed"


@pytest.mark.parametrize("dialect", ["claude", "opencode"])
def test_a_flood(fake, dialect):
    agent = fake(dialect, [[{"flood": 200_000}, {"hang": {}}]])
    assert agent.outcome(env={"ORCH_KILL_GRACE": "200ms"})[0] == "runaway"


def test_answers_that_are_cut_for_ever(fake):
    got, reason = fake("opencode", [[{"step_cut": 400}, {"hang": {}}]]).outcome()
    assert got == "agent_error" and "cut off" in reason


@pytest.mark.parametrize("dialect", ["codex", "acp"])
def test_a_missing_program(repo, dialect):
    option = "command" if dialect == "acp" else "program"
    repo.write("orch.ini", f"[harness:{dialect}]\n{option} = no-such-agent\n")
    result = repo.dispatch(repo.plan(TASK, harness=dialect), status=1)
    last = result.last("a")
    assert last["outcome"] == "spawn_failed" and "no-such-agent" in last["reason"]
