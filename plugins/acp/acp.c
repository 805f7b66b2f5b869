/* SPDX-License-Identifier: MIT */
#include "acp.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const gemini_env[] = {
	"GEMINI_CLI_NO_RELAUNCH=true", "GEMINI_CLI_TRUST_WORKSPACE=true", NULL};
static const char *const opencode_env[] = {"OPENCODE_DISABLE_AUTOUPDATE=1", NULL};
static const char *const qwen_env[] = {"QWEN_CODE_NO_RELAUNCH=true", NULL};
static const char *const no_env[] = {NULL};
static const char *const opencode_natives[] = {
	"opencode-linux-%/bin/opencode", "node_modules/opencode-linux-%/bin/opencode", NULL};

/*
 * Codex begins in a mode where a second model grants permission; full access does without, and
 * read-only asks us.
 */
static const struct acp_preset presets[] = {
	{"claude", "claude-agent-acp", NULL, no_env, no_env, NULL, NULL},
	{"codex", "codex-acp", NULL, no_env, no_env, "agent-full-access", "read-only"},
	{"gemini", "gemini", "--acp", gemini_env, no_env, NULL, NULL},
	{"opencode", "opencode", "acp", opencode_env, opencode_natives, NULL, NULL},
	{"qwen", "qwen", "--acp", qwen_env, no_env, NULL, NULL},
};

const struct acp_preset *acp_preset(const struct orch_host *host)
{
	const char *name = host->option(host, "agent");
	for (size_t i = 0; name && i < sizeof(presets) / sizeof(presets[0]); i++)
		if (strcmp(presets[i].name, name) == 0)
			return &presets[i];
	return NULL;
}

bool acp_denies(const struct orch_host *host)
{
	const char *policy = host->option(host, "permissions");
	return policy && strcmp(policy, "deny") == 0;
}

/* The option `command`, whole; else that of the preset, by the program that was named. */
int acp_command(const struct orch_host *host, struct words *argv)
{
	const struct acp_preset *preset = acp_preset(host);
	const char *line = host->option(host, "command"), *name = host->option(host, "program");
	if (!line && host->option(host, "agent") && !preset)
		return host->fail(host, -EINVAL,
			"agent = %s: expected claude, codex, gemini, opencode or qwen",
			host->option(host, "agent"));
	if (!line && !preset)
		return host->fail(host, -EINVAL,
			"which agent? Set `command`, such as `goose acp`, or `agent`");
	struct words words = {0};
	words_add_line(&words, line);
	if (!line)
		words_add(&words, name ? name : preset->program);
	name = words.count > 0 ? words.list[0] : "";
	char *program = place_program(name);
	if (program && !line)
		program = place_native(program, preset->natives);
	int r = program ? 0 : host->fail(host, -ENOENT, "there is no program '%s'", name);
	if (program)
		words_add(argv, program);
	for (size_t i = 1; i < words.count; i++)
		words_add(argv, words.list[i]);
	if (!line)
		words_add_line(argv, preset->args);
	argv->failed |= words.failed;
	free(program);
	words_deinit(&words);
	return r;
}

static char *first_line(void)
{
	json_t *message = acp_initialize();
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	char *line = NULL;
	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	json_decref(message);
	return line;
}

static int acp_prepare(struct orch_agent *a)
{
	const struct acp_preset *preset = acp_preset(a->host);
	for (const char *const *entry = preset ? preset->env : no_env; *entry; entry++)
		words_add(&a->env, *entry);
	/* codex-acp asks its model what we might say next, where the extension is (acp_initialize).
	 */
	words_add(&a->env, "CODEX_ACP_PROMPT_SUGGESTIONS=false");
	drive_add_args(a);
	a->flags = ORCH_PROCESS_STDIN_OPEN;
	a->first_input = first_line();
	return a->first_input ? 0 : -ENOMEM;
}

/* Whose agent it is, is not known: its variables stay, whoever's they are. */
static const char *const prefixes[] = {"", NULL};
static const char *const keys[] = {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "CODEX_API_KEY",
	"GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENROUTER_API_KEY", NULL};

static const struct dialect dialect = {
	.title = "The agent",
	.natives = no_env,
	.own_prefixes = prefixes,
	.keys = keys,
	.key_files = no_env,
	.stop_signal = SIGTERM,
	.word_is_final = true,
	.own_size = sizeof(struct acp),
	.command = acp_command,
	.prepare = acp_prepare,
	.event = acp_event,
	.cut = acp_cut,
	.look = acp_look,
	.ask = acp_ask,
	.forget = acp_forget,
	.send = acp_send,
};

static int acp_spawn(
	const struct orch_host *host, const struct orch_task *task, struct orch_agent **ret)
{
	return drive_spawn(host, task, &dialect, ret);
}

/* ---- check: it introduces itself ---- */

struct introduction {
	const struct orch_host *host;
	struct orch_process *process;
	struct orch_report *report;
	bool heard;
};

static void on_line(void *user, int stream, const char *line, size_t len, unsigned int line_flags)
{
	struct introduction *in = user;
	json_t *message =
		stream == ORCH_STREAM_STDOUT && !line_flags ? line_parse(line, len) : NULL;
	if (message && json_is_integer(line_get(message, "id")) && line_get(message, "result")) {
		const char *name = line_text(message, "result.agentInfo.name");
		const char *version = line_text(message, "result.agentInfo.version");
		in->heard = true;
		(void)snprintf(in->report->version, sizeof(in->report->version), "%.60s%s%.60s",
			name ? name : "", name && version ? " " : "", version ? version : "");
		(void)in->host->process_kill(in->host, in->process, SIGTERM, ORCH_KILL_GROUP);
		(void)in->host->process_close_stdin(in->host, in->process);
	}
	json_decref(message);
}

static int introduce(
	const struct orch_host *host, const struct words *argv, struct introduction *in)
{
	const struct acp_preset *preset = acp_preset(host);
	char *first = first_line();
	struct orch_process_spec spec = ORCH_PROCESS_SPEC_INIT;
	spec.flags = ORCH_PROCESS_STDIN_OPEN;
	spec.argv = words_list(argv);
	spec.env = preset ? preset->env : NULL;
	spec.stdin_data = first;
	spec.stdin_len = first ? strlen(first) : 0;
	spec.on_line = on_line;
	spec.user = in;
	int r = first ? host->process_start(host, &spec, &in->process) : -ENOMEM;
	free(first);
	if (r < 0)
		return host->fail(host, r, "cannot start %s: %s", argv->list[0], strerror(-r));
	r = host->process_wait(host, in->process, -1, NULL); /* the check has a deadline */
	host->process_free(host, in->process);
	if (in->heard)
		return 0; /* whoever does not end by a signal is ended with the check */
	return host->fail(host, r < 0 ? r : -EPROTO, "%s did not answer initialize, or not by ACP",
		argv->list[0]);
}

static int acp_check(const struct orch_host *host, struct orch_report *report)
{
	struct words argv = {0};
	struct introduction in = {.host = host, .report = report};
	char credentials[300];
	int r = acp_command(host, &argv);
	if (r == 0)
		words_add_line(&argv, host->option(host, "args"));
	if (r == 0)
		r = argv.failed ? -ENOMEM : introduce(host, &argv, &in);
	drive_find_credentials(host, &dialect, credentials, sizeof(credentials));
	if (r == 0)
		(void)snprintf(report->text, sizeof(report->text), "%.180s; credentials: %s",
			argv.list[0], credentials);
	words_deinit(&argv);
	return r;
}

static const struct orch_option options[] = {
	ORCH_OPTION("command", ORCH_OPTION_STRING, NULL, "the agent's command line: goose acp"),
	ORCH_OPTION("agent", ORCH_OPTION_STRING, NULL,
		"instead of a command: claude, codex, gemini, opencode or qwen"),
	DRIVE_OPTIONS(NULL),
	ORCH_OPTION("permissions", ORCH_OPTION_STRING, "allow",
		"the answer when it asks for permission: allow, or deny"),
	ORCH_OPTION("mode", ORCH_OPTION_STRING, NULL, "the session mode to set"),
	ORCH_OPTION("auth_method", ORCH_OPTION_STRING, NULL,
		"the way to authenticate when it asks for it; one by an API key unless set"),
	ORCH_OPTION(
		"start_timeout", ORCH_OPTION_DURATION, "60s", "for its answers up to the prompt"),
	ORCH_OPTIONS_END,
};

ORCH_HARNESS_DEFINE(.name = "acp", .version = "1.0",
	.description = "any agent that speaks the Agent Client Protocol", .options = options,
	.spawn = acp_spawn, .kill = drive_kill, .wait = drive_wait, .send = drive_send,
	.check = acp_check, .release = drive_release);
