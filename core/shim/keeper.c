/* SPDX-License-Identifier: MIT */
#include "shim/keeper.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "os/file.h"
#include "os/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

#define OOM_SCORE_RAISE  500
#define OOM_SCORE_MAX    1000
#define JOURNAL_RETRY_MS 1000
#define SINGLY_EVERY_MS  50
#define REMOVE_TRIES     20
#define REMOVE_WAIT_MS   50
#define WAIT_MAX_MS      (366 * INT64_C(86400000))

void poll_add(struct keeper *k, int fd, short events, poll_fn fn, void *user)
{
	struct pollfd *p = VEC_PUSH(&k->polls.fds);
	struct poll_entry *entry = p ? VEC_PUSH(&k->polls.entries) : NULL;
	if (!entry) {
		/* Without memory it is asked again in the next turn. */
		k->polls.fds.count = k->polls.entries.count;
		return;
	}
	*p = (struct pollfd){.fd = fd, .events = events};
	*entry = (struct poll_entry){.fn = fn, .user = user};
}

void keeper_set_cause(
	struct keeper *k, enum cause_rule rule, enum unit_cause cause, const char *fmt, ...)
{
	if (k->cause_is_set && rule == CAUSE_IF_FIRST)
		return;
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	k->exit.cause = cause;
	k->cause_is_set = true;
	(void)!str_replace(&k->exit.text, text); /* without memory: no text */
}

bool keeper_is_blocked(const struct keeper *k)
{
	return k->journal.pending.len > 0;
}

static void journal_result(struct keeper *k, int r)
{
	if (r == 0) {
		k->rate_events++;
		ctl_journal_grew(k);
	} else if (r == JOURNAL_BLOCKED) {
		k->deadlines[DL_JOURNAL] = deadline_after(JOURNAL_RETRY_MS);
	} else if (r == JOURNAL_FULL && !k->ending) {
		keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_RUNAWAY,
			"the journal reached its limit of %lld MiB", JOURNAL_MAX_BYTES >> 20);
		ladder_end_unit(k, k->spec.kill_grace_ms);
	}
}

void keeper_event(struct keeper *k, const char *kind, json_t *data)
{
	if (!mask_is_empty(&k->mask) && data) {
		json_t *masked = mask_json(&k->mask, data);
		json_decref(data);
		data = masked;
	}
	int r = journal_append(&k->journal, clock_wall_ms(), kind, data);
	json_decref(data);
	journal_result(k, r);
}

void keeper_log(struct keeper *k, const char *level, const char *fmt, ...)
{
	char text[2048];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	keeper_event(
		k, JOURNAL_KIND_LOG, json_pack("{s:s, s:s+}", "level", level, "text", text, ""));
}

void keeper_note_output(struct keeper *k, size_t bytes)
{
	k->exit.bytes += (int64_t)bytes;
	k->rate_bytes += (int64_t)bytes;
	k->quiet_since = clock_mono_ms();
}

void keeper_note_wait(struct keeper *k, int64_t until)
{
	int64_t wait_ms = until - clock_wall_ms();
	if (wait_ms <= 0 || wait_ms > WAIT_MAX_MS)
		return;
	int64_t now = clock_mono_ms(), end = now + wait_ms;
	k->quiet_since = end;
	ladder_extend(k, end - (k->waits_until > now ? k->waits_until : now));
	if (end > k->waits_until)
		k->waits_until = end;
}

void keeper_spawn_init(const struct keeper *k, struct spawn *ret)
{
	*ret = SPAWN_INIT;
	ret->envp = k->env;
	ret->cwd = k->spec.cwd;
	ret->new_session = true;
	ret->death_signal = SIGKILL; /* with us goes what the containment may not reach */
	ret->cgroup_fd = k->tree.cgroup.fd;
	ret->oom_score_adj = k->child_oom_score;
	ret->origin = &k->origin;
}

/* ---- start ---- */

static int set_env(char ***env, const char *name, const char *value)
{
	size_t len = strlen(name);
	CLEANUP_STR char *entry = str_printf("%s=%s", name, value);
	if (!entry)
		return -ENOMEM;
	for (size_t i = 0; *env && (*env)[i]; i++) {
		if (strncmp((*env)[i], name, len) == 0 && (*env)[i][len] == '=') {
			free((*env)[i]);
			(*env)[i] = TAKE(entry);
			return 0;
		}
	}
	return strv_add(env, entry);
}

static int set_env_path(struct keeper *k, const char *name, const char *file)
{
	CLEANUP_STR char *path = path_join(k->dir_path, file);
	return path ? set_env(&k->env, name, path) : -ENOMEM;
}

static int make_env(struct keeper *k, struct err *e)
{
	k->env = strv_copy(environ);
	int r = k->env ? 0 : -ENOMEM;
	if (r == 0)
		r = set_env(&k->env, "ORCH_UNIT", k->spec.id);
	if (r == 0 && k->spec.tmpdir)
		r = set_env(&k->env, "TMPDIR", k->spec.tmpdir);
	if (r == 0 && k->spec.kind == UNIT_AGENT) {
		char attempt[24];
		snprintf(attempt, sizeof(attempt), "%lld", (long long)k->spec.attempt);
		r = set_env(&k->env, "ORCH_PLAN", k->spec.plan ? k->spec.plan : "");
		if (r == 0)
			r = set_env(&k->env, "ORCH_TASK", k->spec.task ? k->spec.task : "");
		if (r == 0)
			r = set_env(&k->env, "ORCH_ATTEMPT", attempt);
		if (r == 0 && k->spec.prompt_file)
			r = set_env_path(k, "ORCH_PROMPT_FILE", k->spec.prompt_file);
		if (r == 0)
			r = set_env_path(k, "ORCH_SOCKET", UNIT_FILE_SOCKET);
	}
	if (r == 0)
		r = mask_init(&k->mask, k->spec.mask_env, k->env);
	return r < 0 ? err_nomem(e) : 0;
}

static int find_own_path(struct keeper *k, struct err *e)
{
	char link[40];
	char path[4096];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", k->dirfd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return err_errno(e, -errno, "cannot find the unit directory");
	path[n] = '\0';
	k->dir_path = strdup(path);
	return k->dir_path ? 0 : err_nomem(e);
}

static char *raised_oom_score(void)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int64_t score = 0;
	struct err ignored = ERR_INIT;
	if (file_read(AT_FDCWD, "/proc/self/oom_score_adj", 64, &text, &ignored) == 0 &&
		text.len > 0) {
		buf_truncate(&text, strcspn(text.data, "\n"));
		if (parse_int64(text.data, -OOM_SCORE_MAX, OOM_SCORE_MAX, &score) < 0)
			score = 0;
	}
	score += OOM_SCORE_RAISE;
	return str_printf("%d", score > OOM_SCORE_MAX ? OOM_SCORE_MAX : (int)score);
}

static int open_signals(struct keeper *k, struct err *e)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG instead */
	/* Ignored, children would vanish without a status. */
	signal(SIGCHLD, SIG_DFL);
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->signal_fd < 0)
		return err_errno(e, -errno, "cannot make a signalfd");
	return 0;
}

static json_t *identity_of_init(pid_t pid)
{
	struct proc_id id;
	uint64_t pidns;
	if (proc_identify(pid, &id) < 0 || proc_pidns(pid, &pidns) < 0)
		return NULL;
	return json_pack("{s:i, s:I, s:I}", "pid", (int)id.pid, "starttime",
		(json_int_t)id.starttime, "pidns", (json_int_t)pidns);
}

/* Who we are: into the lock file and the journal. Returns an owned object. */
static json_t *identity(const struct keeper *k)
{
	struct proc_id id;
	if (proc_identify(getpid(), &id) < 0)
		return NULL;
	json_t *o = json_pack("{s:i, s:I, s:s, s:s}", "pid", (int)id.pid, "starttime",
		(json_int_t)id.starttime, "boot_id", id.boot_id, "containment",
		tree_containment(&k->tree));
	int r = o ? 0 : -ENOMEM;
	if (r == 0 && k->tree.cgroup.path)
		r = json_object_set_new(o, "cgroup", json_string(k->tree.cgroup.path));
	if (r == 0 && k->tree.pidns.init)
		r = json_object_set_new(o, "init", identity_of_init(k->tree.pidns.init));
	if (r < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static int make_tmpdir(struct keeper *k, struct err *e)
{
	if (!k->spec.tmpdir)
		return 0;
	if (mkdir(k->spec.tmpdir, 0700) < 0)
		return err_errno(
			e, -errno, "cannot make the temporary directory '%s'", k->spec.tmpdir);
	k->has_tmpdir = true;
	return 0;
}

/* Up to the durable journal line `started`, after which a process may run. */
static int set_up(struct keeper *k, int engine_fd, struct err *e)
{
	int r = find_own_path(k, e);
	if (r == 0)
		r = unit_spec_read(k->dirfd, &k->spec, e);
	if (r == 0)
		r = make_env(k, e);
	if (r == 0)
		r = tree_open(&k->tree, k->spec.id, k->spec.containment, e);
	if (r < 0)
		return r;
	k->child_oom_score = raised_oom_score();
	if (!k->child_oom_score)
		return err_nomem(e);
	json_t *who = identity(k);
	CLEANUP_STR char *text = who ? json_text_dump(who, JSON_COMPACT) : NULL;
	r = text ? lock_write_holder(k->lock_fd, text, e) : err_nomem(e);
	if (r == 0)
		r = make_tmpdir(k, e);
	if (r == 0)
		r = ctl_open(k, engine_fd, e);
	if (r == 0)
		r = unit_exit_reserve(k->dirfd, &k->exit_reserve, e);
	if (r == 0)
		r = journal_open(k->dirfd, &k->journal, e);
	if (r < 0) {
		json_decref(who);
		return r;
	}
	keeper_event(k, JOURNAL_KIND_STARTED, who);
	if (keeper_is_blocked(k))
		return err_errno(e, k->journal.error, "cannot write the journal");
	return journal_sync(&k->journal, e);
}

/* Whether the machine or the task is at fault tells the engine the error. */
static void not_started(struct keeper *k, const struct err *e)
{
	keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_SPAWN_FAILED, "%s", e->msg);
	k->exit.error = e->code;
}

static void start_unit(struct keeper *k)
{
	struct err e = ERR_INIT;
	k->exit.started_at = clock_wall_ms();
	k->begun_at = clock_mono_ms();
	k->sort = k->spec.kind == UNIT_AGENT ? &agent_sort : &command_sort;
	if (k->sort->start(k, &k->main_pid, &e) < 0) {
		not_started(k, &e);
		k->over = true;
	} else {
		ladder_begin(k);
	}
	ctl_started(k, k->main_pid);
}

/* ---- loop ---- */

static void reaped(void *user, pid_t pid, int wait_status)
{
	struct keeper *k = user;
	k->sort->reaped(k, pid, wait_status);
}

static void on_signal(struct keeper *k, void *user, short revents)
{
	(void)user;
	(void)revents;
	struct signalfd_siginfo info;
	while (read(k->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			continue;
		keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_KILLED, "the keeper got SIG%s",
			sigabbrev_np((int)info.ssi_signo));
		ladder_end_unit(k, k->spec.kill_grace_ms);
	}
	tree_reap(&k->tree, reaped, k);
}

static int64_t next_deadline(const struct keeper *k)
{
	int64_t at = ladder_next(k);
	if (!k->paused_at) {
		int64_t own = k->sort->next_deadline(k);
		at = own < at ? own : at;
	}
	return at;
}

/* An agent may have set our limit of descriptors below what is open: then poll(2) takes no more
 * than so many of them at once. */
static int poll_singly(struct keeper *k, int timeout_ms)
{
	int ready = 0;
	bool soon = timeout_ms >= 0 && timeout_ms < SINGLY_EVERY_MS;
	(void)poll(NULL, 0, soon ? timeout_ms : SINGLY_EVERY_MS);
	for (size_t i = 0; i < k->polls.fds.count; i++)
		ready += poll(&k->polls.fds.items[i], 1, 0) > 0;
	return ready;
}

static int poll_all(struct keeper *k, int timeout_ms)
{
	int n = poll(k->polls.fds.items, (nfds_t)k->polls.fds.count, timeout_ms);
	return n < 0 && errno == EINVAL ? poll_singly(k, timeout_ms) : n;
}

static void turn(struct keeper *k)
{
	k->polls.fds.count = k->polls.entries.count = 0;
	poll_add(k, k->signal_fd, POLLIN, on_signal, NULL);
	ctl_poll(k);
	size_t own = k->polls.fds.count; /* from here on the unit's, which a pause holds back */
	if (!k->paused_at)
		k->sort->poll(k);
	int n = poll_all(k, deadline_poll_ms(next_deadline(k)));
	/* Handlers add nothing to the set, so the entries stay where they are. */
	for (size_t i = 0; n > 0 && i < k->polls.fds.count && !k->over; i++)
		if (k->polls.fds.items[i].revents && !(k->paused_at && i >= own))
			k->polls.entries.items[i].fn(
				k, k->polls.entries.items[i].user, k->polls.fds.items[i].revents);
	int64_t now = clock_mono_ms();
	if (now >= k->deadlines[DL_JOURNAL]) {
		k->deadlines[DL_JOURNAL] = DEADLINE_NONE;
		journal_result(k, journal_flush(&k->journal));
	}
	ladder_expired(k, now);
	if (!k->paused_at)
		k->sort->expired(k, now);
}

/* ---- end ---- */

static void ignore_reaped(void *user, pid_t pid, int wait_status)
{
	(void)user;
	(void)pid;
	(void)wait_status;
}

static void sweep(struct keeper *k)
{
	struct tree_proof proof;
	if (k->paused_at)
		ladder_resume(k);
	k->exit.duration_ms = k->begun_at ? ladder_age_ms(k) : 0;
	if (!k->sort) {
		tree_sweep(&k->tree, 0, ignore_reaped, k, &proof);
		return;
	}
	tree_sweep(&k->tree, k->main_pid, reaped, k, &proof);
	k->exit.left = proof.left;
	k->exit.killed = proof.killed;
	k->exit.sweep_ms = proof.sweep_ms;
	k->exit.contained = proof.contained;
}

static void describe_end(struct keeper *k)
{
	struct unit_exit *x = &k->exit;
	char **texts[] = {&x->text, &x->outcome_text, &x->last_message};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		mask_string(&k->mask, texts[i]);
	x->ended_at = clock_wall_ms();
	x->events = k->journal.seq;
	(void)!str_replace(&x->containment, tree_containment(&k->tree));
	if (x->signal)
		keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_EXITED, "ended by SIG%s",
			sigabbrev_np(x->signal) ? sigabbrev_np(x->signal) : "?");
	else
		keeper_set_cause(
			k, CAUSE_IF_FIRST, CAUSE_EXITED, "ended with exit status %d", x->exit_code);
}

static int keeper_finish(struct keeper *k)
{
	struct err e = ERR_INIT;
	sweep(k);
	if (k->sort && k->unit)
		k->sort->finish(k);
	int left = k->has_tmpdir ? dir_remove_tree(AT_FDCWD, k->spec.tmpdir, &e) : 0;
	for (int i = 0; i < REMOVE_TRIES && err_is_shortage(left); i++) {
		(void)poll(
			NULL, 0, REMOVE_WAIT_MS); /* the tree is gone, others may give some back */
		left = dir_remove_tree(AT_FDCWD, k->spec.tmpdir, &e);
	}
	if (left < 0)
		keeper_log(k, "warning", "%s", e.msg);
	describe_end(k);
	if (k->journal.fd >= 0) {
		(void)!journal_flush(&k->journal); /* the last try */
		(void)!journal_sync(&k->journal, &e);
	}
	/* Before exit.json is there: what ended has no socket. */
	unlinkat(k->dirfd, UNIT_FILE_SOCKET, 0);
	int r = unit_exit_commit(k->dirfd, TAKE_FD(k->exit_reserve), &k->exit, &e);
	if (r < 0)
		r = unit_exit_commit(k->dirfd, -1, &k->exit, &e);
	if (r == 0 && k->ctl)
		ctl_ended(k);
	return r < 0 ? EXIT_IO : EXIT_OK;
}

static void keeper_init(struct keeper *k, int dirfd, int lock_fd)
{
	*k = (struct keeper){
		.dirfd = dirfd,
		.lock_fd = lock_fd,
		.signal_fd = -1,
		.exit_reserve = -1,
		.journal = {.fd = -1},
		.tree = TREE_INIT,
		.exit = UNIT_EXIT_INIT,
	};
	for (int i = 0; i < DL_COUNT; i++)
		k->deadlines[i] = DEADLINE_NONE;
}

int keeper_main(int dirfd, int lock_fd, int engine_fd)
{
	struct keeper k;
	struct err e = ERR_INIT;
	keeper_init(&k, dirfd, lock_fd);
	spawn_origin_save(&k.origin);
	umask(077);
	int r = open_signals(&k, &e);
	if (r == 0)
		r = set_up(&k, engine_fd, &e);
	if (r < 0) {
		not_started(&k, &e);
		return keeper_finish(&k);
	}
	start_unit(&k);
	while (!k.over)
		turn(&k);
	return keeper_finish(&k);
}
