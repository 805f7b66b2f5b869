# SPDX-License-Identifier: MIT
"""orch init, config and harness: getting to know what is there."""

import os

import pytest

PLUGINS = os.environ.get("ORCH_TEST_PLUGINS", "")


# ---- init ----


def test_init_writes_what_fits(repo):
    repo.write("Makefile", "all:\n\ntest:\n\ttrue\n")
    out = repo.orch("init").out
    assert "recognised make" in out and "next:" in out
    text = (repo.path / "orch.ini").read_text()
    assert "[invariant:build]\ncommand = make -j2\n" in text and text.startswith("; ")
    assert repo.state_dir.is_dir() and os.path.islink(repo.path / ".orch")
    assert repo.git("status", "--porcelain") == "?? Makefile\n?? orch.ini"
    repo.orch("config", "check")
    repo.orch("invariant", "test", "test")


def test_init_overwrites_only_with_force(repo):
    repo.write("orch.ini", "; mine\n")
    repo.orch("init", status=73)
    assert (repo.path / "orch.ini").read_text() == "; mine\n"
    repo.orch("init", "--force")
    assert "mine" not in (repo.path / "orch.ini").read_text()


def test_init_of_two_kinds_keeps_the_names_apart(repo):
    repo.write("Makefile", "all:\n")
    repo.write("go.mod", "module x\n")
    result = repo.orch("init", "--json").json
    assert list(result) == ["version", "file", "state_dir", "repository", "kinds", "invariants"]
    assert sorted(result["kinds"]) == ["go", "make"] and result["repository"] is True
    assert "build" in result["invariants"] and len(set(result["invariants"])) == 4
    repo.orch("config", "check")


def test_init_where_nothing_is_recognised(repo):
    assert "no kind of project" in repo.orch("init").out
    repo.orch("config", "check")


def test_init_in_a_subdirectory(repo):
    (repo.path / "sub").mkdir()
    repo.write("Makefile", "all:\n")
    repo.orch("init", cwd=repo.path / "sub")
    assert (repo.path / "orch.ini").exists() and not (repo.path / "sub/orch.ini").exists()


def test_init_outside_a_repository(place):
    out = place.orch("init").out
    assert "isolation = none" in out and (place.path / "orch.ini").exists()


def test_init_before_the_first_commit(place):
    place.git("init", "-q")
    assert "no commit yet" in place.orch("init").out


# ---- config ----


def test_config_show_says_where_from(repo):
    repo.write("orch.ini", "[orch]\nmax_agents = 7\n[harness:goose]\nplugin = shell\n")
    out = repo.orch("config", "show").out
    assert f"; {repo.path}/orch.ini:2\nmax_agents = 7" in out
    assert "; environment ORCH_RETRY_BACKOFF\nbackoff = 10ms" in out
    assert "; built in\ntask_timeout = 30m" in out
    values = repo.orch("config", "show", "--json").json["values"]
    assert all(list(v) == ["section", "name", "key", "value", "origin"] for v in values)
    by_key = {(v["section"], v["name"], v["key"]): v for v in values}
    assert by_key["orch", None, "max_agents"]["value"] == "7"
    assert by_key["orch", None, "task_timeout"]["origin"] == "built in"
    assert by_key["harness", "goose", "plugin"]["value"] == "shell"
    assert len(by_key) == len(values)


def test_what_is_shown_reads_back(repo):
    repo.write("orch.ini", "[orch]\nmax_agents = 7\n[invariant:a]\ncommand =\n    one\n    two\n")
    shown = repo.orch("config", "show").out
    again = repo.write("again.ini", shown)
    values = [line for line in shown.splitlines() if not line.startswith(";")]
    back = repo.orch("--config", again, "config", "show").out
    assert [line for line in back.splitlines() if not line.startswith(";")] == values


def test_config_check_lists_every_mistake(repo):
    assert repo.orch("config", "check").out == "no mistakes\n"
    repo.write("orch.ini", "[orch]\nmax_agents = many\nno_such = 1\n[nonsense]\n")
    err = repo.orch("config", "check", status=78).err
    for line in (2, 3, 4):
        assert f"orch.ini:{line}: error" in err
    repo.orch("status", status=78)
    repo.orch("config", "check", "operand", status=64)


# ---- harness ----


def test_harness_list(repo):
    harnesses = repo.orch("harness", "list", "--json").json["harnesses"]
    assert [list(h) for h in harnesses] == [
        ["name", "plugin", "version", "path", "description", "problem"]] * len(harnesses)
    shell = next(h for h in harnesses if h["name"] == "shell")
    assert shell["problem"] is None and shell["path"].endswith("orch-harness-shell.so")
    assert "shell" in repo.orch("harness", "list").out


def test_the_path_is_configured(repo, tmp_path):
    result = repo.orch("harness", "list", env={"ORCH_PLUGIN_PATH": str(tmp_path)})
    assert "no harness plugins" in result.out
    repo.orch("harness", "show", "shell", env={"ORCH_PLUGIN_PATH": str(tmp_path)}, status=66)


@pytest.mark.skipif(not PLUGINS, reason="ORCH_TEST_PLUGINS is not set")
def test_broken_plugins_are_listed_with_the_reason(repo):
    env = {"ORCH_PLUGIN_PATH": PLUGINS, "ORCH_CALLBACK_TIMEOUT": "1s"}
    harnesses = repo.orch("harness", "list", "--json", env=env).json["harnesses"]
    by_name = {h["name"]: h for h in harnesses}
    assert by_name["good"]["problem"] is None
    for broken in ("wrong-major", "no-symbol", "not-elf", "ctor-crash", "ctor-exit", "bad-option"):
        assert by_name[broken]["problem"], broken
        repo.orch("harness", "show", broken, env=env, status=1)
    assert "ctor-crash" in repo.orch("harness", "list", env=env).out


def test_harness_show(repo):
    repo.write("orch.ini", "[harness:shell]\nnonsense = 1\n")
    result = repo.orch("harness", "show", "shell")
    assert "options of [harness:shell]" in result.out and "'nonsense'" in result.err
    shown = repo.orch("harness", "show", "shell", "--json").json["harness"]
    assert {"name", "abi", "has_check", "has_send", "options"} <= set(shown)
    for option in shown["options"]:
        assert list(option) == ["key", "type", "default", "help", "value", "origin"]
    repo.orch("harness", "check", "shell", status=1)


def test_a_harness_by_its_own_name(repo):
    repo.write("orch.ini", "[harness:goose]\nplugin = shell\n[harness:gone]\nplugin = nowhere\n")
    by_name = {h["name"]: h for h in repo.orch("harness", "list", "--json").json["harnesses"]}
    assert by_name["goose"]["plugin"] == "shell" and by_name["goose"]["problem"] is None
    assert "nowhere" in by_name["gone"]["problem"]
    assert "plugin shell" in repo.orch("harness", "show", "goose").out
    repo.orch("harness", "show", "gone", status=66)
    repo.orch("harness", "show", "bad name", status=64)


@pytest.mark.skipif(not PLUGINS, reason="ORCH_TEST_PLUGINS is not set")
@pytest.mark.parametrize("name, status", [
    ("good", 0), ("check-crash", 1), ("check-exit", 1), ("nobody", 66), ("wrong-major", 1)])
def test_harness_check(repo, name, status):
    env = {"ORCH_PLUGIN_PATH": PLUGINS}
    repo.orch("harness", "check", name, env=env, status=status)
    if status == 0:
        check = repo.orch("harness", "check", name, "--json", env=env).json["harness"]
        assert check["check"] == "ok" and list(check) == ["name", "check", "agent_version", "text"]


def test_a_repository_with_a_line_break_in_its_path(repo):
    """Git's answers are lines, and none of them names it."""
    repo.sh("mkdir 'a\nb'; cd 'a\nb'; git init -q; git commit -q --allow-empty -m first")
    result = repo.orch("dispatch", repo.plan("[task:a]\ncommand = touch a\n"), status=66,
                       cwd=repo.path / "a\nb")
    assert "line break" in result.err and not (repo.path / ".git" / "orch").exists()


def test_a_path_that_is_not_utf_8(repo):
    """Whatever tells an agent or a user of it is JSON."""
    odd = os.fsdecode(os.fsencode(str(repo.path)) + b"/a\xff")
    repo.sh("d=$(printf 'a\\377'); mkdir \"$d\"; cd \"$d\"; git init -q;"
            " git commit -q --allow-empty -m first")
    plan = repo.plan("[task:a]\ncommand = touch a\n")
    result = repo.orch("dispatch", plan, status=66, cwd=odd)
    assert "is not UTF-8" in result.err and "rename" in result.err
    result = repo.orch("dispatch", plan, status=66,
                       env={"XDG_STATE_HOME": os.fsdecode(os.fsencode(str(repo.home)) + b"/\xff")})
    assert "is not UTF-8" in result.err and "worktree_root" in result.err
