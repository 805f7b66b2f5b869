# SPDX-License-Identifier: MIT
"""An agent that speaks a harness's dialect and does what a scenario says."""

import json
import pathlib
import stat
import sys

from cli_fixtures import wait_until

FAKE = pathlib.Path(__file__).resolve().parent / "fake_agent.py"
DIALECTS = ["claude", "codex", "opencode", "gemini", "acp"]
EDIT = {"edit": {"path": "hello.txt", "content": "hello\n"}}
DONE = {"done": {}}
GOOD = [{"say": "I begin."}, EDIT, DONE]
TASK = "[task:a]\nprompt = create hello.txt\nretry_max = 0\n"
KEYS = {"claude": "ANTHROPIC_API_KEY", "codex": "CODEX_API_KEY", "opencode": "OPENAI_API_KEY",
        "gemini": "GEMINI_API_KEY", "acp": "OPENAI_API_KEY"}


class Fake:
    """An agent of a dialect, and the configuration that names it."""

    def __init__(self, repo, dialect, runs, config=""):
        self.repo, self.dialect = repo, dialect
        self.record_file = repo.home / "record"
        scenario = repo.home / "scenario.json"
        scenario.write_text(json.dumps({"runs": runs}))
        program = repo.home / "fake"
        program.write_text(f"#!/bin/sh\nexec {sys.executable} {FAKE} {dialect} {scenario} "
                           f"{self.record_file} \"$@\"\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        option = "command" if dialect == "acp" else "program"
        repo.write("orch.ini", f"[harness:{dialect}]\n{option} = {program}\n"
                               f"pass_env = {KEYS[dialect]}\n{config}\n")

    def dispatch(self, text=TASK, status=0, **kwargs):
        return self.repo.dispatch(self.repo.plan(text, harness=self.dialect), status=status, **kwargs)

    def outcome(self, status=1, **kwargs):
        """The outcome and the reason of the only attempt."""
        last = self.dispatch(status=status, **kwargs).last("a")
        return last["outcome"], last["reason"] or ""

    def records(self, key):
        lines = [json.loads(line) for line in self.record_file.read_text().splitlines()]
        return [line[key] for line in lines if key in line]

    def lost(self):
        """Lines of the journals that tell of an event that was refused."""
        return [line for journal in self.repo.state_dir.glob("units/*/events.jsonl")
                for line in journal.read_text().splitlines() if "an event was lost" in line]

    def events(self, kind):
        return [json.loads(row["data"]) for row in self.repo.db(
            "SELECT data FROM event WHERE kind = ? ORDER BY seq", kind)]


def interrupt(agent, repo, signals=1):
    process = repo.popen("dispatch", "--json", repo.plan(TASK, harness=agent.dialect))
    wait_until(lambda: agent.record_file.exists() and agent.record_file.read_text(),
               what="the agent")
    wait_until(lambda: repo.db("SELECT 1 FROM task WHERE status = 'running'"), what="running")
    process.terminate()
    result = repo.finish(process)
    assert result.status == 130, result
    row, = repo.db("SELECT outcome, left_behind, killed, contained FROM attempt")
    assert row["outcome"] == "interrupted" and row["contained"] == 1
    return row
