# SPDX-License-Identifier: MIT
"""format.py SOURCE_DIR: C files are as clang-format 14 leaves them; other versions differ."""

import pathlib
import re
import shutil
import subprocess
import sys

import tree

VERSION = "14"

root = pathlib.Path(sys.argv[1]).resolve()
program = shutil.which(f"clang-format-{VERSION}") or shutil.which("clang-format")
found = program and subprocess.run([program, "--version"], capture_output=True, text=True).stdout
if not found or not re.search(rf"version {VERSION}\.", found):
    print(f"SKIPPED: needs clang-format {VERSION}, found: {found or 'none'}")
    sys.exit(tree.SKIPPED)
names = tree.sources(root, "core", "plugins", "include", "docs", "tests")
sys.exit(subprocess.run([program, "--dry-run", "--Werror", *names], cwd=root).returncode)
