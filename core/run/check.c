/* SPDX-License-Identifier: MIT */
#include "run/check.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "os/file.h"
#include "run/environ.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>

/* What of a command's output is kept: the first and the last part. */
#define KEEP_HEAD     16384
#define KEEP_TAIL     49152

#define BACKUP_MS     30000 /* behind the keeper's own deadline */
#define LAST_WORDS_MS 5000  /* for a keeper to go, once its unit has ended */
#define LEFTOVER_S    60    /* a directory without a keeper that is older has none to come */

int check_spec(const struct site *site, enum unit_kind kind, const char *name, const char *command,
	const char *cwd, int64_t timeout_ms, struct unit_spec *s, struct err *e)
{
	const struct config_orch *c = &site->config->orch;
	unit_spec_init(s, kind);
	int r = unit_spec_new_id(s, e);
	if (r < 0)
		return r;
	s->name = str_dup(name);
	s->cwd = str_dup(cwd);
	s->command = str_dup(command);
	s->timeout_ms = timeout_ms;
	s->kill_grace_ms = c->kill_grace_ms;
	s->on_crash =
		ON_CRASH_KILL; /* a check runs anew after a crash: nobody waits for this one */
	if (unit_containment_parse(config_containment_name(c->containment), &s->containment) < 0)
		return err_exit(e, EXIT_CONFIG, "containment '%s' is not available here",
			config_containment_name(c->containment));
	return s->name && s->cwd && s->command ? 0 : err_nomem(e);
}

char *check_output(int dirfd, const char *name)
{
	CLEANUP_BUF struct buf raw = BUF_INIT;
	CLEANUP_BUF struct buf cut = BUF_INIT;
	int r = file_read(dirfd, name, 64 << 20, &raw, NULL);
	if (r < 0)
		return err_is_shortage(r) ? NULL : strdup("");
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

void check_result_deinit(struct check_result *r)
{
	unit_exit_deinit(&r->exit);
	free(r->out);
	free(r->errout);
}

bool check_passed(const struct check_result *r, int64_t expect)
{
	return r->exit.cause == CAUSE_EXITED && r->exit.signal == 0 && r->exit.exit_code == expect;
}

/* ---- where ---- */

struct checker {
	const struct site *site;
	struct lifecycle *lifecycle;
	char **environment;
};

void checker_close(struct checker *c)
{
	if (!c)
		return;
	lifecycle_close(c->lifecycle);
	strv_free(c->environment);
	free(c);
}

static bool is_old(struct lifecycle *lc, const char *id)
{
	struct stat st;
	CLEANUP(closep) int fd = -1;
	return lifecycle_unit_dir(lc, id, &fd, NULL) == 0 && fstat(fd, &st) == 0 &&
	       st.st_mtime + LEFTOVER_S < time(NULL);
}

/* What a check that was killed has left; one that is under way elsewhere is busy. */
static void remove_leftovers(struct lifecycle *lc)
{
	CLEANUP_STRV char **ids = NULL;
	struct err why = ERR_INIT;
	if (lifecycle_list(lc, &ids, &why) < 0)
		return;
	for (size_t i = 0; ids[i]; i++)
		if (is_old(lc, ids[i]) && lifecycle_remove(lc, ids[i], &why) < 0)
			log_debug("%s", why.msg);
}

int checker_open(const struct site *site, struct checker **ret, struct err *e)
{
	CLEANUP(checker_closep) struct checker *c = calloc(1, sizeof(*c));
	CLEANUP_STR char *dir = path_join(site->state_dir, "checks");
	if (!c || !dir)
		return err_nomem(e);
	c->site = site;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		int r = err_errno(e, -errno, "cannot make '%s'", dir);
		e->status = EXIT_CANTCREAT;
		return r;
	}
	int r = lifecycle_open(dir, NULL, &site->origin, &c->lifecycle, e);
	if (r == 0)
		r = environ_base(site, &c->environment, e);
	if (r < 0)
		return r;
	remove_leftovers(c->lifecycle);
	*ret = TAKE(c);
	return 0;
}

/* ---- one command ---- */

struct wait {
	struct unit *unit;
	int signal_fd;
	int64_t deadline_ms; /* when the keeper has lost its own */
	int64_t grace_ms;
	unsigned signals;
	bool ended, gone;
};

static int take_signals(struct wait *w, struct err *e)
{
	struct signalfd_siginfo info;
	bool got = false;
	while (read(w->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		got = true;
	if (!got || w->ended)
		return 0;
	int r = unit_kill(w->unit, w->signals++ ? UNIT_KILL_KILL : UNIT_KILL_TERM, "interrupted",
		w->grace_ms, e);
	return r == -EPIPE ? 0 : r; /* it is gone: the poll says so, too */
}

static int take_events(struct wait *w, struct err *e)
{
	struct unit_event ev;
	int r;
	while (!w->gone && (r = unit_read(w->unit, &ev, e)) != 0) {
		if (r < 0)
			return r;
		if (ev.type == UNIT_EVENT_ENDED) {
			w->ended = true;
			w->deadline_ms = deadline_after(LAST_WORDS_MS);
		}
		w->gone = ev.type == UNIT_EVENT_GONE;
	}
	return 0;
}

/* Until the keeper is gone, or keeps neither its deadline nor quiet. */
static int wait_for(struct wait *w, struct err *e)
{
	int r = 0;
	while (r == 0 && !w->gone) {
		struct pollfd fds[] = {
			{.fd = unit_fd(w->unit), .events = POLLIN},
			{.fd = w->signal_fd, .events = POLLIN}, /* -1 is ignored */
		};
		int n = poll(fds, 2, deadline_poll_ms(w->deadline_ms));
		if (n < 0 && errno != EINTR)
			return err_errno(e, -errno, "cannot wait for a unit");
		if (n == 0)
			return w->ended ? 0 : unit_abandon(w->unit, e);
		if (fds[1].revents)
			r = take_signals(w, e);
		if (r == 0 && fds[0].revents)
			r = take_events(w, e);
	}
	return r;
}

static int finish(struct checker *c, struct wait *w, struct check_result *ret, struct err *e)
{
	int r = unit_exit_read(w->unit, &ret->exit, e);
	if (r < 0)
		return r;
	ret->interrupted = w->signals > 0;
	ret->out = check_output(unit_dirfd(w->unit), UNIT_FILE_STDOUT);
	ret->errout = check_output(unit_dirfd(w->unit), UNIT_FILE_STDERR);
	struct err why = ERR_INIT;
	if (lifecycle_remove(c->lifecycle, unit_id(w->unit), &why) < 0)
		log_debug("%s", why.msg);
	if (!ret->out || !ret->errout)
		return err_nomem(e);
	if (ret->exit.cause == CAUSE_SPAWN_FAILED || ret->exit.cause == CAUSE_LOST)
		return err_set(e,
			err_is_machine((int)ret->exit.error) ? (int)ret->exit.error : -ECHILD,
			"the command could not be run: %s",
			ret->exit.text ? ret->exit.text : "its keeper was lost");
	return 0;
}

int checker_run(struct checker *c, enum unit_kind kind, const char *name, const char *command,
	const char *cwd, int64_t timeout_ms, int signal_fd, struct check_result *ret, struct err *e)
{
	CLEANUP_UNIT_SPEC struct unit_spec spec = {0};
	CLEANUP_UNIT struct unit *unit = NULL;
	CLEANUP(check_result_deinit) struct check_result result = CHECK_RESULT_INIT;
	int r = check_spec(c->site, kind, name, command, cwd, timeout_ms, &spec, e);
	if (r == 0)
		r = unit_start(c->lifecycle, &spec, c->environment, &unit, e);
	if (r < 0)
		return r;
	bool limited = timeout_ms > 0 && timeout_ms != DURATION_OFF;
	struct wait w = {
		.unit = unit,
		.signal_fd = signal_fd,
		.grace_ms = spec.kill_grace_ms,
		.deadline_ms = limited ? deadline_after(timeout_ms + spec.kill_grace_ms + BACKUP_MS)
				       : DEADLINE_NONE,
	};
	r = wait_for(&w, e);
	if (r == 0)
		r = finish(c, &w, &result, e);
	if (r < 0)
		return r;
	*ret = result;
	result = CHECK_RESULT_INIT;
	return 0;
}
