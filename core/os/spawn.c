/* SPDX-License-Identifier: MIT */
#include "os/spawn.h"

#include "base/buf.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Bytes; far more than what is called before exec needs. */
#define CHILD_STACK ((size_t)64 << 10)

extern char **environ;

void spawn_origin_save(struct spawn_origin *ret)
{
	sigprocmask(SIG_SETMASK, NULL, &ret->mask);
	sigemptyset(&ret->ignored);
	for (int sig = 1; sig < SIGRTMIN; sig++) {
		struct sigaction sa;
		if (sigaction(sig, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN)
			sigaddset(&ret->ignored, sig);
	}
	ret->umask = umask(0);
	umask(ret->umask);
	if (getrlimit(RLIMIT_NOFILE, &ret->nofile) < 0)
		ret->nofile = (struct rlimit){1024, 4096};
}

static const char *envp_get(char *const *envp, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; envp[i]; i++)
		if (strncmp(envp[i], name, len) == 0 && envp[i][len] == '=')
			return envp[i] + len + 1;
	return NULL;
}

/* Looks `file` up as execvp(3) would, in the child's PATH; done here because the child must not
 * allocate. NULL: memory is out. */
static char *resolve_program(const char *file, char *const *envp)
{
	if (strchr(file, '/'))
		return strdup(file);
	const char *path = envp_get(envp, "PATH");
	CLEANUP_STRV char **dirs = strv_split(path ? path : "/usr/bin:/bin", ":");
	if (!dirs)
		return NULL;
	for (size_t i = 0; dirs[i]; i++) {
		CLEANUP_STR char *full = path_join(dirs[i], file);
		struct stat st;
		if (!full)
			return NULL; /* not: the one in the next directory */
		if (stat(full, &st) == 0 && S_ISREG(st.st_mode) && access(full, X_OK) == 0)
			return TAKE(full);
	}
	return strdup(file); /* exec will say ENOENT */
}

static void child_signals(const struct spawn_origin *origin)
{
	for (int sig = 1; sig < NSIG; sig++) {
		if (sig == SIGKILL || sig == SIGSTOP)
			continue;
		struct sigaction sa = {.sa_handler = SIG_DFL};
		if (origin && sig < SIGRTMIN && sigismember(&origin->ignored, sig) == 1)
			sa.sa_handler = SIG_IGN;
		(void)sigaction(sig, &sa, NULL); /* EINVAL for the two that glibc keeps */
	}
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, origin ? &origin->mask : &none, NULL);
}

/* A copy above every number that is wanted; where the limit is lower than that, EINVAL says so. */
static int park(int fd, int top)
{
	int copy = fcntl(fd, F_DUPFD, top + 1);
	return copy >= 0 ? copy : errno == EINVAL ? -EMFILE : -errno;
}

/* Puts every descriptor on its number in the child and closes all others; error_fd survives until
 * exec. */
static int child_fds(const struct spawn *s, int *error_fd)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return -errno;
	int top = 2;
	int parked[3], others[16];
	if (s->n_fds > sizeof(others) / sizeof(others[0]))
		return -E2BIG;
	for (size_t i = 0; i < s->n_fds; i++)
		if (s->fds[i].target > top)
			top = s->fds[i].target;
	/* Out of the way first: any of them may be at the number of another. */
	for (int i = 0; i < 3; i++)
		if ((parked[i] = park(s->stdio[i] >= 0 ? s->stdio[i] : null_fd, top)) < 0)
			return parked[i];
	for (size_t i = 0; i < s->n_fds; i++)
		if ((others[i] = park(s->fds[i].fd, top)) < 0)
			return others[i];
	int error = park(*error_fd, top);
	if (error < 0 || fcntl(error, F_SETFD, FD_CLOEXEC) < 0)
		return error < 0 ? error : -errno;
	*error_fd = error;
	for (int i = 0; i < 3; i++)
		if (dup2(parked[i], i) < 0)
			return -errno;
	for (size_t i = 0; i < s->n_fds; i++)
		if (dup2(others[i], s->fds[i].target) < 0)
			return -errno;
	/* Numbers between the targets may still hold something of ours. */
	for (int fd = 3; fd < top; fd++) {
		bool wanted = false;
		for (size_t i = 0; i < s->n_fds; i++)
			wanted |= s->fds[i].target == fd;
		if (!wanted)
			close(fd);
	}
	if (syscall(SYS_close_range, (unsigned)top + 1, (unsigned)error - 1, 0U) < 0 ||
		syscall(SYS_close_range, (unsigned)error + 1, ~0U, 0U) < 0) {
		for (int fd = top + 1; fd < 65536; fd++)
			if (fd != error)
				close(fd);
	}
	return 0;
}

static void child_oom_score(const char *adj)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!write(fd, adj, strlen(adj)); /* a hint to the kernel, not a promise */
	close(fd);
}

/* All that is to be done in a new child before its program runs. System calls only, no allocation.
 * 0 or -errno. */
static int child_prepare(const struct spawn *s, int *error_fd, pid_t parent)
{
	if (s->new_session)
		(void)setsid(); /* cannot fail: a fresh child leads no group */
	if (s->death_signal) {
		prctl(PR_SET_PDEATHSIG, (unsigned long)s->death_signal);
		/* 0: the parent lives outside of our process namespace. */
		pid_t now = getppid();
		if (now != parent && now != 0)
			_exit(127);
	}
	if (s->oom_score_adj)
		child_oom_score(s->oom_score_adj);
	int r = child_fds(s, error_fd);
	if (r < 0)
		return r;
	if (s->cwd && chdir(s->cwd) < 0)
		return -errno;
	if (s->origin) {
		umask(s->origin->umask);
		struct rlimit now, want = s->origin->nofile;
		/* The hard limit stays as it is now; only root could raise it back. */
		if (getrlimit(RLIMIT_NOFILE, &now) == 0) {
			want.rlim_max = now.rlim_max;
			setrlimit(RLIMIT_NOFILE, &want);
		}
	}
	child_signals(s->origin);
	return 0;
}

static int enter_cgroup(int cgroup_fd)
{
	int fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = write(fd, "0", 1) < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* What a child needs between vfork and exec. */
struct child {
	const struct spawn *spawn;
	const char *program;
	char *const *envp;
	int error_fd; /* -errno is written to it on failure */
	pid_t parent;
	bool enters; /* its cgroup, by itself */
};

static _Noreturn void child_run(const struct child *c)
{
	int error_fd = c->error_fd;
	int r = c->enters ? enter_cgroup(c->spawn->cgroup_fd) : 0;
	if (r == 0)
		r = child_prepare(c->spawn, &error_fd, c->parent);
	if (r == 0) {
		execve(c->program, c->spawn->argv, c->envp);
		r = -errno;
	}
	(void)!write(error_fd, &r,
		sizeof(r)); /* the parent reads EOF as success: nothing better to do */
	_exit(127);
}

/* Where libc keeps the number of this thread, which is the only one; NULL: the kernel does not say.
 */
static pid_t *tid_address(void)
{
	pid_t *address = NULL;
	return prctl(PR_GET_TID_ADDRESS, &address) == 0 ? address : NULL;
}

/* In a child that libc has not forked: what fork would have done about that number. */
static void take_tid(pid_t *address)
{
	if (address)
		*address = (pid_t)syscall(SYS_set_tid_address, address);
}

static struct clone_args into_cgroup(int cgroup_fd, uint64_t flags)
{
	return (struct clone_args){
		.flags = CLONE_INTO_CGROUP | flags,
		.exit_signal = SIGCHLD,
		.cgroup = (unsigned)cgroup_fd,
	};
}

static pid_t clone_with(struct clone_args args)
{
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* A container that forbids clone3, or an older kernel. */
static bool knows_no_clone3(int error)
{
	return error == ENOSYS || error == EINVAL || error == E2BIG;
}

/*
 * vfork(2), born in a cgroup. No libc has that, and a child that shares our memory needs a stack of
 * its own, which no function can return on; so it calls child_run from there. Otherwise (no
 * stack to be had, another processor, a sanitizer that knows each stack) the child gets a copy of
 * our memory, which takes longer, and we wait all the same.
 */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SHARES_MEMORY 1
static pid_t clone_onto_stack(struct clone_args *args, const struct child *c)
{
	long r = SYS_clone3;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %[child], %%rdi\n\t"
			 "call *%[run]\n"
			 "1:"
			 : "+a"(r)
			 : "D"(args), "S"(sizeof(*args)), [run] "r"(child_run), [child] "r"(c)
			 : "rcx", "r11", "memory", "cc");
	errno = r < 0 ? (int)-r : 0;
	return r < 0 ? -1 : (pid_t)r;
}
#endif

static pid_t vfork_into_cgroup(int cgroup_fd, const struct child *c)
{
	struct clone_args args = into_cgroup(cgroup_fd, CLONE_VFORK);
	pid_t pid;
#ifdef SHARES_MEMORY
	void *stack = mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack != MAP_FAILED) {
		args.flags |= CLONE_VM;
		args.stack = (uintptr_t)stack;
		args.stack_size = CHILD_STACK;
		pid = clone_onto_stack(&args, c);
		int clone_errno = errno;
		munmap(stack, CHILD_STACK);
		errno = clone_errno;
		return pid;
	}
#endif
	pid = clone_with(args);
	if (pid == 0)
		child_run(c);
	return pid;
}

/* The child does not come back from here. */
static pid_t child_start(struct child *c)
{
	int cgroup_fd = c->spawn->cgroup_fd;
	pid_t pid = cgroup_fd >= 0 ? vfork_into_cgroup(cgroup_fd, c) : -1;
	if (cgroup_fd >= 0 && (pid >= 0 || !knows_no_clone3(errno)))
		return pid;
	c->enters = cgroup_fd >= 0;
	pid = vfork();
	if (pid == 0)
		child_run(c);
	return pid;
}

/* fork(2) for the caller with a single thread, born in the cgroup where that can be done. */
static pid_t fork_into_cgroup(int cgroup_fd, bool *ret_is_in)
{
	pid_t *address = tid_address();
	pid_t pid = cgroup_fd >= 0 && address ? clone_with(into_cgroup(cgroup_fd, 0)) : -1;
	*ret_is_in = cgroup_fd < 0 || pid >= 0;
	if (pid < 0)
		return fork();
	if (pid == 0)
		take_tid(address);
	return pid;
}

static _Noreturn void forked_run(
	const struct spawn *s, int (*fn)(void *arg), void *arg, int null_fd, pid_t parent)
{
	if (child_prepare(s, &null_fd, parent) < 0)
		_exit(127);
	close(null_fd);
	if (s->envp)
		environ = (char **)(uintptr_t)s->envp;
	_exit(fn(arg));
}

int spawn_fork(
	const struct spawn *s, int (*fn)(void *arg), void *arg, pid_t *ret_pid, struct err *e)
{
	CLEANUP(closep) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return err_errno(e, -errno, "cannot open '/dev/null'");
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t parent = getpid();
	bool is_in;
	pid_t pid = fork_into_cgroup(s->cgroup_fd, &is_in);
	if (pid == 0 && !is_in && enter_cgroup(s->cgroup_fd) < 0)
		_exit(127);
	if (pid == 0)
		forked_run(s, fn, arg, null_fd, parent);
	int fork_errno = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return err_errno(e, -fork_errno, "cannot fork");
	*ret_pid = pid;
	return 0;
}

int spawn_sibling(int (*fn)(void *arg), void *arg, pid_t *ret_pid)
{
	pid_t *address = tid_address();
	/* Not clone3, which containers tend to forbid. */
#ifdef __s390x__
	pid_t pid = (pid_t)syscall(SYS_clone, 0UL, (unsigned long)(CLONE_PARENT | SIGCHLD));
#else
	pid_t pid = (pid_t)syscall(
		SYS_clone, (unsigned long)(CLONE_PARENT | SIGCHLD), 0UL, 0UL, 0UL, 0UL);
#endif
	if (pid == 0) {
		take_tid(address);
		(void)setsid(); /* cannot fail: a fresh child leads no group */
		_exit(fn(arg));
	}
	if (pid < 0)
		return -errno;
	*ret_pid = pid;
	return 0;
}

int spawn_process(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
	const char *file = s->file ? s->file : s->argv[0];
	char *const *envp = s->envp ? s->envp : environ;
	CLEANUP_STR char *program = resolve_program(file, envp);
	if (!program)
		return err_nomem(e);
	CLEANUP(closep) int error_read = -1;
	CLEANUP(closep) int error_write = -1;
	int pipe_fds[2];
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "cannot start '%s': pipe", file);
	error_read = pipe_fds[0];
	error_write = pipe_fds[1];

	/* No signal handler of ours may run in the child while it shares our memory. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	struct child child = {s, program, envp, error_write, getpid(), false};
	pid_t pid = child_start(&child);
	int fork_errno = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return err_errno(e, -fork_errno, "cannot start '%s': fork", file);

	close(TAKE_FD(error_write));
	int child_error = 0;
	ssize_t n;
	do {
		n = read(error_read, &child_error, sizeof(child_error));
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(child_error)) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		if (s->cwd && child_error == -ENOENT && access(s->cwd, X_OK) < 0)
			return err_errno(e, child_error, "cannot start '%s' in '%s'", file, s->cwd);
		return err_errno(e, child_error, "cannot start '%s'", file);
	}
	if (ret_pidfd) {
		int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (pidfd < 0) {
			int r = -errno;
			kill(pid, SIGKILL);
			while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
				;
			return err_errno(e, r, "cannot watch '%s': pidfd_open", file);
		}
		*ret_pidfd = pidfd;
	}
	*ret_pid = pid;
	return 0;
}

int spawn_shell_status(int wait_status)
{
	if (WIFEXITED(wait_status))
		return WEXITSTATUS(wait_status);
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : 255;
}
