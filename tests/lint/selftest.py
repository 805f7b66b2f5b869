# SPDX-License-Identifier: MIT
"""selftest.py CC: each check finds what it is there for, in small trees that break one rule each."""

import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
cc = sys.argv[1]
LICENCE = "/* SPDX-License-Identifier: MIT */\n"
TABLE = "orch_layer(base)\norch_layer(os USES base)\norch_layer(store USES os base LIBS sqlite3)\n"
GOOD = {
    "core/CMakeLists.txt": "# SPDX-License-Identifier: MIT\n" + TABLE,
    "core/base/a.h": LICENCE + "int a(void);\n",
    "core/os/b.c": LICENCE + '#include "base/a.h"\nint b(void)\n{\n\treturn fork();\n}\n',
    "core/store/c.c": LICENCE + '#include <sqlite3.h>\n#include "os/b.h"\n/* fork(2) */\n',
    "core/os/b.h": LICENCE + "struct b;\n",
    "include/plugin_api.h": LICENCE,
    "plugins/p/p.c": LICENCE + "#include <plugin_api.h>\n",
}
# checker, file, its text, what the report says
CASES = [
    ("layers", "core/base/bad.c", LICENCE + '#include "os/b.h"\n', "core/base may not include core/os"),
    ("layers", "core/base/bad.c", LICENCE + '#include "b.h"\n', "is no header of core"),
    ("layers", "core/new/bad.c", LICENCE, "not in the table"),
    ("layers", "core/os/bad.c", LICENCE + "#include <sqlite3.h>\n", "for core/store only"),
    ("layers", "core/base/bad.c", LICENCE + "# include <dlfcn.h>\n", "for core/plugin only"),
    ("layers", "core/base/bad.c", LICENCE + "#include <ini.h>\n", "for core/config only"),
    ("layers", "core/store/bad.c", LICENCE + "int x = execvp (f, v);\n", "execvp: only core/os"),
    ("layers", "core/store/bad.c", LICENCE + "long x = syscall(SYS_clone3, a);\n", "SYS_clone3: only"),
    ("layers", "core/os/bad.c", LICENCE + "int x = json_loads(s, 0, 0);\n", "json_text_parse"),
    ("layers", "plugins/p/bad.c", LICENCE + '#include "base/a.h"\n', "a plugin includes"),
    ("text", "core/base/bad.c", "int x;\n", "has no line with SPDX"),
    ("text", "tool", "#!/bin/sh\n", "has no line with SPDX"),
    ("text", "core/base/bad.c", LICENCE + "int x;", "without a newline"),
    ("text", "core/base/bad.c", LICENCE + "\t" * 24 + "int x; /* far to the right */\n", "columns"),
    ("text", "NOTES.md", "see [it](docs/nowhere.md)\n", "nowhere"),
    ("text", "NOTES", "TO" "DO: all of it\n", "work that is not done"),
    ("text", "NOTES", "see /ro" "ot/notes/file\n", "a path of one machine"),
    ("text", "NOTES", "from https:/" "/mirror.internal/x\n", "not a known public one: mirror.internal"),
    ("shell", "tool", "#!/bin/sh\n# SPDX-License-Identifier: MIT\nrm $1\n", "SC2086"),
    ("format", "core/base/bad.c", LICENCE + "int  x ;\n", "clang-formatted"),
]
BANNED = [
    "strcpy(b, s)", "strcat(b, s)", "sprintf(b, s)", "strncpy(b, s, 1)", "strtok(b, s)", "atoi(s)",
    "gmtime(&t)", "localtime(&t)", "mktemp(b)", "system(s)", "popen(s, s)", "alloca(1)", "usleep(1)",
    "sleep(1)", "exit(1)",
]


def write(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def tree(root, **more):
    write(root, ".clang-format", (HERE.parents[1] / ".clang-format").read_text())
    for name, text in {**GOOD, "ok": "#!/bin/sh\n# SPDX-License-Identifier: MIT\n", **more}.items():
        write(root, name, text)


def run(checker, root):
    return subprocess.run(
        [sys.executable, HERE / f"{checker}.py", root], capture_output=True, text=True
    )


def check_case(root, checker, name, text, said):
    tree(root, **{name: text})
    result = run(checker, root)
    output = result.stdout + result.stderr
    if result.returncode != 77 and (result.returncode != 1 or said not in output):
        return f"{checker} on {name}: status {result.returncode}, expected 1 and '{said}'\n{output}"
    return None


def check_good(root, checker):
    tree(root)
    result = run(checker, root)
    if result.returncode not in (0, 77):
        return f"{checker} on a good tree: {result.stdout}{result.stderr}"
    return None


def check_banned(call):
    code = f"void f(char *b, const char *s, time_t t);\nvoid f(char *b, const char *s, time_t t)\n{{\n{call};\n}}\n"
    header = HERE.parents[1] / "core/base/banned.h"
    argv = [cc, "-D_GNU_SOURCE", "-w", "-O1", "-include", header, "-x", "c", "-c", "-o", "/dev/null", "-"]
    if subprocess.run(argv, input=code, capture_output=True, text=True).returncode == 0:
        return f"banned.h does not stop {call}"
    if subprocess.run(argv, input=code.replace(call, "b[0] = s[t]"), capture_output=True, text=True).returncode:
        return "banned.h stops what is allowed"
    return None


failures = [check_banned(call) for call in BANNED]
for case in CASES:
    with tempfile.TemporaryDirectory() as directory:
        failures.append(check_case(pathlib.Path(directory), *case))
for checker in {case[0] for case in CASES}:
    with tempfile.TemporaryDirectory() as directory:
        failures.append(check_good(pathlib.Path(directory), checker))
failures = [f for f in failures if f]
print("\n".join(failures) or f"{len(CASES) + len(BANNED)} cases")
sys.exit(1 if failures else 0)
