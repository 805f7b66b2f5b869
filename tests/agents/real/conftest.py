# SPDX-License-Identifier: MIT
"""Real agents against the mock; at the end a table, agent by scenario.

ORCH_AGENT_TESTS=all takes every scenario and agent, else what CI has time for. An agent that is not
installed is skipped, loudly and by name.
"""

import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import agents  # noqa: E402

EVERYTHING = os.environ.get("ORCH_AGENT_TESTS") == "all"
AGENTS = agents.ALL if EVERYTHING else agents.CI
RESULTS = {}  # (agent, scenario) -> what the table says


def pytest_configure(config):
    config.addinivalue_line("markers", "scenario(name): a column of the table")
    config.addinivalue_line("markers", "rare: not in CI")


def pytest_collection_modifyitems(config, items):
    if not EVERYTHING:
        dropped = [item for item in items if item.get_closest_marker("rare")]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if not item.get_closest_marker("rare")]


def pytest_generate_tests(metafunc):
    if "agent" in metafunc.fixturenames:
        metafunc.parametrize("agent", AGENTS)


@pytest.fixture(autouse=True)
def _installed(request):
    if "agent" in request.fixturenames:
        why = agents.problem(request.getfixturevalue("agent"))
        if why:
            pytest.skip(f"{request.getfixturevalue('agent')}: {why}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    mark = item.get_closest_marker("scenario")
    agent = getattr(item, "callspec", None) and item.callspec.params.get("agent")
    if not mark or not agent:
        return
    key = (agent, mark.args[0])
    said = dict(item.user_properties).get("outcome")
    if report.when == "call" and report.passed:
        RESULTS[key] = f"{said or 'ok'} ({report.duration:.0f} s)"
    elif report.skipped:
        RESULTS[key] = "skipped"
    elif report.failed:
        RESULTS[key] = "FAILED"


def pytest_terminal_summary(terminalreporter):
    scenarios = list(dict.fromkeys(scenario for _, scenario in RESULTS))
    if not scenarios:
        return
    write = terminalreporter.write_line
    write("")
    write("| agent | version | " + " | ".join(scenarios) + " |")
    write("|---|---|" + "---|" * len(scenarios))
    for agent in AGENTS:
        cells = [RESULTS.get((agent, scenario), "-") for scenario in scenarios]
        write(f"| {agent} | {agents.version(agent)} | " + " | ".join(cells) + " |")
    for agent in AGENTS:
        why = agents.problem(agent)
        if why:
            write(f"SKIPPED: {agent} {agents.version(agent)}: {why}", red=True, bold=True)
