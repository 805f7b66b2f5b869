# SPDX-License-Identifier: MIT
"""analyse.py SOURCE_DIR BINARY_DIR: gcc's static analyser finds nothing in core/ and plugins/.

Each file is compiled once more, without output, with the flags of this build. Leaks are left to the
sanitizers, under which the whole suite runs: gcc 12 loses sight of what is stored in a container
that was made elsewhere and reports it. A finding without a place in the source ("cc1: warning") is
about a variable of the compiler's own, the one that leads out of the block of a cleanup variable in
a loop.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import tree

WANTED = "-O0 -fanalyzer -Wno-error -Wno-analyzer-malloc-leak -Wno-analyzer-too-complex".split()
FINDING = re.compile(r"^(?!cc1:)\S+: warning: .*\[-Wanalyzer-", re.M)

root, binary = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
commands = json.loads((binary / "compile_commands.json").read_text())
commands = [
    c
    for c in commands
    if pathlib.Path(c["file"]).is_relative_to(root / "core")
    or pathlib.Path(c["file"]).is_relative_to(root / "plugins")
]


def analyse(command):
    argv = shlex.split(command["command"])
    version = subprocess.run([argv[0], "--version"], capture_output=True, text=True).stdout
    if "Free Software Foundation" not in version:
        return tree.SKIPPED, version
    at = argv.index("-o")
    argv[at + 1] = "/dev/null"
    # What -Wp,-D_FORTIFY_SOURCE replaces by inline functions is hidden from the analyser.
    argv = [a for a in argv if not a.startswith("-D_FORTIFY_SOURCE")]
    result = subprocess.run(
        [*argv, *WANTED],
        cwd=command["directory"],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
    )
    return result.returncode or bool(FINDING.search(result.stderr)), result.stderr


failed = 0
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for status, text in pool.map(analyse, commands):
        if status == tree.SKIPPED:
            print(f"SKIPPED: needs gcc, this build is made with {text.splitlines()[0]}")
            sys.exit(tree.SKIPPED)
        if status:
            failed += 1
            print(text)
print(f"{len(commands)} files, {failed} with findings")
sys.exit(1 if failed or not commands else 0)
