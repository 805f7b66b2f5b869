# SPDX-License-Identifier: MIT
"""layers.py SOURCE_DIR: who may include and call what.

The table is that of core/CMakeLists.txt (orch_layer(NAME USES ...)), so that what links and what
may be included cannot differ.
"""

import pathlib
import re
import sys

import tree

# Headers and calls that are at home in one layer.
HEADERS = {"dlfcn.h": "plugin", "sqlite3.h": "store", "ini.h": "config"}
PROCESS_CALLS = re.compile(
    r"\b(fork|vfork|_Fork|posix_spawnp?|exec[lv]p?e?|execveat|fexecve"
    r"|SYS_(?:v?fork|clone3?|execve(?:at)?))\b\s*[(,]"
)
# jansson's own say nothing of memory that ran out: core/base/json_text.h.
JSON_CALLS = re.compile(r"\b(json_loads|json_loadb|json_dumps|json_dumpf)\s*[(,]")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def table(root):
    text = re.sub(r"#.*", "", tree.read(root / "core/CMakeLists.txt"))
    layers = {}
    for call in re.findall(r"\borch_layer\(([^)]*)\)", text):
        words = call.split()
        uses, on = set(), False
        for word in words[1:]:
            if word in ("USES", "LIBS"):
                on = word == "USES"
            elif on:
                uses.add(word)
        unknown = uses - layers.keys()
        if unknown:
            sys.exit(f"layer {words[0]} uses {sorted(unknown)}, which are not below it")
        layers[words[0]] = uses
    if "base" not in layers or layers["base"]:
        sys.exit("core/CMakeLists.txt: no layer base that uses nothing")
    return layers


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def check_core(root, name, text, layers, report):
    layer = name.parts[1]
    if layer not in layers:
        report.add(name, 1, f"core/{layer} is not in the table of layers")
        return
    for match in INCLUDE.finditer(text):
        kind, target = match.groups()
        line = line_of(text, match.start())
        home = HEADERS.get(target)
        if home and home != layer:
            report.add(name, line, f"{target} is for core/{home} only")
        if kind == "<":
            continue
        other = target.split("/")[0]
        if (root / "include" / target).is_file():
            continue
        if not (root / "core" / target).is_file():
            report.add(name, line, f'"{target}" is no header of core (write layer/name.h)')
        elif other != layer and other not in layers[layer]:
            report.add(name, line, f"core/{layer} may not include core/{other}")


def check_plugin(root, name, text, report):
    for match in INCLUDE.finditer(text):
        kind, target = match.groups()
        line = line_of(text, match.start())
        if kind == '"' and not (root / name.parent / target).is_file():
            report.add(name, line, f'"{target}": a plugin includes plugin_api.h and its own files')
        if kind == "<" and (root / "core" / target).is_file():
            report.add(name, line, f"<{target}> is a header of core")


def main(root):
    layers = table(root)
    report = tree.Report()
    names = tree.sources(root, "core", "plugins", "include")
    for name in names:
        text = tree.read(root / name)
        code = tree.without_comments(text, strings=False)
        if name.parts[0] == "core":
            check_core(root, name, code, layers, report)
        elif name.parts[0] == "plugins":
            check_plugin(root, name, code, report)
        code = tree.without_comments(text)
        if name.parts[0] == "core" and name.stem != "json_text":
            for match in JSON_CALLS.finditer(code):
                report.add(name, line_of(code, match.start()),
                           f"{match[1]}: json_text_parse or json_text_dump")
        if name.parts[:2] == ("core", "os"):
            continue
        for match in PROCESS_CALLS.finditer(code):
            report.add(name, line_of(code, match.start()), f"{match[1]}: only core/os starts processes")
    report.finish(len(names))


main(pathlib.Path(sys.argv[1]).resolve())
