# SPDX-License-Identifier: MIT
"""How each agent is set up against the mock: a section of orch.ini and an environment.

The environment is made from nothing; the key is a fake, and goes by env_file.
"""

import json
import os
import pathlib

import install

KEY = "sk-fake-key-of-the-tests-77124"
ACP = {"claude-acp": "claude-agent-acp", "codex-acp": "codex-acp", "gemini-acp": "gemini",
       "opencode-acp": "opencode", "qwen-acp": "qwen"}
CI = ["claude", "codex", "opencode", "gemini", "gemini-acp"]
ALL = [*CI, "opencode-acp", "claude-acp", "codex-acp", "qwen-acp"]


def package(agent):
    return ACP.get(agent, agent)


def version(agent):
    return install.AGENTS[package(agent)]["version"]


def problem(agent):
    """Why it is not there, or None."""
    name = package(agent)
    file = install.problem_file(name)
    if file.exists():
        return file.read_text().strip()
    return None if install.program(name).exists() else "not installed (./bootstrap test-agents does)"


def _opencode_config(url):
    return json.dumps({
        "model": "mock/mock-model", "small_model": "mock/mock-model", "autoupdate": False,
        "share": "disabled", "provider": {"mock": {
            "npm": "@ai-sdk/openai-compatible", "name": "Mock",
            "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
            "models": {"mock-model": {"name": "Mock", "tool_call": True,
                                      "limit": {"context": 100000, "output": 8000}}}}}})


CODEX_PROVIDER = ("model_providers.mock={{name='mock',base_url='{url}/v1',env_key='MOCK_API_KEY',"
                  "wire_api='responses'{more}}}")


def _sections(url, patient):
    """Of orch.ini, by agent; without the program. `patient`: with the agent's own retries."""
    few = "" if patient else ",request_max_retries=0,stream_max_retries=0"
    provider = CODEX_PROVIDER.format(url=url, more=few)
    return {
        "claude": "" if patient else "retries = 1\n",
        "codex": f"model = gpt-5.5\nargs = -c model_provider=mock -c \"{provider}\"\n",
        "opencode": "",
        "gemini": "model = gemini-2.5-flash\n",
        "claude-acp": "plugin = acp\nagent = claude\n",
        "codex-acp": "plugin = acp\nagent = codex\n",
        "gemini-acp": "plugin = acp\nagent = gemini\nargs = -m gemini-2.5-flash\n",
        "opencode-acp": "plugin = acp\nagent = opencode\n",
        "qwen-acp": "plugin = acp\nagent = qwen\nargs = --auth-type openai -m mock-model\n",
    }


def _keys(url, patient):
    """NAME=VALUE lines of env_file, by agent."""
    claude = {"ANTHROPIC_API_KEY": KEY}
    if not patient:
        claude["CLAUDE_CODE_MAX_RETRIES"] = "1"
    gemini = {"GEMINI_API_KEY": KEY}
    return {
        "claude": claude, "claude-acp": claude, "gemini": gemini, "gemini-acp": gemini,
        "codex": {"MOCK_API_KEY": KEY}, "codex-acp": {"MOCK_API_KEY": KEY},
        "opencode": {"OPENCODE_CONFIG_CONTENT": _opencode_config(url)},
        "opencode-acp": {"OPENCODE_CONFIG_CONTENT": _opencode_config(url)},
        "qwen-acp": {"OPENAI_API_KEY": KEY},
    }


def set_up(repo, mock_url, agents, patient=False, extra=""):
    """Writes orch.ini and what the agents read in HOME; repo.env becomes that of `env -i`."""
    home = pathlib.Path(repo.home)
    env = {key: value for key, value in repo.env.items()
           if key.startswith(("ORCH_", "GIT_", "XDG_")) or key in ("HOME", "LC_ALL", "TZ", "TERM")}
    node = os.path.dirname(install.shutil.which("node") or "/usr/bin/node")
    env.update({
        "PATH": f"/usr/bin:/bin:{node}", "ANTHROPIC_BASE_URL": mock_url,
        "GOOGLE_GEMINI_BASE_URL": mock_url, "OPENAI_BASE_URL": f"{mock_url}/v1",
        "OPENAI_MODEL": "mock-model", "OPENCODE_DISABLE_MODELS_FETCH": "1",
    })
    # HOME alone says where the agents keep theirs.
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME",
                 "XDG_RUNTIME_DIR"):
        env.pop(name, None)
    repo.env.clear()
    repo.env.update(env)
    text = "[orch]\nmax_agents = 8\n\n"
    sections, keys = _sections(mock_url, patient), _keys(mock_url, patient)
    for agent in agents:
        file = home / f"{agent}.env"
        file.write_text("".join(f"{key}={value}\n" for key, value in keys[agent].items()))
        text += (f"[harness:{agent}]\n{sections[agent]}program = "
                 f"{install.program(package(agent))}\nenv_file = {file}\n{extra}\n")
    repo.write("orch.ini", text)
    (home / ".gemini").mkdir(exist_ok=True)
    (home / ".gemini/settings.json").write_text(json.dumps({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        # Ten, with minutes between them, unless told.
        "general": {"maxAttempts": 2}}))
    (home / ".qwen").mkdir(exist_ok=True)
    # Ten, with a minute between them, unless told.
    (home / ".qwen/settings.json").write_text(json.dumps(
        {"model": {"generationConfig": {"maxRetries": 0}}}))
    (home / ".codex").mkdir(exist_ok=True)
    (home / ".codex/config.toml").write_text(
        "model = \"gpt-5.5\"\nmodel_provider = \"mock\"\n[model_providers.mock]\nname = \"mock\"\n"
        f"base_url = \"{mock_url}/v1\"\nenv_key = \"MOCK_API_KEY\"\nwire_api = \"responses\"\n"
        "request_max_retries = 0\nstream_max_retries = 0\n")
