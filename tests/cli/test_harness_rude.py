# SPDX-License-Identifier: MIT
"""Harnesses that do what no rule forbids by the letter: each may hurt its own attempt at most."""

import os
import pathlib

import pytest

PLUGINS = os.environ.get("ORCH_TEST_PLUGINS", "")
BUILD_PLUGINS = pathlib.Path(PLUGINS).parent.parent / "plugins"

# What becomes of the attempt: of those that only make a mess around themselves, the work counts.
FINE = ["threads", "leftovers", "after-release", "mask"]
BROKEN = {"close": "harness_crashed", "overwrite": "harness_crashed",
          "nonsense": "harness_crashed", "memory": "harness_crashed"}


@pytest.fixture
def env():
    return {"ORCH_PLUGIN_PATH": f"{PLUGINS}:{BUILD_PLUGINS}", "ORCH_CALLBACK_TIMEOUT": "60s",
            "ORCH_KILL_GRACE": "200ms", "ORCH_RETRY_BREAKER": "0"}


def test_all_of_them_beside_a_good_one(repo, env):
    tasks = [*FINE, *BROKEN]
    if os.environ.get("ORCH_SANITIZED"):
        print("LOUD SKIP: rude-memory: a sanitizer's own memory knows no limit")
        tasks.remove("memory")
    plan = repo.plan("".join(
        f"[task:{way}]\ncommand = echo x > {way}\nharness = rude-{way}\nretry_max = 0\n"
        for way in tasks) + "[task:good]\ncommand = touch good\n", max_agents=3)
    repo.orch("dispatch", plan, env=env, status=1, timeout=120)
    came_to = {t["name"]: (t["status"], t["outcome"]) for t in repo.status()["tasks"]}
    assert came_to == {
        **dict.fromkeys([*FINE, "good"], ("passed", "ok")),
        **{way: ("escalated", outcome) for way, outcome in BROKEN.items() if way in tasks}}


@pytest.mark.parametrize("way", ["mask", "leftovers", "threads"])
def test_each_can_be_stopped(repo, env, way):
    import signal
    from conftest import wait_until
    up = repo.home / "up"
    process = repo.popen("dispatch", "--drain-timeout=1s", repo.plan(
        f"[task:a]\ncommand = touch {up}; sleep 600\nharness = rude-{way}\n"), env={**repo.env, **env})
    wait_until(up.exists)
    process.send_signal(signal.SIGTERM)
    assert repo.finish(process, timeout=30).status == 130
    assert repo.task("a")["outcome"] == "interrupted"
