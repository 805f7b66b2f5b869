/* SPDX-License-Identifier: MIT */
/* Ends what outlived its keeper, and writes down that it was lost. */
#include "lifecycle/internal.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "os/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SWEEP_MAX_MS  10000
#define LOOK_EVERY_MS 5
#define QUIET_LOOKS   2 /* one may be born while we look where it will not be */

void holder_deinit(struct holder *h)
{
	free(h->cgroup);
	free(h->containment);
	*h = (struct holder){0};
}

/* Takes what *ret has none of. -ENOMEM. */
static int holder_take(struct holder *ret, const json_t *o)
{
	const char *boot_id = json_string_value(json_object_get(o, "boot_id"));
	if (boot_id && strlen(boot_id) <= BOOT_ID_LEN) {
		ret->id.pid = (pid_t)json_integer_value(json_object_get(o, "pid"));
		ret->id.starttime = (uint64_t)json_integer_value(json_object_get(o, "starttime"));
		memcpy(ret->id.boot_id, boot_id, strlen(boot_id));
		const json_t *init = json_object_get(o, "init");
		ret->init = ret->id;
		ret->init.pid = (pid_t)json_integer_value(json_object_get(init, "pid"));
		ret->init.starttime =
			(uint64_t)json_integer_value(json_object_get(init, "starttime"));
		ret->pidns = (uint64_t)json_integer_value(json_object_get(init, "pidns"));
	}
	int r = str_replace(&ret->cgroup, json_string_value(json_object_get(o, "cgroup")));
	if (r == 0)
		r = str_replace(
			&ret->containment, json_string_value(json_object_get(o, "containment")));
	return r;
}

/* The keeper says the same of itself in the first line. */
static int take_from_journal(void *user, const struct journal_line *line)
{
	struct holder *ret = user;
	int r = str_eq(line->kind, JOURNAL_KIND_STARTED) ? holder_take(ret, line->data) : 0;
	return r < 0 ? r : 1;
}

int holder_read(int dirfd, struct holder *ret, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int r = lock_read_holder(dirfd, UNIT_FILE_LOCK, &text, e);
	if (r < 0)
		return r;
	struct holder h = {0};
	json_t *o = NULL;
	/* Whoever wrote nothing that can be read is nobody; but not for want of memory. */
	if (json_text_parse(buf_cstr(&text), text.len, 0, &o, NULL) == -ENOMEM)
		return err_nomem(e);
	r = holder_take(&h, o);
	json_decref(o);
	if (r == 0 && h.id.pid == 0) {
		int64_t offset = 0;
		struct err unknown = ERR_INIT;
		r = journal_read(dirfd, &offset, JOURNAL_LINE_MAX_BYTES, take_from_journal, &h,
			NULL, &unknown);
		r = err_is_machine(r) ? r : 0; /* then nobody is known */
	}
	if (r < 0) {
		holder_deinit(&h);
		return err_errno(e, r, "cannot tell who keeps a unit");
	}
	*ret = h;
	return 0;
}

bool holder_is_alive(const struct holder *h)
{
	return h->id.pid > 0 && proc_is_alive(&h->id);
}

static bool is_of_this_boot(const struct holder *h)
{
	char boot_id[BOOT_ID_LEN + 1];
	proc_boot_id(boot_id);
	return h->id.pid == 0 || !boot_id[0] || str_eq(boot_id, h->id.boot_id);
}

static void look_again_soon(void)
{
	(void)!poll(NULL, 0,
		LOOK_EVERY_MS); /* neither other people's children nor /proc can be polled */
}

/* Reaps the keeper if it happens to be our own child, so that it does not stay as a zombie. */
static void end_keeper(const struct holder *h, int64_t deadline)
{
	if (!holder_is_alive(h))
		return;
	(void)!proc_kill(&h->id, SIGKILL); /* gone meanwhile: as wanted */
	while (holder_is_alive(h) && clock_mono_ms() < deadline)
		look_again_soon();
}

/* True when the leaf is empty and removed, which proves that nothing is left in it. */
static bool sweep_cgroup(const struct holder *h, const char *id, int64_t deadline, int64_t *killed)
{
	char leaf[UNIT_ID_LEN + 8];
	snprintf(leaf, sizeof(leaf), "/orch-%s", id);
	if (!h->cgroup || !str_ends(h->cgroup, leaf))
		return false;
	CLEANUP(cgroup_deinit) struct cgroup c = CGROUP_INIT;
	struct err why = ERR_INIT;
	int r = cgroup_open(h->cgroup, &c, &why);
	if (r < 0)
		return r == -ENOENT;
	struct pids pids = {0};
	if (cgroup_pids(&c, &pids) == 0)
		*killed += (int64_t)pids.count;
	VEC_FREE(&pids);
	while (cgroup_kill(&c) == 0 && cgroup_remove(&c) < 0) {
		if (clock_mono_ms() >= deadline)
			return false;
		look_again_soon();
	}
	return !file_exists(AT_FDCWD, h->cgroup);
}

/*
 * The kernel ends all of a process namespace with its init, which goes with the keeper. Init itself
 * stays until whoever inherited the dead has reaped them, so we look for the living.
 */
static bool sweep_pidns(const struct holder *h, int64_t deadline, int64_t *killed)
{
	if (h->init.pid <= 0)
		return false;
	for (int quiet = 0; quiet < QUIET_LOOKS; look_again_soon()) {
		if (!proc_is_alive(&h->init))
			return true;
		(void)!proc_kill(&h->init, SIGKILL); /* gone meanwhile: as wanted */
		struct pids found = {0};
		int r = proc_find_pidns(h->pidns, &found);
		int64_t others = (int64_t)found.count - 1; /* less init */
		VEC_FREE(&found);
		if (r < 0 || clock_mono_ms() >= deadline)
			return false;
		*killed += quiet == 0 && others > 0 ? others : 0;
		quiet = others > 0 ? 0 : quiet + 1;
	}
	return true;
}

/* A keeper that died before it wrote down its leaf has put nothing into it. */
static void remove_unrecorded_cgroup(const struct holder *h, const char *id)
{
	CLEANUP_STR char *own = NULL;
	struct err why = ERR_INIT;
	if (h->cgroup || cgroup_own_path(&own, &why) < 0)
		return;
	CLEANUP_STR char *leaf = str_printf("%s/orch-%s", own, id);
	if (leaf)
		(void)rmdir(leaf); /* most often there is none */
}

int find_marked(const char *id, struct pids *ret)
{
	char mark[sizeof("ORCH_UNIT=") + UNIT_ID_LEN];
	snprintf(mark, sizeof(mark), "ORCH_UNIT=%s", id);
	return proc_find_environ(mark, ret);
}

/* What carries the unit's mark in its environment. An error: nobody knows what is left. It has time
 * of its own: a keeper that would not end may have used up the rest. */
static int sweep_marked(const char *id, int64_t *killed, struct err *e)
{
	int64_t deadline = deadline_after(SWEEP_MAX_MS);
	int quiet = 0;
	while (quiet < QUIET_LOOKS && clock_mono_ms() < deadline) {
		struct pids found = {0};
		int64_t others = 0;
		int r = find_marked(id, &found);
		vec_foreach(pid, &found) {
			if (*pid == getpid())
				continue;
			others++;
			kill(*pid, SIGKILL);
		}
		VEC_FREE(&found);
		if (r < 0)
			return err_errno(e, r, "cannot look for what unit %s has left", id);
		*killed += quiet == 0 && others > 0 ? others : 0;
		quiet = others > 0 || r > 0 ? 0 : quiet + 1;
		if (quiet < QUIET_LOOKS)
			look_again_soon();
	}
	return 0;
}

/* Only a directory of ours with a name that we give. */
static void remove_tmpdir(const char *path)
{
	static const char prefix[] = "/tmp/orch-";
	struct stat st;
	struct err why = ERR_INIT;
	if (!path || !str_starts(path, prefix) || strchr(path + strlen(prefix), '/'))
		return;
	if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return;
	(void)!dir_remove_tree(AT_FDCWD, path, &why); /* the next tidy tries again */
}

static void remove_tmpdir_of(int dirfd)
{
	CLEANUP_UNIT_SPEC struct unit_spec spec = {0};
	struct err why = ERR_INIT;
	if (unit_spec_read(dirfd, &spec, &why) == 0)
		remove_tmpdir(spec.tmpdir);
}

void settle_never_ran(int dirfd, const char *id)
{
	CLEANUP(holder_deinit) struct holder holder = {0};
	struct err why = ERR_INIT;
	int64_t killed = 0;
	if (holder_read(dirfd, &holder, &why) == 0 && is_of_this_boot(&holder) &&
		!holder_is_alive(&holder))
		(void)sweep_cgroup(&holder, id, deadline_after(SWEEP_MAX_MS), &killed);
	remove_unrecorded_cgroup(&holder, id);
	remove_tmpdir_of(dirfd);
}

struct journal_facts {
	int64_t started_at, last_at, events;
};

static int take_facts(void *user, const struct journal_line *line)
{
	struct journal_facts *facts = user;
	if (str_eq(line->kind, JOURNAL_KIND_STARTED))
		facts->started_at = line->at;
	facts->last_at = line->at;
	facts->events++;
	return 0;
}

static void read_facts(int dirfd, struct journal_facts *facts)
{
	int64_t offset = 0, before;
	struct err why = ERR_INIT;
	do {
		before = offset;
		if (journal_read(dirfd, &offset, 1U << 20, take_facts, facts, NULL, &why) < 0)
			return;
	} while (offset != before);
}

/* Ends what is left, and says so in *x, which is complete but for its text. */
static int lose(
	int dirfd, const char *id, const struct holder *holder, struct unit_exit *x, struct err *e)
{
	int64_t begin = clock_mono_ms(), deadline = deadline_after(SWEEP_MAX_MS);
	if (is_of_this_boot(holder)) {
		end_keeper(holder, deadline);
		x->contained = sweep_cgroup(holder, id, deadline, &x->killed) ||
			       sweep_pidns(holder, deadline, &x->killed);
		remove_unrecorded_cgroup(holder, id);
		int r = sweep_marked(id, &x->killed, e);
		if (r < 0)
			return r;
	} else {
		x->contained = true; /* nothing outlives a boot */
	}
	x->sweep_ms = clock_mono_ms() - begin;
	x->left = x->killed;
	remove_tmpdir_of(dirfd);
	struct journal_facts facts = {0};
	read_facts(dirfd, &facts);
	x->cause = CAUSE_LOST;
	x->started_at = facts.started_at;
	x->events = facts.events;
	x->ended_at = clock_wall_ms();
	x->duration_ms = facts.last_at - facts.started_at;
	return str_replace(&x->containment, holder->containment ? holder->containment : "none") < 0
		       ? err_nomem(e)
		       : 0;
}

int settle_lost(int dirfd, const char *id, const char *why, struct err *e)
{
	CLEANUP(holder_deinit) struct holder holder = {0};
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	int r = holder_read(dirfd, &holder, e);
	if (r == 0)
		r = lose(dirfd, id, &holder, &x, e);
	if (r < 0)
		return r;
	x.text = str_printf("the unit was lost: %s", why);
	if (!x.text)
		return err_nomem(e);
	unlinkat(dirfd, UNIT_FILE_SOCKET, 0);
	return unit_exit_commit(dirfd, -1, &x, e);
}

int settle_spoilt(int dirfd, const char *id, const struct proc_id *keeper, const char *why,
	struct unit_exit *ret, struct err *e)
{
	CLEANUP(holder_deinit) struct holder holder = {0};
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	struct err unknown = ERR_INIT;
	int r = holder_read(dirfd, &holder, &unknown);
	if (err_is_machine(r))
		return err_set(e, r, "%s", unknown.msg);
	if (keeper)
		end_keeper(&(struct holder){.id = *keeper}, deadline_after(SWEEP_MAX_MS));
	r = lose(dirfd, id, &holder, &x, e);
	CLEANUP_STR char *tmpdir = str_printf("/tmp/orch-%.8s", id);
	x.text = str_printf("the unit was lost: %s", why);
	if (r == 0 && (!tmpdir || !x.text))
		r = err_nomem(e);
	if (r < 0)
		return r;
	remove_tmpdir(tmpdir); /* spec.json, which names it, may be gone as well */
	*ret = x;
	x = UNIT_EXIT_INIT;
	return 0;
}
