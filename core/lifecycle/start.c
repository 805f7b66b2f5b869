/* SPDX-License-Identifier: MIT */
#include "lifecycle/internal.h"

#include "base/str.h"
#include "os/file.h"
#include "os/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Numbers of the keeper's inherited descriptors: see shim/main.c. */
#define FD_DIR    3
#define FD_LOCK   4
#define FD_ENGINE 5

static int open_dir(struct lifecycle *lc, const char *id, int *ret_fd, struct err *e)
{
	if (!unit_id_is_valid(id))
		return err_set(e, -EINVAL, "'%s' is no unit id", id);
	if (mkdirat(lc->units_fd, id, 0700) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "cannot make the directory of unit %s", id);
	return dir_open(lc->units_fd, id, ret_fd, e);
}

/* The lock that the keeper will hold. */
static int lock_fresh(int dirfd, const char *id, int *ret_lock, struct err *e)
{
	int r = lock_take(dirfd, UNIT_FILE_LOCK, 0, ret_lock, e);
	if (r == LOCK_HELD)
		return err_set(e, -EEXIST, "unit %s is running already", id);
	if (r == 0)
		r = journal_has_started(dirfd, e);
	if (r == 1 || (r == 0 && file_exists(dirfd, UNIT_FILE_EXIT)))
		return err_set(e, -EEXIST, "unit %s ran already", id);
	return r;
}

/* Not synced: without a `started` line in the journal nobody relies on it. */
static int write_prompt(int dirfd, const char *prompt, struct err *e)
{
	CLEANUP(closep)
	int fd = openat(dirfd, UNIT_FILE_PROMPT,
		O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : fd_write_all(fd, prompt, strlen(prompt));
	return r < 0 ? err_errno(e, r, "cannot write the prompt") : 0;
}

static int write_files(int dirfd, const struct unit_spec *spec, struct err *e)
{
	struct unit_spec stored = *spec; /* borrows all that it points to */
	char prompt_file[] = UNIT_FILE_PROMPT;
	char tmpdir[32];
	if (spec->prompt) {
		int r = write_prompt(dirfd, spec->prompt, e);
		if (r < 0)
			return r;
		stored.prompt_file = prompt_file;
	}
	if (!spec->tmpdir) {
		snprintf(tmpdir, sizeof(tmpdir), "/tmp/orch-%.8s", spec->id);
		stored.tmpdir = tmpdir;
	}
	return unit_spec_write(dirfd, &stored, e);
}

/* The environment with ORCH_UNIT, by which a sweep finds what outlived its keeper. The vector is
 * owned, the entries are borrowed. */
static char **with_unit(char *const *envp, char *entry)
{
	size_t n = 0, kept = 0;
	while (envp[n])
		n++;
	char **copy = calloc(n + 2, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++)
		if (!str_starts(envp[i], "ORCH_UNIT="))
			copy[kept++] = envp[i];
	if (copy)
		copy[kept] = entry;
	return copy;
}

static int spawn_keeper(struct lifecycle *lc, const char *id, char *const *envp, int dirfd,
	int lock, int sock, pid_t *ret_pid, struct err *e)
{
	char name[] = "orch-shim", dir_arg[8], lock_arg[8], engine_arg[8];
	char id_arg[UNIT_ID_LEN + 1];
	char unit[sizeof("ORCH_UNIT=") + UNIT_ID_LEN];
	snprintf(dir_arg, sizeof(dir_arg), "%d", FD_DIR);
	snprintf(lock_arg, sizeof(lock_arg), "%d", FD_LOCK);
	snprintf(engine_arg, sizeof(engine_arg), "%d", FD_ENGINE);
	snprintf(id_arg, sizeof(id_arg), "%s", id);
	snprintf(unit, sizeof(unit), "ORCH_UNIT=%s", id);
	CLEANUP(freep) char **env = with_unit(envp, unit);
	if (!env)
		return err_nomem(e);
	char *argv[] = {name, id_arg, dir_arg, lock_arg, engine_arg, NULL};
	const struct spawn_fd fds[] = {
		{.fd = dirfd, .target = FD_DIR},
		{.fd = lock, .target = FD_LOCK},
		{.fd = sock, .target = FD_ENGINE},
	};
	struct spawn s = SPAWN_INIT;
	s.file = lc->shim_path;
	s.argv = argv;
	s.envp = env;
	s.fds = fds;
	s.n_fds = sizeof(fds) / sizeof(fds[0]);
	s.new_session = true;
	s.origin = lc->has_origin ? &lc->origin : NULL;
	return spawn_process(&s, ret_pid, NULL, e);
}

int unit_start(struct lifecycle *lc, const struct unit_spec *spec, char *const *envp,
	struct unit **ret, struct err *e)
{
	CLEANUP(closep) int dirfd = -1;
	CLEANUP(closep) int lock = -1;
	int r = open_dir(lc, spec->id, &dirfd, e);
	if (r == 0)
		r = lock_fresh(dirfd, spec->id, &lock, e);
	if (r == 0)
		r = write_files(dirfd, spec, e);
	if (r < 0)
		return r;
	int socks[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks) < 0)
		return err_errno(e, -errno, "cannot make a socket for unit %s", spec->id);
	CLEANUP(closep) int theirs = socks[1];
	CLEANUP_UNIT struct unit *u = NULL;
	r = unit_new(lc, spec->id, TAKE_FD(dirfd), socks[0], &u, e);
	if (r < 0)
		return r;
	if (nursery_ask(lc, u, envp, lock, theirs) == 0) {
		r = spawn_keeper(lc, spec->id, envp, u->dirfd, lock, theirs, &u->keeper_pid, e);
		if (r < 0)
			return r;
		u->is_child = true;
	}
	*ret = TAKE(u);
	return 0;
}
