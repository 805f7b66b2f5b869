/* SPDX-License-Identifier: MIT */
#include "run/site.h"

#include "base/clock.h"
#include "base/str.h"
#include "git/guard.h"
#include "git/reader.h"
#include "os/file.h"
#include "os/lock.h"
#include "os/proc.h"
#include "plugin/plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef ORCH_LIBDIR /* from the directory of the program; set by the build */
#define ORCH_LIBDIR "../lib"
#endif

#define LOCK_FILE       "lock"
#define LOCK_TIMEOUT_MS 1000
#define GIT_OPEN_MS     60000
#define WAY_OF_STATE    "'%s' is in the way of the state directory; move it away"
/* How long a reader waits for another process to bring the database to our schema. */
#define MIGRATION_MS      5000
#define MIGRATION_LOOK_MS 10

const char *environment_get(char *const *environment, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; environment && environment[i]; i++)
		if (strncmp(environment[i], name, len) == 0 && environment[i][len] == '=')
			return environment[i] + len + 1;
	return NULL;
}

void site_free(struct site *s)
{
	if (!s)
		return;
	git_reader_free(s->reader);
	git_repo_free(s->repo);
	free(s->root);
	free(s->state_dir);
	free(s->worktree_root);
	free(s->repo_config);
	free(s->bin_dir);
	config_free(s->config);
	strv_free(s->environment);
	free(s);
}

struct git_ctx site_git(const struct site *s)
{
	struct git_ctx ctx = GIT_CTX_INIT;
	ctx.repo = s->repo;
	ctx.origin = &s->origin;
	ctx.reader = s->reader;
	return ctx;
}

char *site_plugin_path(const struct site *s)
{
	const char *path = s->config->orch.plugin_path;
	if (path)
		return str_dup(path);
	CLEANUP_STR char *libdir = path_join(s->bin_dir, ORCH_LIBDIR);
	if (!libdir)
		return NULL;
	/* There is none beside a build tree. */
	char real[PATH_MAX];
	const char *found = realpath(libdir, real);
	return !found && errno == ENOMEM ? NULL : plugin_path_default(found);
}

static char *own_bin_dir(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n < 0)
		return NULL;
	path[n] = '\0';
	char *slash = strrchr(path, '/');
	if (slash)
		*slash = '\0';
	return strdup(path);
}

/* <last part of the root>-<8 hex of its path>: two repositories of one name stay apart. */
static char *site_tag(const char *root, const char *common)
{
	uint32_t h = 2166136261U; /* FNV-1a */
	for (const char *p = common; *p; p++)
		h = (h ^ (unsigned char)*p) * 16777619U;
	const char *base = strrchr(root, '/');
	base = base && base[1] ? base + 1 : "root";
	return str_printf("%s-%08x", base, h);
}

static char *default_worktree_root(const struct site *s)
{
	const char *state = environment_get(s->environment, "XDG_STATE_HOME");
	const char *home = environment_get(s->environment, "HOME");
	CLEANUP_STR char *base = NULL;
	if (state && state[0] == '/')
		base = str_dup(state);
	else if (home && home[0] == '/')
		base = path_join(home, ".local/state");
	else
		base = str_dup("/var/tmp");
	CLEANUP_STR char *tag = site_tag(s->root, s->repo ? s->repo->common_dir : s->root);
	if (!base || !tag)
		return NULL;
	return str_printf("%s/orch/%s", base, tag);
}

static int site_find(struct site *s, const struct site_options *o, struct err *e)
{
	char here[PATH_MAX];
	const char *dir = o->dir ? o->dir : ".";
	CLEANUP_STR char *inside = str_printf("%s/.", dir);
	if (!inside)
		return err_nomem(e);
	if (!realpath(dir, here) || access(inside, X_OK) < 0)
		return err_errno(e, -errno, "cannot use directory '%s'", dir);
	struct git_ctx ctx = site_git(s);
	ctx.cancel_fd = o->cancel_fd;
	ctx.deadline_ms = deadline_after(GIT_OPEN_MS);
	struct err git_err = ERR_INIT;
	int r = o->look ? git_find(here, &s->repo, &git_err) : 0;
	if (r == 0 && !s->repo)
		r = git_open(&ctx, here, &s->repo, &git_err);
	if (r < 0 && r != -ENOENT) {
		*e = git_err;
		return r;
	}
	const char *root = here;
	if (s->repo)
		root = s->repo->toplevel ? s->repo->toplevel : s->repo->common_dir;
	s->root = str_dup(root);
	s->state_dir = s->repo ? git_state_dir(s->repo) : path_join(root, ".orch");
	s->repo_config = path_join(root, "orch.ini");
	return s->root && s->state_dir && s->repo_config ? 0 : err_nomem(e);
}

static int site_configure(
	struct site *s, const struct site_options *o, struct diags *d, struct err *e)
{
	CLEANUP_STR char *user = NULL;
	if (config_user_file(s->environment, &user) < 0)
		return err_nomem(e);
	const char *system = environment_get(s->environment, "ORCH_SYSTEM_CONFIG");
	struct config_sources sources = {
		.system_file = system ? system : CONFIG_SYSTEM_FILE,
		.user_file = user,
		.repo_file = s->repo_config,
		.explicit_file = o->config_file,
		.environment = s->environment,
		.cancel_fd = o->cancel_fd,
	};
	int r = config_load(&sources, &s->config, d, e);
	if (r < 0)
		return r;
	if (d->errors)
		return err_exit(e, EXIT_CONFIG, "the configuration has mistakes (listed above)");
	const char *root = s->config->orch.worktree_root;
	s->worktree_root = root ? path_join(s->root, root) : default_worktree_root(s);
	return s->worktree_root ? 0 : err_nomem(e);
}

static int site_check_git(const struct site *s, const struct site_options *o, struct err *e)
{
	struct git_ctx ctx = site_git(s);
	ctx.cancel_fd = o->cancel_fd;
	ctx.deadline_ms = deadline_after(GIT_OPEN_MS);
	return git_check_version(&ctx, s->repo, e);
}

static int site_make_state(const struct site *s, struct err *e)
{
	if (mkdir(s->state_dir, 0700) < 0 && errno != EEXIST) {
		int r = err_errno(e, -errno, "cannot make the state directory '%s'", s->state_dir);
		if (err_status(e) != EXIT_IO)
			e->status = EXIT_CANTCREAT;
		return r;
	}
	CLEANUP(closep) int fd = open(s->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && (errno == ENOTDIR || errno == ENOENT)) /* a file, a link to nowhere */
		return err_exit(e, EXIT_CANTCREAT, WAY_OF_STATE, s->state_dir);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open the state directory '%s'", s->state_dir);
	if (fd_on_network_fs(fd))
		return err_exit(e, EXIT_CANTCREAT,
			"the state directory '%s' is on a network file system, where locks do not "
			"hold; "
			"use a repository on a local disk",
			s->state_dir);
	return s->repo ? git_state_link(s->repo, e) : 0;
}

int site_check_state(const struct site *s, struct err *e)
{
	CLEANUP_STR char *db = path_join(s->state_dir, "orch.db");
	CLEANUP_STR char *above = str_dup(s->state_dir);
	struct stat st;
	if (!db || !above)
		return err_nomem(e);
	if (strrchr(above, '/') > above)
		*strrchr(above, '/') = '\0';
	if (stat(s->state_dir, &st) < 0) {
		if (lstat(s->state_dir, &st) == 0)
			return err_exit(e, EXIT_CANTCREAT, WAY_OF_STATE, s->state_dir);
		if (access(above, W_OK | X_OK) < 0)
			return err_errno(
				e, -errno, "cannot make the state directory '%s'", s->state_dir);
	} else if (!S_ISDIR(st.st_mode)) {
		return err_exit(e, EXIT_CANTCREAT, WAY_OF_STATE, s->state_dir);
	} else if (access(s->state_dir, R_OK | W_OK | X_OK) < 0 ||
		   (access(db, R_OK | W_OK) < 0 && errno != ENOENT)) {
		return err_errno(
			e, -errno, "cannot write in the state directory '%s'", s->state_dir);
	}
	return s->repo ? git_state_link_check(s->repo, e) : 0;
}

int site_open(const struct site_options *options, struct site **ret, struct diags *d, struct err *e)
{
	CLEANUP(site_freep) struct site *s = calloc(1, sizeof(*s));
	if (!s)
		return err_nomem(e);
	s->origin = *options->origin;
	s->environment = strv_copy(options->environment);
	s->bin_dir = own_bin_dir();
	s->reader = git_reader_new();
	if (!s->environment || !s->bin_dir || !s->reader)
		return err_nomem(e);
	int r = site_find(s, options, e);
	if (r == 0)
		r = site_configure(s, options, d, e);
	if (r == 0 && options->need_state && s->repo)
		r = site_check_git(s, options, e);
	if (r == 0 && options->need_state)
		r = site_make_state(s, e);
	if (r < 0)
		return r;
	*ret = TAKE(s);
	return 0;
}

/* A lock of the state directory, and what to say of its holder: "... pid 7 (orch dispatch)...". */
struct site_lock_kind {
	const char *file;
	const char *who;
	const char *what_to_do;
};

static const struct site_lock_kind lock_of_engine = {
	.file = LOCK_FILE,
	.who = "another orch works here and holds the lock",
	.what_to_do = "wait for it, or stop it with `orch stop`",
};

static const struct site_lock_kind lock_of_merge = {
	.file = GIT_MERGE_LOCK,
	.who = "another orch merges or cleans up here",
	.what_to_do = "wait for it, or stop it with Ctrl+C",
};

/* Names who holds the lock, as far as its file and /proc tell. */
static int lock_held_error(int dir, const struct site_lock_kind *kind, struct err *e)
{
	CLEANUP_BUF struct buf holder = BUF_INIT;
	CLEANUP_BUF struct buf command = BUF_INIT;
	int pid = 0;
	if (lock_read_holder(dir, kind->file, &holder, NULL) == 0)
		(void)sscanf(buf_cstr(&holder), "{\"pid\":%d", &pid); /* 0: not told */
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	if (pid > 0 && file_read(AT_FDCWD, path, 4096, &command, NULL) == 0)
		for (size_t i = 0; i + 1 < command.len; i++)
			if (command.data[i] == '\0')
				command.data[i] = ' ';
	CLEANUP_STR char *shown =
		str_printable(buf_cstr(&command), strlen(buf_cstr(&command)), false);
	return err_exit(e, EXIT_UNAVAILABLE, "%s: pid %d (%.300s); %s", kind->who, pid,
		shown && shown[0] ? shown : "unknown command", kind->what_to_do);
}

static int lock_until(const struct site *s, const struct site_lock_kind *kind, int64_t deadline_ms,
	int *ret_fd, struct err *e)
{
	CLEANUP(closep) int dir = open(s->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, -errno, "cannot open '%s'", s->state_dir);
	CLEANUP(closep) int fd = -1;
	int r = lock_take(dir, kind->file, deadline_ms, &fd, e);
	if (r == LOCK_HELD)
		return lock_held_error(dir, kind, e);
	if (r < 0)
		return r;
	struct proc_id self;
	CLEANUP_STR char *text = NULL;
	r = proc_identify(getpid(), &self);
	if (r < 0)
		return err_errno(e, r, "cannot read /proc/self");
	text = str_printf("{\"pid\":%d,\"starttime\":%llu,\"boot_id\":\"%s\"}\n", (int)getpid(),
		(unsigned long long)self.starttime, self.boot_id);
	if (!text)
		return err_nomem(e);
	r = lock_write_holder(fd, text, e);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int site_lock(const struct site *s, int *ret_fd, struct err *e)
{
	return lock_until(s, &lock_of_engine, deadline_after(LOCK_TIMEOUT_MS), ret_fd, e);
}

int site_lock_merge(const struct site *s, int *ret_fd, struct err *e)
{
	return lock_until(s, &lock_of_merge, deadline_after(LOCK_TIMEOUT_MS), ret_fd, e);
}

int site_engine(const struct site *s, struct site_engine *ret, struct err *e)
{
	CLEANUP_BUF struct buf holder = BUF_INIT;
	CLEANUP(closep) int dir = open(s->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*ret = (struct site_engine){0};
	if (dir < 0)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "cannot open '%s'", s->state_dir);
	int r = lock_read_holder(dir, LOCK_FILE, &holder, e);
	if (r < 0)
		return r;
	struct proc_id id = {0};
	int pid = 0;
	unsigned long long starttime = 0;
	int n = sscanf(buf_cstr(&holder),
		"{\"pid\":%d,\"starttime\":%llu,\"boot_id\":\"%36[0-9a-f-]\"}", &pid, &starttime,
		id.boot_id);
	id.pid = pid;
	id.starttime = starttime;
	/* The text of one who is gone stays; it need not be asked of the lock. */
	if (n == 3 && !proc_is_alive(&id))
		return 0;
	struct site_engine found = {.pid = n == 3 ? pid : 0};
	r = lock_is_held(dir, LOCK_FILE, &found.running, e);
	if (r < 0)
		return r;
	if (found.running)
		*ret = found;
	return 0;
}

int site_read(const struct site *s, struct store **ret, struct err *e)
{
	int64_t deadline = deadline_after(MIGRATION_MS);
	for (;;) {
		CLEANUP(closep) int lock = -1;
		*ret = NULL;
		*e = ERR_INIT;
		int r = store_open(s->state_dir, STORE_READ, ret, e);
		if (r == -ENOENT) {
			*e = ERR_INIT;
			return 0;
		}
		if (r == -ENOTDIR)
			return err_exit(e, EXIT_CANTCREAT, WAY_OF_STATE, s->state_dir);
		if (r != -ESTALE)
			return r;
		*e = ERR_INIT;
		r = lock_until(s, &lock_of_engine, 0, &lock, e);
		if (r == 0)
			return store_open(s->state_dir, STORE_WRITE, ret, e);
		/* Whoever has the lock makes or upgrades the database just now: first thing it
		 * does. */
		if (e->status != EXIT_UNAVAILABLE || clock_mono_ms() >= deadline)
			return r;
		poll(NULL, 0, MIGRATION_LOOK_MS);
	}
}
