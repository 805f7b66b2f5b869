/* SPDX-License-Identifier: MIT */
/*
 * The environment of units: the client's, less git's and orch's own variables, the marks that
 * agents leave for their children, and secrets; pass_env and env_file of the harness add back.
 * Values are in memory only.
 */
#include "run/state.h"

#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/random.h>

#define TOKEN_BYTES 16

static bool is_scrubbed(const char *name)
{
	static const char *const patterns[] = {
		"GIT_*",
		"ORCH_*",
		"CLAUDECODE",
		"CLAUDE_CODE_*",
		"CODEX_*",
		"GEMINI_CLI*",
		"*_API_KEY",
		"*_TOKEN",
		"*_SECRET",
		"NOTIFY_SOCKET",
		"LISTEN_FDS",
		"LISTEN_PID",
		"TMPDIR",
	};
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		if (fnmatch(patterns[i], name, 0) == 0)
			return true;
	return false;
}

/* *ret: NULL where the entry is none. 0 or -ENOMEM. */
static int entry_name(const char *entry, char **ret)
{
	const char *eq = strchr(entry, '=');
	*ret = eq ? strndup(entry, (size_t)(eq - entry)) : NULL;
	return eq && !*ret ? -ENOMEM : 0;
}

/* Sets NAME=VALUE, replacing an entry of that name. */
static int environ_set(char ***env, const char *name, const char *value)
{
	CLEANUP_STR char *entry = str_printf("%s=%s", name, value);
	if (!entry)
		return -ENOMEM;
	size_t len = strlen(name);
	for (size_t i = 0; *env && (*env)[i]; i++) {
		if (strncmp((*env)[i], name, len) == 0 && (*env)[i][len] == '=') {
			free((*env)[i]);
			(*env)[i] = TAKE(entry);
			return 0;
		}
	}
	return strv_add(env, entry);
}

/* Agents find `orch` on their PATH: the directory of this very binary goes in front unless it is
 * there. */
static int add_own_path(const struct site *s, char ***env)
{
	const char *path = environment_get(*env, "PATH");
	CLEANUP_STRV char **dirs = strv_split(path ? path : "", ":");
	if (!dirs)
		return -ENOMEM;
	if (strv_contains(dirs, s->bin_dir))
		return 0;
	CLEANUP_STR char *longer = str_printf(
		"%s:%s", s->bin_dir, path && path[0] ? path : "/usr/local/bin:/usr/bin:/bin");
	return longer ? environ_set(env, "PATH", longer) : -ENOMEM;
}

int environ_base(const struct site *s, char ***ret, struct err *e)
{
	CLEANUP_STRV char **env = calloc(2, sizeof(char *));
	if (!env)
		return err_nomem(e);
	for (size_t i = 0; s->environment[i]; i++) {
		CLEANUP_STR char *name = NULL;
		if (entry_name(s->environment[i], &name) < 0)
			return err_nomem(e);
		if (!name || is_scrubbed(name))
			continue;
		if (strv_add(&env, s->environment[i]) < 0)
			return err_nomem(e);
	}
	if (add_own_path(s, &env) < 0)
		return err_nomem(e);
	*ret = TAKE(env);
	return 0;
}

static int pass_through(const struct site *s, char *const *patterns, char ***env)
{
	char **all = s->environment;
	for (size_t i = 0; all[i]; i++) {
		CLEANUP_STR char *name = NULL;
		if (entry_name(all[i], &name) < 0)
			return -ENOMEM;
		for (size_t k = 0; name && patterns && patterns[k]; k++)
			if (fnmatch(patterns[k], name, 0) == 0 &&
				environ_set(env, name, all[i] + strlen(name) + 1) < 0)
				return -ENOMEM;
	}
	return 0;
}

/* NAME=VALUE lines; `export`, blank lines and # comments as in a shell's file; one pair of quotes
 * goes. */
static int read_env_file(const char *path, char ***env, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int code = file_read(AT_FDCWD, path, 1 << 20, &text, e);
	if (code < 0)
		return err_prefix(e, "env_file");
	CLEANUP_STRV char **lines = strv_split(buf_cstr(&text), "\n");
	if (!lines)
		return err_nomem(e);
	for (size_t i = 0; lines[i]; i++) {
		char *line = lines[i];
		if (line[0] == '#')
			continue;
		if (str_starts(line, "export "))
			line += strlen("export ");
		char *eq = strchr(line, '=');
		if (!eq)
			return err_exit(e, EXIT_CONFIG,
				"env_file '%s': expected NAME=VALUE in each line", path);
		*eq = '\0';
		char *value = eq + 1;
		size_t len = strlen(value);
		if (len >= 2 && (value[0] == '"' || value[0] == '\'') &&
			value[len - 1] == value[0]) {
			value[len - 1] = '\0';
			value++;
		}
		if (environ_set(env, line, value) < 0)
			return err_nomem(e);
	}
	return 0;
}

/* By it the keeper knows its own agent. Random, in nobody's file, good for this one unit. */
static int add_token(char ***env, struct err *e)
{
	uint8_t bits[TOKEN_BYTES];
	char token[2 * TOKEN_BYTES + 1];
	if (getrandom(bits, sizeof(bits), 0) != (ssize_t)sizeof(bits))
		return err_errno(e, -errno, "cannot get random bytes");
	hex_encode(bits, sizeof(bits), token);
	return environ_set(env, "ORCH_AGENT_TOKEN", token) < 0 ? err_nomem(e) : 0;
}

/* What [harness:NAME] adds back. */
static int add_harness(const struct site *s, const char *harness, char ***env, struct err *e)
{
	const struct config_harness *h = harness ? config_harness_find(s->config, harness) : NULL;
	if (h && pass_through(s, h->pass_env, env) < 0)
		return err_nomem(e);
	if (!h || !h->env_file)
		return 0;
	CLEANUP_STR char *path = path_join(s->root, h->env_file);
	return path ? read_env_file(path, env, e) : err_nomem(e);
}

int environ_of_harness(const struct site *s, const char *harness, char ***ret, struct err *e)
{
	CLEANUP_STRV char **env = NULL;
	int code = environ_base(s, &env, e);
	if (code == 0)
		code = add_harness(s, harness, &env, e);
	if (code == 0)
		*ret = TAKE(env);
	return code;
}

int environ_for_harness(struct run *r, const char *harness, char ***ret, struct err *e)
{
	CLEANUP_STRV char **env = strv_copy(r->unit_env);
	int code = env ? add_harness(r->site, harness, &env, e) : err_nomem(e);
	if (code == 0)
		code = add_token(&env, e);
	if (code < 0)
		return code;
	*ret = TAKE(env);
	return 0;
}
