# SPDX-License-Identifier: MIT
"""Whatever an agent leaves in its worktree is committed, or the attempt says what is not."""

import pytest

COMMIT = "git -c user.name=x -c user.email=x@x commit -qm x"
ONCE = "retry_max = 0\n"


def files(repo, rev="orch/demo/integration"):
    return repo.git("ls-tree", "-r", "--name-only", rev).splitlines()


def test_files_of_a_repository_that_is_none_any_more(repo):
    """Its agent added a repository of its own as a gitlink, then removed the .git."""
    repo.write("agent.sh", f"""set -e
mkdir sub; cd sub; git init -q .; echo precious > f; git add -A; {COMMIT}; cd ..
git add -A; rm -rf sub/.git; echo more > sub/g; echo other > top
""")
    repo.dispatch(repo.plan(f"[task:a]\ncommand = sh {repo.path}/agent.sh\n"))
    assert files(repo) == ["README", "sub/f", "sub/g", "top"]


def test_a_gitlink_that_leads_nowhere(repo):
    repo.write("agent.sh", f"""set -e
mkdir sub; cd sub; git init -q .; echo precious > f; git add -A; {COMMIT}; cd ..
git add -A; rm -rf sub; mkdir sub
""")
    repo.dispatch(repo.plan(f"[task:a]\ncommand = sh {repo.path}/agent.sh\n" + ONCE), status=1)
    reason = repo.task("a")["reason"]
    assert reason.startswith("uncommittable: ") and "'sub'" in reason


@pytest.fixture
def with_submodule(repo):
    repo.sh("git init -q ../lib; cd ../lib; echo one > f; git add f; git commit -qm one")
    repo.sh("git -c protocol.file.allow=always submodule --quiet add ../lib sub; git commit -qm sub")
    return repo


def test_a_submodule_made_an_ordinary_directory(with_submodule):
    with_submodule.dispatch(with_submodule.plan(
        "[task:a]\ncommand = rm -rf sub/.git; echo new > sub/new\n"))
    assert files(with_submodule) == [".gitmodules", "README", "sub/f", "sub/new"]


def test_a_submodule_that_was_emptied_stays(with_submodule):
    """So does one in which only ignored files are."""
    with_submodule.write(".gitignore", "*.o\n")
    with_submodule.sh("git add .gitignore; git commit -qm ignore")
    with_submodule.dispatch(with_submodule.plan(
        "[task:a]\ncommand = rm -rf sub; mkdir sub; touch a\n"
        "[task:b]\ncommand = rm -rf sub; mkdir sub; touch sub/x.o b\n"))
    assert "160000 commit" in with_submodule.git("ls-tree", "orch/demo/integration", "sub")


def test_a_submodule_commit_that_is_gone(with_submodule):
    with_submodule.dispatch(with_submodule.plan(
        "[task:a]\ncommand = cd sub; echo two > f; "
        f"{COMMIT} -a; cd ..; git add sub; rm -rf sub; mkdir sub\n" + ONCE), status=1)
    reason = with_submodule.task("a")["reason"]
    assert reason.startswith("uncommittable: ") and "'sub'" in reason


def test_a_name_that_git_passes_over(repo):
    repo.dispatch(repo.plan("[task:a]\ncommand = echo x > 'git~1'; echo y > y\n" + ONCE), status=1)
    reason = repo.task("a")["reason"]
    assert reason.startswith("uncommittable: ") and "'git~1'" in reason


def test_a_path_that_is_too_long(repo):
    """git's warning about it is cut, too."""
    repo.write("agent.py", "import os\nfor i in range(20):\n"
               "    os.mkdir('d' * 250)\n    os.chdir('d' * 250)\nopen('f', 'w').write('x')\n")
    repo.dispatch(repo.plan(f"[task:a]\ncommand = python3 {repo.path}/agent.py\n" + ONCE), status=1)
    reason = repo.task("a")["reason"]
    assert reason.startswith("uncommittable: not a file that can be read: 'ddd")


def test_a_large_file_with_a_newline_in_its_name(repo):
    """It was there before, and is none of the agent's doing; a new one is."""
    repo.write("large\nfile", "x" * 4096)
    repo.sh("git add .; git commit -qm large")
    env = {"ORCH_MAX_FILE": "2K"}
    repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a\n"), env=env)
    assert repo.task("a")["status"] == "passed"
    repo.dispatch(repo.plan("[task:a]\ncommand = cp large* \"$(printf 'n\\nn')\"; git add .\n" + ONCE,
                            name="two"), env=env, status=1)
    assert "larger than max_file" in repo.task("a", plan="two")["reason"]


@pytest.mark.parametrize("script", [
    "git config filter.f.clean cat; git config filter.f.smudge false; "
    "git config filter.f.required true; echo '*.z filter=f' > .gitattributes; echo q > q.z",
    "echo x > 'git~1'; git -c core.protectNTFS=false add 'git~1'; "
    "git -c core.protectNTFS=false -c user.name=x -c user.email=x@x commit -qm x",
], ids=["filter", "name"])
def test_a_tree_that_cannot_be_checked_out(repo, script):
    """It speaks against the work; the others go on."""
    repo.write("agent.sh", script + "\n")
    result = repo.dispatch(repo.plan(
        "[invariant:ok]\ncommand = true\n"
        f"[task:a]\ncommand = sh {repo.path}/agent.sh\ninvariants = ok\n" + ONCE +
        "[task:b]\ncommand = echo b > b\n"), status=1)
    assert repo.task("a")["status"] == "escalated", result
    assert repo.task("a")["reason"].startswith("merge_red: the merged tree cannot be checked out: ")
    assert repo.task("b")["status"] == "passed"


@pytest.mark.parametrize("script, kept", [
    ("rm -r d; ln -s nowhere d", []),
    ("rm -r d; ln -s README d", []),
    ("rm -r d; ln -s $HOME/large d", []),
    ("mv d e; ln -s e d; echo y >> d/f", ["e/f", "e/g"]),
    ("rm -r d; ln -s nowhere d; git add -A", []),
], ids=["dangling", "file", "large", "moved", "added"])
def test_a_link_in_place_of_a_directory(repo, script, kept):
    """What was in it is gone, whatever is behind the link."""
    repo.sh("mkdir d $HOME/large; echo x > d/f; echo y > d/g; git add .; git commit -qm d;"
            "truncate -s 8K $HOME/large/f")
    repo.dispatch(repo.plan(f"[task:a]\ncommand = {script}\n"), env={"ORCH_MAX_FILE": "2K"})
    assert files(repo) == ["README", "d", *kept]
    assert "120000" in repo.git("ls-tree", "orch/demo/integration", "d")
    repo.orch("merge", "demo")
    assert (repo.path / "d").is_symlink() and repo.git("status", "--porcelain") == ""


def test_an_ignored_link_in_place_of_a_directory(repo):
    repo.sh("mkdir d; echo x > d/f; git add .; echo /d > .gitignore; git add .; git commit -qm d")
    repo.dispatch(repo.plan("[task:a]\ncommand = rm -r d; ln -s nowhere d\n"))
    assert files(repo) == [".gitignore", "README"]


def test_a_link_in_place_of_the_directory_of_a_submodule(repo):
    repo.sh("git init -q ../lib; cd ../lib; echo one > f; git add f; git commit -qm one")
    repo.sh("git -c protocol.file.allow=always submodule --quiet add ../lib d/sub;"
            "git commit -qm sub")
    repo.dispatch(repo.plan("[task:a]\ncommand = rm -r d; ln -s nowhere d\n"))
    assert files(repo) == [".gitmodules", "README", "d"]


def test_a_name_that_changes_in_case_only(repo):
    """In a repository that came from where case does not matter."""
    repo.sh("git config core.ignoreCase true; mkdir d; echo x > name; echo x > d/f;"
            "git add .; git commit -qm names")
    repo.dispatch(repo.plan("[task:a]\ncommand = mv name Name; mv d D\n"))
    assert files(repo) == ["D/f", "Name", "README"]
    repo.orch("merge", "demo")
    assert sorted(p.name for p in repo.path.iterdir() if p.name[0] != ".") == ["D", "Name", "README"]
    assert repo.git("status", "--porcelain") == ""


def test_a_link_in_place_of_the_directory_of_a_submodule_leads_to_no_removal(repo):
    """An invariant left it in the worktree of merges, which is cleared for the next merge."""
    repo.sh("git init -q ../lib; cd ../lib; echo one > f; git add f; git commit -qm one")
    repo.sh("git -c protocol.file.allow=always submodule --quiet add ../lib d/sub;"
            "git commit -qm sub; mkdir -p $HOME/elsewhere/sub; touch $HOME/elsewhere/sub/precious")
    repo.dispatch(repo.plan(
        "[invariant:link]\ncommand = rm -r d; ln -s $HOME/elsewhere d\n" + "".join(
            f"[task:{t}]\ncommand = touch {t}\ninvariants = link\n" for t in "abc"), max_agents=1))
    assert (repo.home / "elsewhere" / "sub" / "precious").exists()
    assert files(repo) == [".gitmodules", "README", "a", "b", "c", "d/sub"]
