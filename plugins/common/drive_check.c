/* SPDX-License-Identifier: MIT */
/* `orch harness check`: which program, which version, are there credentials. */
#include "../common/drive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct version {
	char text[100];
};

/* The first line that has a digit: some greet first. */
static void on_line(void *user, int stream, const char *line, size_t len, unsigned int line_flags)
{
	struct version *v = user;
	(void)len;
	(void)line_flags;
	if (stream == ORCH_STREAM_STDOUT && !v->text[0] && strpbrk(line, "0123456789"))
		(void)snprintf(v->text, sizeof(v->text), "%s", line);
}

static int ask_version(const struct orch_host *host, const struct dialect *dialect,
	const char *program, struct version *ret)
{
	const char *argv[] = {program, "--version", NULL};
	struct words env = {0};
	place_scrub(&env, dialect->own_prefixes);
	struct orch_process_spec spec = ORCH_PROCESS_SPEC_INIT;
	spec.argv = argv;
	spec.env = words_list(&env);
	spec.on_line = on_line;
	spec.user = ret;
	struct orch_process *process = NULL;
	struct orch_exit ended = ORCH_EXIT_INIT;
	int r = words_failed(&env) ? -ENOMEM : host->process_start(host, &spec, &process);
	words_deinit(&env);
	if (r < 0)
		return host->fail(host, r, "cannot start %s: %s", program, strerror(-r));
	/* The check as a whole has a deadline. */
	r = host->process_wait(host, process, -1, &ended);
	host->process_free(host, process);
	if (r < 0)
		return host->fail(host, r, "%s --version did not end", program);
	if (ended.exit_code != 0 || !ret->text[0])
		return host->fail(host, -EIO, "%s --version failed (exit status %d)", program,
			ended.exit_code);
	return 0;
}

/* Names what was found, never what is in it. */
void drive_find_credentials(
	const struct orch_host *host, const struct dialect *dialect, char *out, size_t size)
{
	for (const char *const *key = dialect->keys; *key; key++) {
		const char *value = getenv(*key);
		if (value && value[0]) {
			(void)snprintf(out, size, "%s is set", *key);
			return;
		}
	}
	const char *own = host->option(host, "home"), *user = getenv("HOME");
	bool set = own && own[0];
	bool below_user = set && strncmp(own, "~/", 2) == 0;
	if (set && strchr(own, '{')) {
		(void)snprintf(out, size, "no key in the environment; each home is its own");
		return;
	}
	for (const char *const *file = dialect->key_files; *file && (set || user); file++) {
		char path[4096];
		(void)snprintf(path, sizeof(path), "%s%s%s/%s", set && !below_user ? "" : user,
			below_user ? "/" : "", set ? own + (below_user ? 2 : 0) : "", *file);
		if (access(path, R_OK) == 0) {
			(void)snprintf(out, size, "in %.250s", path);
			return;
		}
	}
	(void)snprintf(out, size, "none found (name the key in pass_env or env_file, or log in)");
}

int drive_check(
	const struct orch_host *host, const struct dialect *dialect, struct orch_report *report)
{
	struct words argv = {0};
	int r = drive_command(host, dialect, &argv);
	if (r == 0 && words_failed(&argv))
		r = -ENOMEM;
	if (r < 0) {
		words_deinit(&argv);
		return r;
	}
	const char *program = argv.list[0];
	struct version version = {.text = ""};
	char credentials[300];
	r = ask_version(host, dialect, program, &version);
	drive_find_credentials(host, dialect, credentials, sizeof(credentials));
	if (r == 0) {
		(void)snprintf(report->version, sizeof(report->version), "%s", version.text);
		(void)snprintf(report->text, sizeof(report->text), "%.180s; credentials: %s",
			program, credentials);
	}
	words_deinit(&argv);
	return r;
}
