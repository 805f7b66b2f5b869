# SPDX-License-Identifier: MIT
"""shell.py SOURCE_DIR: shellcheck finds nothing in any shell script, whatever it is called."""

import pathlib
import re
import shutil
import subprocess
import sys

import tree

root = pathlib.Path(sys.argv[1]).resolve()
names = []
for name in tree.files(root):
    with (root / name).open("rb") as script:
        if re.match(rb"#!\s*/(?:usr/)?bin/(?:env )?(?:ba|da)?sh\b", script.readline()):
            names.append(name)
if not names:
    sys.exit("nothing was checked")
if not shutil.which("shellcheck"):
    print("SKIPPED: needs shellcheck")
    sys.exit(tree.SKIPPED)
sys.exit(subprocess.run(["shellcheck", *names], cwd=root).returncode)
