# SPDX-License-Identifier: MIT
"""What an agent is given, and what is made of what it says, for each dialect."""

import json
import os
import pathlib
import platform

import pytest

from cli_fixtures import orch_bin
from fake import DIALECTS, DONE, EDIT, GOOD, KEYS, TASK, Fake


def test_an_edit_is_integrated(fake, repo, dialect):
    agent = fake(dialect, [GOOD])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}
    assert repo.git("show", "orch/demo/integration:hello.txt") == "hello"
    assert "create hello.txt" in agent.records("prompt")[0]
    assert {"text": "I begin."} in agent.events("message")
    call, = agent.events("tool_call")
    result, = agent.events("tool_result")
    assert call["id"] == result["id"] and result["ok"] is True
    assert "hello.txt" in json.dumps(call["input"])
    session, = agent.events("session")
    attempt, = repo.db("SELECT session, outcome FROM attempt")
    assert attempt == {"session": session["id"], "outcome": "ok"}
    assert not agent.lost()


@pytest.mark.parametrize("dialect,tokens,cost", [
    ("claude", (200, 40, 7, 5), 0.25),
    ("codex", (150, 40, 50, 0), 0),
    ("opencode", (200, 40, 6, 4), 0.25),
    ("gemini", (150, 50, 50, 0), 0),
    ("acp", (200, 40, 7, 5), 0.25),
])
def test_usage_is_counted_as_the_agent_means_it(fake, repo, dialect, tokens, cost):
    fake(dialect, [GOOD]).dispatch()
    row, = repo.db("SELECT tokens_input, tokens_output, tokens_cache_read, tokens_cache_write, cost"
                   " FROM attempt")
    assert (*row.values(),) == (*tokens, cost)


def test_arguments_and_environment(fake, repo, dialect):
    dirty = {"CLAUDECODE": "1", "CODEX_SANDBOX": "x", "GEMINI_CLI": "1", "OPENAI_ORGANIZATION": "o",
             "ANTHROPIC_MODEL": "m", "MY_API_KEY": "other"}
    secret = {KEYS[dialect]: "sk-secret-4711"}
    agent = fake(dialect, [GOOD], "args = --more 'two words' \"and \\\"three\\\"\"\n")
    agent.dispatch(env={**dirty, **secret})
    argv, = agent.records("argv")
    at = argv.index("--more")
    assert argv[at + 1:at + 3] == ["two words", 'and "three"']
    assert not any("create hello" in word or "sk-secret" in word for word in argv)
    env, = agent.records("env")
    assert env[KEYS[dialect]] == "sk-secret-4711" and "MY_API_KEY" not in env
    assert "CLAUDECODE" not in env and "CODEX_SANDBOX" not in env and "GEMINI_CLI" not in env
    assert env["TMPDIR"].startswith("/tmp/orch-")
    if dialect in ("codex", "gemini"):
        assert "ANTHROPIC_MODEL" not in env
    if dialect in ("claude", "gemini"):
        assert "OPENAI_ORGANIZATION" not in env
    for path in repo.state_dir.rglob("*"):
        if path.is_file():
            assert b"sk-secret-4711" not in path.read_bytes(), path


def test_a_key_that_the_agent_prints_is_masked(fake, repo):
    (repo.home / "keys").write_text("# of the tests\nexport ONE_API_KEY='sk-one-8812'\n")
    agent = fake("codex", [[{"say": "sk-one-8812 and sk-two-8813"}, {"stderr": "sk-one-8812"},
                            *GOOD]], f"env_file = {repo.home}/keys\n")
    text = (repo.path / "orch.ini").read_text()
    repo.write("orch.ini", text.replace("pass_env = CODEX_API_KEY", "pass_env = TWO_*"))
    agent.dispatch(env={"TWO_API_KEY": "sk-two-8813"})
    env, = agent.records("env")
    assert env["ONE_API_KEY"] == "sk-one-8812" and env["TWO_API_KEY"] == "sk-two-8813"
    assert {"text": "*** and ***"} in agent.events("message")
    for path in repo.state_dir.rglob("*"):
        if path.is_file():
            assert b"sk-one-8812" not in path.read_bytes(), path
            assert b"sk-two-8813" not in path.read_bytes(), path


@pytest.mark.parametrize("dialect", ["claude", "codex"])
def test_a_home_of_its_own(fake, repo, dialect):
    agent = fake(dialect, [GOOD], "home = ~/agents/{plan}/{task}\n")
    agent.dispatch()
    env, = agent.records("env")
    assert env["HOME"] == str(repo.home / "agents/demo/a") and os.path.isdir(env["HOME"])
    assert "XDG_DATA_HOME" not in env
    if dialect == "codex":
        assert env["CODEX_HOME"] == env["HOME"] + "/.codex" and os.path.isdir(env["CODEX_HOME"])


@pytest.mark.parametrize("dialect,launcher,native", [
    ("codex", "@openai/codex/bin/codex.js",
     "@openai/codex-linux-{npm}/vendor/{rust}-unknown-linux-musl/bin/codex"),
    ("claude", "@anthropic-ai/claude-code/bin/claude",
     "@anthropic-ai/claude-code/node_modules/@anthropic-ai/claude-code-linux-{npm}/claude"),
    ("opencode", "opencode-ai/bin/opencode", "opencode-linux-{npm}/bin/opencode"),
])
def test_the_native_program_behind_a_launcher(fake, repo, dialect, launcher, native):
    agent = fake(dialect, [GOOD])
    rust = platform.machine()
    npm = {"x86_64": "x64", "aarch64": "arm64"}[rust]
    program = repo.home / "node_modules" / native.format(npm=npm, rust=rust)
    for path, text in ((repo.home / "node_modules" / launcher, "#!/bin/sh\nexit 99\n"),
                       (program, (repo.home / "fake").read_text())):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    (repo.home / "linked").symlink_to(repo.home / "node_modules" / launcher)
    config = (repo.path / "orch.ini").read_text()
    repo.write("orch.ini", config.replace(str(repo.home / "fake"), str(repo.home / "linked")))
    assert agent.dispatch().halt["tasks"] == {"passed": 1}
    assert str(program) in repo.orch("harness", "check", dialect).out


def test_odd_lines_do_no_harm(fake, repo, dialect):
    odd = [{"raw": {"type": "brand.new", "payload": [1, {"a": None}]}}, {"raw": {}},
           {"raw": {"type": 7}}, {"line": "no JSON at all"}, {"line": ""}, {"line": "[1, 2]"},
           {"line": '{"type": "text", "broken'}, {"line": '{"x": "half \\ud83d of an emoji"}'},
           {"raw": {"jsonrpc": "2.0", "id": 999, "result": {}}}]
    agent = fake(dialect, [[*odd, *GOOD]])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}


@pytest.mark.parametrize("dialect", ["claude", "acp"])
def test_a_long_line(fake, repo, dialect):
    agent = fake(dialect, [[{"say": "x" * 300_000}, *GOOD]])
    assert agent.dispatch().halt["tasks"] == {"passed": 1}
    assert sum(len(event["text"]) for event in agent.events("message")) > 40_000




def test_check(fake, repo, dialect):
    fake(dialect, [GOOD])
    key = {KEYS[dialect]: "sk-secret-4711"}
    with_key = repo.orch("harness", "check", dialect, env=key)
    assert f"{KEYS[dialect]} is set" in with_key.out and "sk-secret" not in with_key.out + with_key.err
    assert str(repo.home / "fake") in with_key.out
    if dialect != "acp":
        assert f"fake-{dialect} 1.2.3" in with_key.out
    assert "none found" in repo.orch("harness", "check", dialect).out


@pytest.mark.parametrize("dialect", ["gemini", "acp"])
def test_check_of_what_is_missing(repo, dialect):
    option = "command" if dialect == "acp" else "program"
    repo.write("orch.ini", f"[harness:{dialect}]\n{option} = no-such-agent\n")
    result = repo.orch("harness", "check", dialect, status=1)
    assert "no-such-agent" in result.out


def test_all_five_in_one_plan(repo):
    text, tasks = "", ""
    for dialect in DIALECTS:
        agent = Fake(repo, dialect, [[{"edit": {"path": f"{dialect}.txt", "content": "x\n"}}, DONE]])
        for name in ("fake", "scenario.json"):
            (repo.home / name).rename(repo.home / f"{dialect}-{name}")
        script = repo.home / f"{dialect}-fake"
        script.write_text(script.read_text().replace(
            f"{repo.home}/scenario.json", f"{repo.home}/{dialect}-scenario.json").replace(
            str(agent.record_file), f"{repo.home}/{dialect}-record"))
        text += (repo.path / "orch.ini").read_text().replace(
            str(repo.home / "fake"), str(script))
        tasks += f"[task:{dialect}]\nprompt = write {dialect}.txt\nharness = {dialect}\n"
    repo.write("orch.ini", "[orch]\nmax_agents = 5\n" + text)
    assert repo.dispatch(repo.plan(tasks)).halt["tasks"] == {"passed": 5}
    files = repo.git("ls-tree", "--name-only", "orch/demo/integration").split()
    assert {f"{dialect}.txt" for dialect in DIALECTS} <= set(files)


def test_every_option_is_in_the_manual(repo, dialect):
    shown = repo.orch("harness", "show", dialect, "--json").json["harness"]
    manual = pathlib.Path(orch_bin()).parent / "docs/man5/orch-harness.5"
    text = manual.read_text().replace("\\", "")
    missing = [option["key"] for option in shown["options"] if option["key"] not in text]
    assert shown["options"] and not missing


@pytest.mark.parametrize("dialect", ["claude", "codex", "opencode", "gemini"])
def test_what_the_real_one_said_of_an_edit(fake, repo, dialect):
    # recorded/ holds streams of the real programs, with long texts cut.
    agent = fake(dialect, [[{"play": f"{dialect}-edit.jsonl"}]])
    agent.dispatch(TASK + "allow_empty = yes\n")
    row, = repo.db("SELECT outcome, session, tokens_input, tokens_output FROM attempt")
    assert (row["outcome"], row["tokens_input"], row["tokens_output"]) == ("ok", 200, 40)
    assert row["session"] and not row["session"].startswith("5e551000")
    assert [event["text"] for event in agent.events("message")] == [
        "I will create the file.", "All done."]
    call, = agent.events("tool_call")
    result, = agent.events("tool_result")
    assert "hello.txt" in json.dumps(call) and result["ok"] and not agent.lost()


@pytest.mark.parametrize("dialect", ["claude", "codex", "opencode", "gemini"])
def test_what_the_real_one_said_of_a_bad_key(fake, dialect):
    agent = fake(dialect, [[{"play": f"{dialect}-401.jsonl"}, {"exit": 1}]])
    got, reason = agent.outcome(status=5)
    assert got == "auth_failed" and "the key is bad" in reason
