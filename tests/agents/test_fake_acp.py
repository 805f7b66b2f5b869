# SPDX-License-Identifier: MIT
"""What an agent may say by ACP, and what it is answered."""

import json

import pytest

from fake import DONE, EDIT, GOOD, TASK
from test_fake_session import RED, SECOND


def update(kind, session=None, **fields):
    params = {"update": {"sessionUpdate": kind, **fields}}
    if session:
        params["sessionId"] = session
    return {"raw": {"jsonrpc": "2.0", "method": "session/update", "params": params}}


def context(used, **fields):
    return update("usage_update", used=used, size=200_000, **fields)


def step(**usage):
    return update("agent_message_chunk", content={"type": "text", "text": ""}, _meta={"usage": usage})


def failed(title, category="service", severity="error"):
    return {"done": {"_meta": {"jetbrains": {"air": {"version": 1, "sessionFailure": {
        "title": title, "category": category, "severity": severity}}}}}}


def request(ident, method):
    return {"jsonrpc": "2.0", "id": ident, "method": method, "params": {}}


def tokens(repo):
    row, = repo.db("SELECT tokens_input, tokens_output, tokens_cache_read, cost FROM attempt")
    return (*row.values(),)


# ---- requests, answers


@pytest.mark.parametrize("method", ["fs/write_text_file", "terminal/create", "elicitation/create",
                                    "_vendor/thing"])
def test_what_is_not_offered_is_refused(fake, method):
    agent = fake("acp", [[{"raw": request("of-the-agent", method)}, {"hear": 1}, *GOOD]])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}
    answer, = agent.records("answer")
    assert answer["id"] == "of-the-agent" and answer["error"]["code"] == -32601


def test_the_ids_of_both_sides_are_apart(fake):
    # Those of our own requests, while one of them is open.
    agent = fake("acp", [[*({"raw": request(number, "fs/read_text_file")} for number in range(4)),
                          {"hear": 4}, *GOOD]])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}
    assert [answer["id"] for answer in agent.records("answer")] == [0, 1, 2, 3]


def test_an_answer_to_nothing(fake):
    odd = [{"jsonrpc": "2.0", "id": 77, "result": {}}, {"jsonrpc": "2.0", "id": "x", "error": {}},
           {"jsonrpc": "2.0", "id": 1, "result": {"stopReason": "refusal"}}, {"jsonrpc": "2.0"}]
    agent = fake("acp", [[*({"raw": message} for message in odd), *GOOD]])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}


def test_a_batch(fake):
    batch = [request(5, "fs/read_text_file"), 7, update("agent_message_chunk", content={
        "type": "text", "text": "in a batch"})["raw"], request("six", "terminal/create")]
    agent = fake("acp", [[{"line": json.dumps(batch)}, {"line": "[]"}, {"hear": 2}, EDIT, DONE]])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}
    assert [(answer["id"], answer["error"]["code"]) for answer in agent.records("answer")] == [
        (5, -32601), ("six", -32601)]
    assert {"text": "in a batch"} in agent.events("message")


def test_a_request_that_is_too_long_is_answered(fake):
    agent = fake("acp", [[{"huge": '{"jsonrpc": "2.0", "id": 9, "method": "session/request_permission", '
                                   '"params": {"sessionId": "a, \\"b\\": {", "x": "'},
                          {"hear": 1}, *GOOD]])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}
    answer, = agent.records("answer")
    assert answer["id"] == 9 and answer["error"]["code"] == -32600


def test_an_answer_that_is_too_long_is_no_success(fake):
    agent = fake("acp", [[EDIT, {"huge": '{"jsonrpc": "2.0", "id": 2, "result": {"stopReason": '
                                         '"end_turn", "x": "'}, {"hear": 1}]])
    got, reason = agent.outcome()
    assert got == "agent_error" and "too long" in reason


def test_a_notification_that_is_too_long_is_left_out(fake):
    agent = fake("acp", [[{"huge": '{"jsonrpc": "2.0", "method": "session/update", "params": {"x": "'},
                          *GOOD]])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}


def test_it_could_not_read_what_it_was_told(fake):
    agent = fake("acp", [[{"raw": {"jsonrpc": "2.0", "id": None, "error": {
        "code": -32700, "message": "Parse error"}}}, {"hear": 1}]])
    got, reason = agent.outcome()
    assert got == "agent_error" and "Parse error" in reason


# ---- sessions


def test_a_resume_that_is_offered_and_not_there(fake, repo):
    agent = fake("acp", [GOOD, SECOND], "args = --false-resume\n")
    assert agent.dispatch(RED).halt["tasks"] == {"passed": 1}
    first, second = agent.records("session")
    assert first == second and len(repo.db("SELECT 1 FROM attempt")) == 2


def test_a_session_is_resumed_after_authentication(fake):
    agent = fake("acp", [GOOD, SECOND], "args = --need-auth\n")
    assert agent.dispatch(RED).halt["tasks"] == {"passed": 1}
    first, second = agent.records("session")
    assert first == second


# ---- the end of a turn


@pytest.mark.parametrize("title,category,outcome", [
    ("unexpected status 500 Internal Server Error", "service", "agent_error"),
    ("exceeded retry limit, last status: 429 Too Many Requests", "limit", "rate_limited"),
    ("Log in.", "access", "auth_failed"),
])
def test_a_turn_that_ends_well_and_has_failed(fake, title, category, outcome):
    agent = fake("acp", [[EDIT, failed(title, category)]])
    got, reason = agent.outcome(
        status=1 if outcome == "agent_error" else 5, env={"ORCH_RETRY_MAX_WAIT": "100ms"})
    assert got == outcome and title in reason


def test_a_turn_with_a_warning(fake):
    agent = fake("acp", [[EDIT, failed("Reconnecting", severity="warning")]])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}


def test_its_own_retries_are_shown(fake):
    def info(**failure):
        return update("session_info_update", _meta={"jetbrains": {"air": {"sessionFailure": failure}}})
    agent = fake("acp", [[info(title="Reconnecting... 1/5 (429)", category="limit", severity="warning"),
                          info(title="That is deprecated.", category="unknown", severity="warning"),
                          *GOOD]])
    agent.dispatch()
    assert agent.events("rate_limit") == [{"text": "Reconnecting... 1/5 (429)"}]
    assert {"text": "That is deprecated."} in agent.events("progress")


def message(ident, text):
    return update("agent_message_chunk", messageId=ident, content={"type": "text", "text": text})


def test_messages_have_their_ends(fake):
    agent = fake("acp", [[message("a", "one "), message("a", "thing"), message("b", "another"), EDIT,
                          DONE]])
    agent.dispatch()
    assert [event["text"] for event in agent.events("message")] == ["one thing", "another"]


def test_messages_without_end(fake):
    many = [message(f"m{number}", "again") for number in range(15)]
    more = [message(f"n{number}", "again") for number in range(21)]
    agent = fake("acp", [[*many, EDIT, *many, EDIT, *more, {"hang": {}}]])
    got, reason = agent.outcome()
    assert got == "agent_error" and "one thing after the other" in reason


# ---- usage


def test_the_end_of_a_turn_replaces_what_was_told_meanwhile(fake, repo):
    fake("acp", [[context(1000), context(1500), context(900), context(4000), EDIT, DONE]]).dispatch()
    assert tokens(repo) == (200, 40, 7, 0.25)


@pytest.mark.parametrize("usage,counted", [
    # Of the first nothing is known; what is left of the context after that is what it grew by.
    ([context(1000), context(1500), context(900), context(4000)], (3000, 0, 0, 0)),
    ([context(1000), update("usage_update", session="of another", used=9000)], (0, 0, 0, 0)),
    ([step(inputTokens=100, outputTokens=20, totalTokens=120),
      step(inputTokens=150, outputTokens=20, totalTokens=180, cachedReadTokens=90)], (160, 50, 90, 0)),
])
def test_usage_of_a_turn_that_does_not_end(fake, repo, usage, counted):
    agent = fake("acp", [[*usage, EDIT, {"exit": 3}]])
    agent.outcome()
    assert tokens(repo) == counted


@pytest.mark.parametrize("usage", [
    [context(1000), context(9000)],
    [step(inputTokens=3000, outputTokens=20), step(inputTokens=3100, outputTokens=20)],
])
def test_a_budget_ends_a_turn_that_is_under_way(fake, usage):
    agent = fake("acp", [[EDIT, *usage, {"hang": {}}]])
    result = agent.dispatch(TASK + "token_budget = 5000\n", status=1)
    assert result.last("a")["outcome"] == "over_budget"


def test_nothing_used_after_a_cancel_is_no_correction(fake, repo):
    agent = fake("acp", [[context(1000), context(1500), {"done": {"usage": {
        "inputTokens": 0, "outputTokens": 0}, "stopReason": "cancelled"}}]])
    assert agent.outcome()[0] == "agent_error"
    assert tokens(repo) == (500, 0, 0, 0.25)
