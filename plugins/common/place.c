/* SPDX-License-Identifier: MIT */
#include "../common/place.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PARENTS_MAX 6

extern char **environ;

static int is_program(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *place_program(const char *program)
{
	if (!program || !program[0])
		return NULL;
	if (strchr(program, '/'))
		return is_program(program) ? strdup(program) : NULL;
	const char *path = getenv("PATH");
	while (path && *path) {
		size_t len = strcspn(path, ":");
		char *found = NULL;
		if (asprintf(&found, "%.*s/%s", (int)len, len ? path : ".", program) < 0)
			return NULL;
		if (is_program(found))
			return found;
		free(found);
		path += len + (path[len] == ':');
	}
	return NULL;
}

/* `relative` for this machine. -ENAMETOOLONG, -ENOTSUP: a machine that no agent is built for. */
static int for_machine(const char *relative, char *out, size_t size)
{
	struct utsname machine;
	if (uname(&machine) < 0)
		return -errno;
	int is_arm = strcmp(machine.machine, "aarch64") == 0;
	if (!is_arm && strcmp(machine.machine, "x86_64") != 0)
		return -ENOTSUP;
	size_t len = 0;
	for (; *relative && len + 16 < size; relative++) {
		const char *word = *relative == '%'   ? (is_arm ? "arm64" : "x64")
				   : *relative == '$' ? machine.machine
						      : NULL;
		if (!word) {
			out[len++] = *relative;
			continue;
		}
		memcpy(out + len, word, strlen(word));
		len += strlen(word);
	}
	out[len] = '\0';
	return *relative ? -ENAMETOOLONG : 0;
}

/* From the directory of `file` upwards; owned. */
static char *find_upwards(const char *file, const char *relative)
{
	char directory[PATH_MAX];
	(void)snprintf(directory, sizeof(directory), "%s", file);
	for (int i = 0; i < PARENTS_MAX; i++) {
		char *slash = strrchr(directory, '/');
		char *found = NULL;
		if (!slash)
			return NULL;
		*slash = '\0';
		if (asprintf(&found, "%s/%s", directory, relative) < 0)
			return NULL;
		if (is_program(found))
			return found;
		free(found);
	}
	return NULL;
}

char *place_native(char *program, const char *const *relatives)
{
	char file[PATH_MAX], relative[256];
	if (!program || !realpath(program, file))
		return program;
	for (; *relatives; relatives++) {
		char *found = for_machine(*relatives, relative, sizeof(relative)) == 0
				      ? find_upwards(file, relative)
				      : NULL;
		if (found) {
			free(program);
			return found;
		}
	}
	return program;
}

int place_make(const char *path)
{
	char part[PATH_MAX];
	size_t len = strlen(path);
	if (len >= sizeof(part))
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* {plan} and {task} replaced; owned, NULL: no memory. */
static char *fill_in(const char *text, const struct orch_task *task)
{
	char *out = NULL;
	size_t len = 0;
	FILE *stream = open_memstream(&out, &len);
	if (!stream)
		return NULL;
	while (*text) {
		if (strncmp(text, "{plan}", 6) == 0 || strncmp(text, "{task}", 6) == 0) {
			(void)fputs(text[1] == 'p' ? task->plan : task->task, stream);
			text += 6;
		} else {
			(void)fputc(*text++, stream);
		}
	}
	if (fclose(stream) != 0) {
		free(out);
		return NULL;
	}
	return out;
}

int place_directory(
	const struct orch_host *host, const struct orch_task *task, const char *option, char **ret)
{
	const char *value = host->option(host, option), *home = getenv("HOME");
	*ret = NULL;
	if (!value || !value[0])
		return 0;
	char *path = NULL;
	int below_home = strncmp(value, "~/", 2) == 0 && home && home[0] == '/';
	if (!below_home && value[0] != '/')
		return host->fail(host, -EINVAL, "%s = %s: expected an absolute path, or ~/...",
			option, value);
	char *filled = fill_in(below_home ? value + 2 : value, task);
	if (!filled || asprintf(&path, "%s%s%s", below_home ? home : "", below_home ? "/" : "",
			       filled) < 0) {
		free(filled);
		return -ENOMEM;
	}
	free(filled);
	int r = place_make(path);
	if (r < 0) {
		(void)host->fail(
			host, r, "%s = %s: cannot make it: %s", option, path, strerror(-r));
		free(path);
		return r;
	}
	*ret = path;
	return 0;
}

int place_home(
	const struct orch_host *host, const struct orch_task *task, struct words *env, char **ret)
{
	static const char *const elsewhere[] = {"XDG_CONFIG_HOME", "XDG_DATA_HOME",
		"XDG_STATE_HOME", "XDG_CACHE_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME",
		"GEMINI_CLI_HOME"};
	int r = place_directory(host, task, "home", ret);
	if (r < 0 || !*ret)
		return r;
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
		words_add(env, elsewhere[i]);
	words_addf(env, "HOME=%s", *ret);
	return 0;
}

static int begins_with_one_of(const char *name, const char *const *prefixes)
{
	for (; *prefixes; prefixes++)
		if (strncmp(name, *prefixes, strlen(*prefixes)) == 0)
			return 1;
	return 0;
}

static int is_key(const char *name, size_t len)
{
	static const char *const ends[] = {"_API_KEY", "_TOKEN", "_SECRET"};
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t n = strlen(ends[i]);
		if (len > n && strncmp(name + len - n, ends[i], n) == 0)
			return 1;
	}
	return 0;
}

void place_scrub(struct words *env, const char *const *own)
{
	static const char *const vendors[] = {"ANTHROPIC_", "CLAUDE", "OPENAI_", "CODEX_",
		"GEMINI_", "GOOGLE_GEMINI_", "OPENCODE", "QWEN_", NULL};
	for (size_t i = 0; environ[i]; i++) {
		size_t len = strcspn(environ[i], "=");
		if (begins_with_one_of(environ[i], vendors) &&
			!begins_with_one_of(environ[i], own) && !is_key(environ[i], len))
			words_addf(env, "%.*s", (int)len, environ[i]);
	}
}
