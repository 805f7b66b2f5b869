# SPDX-License-Identifier: MIT
"""What the checks share: the files of a source tree, C without its comments, the report."""

import pathlib
import re
import subprocess
import sys

SKIPPED = 77  # ctest's SKIP_RETURN_CODE

_TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""", re.S
)


def files(root):
    """All files of the tree that git would keep, relative to it."""
    listing = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
    )
    if listing.returncode == 0 and listing.stdout:
        names = [pathlib.Path(name) for name in listing.stdout.split("\0") if name]
    else:  # a source archive
        names = [path.relative_to(root) for path in pathlib.Path(root).rglob("*")]
        names = [n for n in names if n.parts[0] != ".git" and not n.parts[0].startswith("build")]
    return sorted(n for n in names if (root / n).is_file() and not (root / n).is_symlink())


def sources(root, *folders):
    """The C files and headers below these folders."""
    return [n for n in files(root) if n.suffix in (".c", ".h") and n.parts[0] in folders]


def read(path):
    return path.read_text(encoding="utf-8", errors="replace")


def without_comments(text, strings=True):
    """C text with comments (and the insides of strings) blanked; line numbers stay."""

    def blank(match):
        if match["text"] and not strings:
            return match["text"]
        return '""' + "\n" * match[0].count("\n") if match["text"] else "\n" * match[0].count("\n") or " "

    return _TOKEN.sub(blank, text)


class Report:
    def __init__(self):
        self.count = 0

    def add(self, where, line, text):
        self.count += 1
        print(f"{where}:{line}: {text}")

    def finish(self, checked):
        if not checked:
            sys.exit("nothing was checked")
        print(f"{checked} checked, {self.count} findings")
        sys.exit(1 if self.count else 0)
