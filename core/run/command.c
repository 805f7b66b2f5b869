/* SPDX-License-Identifier: MIT */
#include "run/state.h"

#include "base/log.h"
#include "os/file.h"

#include <errno.h>
#include <string.h>

/* What of a command's output goes into the database: the first and the last part. */
#define KEEP_HEAD 16384
#define KEEP_TAIL 49152

struct command {
	struct live *live;
	command_fn done;
};

/* A file's head and tail as valid UTF-8 text. */
static char *read_log(int dirfd, const char *name)
{
	CLEANUP_BUF struct buf raw = BUF_INIT;
	CLEANUP_BUF struct buf cut = BUF_INIT;
	if (file_read(dirfd, name, 64 << 20, &raw, NULL) < 0)
		return strdup("");
	if (raw.len > KEEP_HEAD + KEEP_TAIL) {
		buf_add(&cut, raw.data, KEEP_HEAD);
		buf_addf(&cut, "\n[... %zu bytes cut ...]\n", raw.len - KEEP_HEAD - KEEP_TAIL);
		buf_add(&cut, raw.data + raw.len - KEEP_TAIL, KEEP_TAIL);
	} else {
		buf_add(&cut, buf_cstr(&raw), raw.len);
	}
	CLEANUP_BUF struct buf clean = BUF_INIT;
	/* NUL cannot be in the database's text, and what is no UTF-8 cannot be in JSON. */
	for (size_t i = 0; i < cut.len;) {
		size_t n = 1;
		while (n < 4 && i + n < cut.len && ((unsigned char)cut.data[i + n] & 0xc0) == 0x80)
			n++;
		if (utf8_is_valid(cut.data + i, n))
			buf_add(&clean, cut.data + i, n);
		else if (utf8_is_valid(cut.data + i, 1))
			buf_add(&clean, cut.data + i, n = 1);
		else
			buf_adds(&clean, "\xef\xbf\xbd");
		i += n;
	}
	return buf_steal(&clean);
}

static void command_finish(struct command *c, struct command_result *result)
{
	struct live *l = c->live;
	command_fn done = c->done;
	free(c);
	l->command_unit = NULL;
	result->cancelled = l->cancel;
	done(l, result);
	free(result->out);
	free(result->errout);
}

static void command_over(struct watch *w, struct unit_exit *x)
{
	struct command *c = w->ctx;
	struct command_result result = {.exit = *x};
	result.out = read_log(unit_dirfd(w->unit), UNIT_FILE_STDOUT);
	result.errout = read_log(unit_dirfd(w->unit), UNIT_FILE_STDERR);
	if (x->cause == CAUSE_SPAWN_FAILED || x->cause == CAUSE_LOST) {
		result.failed_to_run = true;
		err_set(&result.err, -EIO, "%s", x->text ? x->text : "its keeper was lost");
	}
	/* What was worth keeping is in the result; a directory that stays is tidied later. */
	struct err err = ERR_INIT;
	if (lifecycle_remove(w->run->lifecycle, unit_id(w->unit), &err) < 0)
		log_debug("%s", err.msg);
	command_finish(c, &result);
}

static int command_spec(struct live *l, enum unit_kind kind, const char *name, const char *command,
	const char *cwd, int64_t timeout_ms, struct unit_spec *s, struct err *e)
{
	const struct config_orch *c = &l->run->config->orch;
	unit_spec_init(s, kind);
	int code = unit_spec_new_id(s, e);
	if (code < 0)
		return code;
	s->plan = str_dup(l->plan->name);
	s->task = str_dup(l->name);
	s->attempt = l->attempt;
	s->name = str_dup(name);
	s->cwd = str_dup(cwd);
	s->command = str_dup(command);
	s->timeout_ms = timeout_ms;
	s->kill_grace_ms = c->kill_grace_ms;
	s->on_crash = ON_CRASH_KILL; /* a gate runs anew after a crash: nobody waits for this one */
	if (unit_containment_parse(config_containment_name(c->containment), &s->containment) < 0)
		return err_exit(e, EXIT_CONFIG, "containment '%s' is not available here",
			config_containment_name(c->containment));
	return s->plan && s->task && s->name && s->cwd && s->command ? 0 : err_nomem(e);
}

void command_run(struct live *l, enum unit_kind kind, const char *name, const char *command,
	const char *cwd, int64_t timeout_ms, command_fn done)
{
	struct command_result result = {.exit = UNIT_EXIT_INIT};
	CLEANUP_UNIT_SPEC struct unit_spec spec = {0};
	struct command *c = calloc(1, sizeof(*c));
	if (!c) {
		/* Without memory for the call, the answer comes without it. */
		result.failed_to_run = true;
		err_nomem(&result.err);
		done(l, &result);
		return;
	}
	c->live = l;
	c->done = done;
	struct watch callbacks = {.over = command_over, .ctx = c};
	int code = l->cancel ? -ECANCELED
			     : command_spec(
				       l, kind, name, command, cwd, timeout_ms, &spec, &result.err);
	if (code == 0)
		code = watch_start(l->run, l, &spec, l->run->unit_env, &callbacks, &l->command_unit,
			&result.err);
	if (code == 0)
		return;
	result.failed_to_run = true;
	command_finish(c, &result);
}

void command_cancel(struct live *l)
{
	watch_kill(l->command_unit, l->hard, "cancelled", l->run->config->orch.kill_grace_ms);
}
