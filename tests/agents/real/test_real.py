# SPDX-License-Identifier: MIT
"""What was promised, with the real programs and a model that says what the scenario wants."""

import json
import pathlib
import signal

import pytest

import agents
from cli_fixtures import wait_until
from mock import TITLE, Mock

WRITE = {"match": {"tool_results": 0}, "reply": {
    "text": "I will create the file.",
    "tool": {"write": {"path": "hello.txt", "content": "hello from the mock\n"}}}}
DONE = {"reply": {"text": "All done."}}
EDIT = [TITLE, WRITE, DONE]
# Two processes that go on, one of them in a session of its own.
HANG = [TITLE, {"match": {"tool_results": 0}, "reply": {"text": "Running.", "tool": {
    "shell": "echo yes > started; setsid perl -e 'sleep 300' & perl -e 'sleep 301'"}}}, DONE]
GATE = "[invariant:good]\ncommand = grep -q hello hello.txt\n"
TASK = GATE + "[task:a]\nprompt = create hello.txt\ninvariants = good\nretry_max = 0\n"
LONG = 200  # seconds for one dispatch


@pytest.fixture
def mock(repo, tmp_path):
    started = []

    def start(rules, agent, **kwargs):
        server = Mock(tmp_path / "mock", rules_for(agent, rules)).__enter__()
        started.append(server)
        agents.set_up(repo, server.url, agent if isinstance(agent, list) else [agent], **kwargs)
        return server
    yield start
    for server in started:
        server.__exit__()


def attempt(repo):
    *_, row = repo.db("SELECT * FROM attempt ORDER BY number")
    return row


def rules_for(agent, rules):
    """Qwen writes to absolute paths only: it gets a command instead."""
    if agent != "qwen-acp":
        return rules
    rules = json.loads(json.dumps(rules))
    for rule in rules:
        write = rule["reply"].get("tool", {}).pop("write", None)
        if write:
            rule["reply"]["tool"]["shell"] = f"echo '{write['content'].strip()}' > {write['path']}"
    return rules


# It reports an error's words and not its status, and these words say nothing of a key.
MUTE = {"opencode-acp"}
# It tries again for about as long as the test waits.
PATIENT = {"opencode-acp"}
# An answer that ends too early is an answer to it.
ENDS_WELL = {"gemini-acp"}


def said(request, value):
    request.node.user_properties.append(("outcome", value))


def assert_no_key_on_disk(repo):
    for path in repo.state_dir.rglob("*"):
        if path.is_file():
            assert agents.KEY.encode() not in path.read_bytes(), path


@pytest.mark.scenario("edit")
def test_edit(repo, mock, agent):
    mock(EDIT, agent)
    result = repo.dispatch(repo.plan(TASK, harness=agent), timeout=LONG)
    assert result.halt["tasks"] == {"passed": 1}
    assert repo.git("show", "orch/demo/integration:hello.txt") == "hello from the mock"
    row = attempt(repo)
    assert row["outcome"] == "ok" and row["session"] and row["contained"] == 1
    kinds = {event["kind"] for event in repo.db("SELECT kind FROM event")}
    assert {"session", "message", "tool_call", "tool_result"} <= kinds
    assert row["tokens_input"] >= 100 and row["tokens_output"] >= 20
    assert_no_key_on_disk(repo)


def in_worktree(repo, name):
    """Whether the file is there, once there is a worktree."""
    plans = repo.orch("status", "--json").json["plans"]
    place = plans and plans[0]["tasks"][0]["worktree"]
    return place and (pathlib.Path(place) / name).exists()


@pytest.mark.scenario("interrupt")
def test_interrupt_while_a_tool_hangs(repo, mock, agent, request):
    mock(HANG, agent)
    process = repo.popen("dispatch", "--json", repo.plan(TASK, harness=agent))
    wait_until(lambda: in_worktree(repo, "started"), timeout=LONG, what="the tool")
    process.send_signal(signal.SIGINT)
    assert repo.finish(process).status == 130
    row = attempt(repo)
    assert row["outcome"] == "interrupted" and row["contained"] == 1
    assert repo.git("show", "refs/orch/demo/a/1:started") == "yes"
    said(request, f"ok, {row['killed']} swept")


def ends(repo, mock, agent, rules, env=None, timeout=LONG, **kwargs):
    """The outcome of an attempt where the model answers so."""
    server = mock(rules, agent, **kwargs)
    # No second attempt: a limit that lasts longer than this is the end.
    env = {"ORCH_RETRY_MAX_WAIT": "100ms", "ORCH_TASK_TIMEOUT": "150s", **(env or {})}
    repo.dispatch(repo.plan(TASK, harness=agent), status=None, env=env, timeout=timeout)
    row = attempt(repo)
    return row["outcome"], server


@pytest.mark.rare
@pytest.mark.scenario("401")
def test_401(repo, mock, agent, request):
    outcome, _ = ends(repo, mock, agent, [{"reply": {"status": 401, "error": "the key is bad"}}])
    said(request, outcome)
    assert outcome == ("agent_error" if agent in MUTE else "auth_failed")


@pytest.mark.rare
@pytest.mark.scenario("429")
def test_429(repo, mock, agent, request):
    outcome, _ = ends(repo, mock, agent, [{"reply": {
        "status": 429, "headers": {"retry-after": "2"}, "error": "mock rate limit"}}])
    said(request, outcome)
    assert outcome == "rate_limited"


@pytest.mark.rare
@pytest.mark.scenario("500")
def test_500(repo, mock, agent, request):
    outcome, _ = ends(repo, mock, agent, [{"reply": {"status": 500, "error": "mock is ill"}}])
    said(request, outcome)
    assert outcome == "agent_error" or (agent in PATIENT and outcome == "timed_out")


@pytest.mark.rare
@pytest.mark.scenario("refused")
def test_connection_refused(repo, mock, agent, request):
    server = mock(EDIT, agent)
    server.__exit__()
    env = {"ORCH_TASK_TIMEOUT": "120s", "ORCH_RETRY_MAX_WAIT": "100ms", "ORCH_KILL_GRACE": "2s"}
    repo.dispatch(repo.plan(TASK, harness=agent), status=1, env=env, timeout=LONG)
    outcome = attempt(repo)["outcome"]
    said(request, outcome)
    assert outcome in ("agent_error", "timed_out")


@pytest.mark.rare
@pytest.mark.scenario("cut stream")
def test_a_stream_that_is_reset(repo, mock, agent, request):
    outcome, _ = ends(repo, mock, agent, [TITLE, {"reply": {
        "truncate": True, "text": "this text is cut"}}], env={"ORCH_TASK_TIMEOUT": "120s"})
    said(request, outcome)
    assert outcome in ("agent_error", "timed_out", "crashed")


@pytest.mark.rare
@pytest.mark.scenario("endless")
def test_answers_that_end_too_early_for_ever(repo, mock, agent, request):
    outcome, server = ends(repo, mock, agent, [TITLE, {"reply": {
        "truncate": True, "clean": True, "text": "this text is cut"}}])
    said(request, f"{outcome}, {len(server.requests)} requests")
    # For Gemini CLI by ACP it is the end of a turn as any other.
    assert outcome == ("no_change" if agent in ENDS_WELL else "agent_error")


@pytest.mark.rare
@pytest.mark.scenario("resume")
def test_a_retry_has_the_earlier_turns(repo, mock, agent):
    # Gemini CLI 0.61.0 overwrites a session that it loads in the minute in which it was begun.
    delay = 60 if agent == "gemini-acp" else 0
    server = mock([TITLE, {"match": {"tool_results": 0, "user": "Attempt 1 did not pass"}, "reply": {
        "text": "Again.", "tool": {"write": {"path": "second.txt", "content": "x\n"}}}},
        {**WRITE, "reply": {**WRITE["reply"], "text": "Words of the first attempt.",
                            "delay": delay}}, DONE], agent)
    result = repo.dispatch(repo.plan(
        "[invariant:second]\ncommand = test -e second.txt\n"
        "[task:a]\nprompt = create hello.txt\ninvariants = second\nretry_max = 1\n",
        harness=agent), status=None, timeout=LONG)
    assert result.halt["tasks"] == {"passed": 1}, result
    again = [body for body in server.bodies() if "Attempt 1 did not pass" in body]
    resumed = any("Words of the first attempt." in body for body in again)
    assert resumed, "the earlier turns are not in the request"
    if agent == "codex":
        assert [row["tokens_input"] for row in repo.db("SELECT tokens_input FROM attempt")] == [200, 200]


# They tell what they use while they work; the others when they end.
IN_FLIGHT = {"claude", "opencode", "claude-acp", "codex-acp", "qwen-acp"}


@pytest.mark.rare
@pytest.mark.scenario("budget")
def test_a_budget_is_spent(repo, mock, agent, request):
    def step(number):
        # At the sixth there is time to be stopped.
        return {"match": {"tool_results": number}, "reply": {
            "text": f"Step {number}.", "tool": {"shell": f"echo {number} >> steps"},
            "usage": [1000 * (number + 1), 20], "delay": 30 if number == 6 else 0}}
    server = mock([TITLE, *map(step, range(8)), DONE], agent)
    result = repo.dispatch(repo.plan(
        "[task:a]\nprompt = count\nretry_max = 0\ntoken_budget = 4000\n", harness=agent),
        status=None, timeout=LONG)
    assert result.last("a")["outcome"] == "over_budget" or agent not in IN_FLIGHT, result
    in_flight = not any("Step 6." in body for body in server.bodies())
    said(request, "in flight" if in_flight else "at the end")
    assert in_flight == (agent in IN_FLIGHT)


@pytest.mark.rare
@pytest.mark.scenario("send")
def test_send(repo, mock, agent, request):
    if not agent.endswith("-acp") and agent != "claude":
        pytest.skip("its harness cannot hand over words")
    server = mock([TITLE, {"match": {"user": "Mind the gap"}, "reply": {"text": "I do."}},
                   WRITE, {"reply": {"delay": 8, "text": "All done."}}], agent)
    process = repo.popen("dispatch", "--json", repo.plan(TASK, harness=agent))
    wait_until(lambda: in_worktree(repo, "hello.txt"), timeout=LONG, what="the edit")
    repo.orch("send", "a", "Mind the gap.")
    assert repo.finish(process, LONG).halt["tasks"] == {"passed": 1}
    assert any("Mind the gap" in body for body in server.bodies())
    said(request, "ok")


@pytest.mark.rare
@pytest.mark.scenario("orch killed")
def test_sigkill_of_orch_and_adoption(repo, mock, agent):
    server = mock([TITLE, WRITE, {"reply": {"delay": 12, "text": "All done."}}], agent)
    plan = repo.plan(TASK, harness=agent)
    process = repo.popen("dispatch", "--json", plan)
    wait_until(lambda: in_worktree(repo, "hello.txt"), timeout=LONG, what="the edit")
    process.kill()
    repo.finish(process)
    asked = len(server.requests)
    result = repo.dispatch(plan, timeout=LONG)
    assert result.halt["tasks"] == {"passed": 1}
    row = attempt(repo)
    assert row["number"] == 1 and row["outcome"] == "ok"
    assert len(server.requests) <= asked + 1, "it was begun anew"


@pytest.mark.rare
@pytest.mark.scenario("check")
def test_check(repo, mock, agent):
    mock(EDIT, agent)
    result = repo.orch("harness", "check", agent, "--json", env={"ORCH_CALLBACK_TIMEOUT": "50s"})
    report = result.json["harness"]
    assert report["check"] == "ok", result
    assert agents.version(agent) in report["agent_version"] or agent == "claude-acp"
    assert agents.KEY not in result.out


@pytest.mark.rare
def test_all_in_one_plan(repo, mock):
    there = [agent for agent in agents.CI if not agents.problem(agent)]
    missing = sorted(set(agents.CI) - set(there))
    if len(there) < 2:
        pytest.skip(f"not installed: {', '.join(missing)}")
    rules = [TITLE, *({"match": {"tool_results": 0, "user": f"create {agent}.txt"}, "reply": {
        "meet": len(there), "text": "I will.",
        "tool": {"write": {"path": f"{agent}.txt", "content": "x\n"}}}} for agent in there), DONE]
    mock(rules, there)
    result = repo.dispatch(repo.plan("".join(
        f"[task:{agent}]\nprompt = create {agent}.txt\nharness = {agent}\n" for agent in there)),
        timeout=LONG)
    assert result.halt["tasks"] == {"passed": len(there)}
    files = set(repo.git("ls-tree", "--name-only", "orch/demo/integration").split())
    assert {f"{agent}.txt" for agent in there} <= files
