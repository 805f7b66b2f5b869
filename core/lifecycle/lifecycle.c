/* SPDX-License-Identifier: MIT */
#include "lifecycle/internal.h"

#include "base/str.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "os/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#ifndef ORCH_LIBEXECDIR /* from the directory of the program; set by the build */
#define ORCH_LIBEXECDIR "../libexec/orch"
#endif

#define SHIM_NAME     "orch-shim"
#define UNITS_NAME    "units"
#define PATH_MAX_SIZE 4096

static int find_shim(char **ret, struct err *e)
{
	char self[PATH_MAX_SIZE];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return err_errno(e, -errno, "cannot find our own program");
	self[n] = '\0';
	char *slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	static const char *const places[] = {SHIM_NAME, ORCH_LIBEXECDIR "/" SHIM_NAME};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		CLEANUP_STR char *path = path_join(self, places[i]);
		if (!path)
			return err_nomem(e);
		if (access(path, X_OK) == 0) {
			*ret = TAKE(path);
			return 0;
		}
	}
	return err_set(e, -ENOENT, "%s is neither in '%s' nor in '%s/" ORCH_LIBEXECDIR "'",
		SHIM_NAME, self, self);
}

int lifecycle_open(const char *state_dir, const char *shim_path, const struct spawn_origin *origin,
	struct lifecycle **ret, struct err *e)
{
	CLEANUP_LIFECYCLE struct lifecycle *lc = NULL;
	CLEANUP_STR char *units = path_join(state_dir, UNITS_NAME);
	if (units)
		lc = calloc(1, sizeof(*lc));
	if (!lc)
		return err_nomem(e);
	lc->units_fd = -1;
	nursery_init(&lc->nursery);
	int r = dir_make(AT_FDCWD, units, 0700, e);
	if (r == 0)
		r = dir_open(AT_FDCWD, units, &lc->units_fd, e);
	if (r < 0)
		return r;
	if (shim_path) {
		lc->shim_path = strdup(shim_path);
		if (!lc->shim_path)
			return err_nomem(e);
		if (access(shim_path, X_OK) < 0)
			return err_errno(e, -errno, "cannot run '%s'", shim_path);
	} else {
		r = find_shim(&lc->shim_path, e);
		if (r < 0)
			return r;
	}
	if (origin) {
		lc->has_origin = true;
		lc->origin = *origin;
	}
	struct err why = ERR_INIT;
	lc->containment = cgroup_probe(&why) == 0 ? CONTAINMENT_CGROUP : CONTAINMENT_SUBREAPER;
	*ret = TAKE(lc);
	return 0;
}

void lifecycle_close(struct lifecycle *lc)
{
	if (!lc)
		return;
	nursery_deinit(&lc->nursery);
	if (lc->units_fd >= 0)
		close(lc->units_fd);
	free(lc->shim_path);
	free(lc);
}

enum unit_containment lifecycle_containment(const struct lifecycle *lc)
{
	return lc->containment;
}

DEFINE_FREEP(closedirp, DIR, closedir)

int lifecycle_list(struct lifecycle *lc, char ***ret, struct err *e)
{
	CLEANUP_STRV char **ids = calloc(1, sizeof(*ids));
	int fd = openat(lc->units_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		int r = -errno;
		if (fd >= 0)
			close(fd);
		return err_errno(e, r, "cannot list the unit directories");
	}
	const struct dirent *entry;
	while ((entry = readdir(dir)))
		if (unit_id_is_valid(entry->d_name) && strv_add(&ids, entry->d_name) < 0)
			return err_nomem(e);
	if (!ids)
		return err_nomem(e);
	*ret = TAKE(ids);
	return 0;
}

int lifecycle_unit_dir(struct lifecycle *lc, const char *id, int *ret_fd, struct err *e)
{
	if (!unit_id_is_valid(id))
		return err_set(e, -EINVAL, "'%s' is no unit id", id);
	return dir_open(lc->units_fd, id, ret_fd, e);
}

/* 0: nobody keeps the unit (*ret_lock is owned, or -1 where there is no lock file); LOCK_HELD. */
static int lock_unit(int dirfd, int *ret_lock, struct err *e)
{
	int r = lock_take_existing(dirfd, UNIT_FILE_LOCK, 0, ret_lock, e);
	return r == -ENOENT ? 0 : r;
}

int lifecycle_remove(struct lifecycle *lc, const char *id, struct err *e)
{
	CLEANUP(closep) int dirfd = -1;
	CLEANUP(closep) int lock = -1;
	int r = lifecycle_unit_dir(lc, id, &dirfd, e);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = lock_unit(dirfd, &lock, e);
	if (r == LOCK_HELD)
		return err_set(e, -EBUSY, "unit %s is still running", id);
	if (r < 0)
		return r;
	settle_never_ran(dirfd, id);
	return dir_remove_tree(lc->units_fd, id, e);
}

/* The tmpdir of a unit whose keeper ended without removing it. */
static bool has_leftovers(const char *id, const char *cgroup_parent)
{
	char tmpdir[32];
	snprintf(tmpdir, sizeof(tmpdir), "/tmp/orch-%.8s", id);
	if (file_exists(AT_FDCWD, tmpdir))
		return true;
	CLEANUP_STR char *leaf = cgroup_parent ? str_printf("%s/orch-%s", cgroup_parent, id) : NULL;
	return leaf && file_exists(AT_FDCWD, leaf);
}

int lifecycle_tidy(struct lifecycle *lc, int *ret_removed, struct err *e)
{
	CLEANUP_STRV char **ids = NULL;
	CLEANUP_STR char *own_cgroup = NULL;
	struct err no_cgroup = ERR_INIT;
	int removed = 0;
	int r = lifecycle_list(lc, &ids, e);
	if (r < 0)
		return r;
	if (cgroup_own_path(&own_cgroup, &no_cgroup) < 0)
		own_cgroup = NULL;
	for (size_t i = 0; ids && ids[i]; i++) {
		CLEANUP(closep) int dirfd = -1;
		CLEANUP(closep) int lock = -1;
		if (!has_leftovers(ids[i], own_cgroup) ||
			lifecycle_unit_dir(lc, ids[i], &dirfd, e) < 0 ||
			lock_unit(dirfd, &lock, e) != 0)
			continue; /* nothing to do, or its keeper lives */
		/* What ran and has no exit.json is for unit_adopt to settle. */
		if (!file_exists(dirfd, UNIT_FILE_EXIT) && journal_has_started(dirfd, e) != 0)
			continue;
		settle_never_ran(dirfd, ids[i]);
		removed += !has_leftovers(ids[i], own_cgroup);
	}
	if (ret_removed)
		*ret_removed = removed;
	return 0;
}
