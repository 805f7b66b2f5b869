# SPDX-License-Identifier: MIT
"""A conversation goes on in the next attempt."""

import pytest

from fake import DONE, EDIT, GOOD, interrupt


RED = ("[invariant:good]\ncommand = grep -q second hello.txt\n[task:a]\nprompt = create hello.txt\n"
       "invariants = good\nretry_max = 1\n")
SECOND = [{"edit": {"path": "hello.txt", "content": "second\n"}}, DONE]


def test_a_retry_resumes_with_the_feedback(fake, repo, dialect):
    agent = fake(dialect, [GOOD, SECOND])
    assert agent.dispatch(RED).halt["tasks"] == {"passed": 1}
    first, second = agent.records("session")
    assert first == second
    assert "good failed (exit 1)" in agent.records("prompt")[1]
    assert "git diff HEAD" in agent.records("prompt")[1]
    assert agent.records("cwd")[0] == agent.records("cwd")[1]
    sessions = {row["session"] for row in repo.db("SELECT session FROM attempt")}
    assert sessions == {first}
    assert {"text": "of the past"} not in agent.events("message")


def test_a_thread_is_not_counted_twice(fake, repo):
    fake("codex", [GOOD, SECOND]).dispatch(RED)
    rows = repo.db("SELECT tokens_input, tokens_output, tokens_cache_read FROM attempt")
    assert [(*row.values(),) for row in rows] == [(150, 40, 50), (150, 40, 50)]


@pytest.mark.parametrize("dialect", ["claude", "gemini"])
def test_a_session_that_is_gone_is_begun_anew(fake, repo, dialect):
    agent = fake(dialect, [GOOD, [{"no_session": True}, *SECOND], SECOND])
    assert agent.dispatch(RED).halt["tasks"] == {"passed": 1}
    first, second = agent.records("session")
    assert first != second and len(agent.records("argv")) == 3
    assert len(repo.db("SELECT 1 FROM attempt")) == 2


@pytest.mark.parametrize("dialect", ["codex"])
def test_resume_can_be_turned_off(fake, dialect):
    agent = fake(dialect, [GOOD, SECOND], "resume = no\n")
    agent.dispatch(RED)
    first, second = agent.records("session")
    assert first != second


@pytest.mark.parametrize("dialect", ["claude", "codex"])
def test_an_interrupted_attempt_is_resumed(fake, repo, dialect):
    agent = fake(dialect, [[EDIT, {"say": "x"}, {"hang": {}}], GOOD])
    interrupt(agent, repo)
    agent.dispatch()
    first, second = agent.records("session")
    assert first == second


def test_another_harness_gets_no_session_of_the_first(fake, repo):
    agent = fake("codex", [GOOD, SECOND])
    other = repo.home / "fake"
    text = (repo.path / "orch.ini").read_text()
    repo.write("orch.ini", text + f"[harness:other]\nplugin = codex\nprogram = {other}\n")
    repo.dispatch(repo.plan(RED.replace("retry_max = 1", "retry_max = 0"), harness="codex"), status=1)
    repo.orch("retry", "--force", "a")
    repo.dispatch("--harness=other", "demo")
    first, second = agent.records("session")
    assert first != second


def test_acp_that_has_lost_the_session(fake, repo):
    agent = fake("acp", [GOOD, [{"no_session": True}, *SECOND]])
    assert agent.dispatch(RED).halt["tasks"] == {"passed": 1}
    first, second = agent.records("session")
    assert first != second and len(repo.db("SELECT 1 FROM attempt")) == 2
