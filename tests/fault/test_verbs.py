# SPDX-License-Identifier: MIT
"""Memory and descriptors run out while somebody looks: each way to a call of malloc and of open fails
once. The verb either says what it always says, or that it cannot, with 74; nothing is changed by it.
A few of them by default; ORCH_FAULT_ALL=1 takes each."""

import pytest

import lab

VERBS = ["status", "status --json", "log top", "log top --json", "gate right", "gate right --json",
         "plan list", "plan list --json", "plan show demo", "plan export demo", "plan check FILE",
         "config show", "config show --json", "config check", "invariant list",
         "invariant list --json", "harness list", "harness show shell --json",
         "report demo", "report demo --json", "merge demo --dry-run"]
FEW = 8
# What they say depends on the time, and on what could be tried.
VARIES = ("status", "report", "harness", "merge")


@pytest.fixture(scope="module")
def world():
    lab._worker()
    world = lab.World("diamond")
    assert world.give("dispatch", "--json", world.plan_file).status == 2
    yield world
    lab._kill_left()
    world.remove()


@pytest.mark.parametrize("calls,error", [("memory", "ENOMEM"), ("open", "EMFILE")])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_looks(world, verb, calls, error):
    command = [world.plan_file if word == "FILE" else word for word in verb.split()]
    before = world.rows("SELECT count(*), max(id) FROM transition")
    world.reset()
    whole = world.give(*command, env=world.armed(lab.Fault("orch", calls)))
    assert whole.status == 0, whole
    sites = list(dict.fromkeys(call[4] for call in world.calls()))
    assert sites
    if not lab.ALL and len(sites) > FEW:
        sites = [sites[(len(sites) - 1) * i // (FEW - 1)] for i in range(FEW)]
    for site in sites:
        world.reset()
        result = world.give(*command, env=world.armed(lab.Fault("orch", calls, error, 1, site=site)))
        if result.status == 0:
            assert command[0] in VARIES or result.out == whole.out, (site, result)
        else:
            words = result.err.strip()
            assert result.status == 74 and words and not words.endswith(":"), (site, result)
    assert world.rows("SELECT count(*), max(id) FROM transition") == before
