# SPDX-License-Identifier: MIT
"""text.py SOURCE_DIR: licence lines, leftovers, and names that mean something on one machine only."""

import pathlib
import re
import sys

import tree

LICENCE = "SPDX-License-Identifier: MIT"
CODE = {".c", ".h", ".py", ".sh", ".cmake", ".ini", ".1", ".5", ".7", ".fish"}
MARKER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
# Directories of developers' machines; /home/me is anybody's.
PLACE = re.compile(r"(?<![\w.~$}/-])/(?:wo" r"rk|ro" r"ot|home/(?!me\b)\w+|Users/\w+)(?=/)")
HOST = re.compile(r"\b(?:https?|ssh|git|ftp)://(?:[^\s/@]+@)?([A-Za-z0-9.-]+)")
# Examples, loopback, and the sources of what we cite.
HOSTS = re.compile(
    r"(?:.*\.)?(?:example(?:\.org|\.com)?|invalid|test|localhost)|127\.0\.0\.1"
    r"|keepachangelog\.com|semver\.org|www\.isthe\.com|prng\.di\.unimi\.it|git-lfs\.github\.com"
)
# clang-format keeps to 100; more is a table it was told to leave alone, or one it has wrecked.
LINE_MAX = 160
NO_LICENCE = re.compile(r"tests/fuzz/corpus/")


def needs_licence(root, name, text):
    if NO_LICENCE.match(str(name)) or not text:
        return False
    return name.suffix in CODE or name.name == "CMakeLists.txt" or text.startswith("#!")


def main(root):
    report = tree.Report()
    names = tree.files(root)
    for name in names:
        data = (root / name).read_bytes()
        if b"\0" in data or NO_LICENCE.match(str(name)):
            continue
        text = data.decode("utf-8", errors="replace")
        if "\ufffd" in text:
            report.add(name, 1, "is not UTF-8")
        if needs_licence(root, name, text) and LICENCE not in "".join(text.splitlines(True)[:3]):
            report.add(name, 1, f"has no line with {LICENCE} at its top")
        if text and not text.endswith("\n"):
            report.add(name, text.count("\n") + 1, "ends without a newline")
        for link in re.findall(r"\]\(([^)#:]+)\)", text) if name.suffix == ".md" else []:
            if not (root / name.parent / link).exists():
                report.add(name, 1, f"a link to nowhere: {link}")
        is_c = name.suffix in (".c", ".h")
        for number, line in enumerate(text.splitlines(), 1):
            if is_c and len(line.expandtabs(8)) > LINE_MAX:
                report.add(name, number, f"a line of {len(line.expandtabs(8))} columns")
            if MARKER.search(line):
                report.add(name, number, "a marker for work that is not done")
            if PLACE.search(line):
                report.add(name, number, f"a path of one machine: {line.strip()}")
            for host in HOST.findall(line):
                if not HOSTS.fullmatch(host):
                    report.add(name, number, f"a host that is not a known public one: {host}")
    report.finish(len(names))


main(pathlib.Path(sys.argv[1]).resolve())
