# SPDX-License-Identifier: MIT
"""Input that is wrong, hostile or huge: an error of the A5 table, and nothing changed."""

import pytest

NASTY = ["", " ", "-x", "a b", "a/b", "../a", ".hidden", "a;touch pwned", "$(touch pwned)",
         "'; DROP TABLE task; --", "a\x1b[31m", "a\nb", "ä", "a" * 101, "%s%n", "x" * 100000]
VERBS = [["plan", "show"], ["plan", "export"], ["plan", "approve"], ["plan", "reset"],
         ["plan", "remove"], ["plan", "delete", "--yes"], ["plan", "set", "--"], ["status"],
         ["report"], ["doctor"], ["log"], ["gate"], ["approve"], ["reject", "--reason=x"],
         ["retry"], ["pause"], ["resume"], ["merge"], ["cleanup"]]


@pytest.fixture
def stored(repo):
    repo.orch("plan", "import", repo.plan("[task:a]\ncommand = echo a > a\n"))
    return repo


def untouched(repo):
    assert not (repo.path / "pwned").exists()
    assert [p["name"] for p in repo.orch("status", "--json").json["plans"]] == ["demo"]
    assert repo.orch("plan", "show", "demo").out


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_names_that_are_nobodys(stored, verb):
    # Each verb with some of them, all of them with one or another verb.
    at = VERBS.index(verb)
    names = [*NASTY, "9999999", "99999999999999999999999", "demo/9999999", "none/a"]
    for name in ["", "9999999", *[names[(at * 5 + i) % len(names)] for i in range(5)]]:
        more = ["priority=1"] if verb[:2] == ["plan", "set"] else []
        operands = [name, *more] if verb[-1] == "--" else ["--", name, *more]
        result = stored.orch(*verb, *operands, status=None)
        assert result.status in (64, 65, 66), (name[:50], result)
        assert result.out == "" and "\x1b" not in result.err and "\x00" not in result.err
    untouched(stored)


@pytest.mark.parametrize("name", NASTY)
def test_names_in_a_plan(repo, name):
    head, tail = "[plan]\nname = {}\nharness = shell\n", "[task:{}]\ncommand = true\n"
    for text in (head.format(name) + tail.format("a"), head.format("p") + tail.format(name),
                 head.format("p") + tail.format("a") + f"depends_on = {name or '-'}\n",
                 head.format("p") + tail.format("a") + f"invariants = {name or '-'}\n"):
        file = repo.home / "bad.ini"
        file.write_text(text)
        result = repo.orch("plan", "check", file, status=None)
        # A line break or a blank name may leave a file that is whole; then nothing bad is in it.
        if result.status == 0:
            assert name in (" ", "", "a\nb", "ä", "a b"), result
        else:
            assert result.status == 65 and "bad.ini:" in result.err, result
        assert "\x1b" not in result.out + result.err
    assert repo.orch("plan", "list").out == ""


@pytest.mark.parametrize("args", [
    ["dispatch", "--harness=../x"], ["dispatch", "--harness=a;b"], ["dispatch", "--max-agents=-1"],
    ["dispatch", "--max-agents=1e9"], ["dispatch", "--timeout=soon"], ["dispatch", "--cap=x"],
    ["dispatch", "--drain-timeout=-5s"], ["dispatch", "demo", "--prompt=x"],
    ["dispatch", "demo", "demo"], ["dispatch", "--nonsense"], ["nonsense"], ["plan", "nonsense"],
    ["plan"], ["log", "a", "--attempt=x"], ["gate", "a", "--attempt=-1"], ["reject", "a"],
    ["approve", "a", "--override"], ["invariant", "add", "a b", "--command=x"],
    ["invariant", "add", "x"], ["harness", "show", "../../etc"], ["--log-level=loud", "status"],
])
def test_usage(stored, args):
    result = stored.orch(*args, status=64)
    assert result.out == ""
    untouched(stored)


@pytest.mark.parametrize("args, statuses", [
    (["log", "a", "--attempt=7"], (66,)), (["gate", "a", "--attempt=7"], (66,)),
    (["dispatch", "none"], (66,)), (["dispatch", "none.ini"], (66,)), (["-C", "/none", "status"], (66,)),
    (["--config", "/none.ini", "status"], (66, 78)), (["stop"], (69,)),
    (["harness", "show", "none"], (66,)), (["invariant", "show", "none"], (66,)),
])
def test_what_is_not_there(stored, args, statuses):
    result = stored.orch(*args, status=None)
    assert result.status in statuses, result
    untouched(stored)


def test_a_megabyte_of_arguments(stored):
    big = "x" * 120000
    words = [big] * 8
    assert stored.orch("plan", "set", "demo/a", *[f"prompt={big}"] * 8).status == 0
    assert stored.orch("plan", "set", "demo/a", *words, status=64).out == ""
    assert stored.orch("status", *words, status=64).out == ""
    assert big[:100] in stored.orch("plan", "show", "demo").out
    stored.orch("plan", "set", "demo/a", "command=echo a > a")
    stored.orch("dispatch", f"--prompt={big}", "--harness=nowhere", status=1)
    assert len(stored.orch("status", "--json").json["plans"]) == 2


def test_a_megabyte_in_a_plan(repo):
    text = "y" * 1000000
    file = repo.plan(f"[task:a]\nprompt = {text}\n[task:b]\n"
                     "command = wc -c < $ORCH_PROMPT_FILE > b\n")
    repo.orch("plan", "check", file)
    repo.orch("plan", "import", file)
    assert text in repo.orch("plan", "show", "demo").out
