# SPDX-License-Identifier: MIT
"""What every verb has in common: help, usage errors, unknown names."""

import re

import pytest


AGENT_VERBS = ["task", "check", "progress", "finding", "done"]


def verbs(place):
    """Every verb of the command table, subcommands included, as --help lists them."""
    def listed(text):
        return re.findall(r"^  ([a-z-]+) +\S", text, re.M)

    for verb in listed(place.orch("--help").out):
        text = place.orch(verb, "--help").out
        subcommands = listed(text) if "COMMAND" in text.splitlines()[0] else []
        if subcommands:
            yield from ([verb, sub] for sub in subcommands)
        else:
            yield [verb]


def test_version(place):
    assert re.fullmatch(r"orch \S+\n", place.orch("--version").out)


def test_every_verb_has_help(place):
    seen = list(verbs(place))
    assert ["dispatch"] in seen and ["plan", "check"] in seen
    for verb in seen:
        out = place.orch(*verb, "--help").out
        assert out.startswith("usage: orch " + " ".join(verb)), verb
        assert place.orch(*verb, "-h").out == out, verb


def test_every_verb_refuses_an_unknown_option(place):
    for verb in verbs(place):
        env = {"ORCH_UNIT": "0" * 32} if verb[0] in AGENT_VERBS else None
        result = place.orch(*verb, "--no-such-option", status=64, env=env)
        assert "usage: orch " + " ".join(verb) in result.err, verb


@pytest.mark.parametrize("args", [[], ["no-such-verb"], ["plan"], ["plan", "no-such-verb"]])
def test_what_is_not_there_is_a_usage_error(place, args):
    place.orch(*args, status=64)


@pytest.mark.parametrize("name, why", [("gone", "No such file"), ("file", "Not a directory"),
                                       ("x" * 300, "File name too long"), ("loop", "symbolic links")])
def test_a_directory_that_cannot_be_used(place, name, why):
    place.write("file", "")
    (place.path / "loop").symlink_to("loop")
    for verb in (["status"], ["init"], ["config", "show"], ["dispatch"]):
        said = place.orch("-C", name, *verb, status=66).err
        assert f"orch {' '.join(verb)}: cannot use directory '{name}': " in said and why in said


def test_options_of_every_verb_may_stand_before_a_subcommand(place):
    elsewhere = place.home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "orch.ini").write_text("[orch]\nmax_agents = 7\n")
    values = place.orch("config", "-C", elsewhere, "-q", "show", "--json").json["values"]
    assert next(v["value"] for v in values if v["key"] == "max_agents") == "7"
    assert place.orch("plan", "--version").out == place.orch("--version").out
    assert place.orch("plan", "-q", "--help").out == place.orch("plan", "--help").out
    assert "unknown option '--x'" in place.orch("plan", "--x", "list", status=64).err
    assert "no command 'lst'" in place.orch("plan", "-q", "lst", status=64).err
    assert "what to do is missing" in place.orch("plan", "-q", status=64).err


def test_the_level_of_the_log(place):
    def level(*options):
        values = place.orch(*options, "config", "show", "--json").json["values"]
        return next((v["value"], v["origin"]) for v in values if v["key"] == "level")
    assert level() == ("info", "built in")
    assert level("--log-level=debug") == ("debug", "--log-level")


def test_a_dispatched_task_ends_in_the_integration_branch(repo):
    repo.orch("dispatch", repo.plan("[task:one]\ncommand = echo hello > file\n"))
    assert repo.git("show", "orch/demo/integration:file") == "hello"


@pytest.mark.parametrize("args, words", [
    (["dispatch", "--x"], "unknown option '--x'"),
    (["dispatch", "plan.ini", "--x=1"], "unknown option '--x'"),
    (["dispatch", "-x"], "unknown option '-x'"),
    (["dispatch", "--json", "-qx"], "unknown option '-x'"),
    (["dispatch", "-f"], "unknown option '-f'"),
    (["dispatch", "--json=1"], "option '--json' takes no value"),
    (["dispatch", "--cap"], "option '--cap' needs a value"),
    (["dispatch", "--timeout=0"], "--timeout: more than 0, or off"),
    (["dispatch", "-C"], "option '-C' needs a value"),
    (["dispatch", "--a", "--t"], "option '--t' is not clear: --timeout, --target"),
    (["plan", "check", "--x"], "unknown option '--x'"),
])
def test_a_mistaken_option_is_one_line(place, args, words):
    """And the line on the usage."""
    lines = place.orch(*args, status=64).err.splitlines()
    verb = " ".join(args[:2]) if args[0] == "plan" else args[0]
    assert lines[0] == f"orch {verb}: {words}" and lines[1].startswith("usage: ")
    assert len(lines) == 2


def test_a_mistaken_option_before_the_verb(place):
    assert place.orch("--x", "status", status=64).err.splitlines()[0] == "orch: unknown option '--x'"
