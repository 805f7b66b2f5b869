/* SPDX-License-Identifier: MIT */
#include "git/reader.h"

#include "base/clock.h"
#include "base/vec.h"
#include "git/strays.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

extern char **environ;

#define DEFAULT_MAX_OUTPUT ((size_t)256 << 20)
#define MAX_STDERR         ((size_t)16 << 10)
#define KILL_AFTER_MS      2000
#define LOCK_TARGET_FD     3
#define STRAY_TARGET_FD    4
#define SIGNAL_STATUS      128 /* and the signal: see spawn_shell_status */

/* Of the caller's GIT_* only what says where configuration lies, and the LFS switch, survives. */
static const char *const kept_variables[] = {
	"GIT_CONFIG_GLOBAL=",
	"GIT_CONFIG_SYSTEM=",
	"GIT_CONFIG_NOSYSTEM=",
	"GIT_LFS_SKIP_SMUDGE=",
};

/* GIT_CONFIG_* has the rank of -c and reaches the programs that git starts. */
static const char *const fixed_variables[] = {
	"LC_ALL=C",
	"GIT_TERMINAL_PROMPT=0",
	"GIT_EDITOR=true",
	"GIT_SEQUENCE_EDITOR=true",
	"GIT_PAGER=cat",
	"GIT_OPTIONAL_LOCKS=0",
	"GIT_LITERAL_PATHSPECS=1",
	"GIT_MERGE_AUTOEDIT=no",
	/* An object that cannot be had leaves its pointer file, as in a clone without LFS. */
	"GIT_LFS_SKIP_DOWNLOAD_ERRORS=1",
	"GIT_AUTHOR_NAME=orch",
	"GIT_AUTHOR_EMAIL=orch@localhost",
	"GIT_COMMITTER_NAME=orch",
	"GIT_COMMITTER_EMAIL=orch@localhost",
};

static const char *const fixed_config[][2] = {
	{"core.hooksPath", "/dev/null"},
	{"commit.gpgSign", "false"},
	{"gc.auto", "0"},
	{"maintenance.auto", "false"},
	{"core.fsmonitor", "false"},
	{"core.splitIndex", "false"},
	{"core.safecrlf", "false"}, /* a warning about line endings must not stop a commit */
	{"core.fsync", "committed"},
	{"core.fsyncMethod", "batch"},
	{"core.filesRefLockTimeout", "5000"},
	{"core.packedRefsTimeout", "10000"},
	{"i18n.commitEncoding", "UTF-8"},
	{"submodule.recurse", "false"},
	{"protocol.file.allow", "always"}, /* submodules come from repositories on this disk */
	{"worktree.useRelativePaths", "false"},
	{"advice.detachedHead", "false"},
};

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

static bool variable_is_kept(const char *variable)
{
	if (str_starts(variable, "LC_ALL=") || str_starts(variable, "LANGUAGE="))
		return false;
	if (!str_starts(variable, "GIT_"))
		return true;
	for (size_t i = 0; i < N_ELEMENTS(kept_variables); i++)
		if (str_starts(variable, kept_variables[i]))
			return true;
	return false;
}

static int add_variable(char ***env, const char *name, const char *value)
{
	CLEANUP_STR char *variable = str_printf("%s=%s", name, value);
	return variable ? strv_add(env, variable) : -ENOMEM;
}

/* A repository that came from a file system where case does not matter says so still, and a file
 * whose name changes in case only would be taken for one that is gone. */
static bool case_matters(const char *work_tree)
{
	CLEANUP_STR char *there = path_join(work_tree, ".git");
	CLEANUP_STR char *other = path_join(work_tree, ".GIT");
	return there && other && access(there, F_OK) == 0 && access(other, F_OK) < 0;
}

static int add_config(char ***env, const char *work_tree)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	bool more = work_tree && case_matters(work_tree);
	buf_addf(&text, "GIT_CONFIG_COUNT=%zu%c", N_ELEMENTS(fixed_config) + more, 0);
	if (more)
		buf_addf(&text, "GIT_CONFIG_KEY_%zu=core.ignoreCase%cGIT_CONFIG_VALUE_%zu=false%c",
			N_ELEMENTS(fixed_config), 0, N_ELEMENTS(fixed_config), 0);
	for (size_t i = 0; i < N_ELEMENTS(fixed_config); i++) {
		buf_addf(&text, "GIT_CONFIG_KEY_%zu=%s%c", i, fixed_config[i][0], 0);
		buf_addf(&text, "GIT_CONFIG_VALUE_%zu=%s%c", i, fixed_config[i][1], 0);
	}
	if (buf_check(&text) < 0)
		return -ENOMEM;
	for (const char *s = text.data; s < text.data + text.len; s += strlen(s) + 1)
		if (strv_add(env, s) < 0)
			return -ENOMEM;
	return 0;
}

static char **build_env(const char *git_dir, const char *work_tree, const char *index)
{
	CLEANUP_STRV char **env = NULL;
	for (size_t i = 0; environ[i]; i++)
		if (variable_is_kept(environ[i]) && strv_add(&env, environ[i]) < 0)
			return NULL;
	for (size_t i = 0; i < N_ELEMENTS(fixed_variables); i++)
		if (strv_add(&env, fixed_variables[i]) < 0)
			return NULL;
	if (add_config(&env, work_tree) < 0)
		return NULL;
	if (git_dir && (add_variable(&env, "GIT_DIR", git_dir) < 0 ||
			       add_variable(&env, "GIT_WORK_TREE", work_tree) < 0))
		return NULL;
	if (index && add_variable(&env, "GIT_INDEX_FILE", index) < 0)
		return NULL;
	return TAKE(env);
}

/* A file in memory instead of a pipe: nothing to feed, and no SIGPIPE. */
static int make_input(const void *data, size_t len, int *ret_fd, struct err *e)
{
	int fd = memfd_create("orch-git-input", MFD_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "cannot make the input of git");
	const char *p = data;
	while (len > 0) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int r = -errno;
			close(fd);
			return err_errno(e, r, "cannot make the input of git");
		}
		p += n;
		len -= (size_t)n;
	}
	if (lseek(fd, 0, SEEK_SET) < 0) {
		int r = -errno;
		close(fd);
		return err_errno(e, r, "cannot make the input of git");
	}
	*ret_fd = fd;
	return 0;
}

struct pipes {
	int out[2];
	int err[2];
	int stray[2];
};

static void pipes_deinit(struct pipes *p)
{
	closep(&p->out[0]);
	closep(&p->out[1]);
	closep(&p->err[0]);
	closep(&p->err[1]);
	closep(&p->stray[0]);
	closep(&p->stray[1]);
}

static int pipes_init(struct pipes *p, struct err *e)
{
	if (pipe2(p->out, O_CLOEXEC) < 0 || pipe2(p->err, O_CLOEXEC) < 0 ||
		pipe2(p->stray, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "cannot start git: pipe");
	/* Ours may not block: a grandchild of git's can hold the other end for ever. */
	if (fcntl(p->out[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(p->err[0], F_SETFL, O_NONBLOCK) < 0)
		return err_errno(e, -errno, "cannot start git: fcntl");
	return 0;
}

/* Reads what is there. Closes *fd at its end. More than max: -E2BIG, or dropped if `cut`. */
static int drain(int *fd, struct buf *b, size_t max, bool cut)
{
	char chunk[65536];
	while (*fd >= 0) {
		ssize_t n = read(*fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			close(TAKE_FD(*fd));
			return n < 0 ? -errno : 0;
		}
		size_t room = b->len < max ? max - b->len : 0;
		if ((size_t)n > room && !cut)
			return -E2BIG;
		buf_add(b, chunk, (size_t)n < room ? (size_t)n : room);
		if (buf_check(b) < 0)
			return -ENOMEM;
	}
	return 0;
}

struct child {
	pid_t pid;
	int pidfd;
	int why;            /* -ECANCELED, -ETIMEDOUT...: why it was told to stop; 0: it was not */
	int64_t kill_at_ms; /* SIGKILL follows; DEADLINE_NONE until it was told to stop */
};

static void child_stop(struct child *c, int why)
{
	if (c->why)
		return;
	c->why = why;
	c->kill_at_ms = deadline_after(KILL_AFTER_MS);
	kill(-c->pid, SIGTERM); /* its session: filters and other helpers too */
	kill(-c->pid, SIGCONT);
}

/* Returns when the child has ended; reads its output meanwhile. */
static int child_watch(const struct git_ctx *ctx, struct child *c, struct pipes *p, size_t max,
	struct git_output *ret)
{
	for (;;) {
		struct pollfd fds[] = {
			{.fd = c->pidfd, .events = POLLIN},
			{.fd = p->out[0], .events = POLLIN},
			{.fd = p->err[0], .events = POLLIN},
			{.fd = c->why ? -1 : ctx->cancel_fd, .events = POLLIN},
		};
		int64_t deadline = c->why ? c->kill_at_ms : ctx->deadline_ms;
		int n = poll(fds, N_ELEMENTS(fds), deadline_poll_ms(deadline));
		if (n < 0 && errno != EINTR)
			child_stop(c, -errno);
		if (n == 0 && c->why) {
			kill(-c->pid, SIGKILL);
			c->kill_at_ms = DEADLINE_NONE;
		} else if (n == 0) {
			child_stop(c, -ETIMEDOUT);
		}
		if (n > 0 && fds[3].revents)
			child_stop(c, -ECANCELED);
		int r = drain(&p->out[0], &ret->out, max, c->why != 0);
		if (r < 0)
			child_stop(c, r);
		(void)drain(&p->err[0], &ret->err, MAX_STDERR, true); /* only for messages */
		if (n > 0 && fds[0].revents)
			break;
	}
	/* What it wrote between our last read and its end. */
	int r = drain(&p->out[0], &ret->out, max, c->why != 0);
	(void)drain(&p->err[0], &ret->err, MAX_STDERR, true);
	return c->why ? c->why : r;
}

static int child_reap(const struct child *c)
{
	int status = 0;
	while (waitpid(c->pid, &status, 0) < 0)
		if (errno != EINTR)
			return 255;
	return spawn_shell_status(status);
}

int git_start(const struct git_ctx *ctx, const struct git_cmd *cmd, const int fds[4],
	pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
	CLEANUP_STRV char **argv = NULL;
	if (strv_add(&argv, "git") < 0)
		return err_nomem(e);
	for (size_t i = 0; cmd->argv[i]; i++)
		if (strv_add(&argv, cmd->argv[i]) < 0)
			return err_nomem(e);
	const char *git_dir = cmd->git_dir, *dir = cmd->dir;
	if (!dir) {
		git_dir = ctx->repo->common_dir;
		dir = git_dir;
	}
	CLEANUP_STRV char **env = build_env(git_dir, dir, cmd->index);
	if (!env)
		return err_nomem(e);
	struct spawn_fd more[2];
	size_t n_more = 0;
	if (ctx->lock_fd >= 0)
		more[n_more++] = (struct spawn_fd){.fd = ctx->lock_fd, .target = LOCK_TARGET_FD};
	if (fds[3] >= 0)
		more[n_more++] = (struct spawn_fd){.fd = fds[3], .target = STRAY_TARGET_FD};
	struct spawn s = SPAWN_INIT;
	s.argv = argv;
	s.envp = env;
	s.cwd = dir;
	memcpy(s.stdio, fds, sizeof(s.stdio));
	s.fds = more;
	s.n_fds = n_more;
	s.new_session = true;
	s.death_signal = SIGTERM;
	s.origin = ctx->origin;
	return spawn_process(&s, ret_pid, ret_pidfd, e);
}

void git_output_deinit(struct git_output *o)
{
	buf_deinit(&o->out);
	buf_deinit(&o->err);
}

static int stopped_error(int r, const char *verb, struct err *e)
{
	if (r == -ETIMEDOUT)
		return err_set(e, r, "git %s took too long and was stopped", verb);
	if (r == -ECANCELED)
		return err_set(e, r, "git %s was stopped on request", verb);
	if (r == -E2BIG)
		return err_set(e, r, "git %s said more than can be held", verb);
	return err_errno(e, r, "cannot read from git %s", verb);
}

int git_run(
	const struct git_ctx *ctx, const struct git_cmd *cmd, struct git_output *ret, struct err *e)
{
	buf_reset(&ret->out);
	buf_reset(&ret->err);
	if (ctx->deadline_ms != DEADLINE_NONE && clock_mono_ms() >= ctx->deadline_ms)
		return stopped_error(-ETIMEDOUT, cmd->argv[0], e);
	CLEANUP(pipes_deinit) struct pipes p = {{-1, -1}, {-1, -1}, {-1, -1}};
	CLEANUP(closep) int input = -1;
	int r = pipes_init(&p, e);
	if (r == 0 && cmd->input)
		r = make_input(cmd->input, cmd->input_len, &input, e);
	if (r < 0)
		return r;
	CLEANUP(closep) int pidfd = -1;
	struct child c = {.pidfd = -1, .kill_at_ms = DEADLINE_NONE};
	r = git_start(
		ctx, cmd, (int[4]){input, p.out[1], p.err[1], p.stray[1]}, &c.pid, &c.pidfd, e);
	if (r < 0)
		return r;
	pidfd = c.pidfd;
	close(TAKE_FD(p.out[1]));
	close(TAKE_FD(p.err[1]));
	close(TAKE_FD(p.stray[1]));
	r = child_watch(ctx, &c, &p, cmd->max_output ? cmd->max_output : DEFAULT_MAX_OUTPUT, ret);
	strays_end(p.stray[0], c.pid);
	ret->status = child_reap(&c);
	return r < 0 ? stopped_error(r, cmd->argv[0], e) : 0;
}

bool git_was_killed(const struct git_output *o)
{
	return o->status > SIGNAL_STATUS && sigabbrev_np(o->status - SIGNAL_STATUS);
}

/* Whether a line ends with ": <words>", as git ends one with the words of errno. */
static bool a_line_ends(const char *text, const char *words)
{
	size_t len = strlen(words);
	for (const char *p = text; (p = strstr(p, words)); p += len)
		if (p - text >= 2 && p[-1] == ' ' && p[-2] == ':' && (p[len] == '\n' || !p[len]))
			return true;
	return false;
}

int git_trouble(const struct git_output *o)
{
	static const int codes[] = {
		ENOSPC, EDQUOT, EFBIG, EROFS, EIO, ENOMEM, EMFILE, ENFILE, EAGAIN, EACCES};
	const char *text = buf_cstr(&o->err);
	if (git_was_killed(o))
		return -EIO;
	for (size_t i = 0; o->status != 0 && i < N_ELEMENTS(codes); i++)
		if (a_line_ends(text, strerrordesc_np(codes[i])))
			return -codes[i];
	return o->status != 0 && str_starts(text, "fatal: Out of memory, ") ? -ENOMEM : 0;
}

/* git failed: with its own words, on one line. */
static int failed(const struct git_cmd *cmd, const struct git_output *o, int code, struct err *e)
{
	if (git_was_killed(o))
		return err_set(e, -EIO, "git %s was ended by SIG%s", cmd->argv[0],
			sigabbrev_np(o->status - SIGNAL_STATUS));
	CLEANUP_STR char *words = str_trimmed(buf_cstr(&o->err), o->err.len);
	if (!words)
		return err_nomem(e);
	for (char *p = words; *p; p++)
		if (*p == '\n')
			*p = ' ';
	err_set(e, code, "git %s failed (status %d): %.700s", cmd->argv[0], o->status,
		words[0] ? words : "it did not say why");
	if (e && code == GIT_FAILED)
		e->status = EXIT_IO;
	return code;
}

int git_try(
	const struct git_ctx *ctx, const struct git_cmd *cmd, struct git_output *ret, struct err *e)
{
	int r = git_run(ctx, cmd, ret, e);
	int trouble = r < 0 ? 0 : git_trouble(ret);
	return err_is_machine(trouble) ? failed(cmd, ret, trouble, e) : r;
}

int git_run_ok(
	const struct git_ctx *ctx, const struct git_cmd *cmd, struct git_output *ret, struct err *e)
{
	int r = git_run(ctx, cmd, ret, e);
	if (r < 0 || ret->status == 0)
		return r;
	int trouble = git_trouble(ret);
	return failed(cmd, ret, trouble ? trouble : GIT_FAILED, e);
}
