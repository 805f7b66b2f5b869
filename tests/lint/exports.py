# SPDX-License-Identifier: MIT
"""exports.py PLUGIN_DIR: each plugin exports orch_harness, as data, and nothing else."""

import pathlib
import subprocess
import sys

import tree

report = tree.Report()
plugins = sorted(pathlib.Path(sys.argv[1]).glob("orch-harness-*.so"))
for plugin in plugins:
    listing = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--format=posix", plugin],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = sorted(tuple(line.split()[:2]) for line in listing.splitlines())
    found = [symbol for symbol in found if not symbol[0].startswith("__odr_asan.")]
    if [name for name, _ in found] != ["orch_harness"] or found[0][1] not in "RDB":
        report.add(plugin.name, 1, f"exports {found}, expected orch_harness in a data section")
report.finish(len(plugins))
