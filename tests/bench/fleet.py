# SPDX-License-Identifier: MIT
"""A fleet of agents that run for long: stop, adoption, pause, and what it costs to wait."""

import json
import os
import pathlib
import signal
import socket
import sqlite3
import time

from lib import table, verdict
from peers import plan_text

OBEYS = "exec sleep 600"
# The shell ignores SIGTERM, and so does what it starts.
STUBBORN = "trap '' TERM; while :; do sleep 600; done"


def call(cwd, method, params=None):
    """One request to the engine; None when none answers."""
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        try:
            os.chdir(cwd / ".orch")
            s.connect("orch.sock")
        except OSError:
            return None
        finally:
            os.chdir(here)
        try:
            s.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method,
                                  "params": params or {}}).encode() + b"\n")
            return json.loads(s.recv(65536)).get("result")
        except (OSError, ValueError):
            return None


def wait(condition, what, timeout=120):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {timeout} s")
        time.sleep(0.002)


def running(cwd):
    with sqlite3.connect(f"file:{cwd}/.orch/orch.db?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM task WHERE status = 'running'").fetchone()[0]


def start(bench, cwd, count, plan):
    process = bench.start([bench.orch, "-q", "dispatch", "--drain-timeout=2s", plan], cwd)
    wait(lambda: (cwd / ".orch" / "orch.db").exists(), "the database")
    wait(lambda: (call(cwd, "status") or {}).get("units", 0) >= count and running(cwd) >= count,
         f"{count} running agents")
    return process


def stop(process):
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    return time.monotonic() - begin


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def sweeps(cwd):
    with sqlite3.connect(f"file:{cwd}/.orch/orch.db?mode=ro", uri=True) as db:
        return [row[0] for row in db.execute("SELECT sweep_ms FROM attempt WHERE killed > 0")]


def fleet(bench, count, command):
    cwd = bench.place("fleet")
    (cwd / "plan.ini").write_text(
        plan_text(count, command).replace("max_agents = 2", f"max_agents = {count}"))
    return cwd, start(bench, cwd, count, "plan.ini")


def case_fleet(bench):
    count = 5 if bench.smoke else 500
    pause_count = 3 if bench.smoke else 200
    rows = []

    def row(what, seconds, limit):
        rows.append((what, f"{seconds * 1000:.0f}", f"{limit * 1000:.0f}",
                     verdict(seconds, limit)))

    cwd, process = fleet(bench, count, OBEYS)
    ticks = cpu_ticks(process.pid)
    time.sleep(1 if bench.smoke else 5)
    ticks = cpu_ticks(process.pid) - ticks
    process.kill()
    process.communicate()
    with sqlite3.connect(f"file:{cwd}/.orch/orch.db?mode=ro", uri=True) as db:
        plan = db.execute("SELECT name FROM plan").fetchone()[0]
    begin = time.monotonic()
    process = start(bench, cwd, count, plan)
    row(f"{count} running agents adopted after a SIGKILL of orch", time.monotonic() - begin, 1)
    row(f"{count} obeying agents stopped", stop(process), 1)

    cwd, process = fleet(bench, count, STUBBORN)
    row(f"{count} agents that ignore SIGTERM stopped, drain 2 s", stop(process), 3)

    cwd, process = fleet(bench, 1, STUBBORN)
    stop(process)
    row("one tree, from its SIGKILL to nothing left", max(sweeps(cwd), default=0) / 1000, 0.05)

    cwd, process = fleet(bench, pause_count, OBEYS)
    with sqlite3.connect(f"file:{cwd}/.orch/orch.db?mode=ro", uri=True) as db:
        plan = db.execute("SELECT name FROM plan").fetchone()[0]
    row(f"{pause_count} agents paused (`orch pause`, all frozen)",
        bench.run([bench.orch, "-q", "pause", plan], cwd)[0], 0.2)
    stop(process)
    text = table(("what", "ms", "wanted under", ""), rows)
    return text + f"\nWith {count} quiet agents the engine used {ticks} ticks of CPU time in five " \
                  f"seconds (wanted: none): {verdict(ticks, 1)}.\n", []
