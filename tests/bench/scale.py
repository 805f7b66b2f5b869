# SPDX-License-Identifier: MIT
"""Cases `plan`, `engine`, `memory` and `status`: what grows with the size of a plan or the number
of units."""

import os
import pathlib
import signal
import subprocess
import time

from lib import Missing, median, spread, table, verdict
from peers import plan_text


def big_plan(count):
    """Each task depends on up to two earlier ones and has a prompt of some length."""
    tasks = []
    for i in range(count):
        text = f"[task:task-{i}]\nprompt = Do step {i} of the plan, then say what you did.\n"
        if i >= 10:
            text += f"depends_on = task-{i - 10}, task-{i - 7}\n"
        tasks.append(text)
    return "[plan]\nname = big\nharness = shell\nisolation = none\n" + "".join(tasks)


def case_plan(bench):
    count = 500 if bench.smoke else 100_000
    check, load = [], []
    for _ in range(bench.rounds):
        cwd = bench.place("plan")
        (cwd / "plan.ini").write_text(big_plan(count))
        check.append(bench.run([bench.orch, "plan", "check", "plan.ini"], cwd)[0])
        load.append(bench.run([bench.orch, "plan", "import", "plan.ini"], cwd)[0])
    both = [a + b for a, b in zip(check, load)]
    text = table(("a plan of", "check, s", "import, s", "both, s"),
                 [(f"{count:,} tasks", spread(check), spread(load), spread(both))])
    return text + f"\nWanted for both: under 3 s: {verdict(median(both), 3.0)}.\n", []


def case_engine(bench):
    program = bench.program("tests/bench-engine")
    sizes = (100, 1000) if bench.smoke else (1000, 10_000, 100_000)
    seen = {size: [] for size in sizes}
    for _ in range(bench.rounds):
        for size in sizes:
            seen[size].append(bench.json([program, size], bench.root))
    rows, ns = [], {}
    for size, results in seen.items():
        # The fastest: a short loop in memory has no reason to be slower but the machine's.
        ns[size] = min(r["ns_per_event"] for r in results)
        rows.append((f"{size:,}", f"{results[0]['bytes_per_task']:.0f}", f"{ns[size]:.0f}"))
    ratio = ns[sizes[-1]] / ns[sizes[0]]
    memory = seen[sizes[-1]][0]["bytes_per_task"]
    text = table(("tasks", "bytes a task", "ns an event"), rows)
    return text + (f"\n{memory:.0f} bytes a task (wanted: under 300): {verdict(memory, 300)}. "
                   f"An event at {sizes[-1]:,} tasks takes {ratio:.2f} times one at "
                   f"{sizes[0]:,} (wanted: at most 1.5): {verdict(ratio, 1.5)}.\n"), []


def pss_kb(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError("no Pss in smaps_rollup")


def shims(bench, engine):
    """Pids of the orch-shims below an engine: a keeper and a host a unit, and the one process that
    forks keepers."""
    mine, parents = os.path.realpath(bench.program("orch-shim")), {}
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/exe") == mine:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2]
                parents[int(entry)] = int(stat.split()[1])
        except OSError:
            continue
    return [pid for pid, parent in parents.items()
            if parent == engine or parents.get(parent) == engine]


def case_memory(bench):
    units = 4 if bench.smoke else 100
    cwd = bench.place("memory")
    (cwd / "plan.ini").write_text(
        plan_text(units, "exec sleep 600").replace("max_agents = 2", f"max_agents = {units}"))
    process = bench.start([bench.orch, "dispatch", "plan.ini", f"--max-agents={units}"], cwd)
    try:
        deadline = time.monotonic() + 60
        # Keeper and host of each unit.
        while len(found := shims(bench, process.pid)) < 2 * units + 1:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"{len(found)} of {2 * units + 1} shims appeared")
            time.sleep(0.1)
        time.sleep(0.5)  # what is measured is a state, not a moment: let it settle
        total = sum(pss_kb(pid) for pid in found)
        engine = pss_kb(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    each = total / units
    text = table(("units", "keeper and host, kB PSS a unit", "engine, kB PSS"),
                 [(units, f"{each:.0f}", engine)])
    return text + f"\nWanted for keeper and host together: under 400 kB: " \
                  f"{verdict(each, 400)}.\n", []


def case_status(bench):
    count = 20 if bench.smoke else 1000
    cwd = bench.place("status")
    (cwd / "plan.ini").write_text(big_plan(count))
    bench.run([bench.orch, "plan", "import", "plan.ini"], cwd)
    probe = bench.start([bench.orch, "status", "--help"], cwd)
    probe.communicate()
    if probe.returncode != 0:
        raise Missing("this orch has no `status` yet")
    rows, worst = [], 0.0
    for form in ([], ["--json"]):
        times = [bench.run([bench.orch, "status", *form], cwd, stdout=subprocess.DEVNULL)[0]
                 for _ in range(5 if bench.smoke else 30)]
        rows.append((" ".join(["orch status", *form]), spread(times, 1000, 1)))
        worst = max(worst, median(times))
    text = table((f"{count:,} tasks", "ms"), rows)
    return text + f"\nWanted: under 20 ms: {verdict(worst * 1000, 20)}.\n", []
