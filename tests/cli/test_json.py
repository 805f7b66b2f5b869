# SPDX-License-Identifier: MIT
"""orch-json(5) names every field that a verb prints with --json."""

import json
import pathlib
import re

import pytest

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "man" / "orch-json.5.in"
PLAN = """[invariant:slow]
command = test -f never
advisory = yes
[task:a]
command = echo '{"kind":"usage","data":{"input":5,"output":6}}'; echo a > a
invariants = slow
tag = first
[task:b]
command = echo b > b
depends_on = a
gate = human_review
[task:c]
command = false
retry_max = 0
"""
FREE = {"facts", "data", "findings"}  # names for people, or of an event's kind
COUNTS = {"passed", "awaiting_review", "escalated"}
ABOVE = {"version", "input", "output", "cache_read", "cache_write"}


def section(title):
    text = PAGE.read_text().replace("\\-", "-")
    start = text.index(f".SS {title}")
    end = text.find("\n.SS ", start)
    return set(re.findall(r"[a-z_0-9]+", text[start:end]))


def fields(value, found):
    """Every name in value and below, into found."""
    if isinstance(value, dict):
        found |= set(value)
        for name, below in value.items():
            if name not in FREE:
                fields(below, found)
    elif isinstance(value, list):
        for item in value:
            fields(item, found)


@pytest.fixture(name="done")
def fixture_done(repo):
    """A plan that ended with a task passed, one that awaits review and one that failed."""
    plan = repo.plan(PLAN)
    dispatched = repo.orch("dispatch", "--json", plan, status=2).out
    return repo, [json.loads(line) for line in dispatched.splitlines()]


def test_every_field_is_in_the_page(done):
    repo, dispatched = done
    repo.orch("invariant", "add", "always", "--command=true")

    def lines(*verb, status=0):
        return [json.loads(line) for line in repo.orch(*verb, "--json", status=status).out.splitlines()]

    said = {
        "orch dispatch": dispatched,
        "orch status": lines("status"),
        "orch gate": lines("gate", "a"),
        "orch log": lines("log", "a"),
        "orch report": lines("report"),
        "orch doctor": lines("doctor"),
        "orch plan list": lines("plan", "list"),
        "orch harness list": lines("harness", "list") + lines("harness", "show", "shell"),
        "orch harness check": lines("harness", "check", "shell"),
        "orch invariant list": lines("invariant", "list") + lines("invariant", "show", "always"),
        "orch invariant test": lines("invariant", "test", "always"),
        "orch config show": lines("config", "show"),
        "orch approve": lines("approve", "b") + lines("reject", "b", "--reason=x", status=1)
        + lines("retry", "c"),
        "orch merge": lines("merge", "demo", "--dry-run"),
        "orch init": lines("init", "--force"),
    }
    for verb, values in said.items():
        found = set()
        fields(values, found)
        # What several verbs have is told with the first of them, and tokens above all.
        known = section(verb) | section("orch gate") | COUNTS | ABOVE
        assert found and found <= known, (verb, found - known)
