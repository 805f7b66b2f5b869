/* SPDX-License-Identifier: MIT */
#include "shim/tree.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define SWEEP_MAX_MS  10000
#define FREEZE_PASSES 20
#define REAP_PAUSE_MS 10

int tree_open(struct tree *t, const char *unit_id, enum unit_containment wanted, struct err *e)
{
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return err_errno(e, -errno, "cannot become the reaper of the unit");
	if (wanted == CONTAINMENT_SUBREAPER)
		return 0;
	if (wanted == CONTAINMENT_PIDNS)
		return pidns_open(&t->pidns, e);
	char name[UNIT_ID_LEN + 8];
	snprintf(name, sizeof(name), "orch-%s", unit_id);
	struct err why = ERR_INIT;
	int r = cgroup_make(name, &t->cgroup, &why);
	if (r < 0 && wanted == CONTAINMENT_CGROUP)
		return err_set(e, r, "%s", why.msg);
	return 0;
}

void tree_deinit(struct tree *t)
{
	cgroup_deinit(&t->cgroup);
	pidns_deinit(&t->pidns);
}

const char *tree_containment(const struct tree *t)
{
	return t->pidns.fd >= 0 ? "pidns" : t->cgroup.fd >= 0 ? "cgroup" : "subreaper";
}

static bool pids_have(const struct pids *list, pid_t pid)
{
	vec_foreach(p, list)
		if (*p == pid)
			return true;
	return false;
}

/* Of the cgroup, those that live. */
static void add_cgroup_pids(const struct tree *t, struct pids *ret)
{
	struct pids all = {0};
	if (cgroup_pids(&t->cgroup, &all) < 0)
		all.count = 0;
	vec_foreach(pid, &all) {
		struct proc_stat st;
		if (pids_have(ret, *pid) || proc_stat_read(*pid, &st) < 0 || st.dead)
			continue;
		pid_t *slot = VEC_PUSH(ret);
		if (slot)
			*slot = *pid;
	}
	VEC_FREE(&all);
}

static void leave_out(struct pids *list, pid_t pid)
{
	size_t kept = 0;
	for (size_t i = 0; i < list->count; i++)
		if (list->items[i] != pid)
			list->items[kept++] = list->items[i];
	list->count = kept;
}

void tree_pids(const struct tree *t, struct pids *ret)
{
	int r = proc_descendants(getpid(), ret);
	if (r == 0 && t->cgroup.fd >= 0)
		add_cgroup_pids(t, ret);
	if (t->pidns.init)
		leave_out(ret, t->pidns.init);
}

void tree_signal(const struct tree *t, int signal, pid_t except)
{
	struct pids all = {0};
	tree_pids(t, &all);
	vec_foreach(pid, &all)
		if (*pid != except)
			kill(*pid, signal);
	VEC_FREE(&all);
}

/* SIGSTOP until a pass finds nobody new: a process that forks while we list is caught by the next.
 */
static void stop_all(const struct tree *t, struct pids *ret)
{
	for (int pass = 0; pass < FREEZE_PASSES; pass++) {
		struct pids now = {0};
		bool fresh = false;
		tree_pids(t, &now);
		vec_foreach(pid, &now) {
			if (pids_have(ret, *pid))
				continue;
			kill(*pid, SIGSTOP);
			fresh = true;
		}
		VEC_FREE(ret);
		*ret = now;
		if (!fresh)
			return;
	}
}

void tree_freeze(const struct tree *t)
{
	if (t->cgroup.fd >= 0 && cgroup_freeze(&t->cgroup) == 0)
		return;
	struct pids stopped = {0};
	stop_all(t, &stopped);
	VEC_FREE(&stopped);
}

void tree_thaw(const struct tree *t)
{
	if (t->cgroup.fd >= 0 && cgroup_thaw(&t->cgroup) == 0)
		return;
	tree_signal(t, SIGCONT, 0);
}

void tree_usage(const struct tree *t, struct proc_usage *ret)
{
	*ret = (struct proc_usage){0};
	struct pids all = {0};
	tree_pids(t, &all);
	vec_foreach(pid, &all)
		proc_usage_add(*pid, ret);
	VEC_FREE(&all);
	/* What has ended was added to our own account when we reaped it. */
	struct proc_usage own = {0};
	struct rusage children;
	proc_usage_add(getpid(), &own);
	ret->write_bytes += own.write_bytes;
	ret->wchar_bytes += own.wchar_bytes;
	if (getrusage(RUSAGE_CHILDREN, &children) == 0)
		ret->cpu_ms +=
			(uint64_t)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1000 +
			(uint64_t)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) / 1000;
	uint64_t cpu_ms;
	if (t->cgroup.fd >= 0 && cgroup_cpu_ms(&t->cgroup, &cpu_ms) == 0)
		ret->cpu_ms = cpu_ms;
}

bool tree_reap(struct tree *t, tree_reaped_fn fn, void *user)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid > 0 && pid == t->pidns.init)
			t->pidns.init = 0;
		else if (pid > 0)
			fn(user, pid, status);
		else if (pid == 0)
			return false;
		else if (errno != EINTR)
			return true;
	}
}

/* Until a child has ended, or a moment later: a process may be outside of our family by now. */
static void await_child(void)
{
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	const struct timespec pause = {.tv_nsec = REAP_PAUSE_MS * 1000000L};
	(void)sigtimedwait(&child, NULL, &pause); /* either way the caller looks again */
}

static bool is_empty(struct tree *t, tree_reaped_fn fn, void *user)
{
	bool childless = tree_reap(t, fn, user);
	return childless && (t->cgroup.fd < 0 || cgroup_remove(&t->cgroup) == 0);
}

static void kill_all(const struct tree *t, struct pids *killed)
{
	struct pids now = {0};
	if (t->cgroup.fd >= 0) {
		tree_pids(t, &now);
		int r = cgroup_kill(&t->cgroup);
		if (r < 0)
			stop_all(t, &now);
	} else {
		stop_all(t, &now);
	}
	if (t->pidns.init)
		kill(t->pidns.init, SIGKILL);
	vec_foreach(pid, &now) {
		kill(*pid, SIGKILL);
		pid_t *slot = pids_have(killed, *pid) ? NULL : VEC_PUSH(killed);
		if (slot)
			*slot = *pid;
	}
	VEC_FREE(&now);
}

void tree_sweep(
	struct tree *t, pid_t main_pid, tree_reaped_fn fn, void *user, struct tree_proof *ret)
{
	int64_t begin = clock_mono_ms();
	struct pids seen = {0};
	*ret = (struct tree_proof){0};
	if (is_empty(t, fn, user)) {
		ret->contained = true;
		return;
	}
	tree_pids(t, &seen);
	vec_foreach(pid, &seen)
		ret->left += *pid != main_pid;
	VEC_FREE(&seen);
	do {
		kill_all(t, &seen);
		await_child();
		ret->contained = is_empty(t, fn, user);
	} while (!ret->contained && clock_mono_ms() - begin < SWEEP_MAX_MS);
	ret->killed = (int64_t)seen.count;
	ret->sweep_ms = clock_mono_ms() - begin;
	VEC_FREE(&seen);
}
