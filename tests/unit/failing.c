/* SPDX-License-Identifier: MIT */
#include "failing.h"

#include "base/log.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const kind_names[] = {"memory", "write", "call", "interrupt", "short"};

static struct {
	bool armed, fired, forever, traced;
	enum failing_kind kind;
	unsigned long at, count;
	const char *after; /* the call that is waited for; NULL: none */
	const char *what;  /* the first call that failed */
	char point[120];   /* for the report; "" between points */
	int report;        /* what standard error was at the beginning */
} fault;

/* Of all that follows: workers call, too. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- what is allocated ---- */

#define LEDGER_SIZE (1U << 15)
#define GONE        ((void *)1)

static struct {
	bool on;
	size_t live;
	void *slots[LEDGER_SIZE];
} ledger;

static size_t slot_of(const void *p)
{
	return (size_t)(((uintptr_t)p >> 4) * 0x9E3779B97F4A7C15ULL >> 40) % LEDGER_SIZE;
}

static void *noted(void *p)
{
	if (!p || !ledger.on)
		return p;
	pthread_mutex_lock(&lock);
	if (ledger.live > LEDGER_SIZE / 2)
		abort();
	size_t i = slot_of(p);
	while (ledger.slots[i] && ledger.slots[i] != GONE)
		i = (i + 1) % LEDGER_SIZE;
	ledger.slots[i] = p;
	ledger.live++;
	pthread_mutex_unlock(&lock);
	return p;
}

/* What was allocated elsewhere is not known here. */
static void forget(const void *p)
{
	if (!p || !ledger.on)
		return;
	pthread_mutex_lock(&lock);
	for (size_t i = slot_of(p); ledger.slots[i]; i = (i + 1) % LEDGER_SIZE) {
		if (ledger.slots[i] == p) {
			ledger.slots[i] = GONE;
			ledger.live--;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
}

static void ledger_begin(void)
{
	memset(ledger.slots, 0, sizeof(ledger.slots));
	ledger.live = 0;
	ledger.on = true;
}

/* ---- the wrapped calls ---- */

/* The sanitizers' own; absent without one. */
void __sanitizer_print_stack_trace(void) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static bool is_struck(unsigned long n, const char *name)
{
	if (n < fault.at || (n > fault.at && !fault.forever))
		return false;
	/* Others go on: what cleans up after the one that fails. */
	if (n > fault.at && fault.kind == FAILING_CALL && strcmp(name, fault.what) != 0)
		return false;
	if (!fault.fired)
		fault.what = name;
	fault.fired = true;
	if (fault.traced && n == fault.at && __sanitizer_print_stack_trace) {
		fault.armed = false;
		fprintf(stderr, "%s fails at\n", name);
		__sanitizer_print_stack_trace();
		fault.armed = true;
	}
	return true;
}

/* Whether this call, which all of these kinds concern, fails now. */
static bool strikes(unsigned kinds, const char *name)
{
	if (!fault.armed || (!fault.after && !(kinds & (1U << fault.kind))))
		return false;
	pthread_mutex_lock(&lock);
	bool struck = false;
	if (!fault.after)
		struck = is_struck(++fault.count, name);
	else if (strcmp(name, fault.after) == 0)
		fault.after = NULL;
	pthread_mutex_unlock(&lock);
	return struck;
}

#define MEMORY    (1U << FAILING_MEMORY)
#define ROOM      (1U << FAILING_WRITE | CALL)
#define CALL      (1U << FAILING_CALL)
#define INTERRUPT (1U << FAILING_INTERRUPT)
#define SHORT     (1U << FAILING_SHORT)

/* The error of this kind of failure; `otherwise` where the call itself may fail. */
static int error_now(int otherwise)
{
	switch (fault.kind) {
	case FAILING_MEMORY:
		return ENOMEM;
	case FAILING_WRITE:
		return ENOSPC;
	case FAILING_INTERRUPT:
		return EINTR;
	default:
		return otherwise;
	}
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **ret, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_vasprintf(char **ret, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
int __wrap___vasprintf_chk(char **ret, int flag, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);

static bool no_memory(const char *name)
{
	if (!strikes(MEMORY, name))
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return no_memory("malloc") ? NULL : noted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return no_memory("calloc") ? NULL : noted(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t size)
{
	if (no_memory("realloc"))
		return NULL;
	forget(p);
	return noted(__real_realloc(p, size));
}

void __wrap_free(void *p)
{
	forget(p);
	__real_free(p);
}

char *__wrap_strdup(const char *s)
{
	return no_memory("strdup") ? NULL : noted(__real_strdup(s));
}

char *__wrap_strndup(const char *s, size_t n)
{
	return no_memory("strndup") ? NULL : noted(__real_strndup(s, n));
}

int __wrap_vasprintf(char **ret, const char *fmt, va_list ap)
{
	if (no_memory("vasprintf")) {
		*ret = (char *)1; /* "the contents of strp are undefined", asprintf(3) */
		return -1;
	}
	int n = __real_vasprintf(ret, fmt, ap);
	if (n >= 0)
		noted(*ret);
	return n;
}

/* What _FORTIFY_SOURCE makes of it. */
int __wrap___vasprintf_chk(char **ret, int flag, const char *fmt, va_list ap)
{
	(void)flag;
	return __wrap_vasprintf(ret, fmt, ap);
}

/* A call that returns -1 with errno. */
#define WRAP(type, name, kinds, error, params, args) \
	type __real_##name params; \
	type __wrap_##name params; \
	type __wrap_##name params \
	{ \
		if (strikes(kinds, #name)) { \
			errno = error_now(error); \
			return (type)-1; \
		} \
		return __real_##name args; \
	}

/* The same for what moves bytes, and may move fewer. */
#define WRAP_BYTES(name, kinds, params, args, half) \
	ssize_t __real_##name params; \
	ssize_t __wrap_##name params; \
	ssize_t __wrap_##name params \
	{ \
		if (strikes((kinds) | (len > 1 ? SHORT : 0), #name)) { \
			/* A disk that is full for good takes a part of the last write. */ \
			if (fault.kind == FAILING_SHORT || \
				(fault.kind == FAILING_WRITE && fault.forever && \
					fault.count == fault.at && len > 1)) \
				return __real_##name half; \
			errno = error_now(EIO); \
			return -1; \
		} \
		return __real_##name args; \
	}

WRAP_BYTES(read, CALL | INTERRUPT, (int fd, void *data, size_t len), (fd, data, len),
	(fd, data, len / 2))
WRAP_BYTES(pread, CALL, (int fd, void *data, size_t len, off_t at), (fd, data, len, at),
	(fd, data, len / 2, at))
WRAP_BYTES(write, ROOM | INTERRUPT, (int fd, const void *data, size_t len), (fd, data, len),
	(fd, data, len / 2))
WRAP_BYTES(pwrite, ROOM | INTERRUPT, (int fd, const void *data, size_t len, off_t at),
	(fd, data, len, at), (fd, data, len / 2, at))
WRAP_BYTES(send, CALL | INTERRUPT, (int fd, const void *data, size_t len, int flags),
	(fd, data, len, flags), (fd, data, len / 2, flags))
WRAP_BYTES(recv, CALL | INTERRUPT, (int fd, void *data, size_t len, int flags),
	(fd, data, len, flags), (fd, data, len / 2, flags))
WRAP_BYTES(readlink, CALL, (const char *path, char *data, size_t len), (path, data, len),
	(path, data, len))
WRAP_BYTES(getrandom, CALL, (void *data, size_t len, unsigned flags), (data, len, flags),
	(data, len / 2, flags))

/* A whole message with its descriptors, or nothing. */
WRAP(ssize_t, sendmsg, CALL | INTERRUPT, EPIPE, (int fd, const struct msghdr *m, int flags),
	(fd, m, flags))
WRAP(ssize_t, recvmsg, CALL | INTERRUPT, ECONNRESET, (int fd, struct msghdr *m, int flags),
	(fd, m, flags))
WRAP(int, fallocate, ROOM | INTERRUPT, EIO, (int fd, int mode, off_t at, off_t len),
	(fd, mode, at, len))
WRAP(int, ftruncate, ROOM, EIO, (int fd, off_t len), (fd, len))
WRAP(int, mkdir, ROOM, EIO, (const char *path, mode_t mode), (path, mode))
WRAP(int, mkdirat, ROOM, EIO, (int fd, const char *path, mode_t mode), (fd, path, mode))
WRAP(int, rename, ROOM, EIO, (const char *from, const char *to), (from, to))
WRAP(int, renameat, ROOM, EIO, (int fd, const char *from, int to_fd, const char *to),
	(fd, from, to_fd, to))
WRAP(int, symlink, ROOM, EIO, (const char *to, const char *path), (to, path))
WRAP(int, symlinkat, ROOM, EIO, (const char *to, int fd, const char *path), (to, fd, path))
WRAP(int, unlink, CALL, EIO, (const char *path), (path))
WRAP(int, unlinkat, CALL, EIO, (int fd, const char *path, int flags), (fd, path, flags))
WRAP(int, rmdir, CALL, EIO, (const char *path), (path))
WRAP(int, fstat, CALL, EIO, (int fd, struct stat *st), (fd, st))
WRAP(int, stat, CALL, EIO, (const char *path, struct stat *st), (path, st))
WRAP(int, lstat, CALL, EIO, (const char *path, struct stat *st), (path, st))
WRAP(int, fstatat, CALL, EIO, (int fd, const char *path, struct stat *st, int flags),
	(fd, path, st, flags))
WRAP(int, fstatfs, CALL, EIO, (int fd, struct statfs *fs), (fd, fs))
WRAP(int, fchmod, CALL, EIO, (int fd, mode_t mode), (fd, mode))
WRAP(int, fchmodat, CALL, EIO, (int fd, const char *path, mode_t mode, int flags),
	(fd, path, mode, flags))
WRAP(int, flock, CALL | INTERRUPT, ENOLCK, (int fd, int how), (fd, how))
WRAP(off_t, lseek, CALL, EIO, (int fd, off_t at, int whence), (fd, at, whence))
WRAP(int, pipe2, CALL, EMFILE, (int fds[2], int flags), (fds, flags))
WRAP(int, socket, CALL, EMFILE, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, bind, CALL, EIO, (int fd, const struct sockaddr *a, socklen_t len), (fd, a, len))
WRAP(int, listen, CALL, EADDRINUSE, (int fd, int backlog), (fd, backlog))
WRAP(int, connect, CALL | INTERRUPT, ECONNREFUSED,
	(int fd, const struct sockaddr *a, socklen_t len), (fd, a, len))
WRAP(int, accept4, CALL | INTERRUPT, EMFILE,
	(int fd, struct sockaddr *a, socklen_t *len, int flags), (fd, a, len, flags))
WRAP(int, getsockopt, CALL, EIO, (int fd, int level, int name, void *value, socklen_t *len),
	(fd, level, name, value, len))
WRAP(int, memfd_create, CALL, EMFILE, (const char *name, unsigned flags), (name, flags))
WRAP(pid_t, waitpid, INTERRUPT, EINTR, (pid_t pid, int *status, int flags), (pid, status, flags))
WRAP(int, poll, INTERRUPT, EINTR, (struct pollfd * fds, nfds_t n, int timeout), (fds, n, timeout))

/* What reaches the disk when is not looked at here, and takes long. */
#define WRAP_SYNC(name) \
	int __wrap_##name(int fd); \
	int __wrap_##name(int fd) \
	{ \
		(void)fd; \
		if (!strikes(ROOM, #name)) \
			return 0; \
		errno = error_now(EIO); \
		return -1; \
	}

WRAP_SYNC(fsync)
WRAP_SYNC(fdatasync)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_openat(int dirfd, const char *path, int flags, ...);
int __wrap_openat(int dirfd, const char *path, int flags, ...);
int __real_fcntl(int fd, int op, ...);
int __wrap_fcntl(int fd, int op, ...);
DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
struct dirent *__real_readdir(DIR *dir);
struct dirent *__wrap_readdir(DIR *dir);
int __real_posix_fallocate(int fd, off_t at, off_t len);
int __wrap_posix_fallocate(int fd, off_t at, off_t len);

static bool open_fails(int flags)
{
	if (!strikes(flags & O_CREAT ? ROOM : CALL, "open"))
		return false;
	errno = error_now(EMFILE);
	return true;
}

static mode_t mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int __wrap_open(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_fails(flags) ? -1 : __real_open(path, flags, mode);
}

int __wrap_openat(int dirfd, const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_fails(flags) ? -1 : __real_openat(dirfd, path, flags, mode);
}

int __wrap_fcntl(int fd, int op, ...)
{
	va_list ap;
	va_start(ap, op);
	long arg = va_arg(ap, long);
	va_end(ap);
	if (strikes(CALL, "fcntl")) {
		errno = EIO;
		return -1;
	}
	return __real_fcntl(fd, op, arg);
}

DIR *__wrap_opendir(const char *path)
{
	if (strikes(CALL | MEMORY, "opendir")) {
		errno = error_now(EMFILE);
		return NULL;
	}
	return __real_opendir(path);
}

DIR *__wrap_fdopendir(int fd)
{
	if (strikes(CALL | MEMORY, "fdopendir")) {
		errno = error_now(EIO);
		return NULL;
	}
	return __real_fdopendir(fd);
}

struct dirent *__wrap_readdir(DIR *dir)
{
	if (strikes(CALL, "readdir")) {
		errno = EIO;
		return NULL;
	}
	return __real_readdir(dir);
}

int __wrap_posix_fallocate(int fd, off_t at, off_t len)
{
	return strikes(ROOM, "posix_fallocate") ? error_now(EIO)
						: __real_posix_fallocate(fd, at, len);
}

bool failing_call(const char *name)
{
	return strikes(CALL, name);
}

/* ---- SQLite ---- */

static void *sqlite_alloc(int size)
{
	return malloc((size_t)size);
}

static void *sqlite_grow(void *p, int size)
{
	return realloc(p, (size_t)size);
}

static void sqlite_release(void *p)
{
	free(p);
}

static int sqlite_size(void *p)
{
	return (int)malloc_usable_size(p);
}

static int sqlite_round(int size)
{
	return (size + 7) & ~7;
}

static int sqlite_begin(void *data)
{
	(void)data;
	return SQLITE_OK;
}

static void sqlite_end(void *data)
{
	(void)data;
}

static int sqlite_open(const char *path, int flags, int mode)
{
	return open(path, flags, (mode_t)mode);
}

static int sqlite_fcntl(int fd, int op, ...)
{
	va_list ap;
	va_start(ap, op);
	long arg = va_arg(ap, long);
	va_end(ap);
	/* A lock is always given back. */
	if (op == F_SETLK && ((const struct flock *)arg)->l_type == F_UNLCK)
		return __real_fcntl(fd, op, arg);
	return fcntl(fd, op, arg);
}

static void *sqlite_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (strikes(CALL, "mmap")) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return mmap(at, len, prot, flags, fd, offset);
}

/* The unix VFS calls fsync(2) by itself. */
static struct {
	sqlite3_vfs vfs;
	int (*open)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
	sqlite3_io_methods methods;
	const sqlite3_io_methods *of_unix;
} files;

static int sqlite_sync(sqlite3_file *file, int flags)
{
	(void)file;
	(void)flags;
	return strikes(ROOM, "fsync") ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int sqlite_open_file(
	sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
	int r = files.open(vfs, name, file, flags, ret_flags);
	if (r == SQLITE_OK && !files.of_unix) {
		files.of_unix = file->pMethods;
		files.methods = *file->pMethods;
		files.methods.xSync = sqlite_sync;
	}
	if (r == SQLITE_OK && file->pMethods == files.of_unix)
		file->pMethods = &files.methods;
	return r;
}

/* A lock that fails is taken for one that is held, which is waited for in no time. Others are held
 * by another process, which needs its time. */
static int sqlite_sleep(sqlite3_vfs *vfs, int microseconds)
{
	(void)vfs;
	if (!fault.armed || !fault.fired)
		usleep((useconds_t)microseconds);
	return microseconds;
}

void failing_sqlite(void)
{
	static sqlite3_mem_methods memory = {
		.xMalloc = sqlite_alloc,
		.xFree = sqlite_release,
		.xRealloc = sqlite_grow,
		.xSize = sqlite_size,
		.xRoundup = sqlite_round,
		.xInit = sqlite_begin,
		.xShutdown = sqlite_end,
	};
#define CALL_OF(name, fn) \
	{ \
		name, (sqlite3_syscall_ptr)(fn) \
	}
	static const struct {
		const char *name;
		sqlite3_syscall_ptr fn;
	} calls[] = {
		CALL_OF("open", sqlite_open),
		CALL_OF("stat", stat),
		CALL_OF("lstat", lstat),
		CALL_OF("fstat", fstat),
		CALL_OF("ftruncate", ftruncate),
		CALL_OF("fcntl", sqlite_fcntl),
		CALL_OF("read", read),
		CALL_OF("pread", pread),
		CALL_OF("pread64", pread),
		CALL_OF("write", write),
		CALL_OF("pwrite", pwrite),
		CALL_OF("pwrite64", pwrite),
		CALL_OF("fchmod", fchmod),
		CALL_OF("fallocate", posix_fallocate),
		CALL_OF("unlink", unlink),
		CALL_OF("mmap", sqlite_mmap),
	};
#undef CALL_OF
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &memory), SQLITE_OK);
	assert_int_equal(sqlite3_initialize(), SQLITE_OK);
	sqlite3_vfs *of_unix = sqlite3_vfs_find(NULL);
	assert_non_null(of_unix);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		assert_int_equal(
			of_unix->xSetSystemCall(of_unix, calls[i].name, calls[i].fn), SQLITE_OK);
	files.vfs = *of_unix;
	files.vfs.zName = "failing";
	files.open = of_unix->xOpen;
	files.vfs.xOpen = sqlite_open_file;
	files.vfs.xSleep = sqlite_sleep;
	assert_int_equal(sqlite3_vfs_register(&files.vfs, 1), SQLITE_OK);
}

/* ---- a scenario's helpers ---- */

void failing_start(struct failing *f)
{
	failing_start_after(f, NULL);
}

void failing_start_after(struct failing *f, const char *name)
{
	(void)f;
	fault.count = 0;
	fault.after = name;
	fault.armed = true;
}

void failing_stop(void)
{
	fault.armed = false;
}

bool failing_fired(void)
{
	return fault.fired;
}

const char *failing_what(void)
{
	return fault.what;
}

char *failing_read(struct failing *f, const char *name)
{
	struct buf text = BUF_INIT;
	struct err e = ERR_INIT;
	int r = file_read(f->dirfd, name, 64 << 20, &text, &e);
	if (r == -ENOENT)
		return NULL;
	assert_int_equal(r, 0);
	return buf_steal(&text);
}

void failing_write(struct failing *f, const char *name, const char *text)
{
	struct err e = ERR_INIT;
	assert_int_equal(file_write_new(f->dirfd, name, text, strlen(text), 0600, &e), 0);
}

/* ---- the runner ---- */

#define HANGS_S     60 /* a point that takes so long ends this program */

#define DESCRIPTORS 256

/* How many there are among the low numbers: in one call, which is made at every point. */
static int open_descriptors(void)
{
	struct pollfd fds[DESCRIPTORS];
	int n = 0;
	for (int i = 0; i < DESCRIPTORS; i++)
		fds[i] = (struct pollfd){.fd = i};
	assert_true(poll(fds, DESCRIPTORS, 0) >= 0);
	for (int i = 0; i < DESCRIPTORS; i++)
		n += !(fds[i].revents & POLLNVAL);
	return n;
}

/* Removes what a point has left in its place; a temporary file must not be there. */
static void empty_place(struct failing *f, bool with_temporary)
{
	DIR *dir = opendir(f->dir);
	const struct dirent *entry;
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		struct err e = ERR_INIT;
		size_t len = strlen(entry->d_name);
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (!with_temporary && len > 4 && strcmp(entry->d_name + len - 4, ".tmp") == 0)
			fail_msg("'%s' is left", entry->d_name);
		if (dir_remove_tree(f->dirfd, entry->d_name, &e) < 0)
			fail_msg("%s", e.msg);
	}
	closedir(dir);
}

static void open_place(struct failing *f)
{
	snprintf(f->dir, sizeof(f->dir), "/tmp/orch-test-failing-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dirfd >= 0);
}

static void close_place(struct failing *f)
{
	close(f->dirfd);
	assert_int_equal(rmdir(f->dir), 0);
}

static void check_result(
	const struct failing_scenario *s, const struct failing *f, int r, const struct err *e)
{
	if (!fault.fired) {
		if (r < 0)
			fail_msg("nothing failed, but %d: %s", r, e->msg);
		return;
	}
	if (r >= 0)
		return;
	if (!(s->flags & FAILING_QUIET) && (!e->msg[0] || e->code != r))
		fail_msg("%d, but the message is %d: '%s'", r, e->code, e->msg);
	if (f->kind == FAILING_MEMORY && r != -ENOMEM && !(s->flags & FAILING_ANY_CODE))
		fail_msg("out of memory became %d: %s", r, e->msg);
	if (f->kind == FAILING_INTERRUPT)
		fail_msg("an interrupted call became %d: %s", r, e->msg);
}

/* One point; whether the fault was met. */
static bool run_point(const struct failing_scenario *s, struct failing *f, unsigned long n)
{
	struct err e = ERR_INIT;
	fault.kind = f->kind;
	fault.forever = f->forever;
	fault.at = n;
	f->even = !f->even;
	fault.fired = false;
	fault.what = "nothing";
	snprintf(fault.point, sizeof(fault.point), "%s:%s:%lu%s", s->name, kind_names[f->kind], n,
		f->forever ? "+" : "");
	alarm(HANGS_S);
	int before = open_descriptors();
	ledger_begin();
	int r = s->run(f, &e);
	fault.armed = false;
	ledger.on = false;
	check_result(s, f, r, &e);
	if (ledger.live > 0)
		fail_msg("%zu blocks of memory are lost", ledger.live);
	if (open_descriptors() != before)
		fail_msg("descriptors: %d, not %d", open_descriptors(), before);
	empty_place(f, f->forever && strncmp(fault.what, "unlink", 6) == 0);
	alarm(0);
	fault.point[0] = '\0';
	return fault.fired;
}

/* What a process of failing_process tells of its end. */
struct process_end {
	int result, descriptors; /* more, or fewer, than before */
	size_t blocks;           /* of memory that are lost */
	unsigned long count;
	bool fired;
	const char *what;
};

static struct process_end run_counted(
	struct failing *f, int (*fn)(struct failing *f), const char *after)
{
	int before = open_descriptors();
	ledger_begin();
	failing_start_after(f, after);
	int result = fn(f);
	failing_stop();
	ledger.on = false;
	return (struct process_end){.result = result,
		.descriptors = open_descriptors() - before,
		.blocks = ledger.live,
		.count = fault.count,
		.fired = fault.fired,
		.what = fault.what};
}

int failing_process(
	struct failing *f, int (*fn)(struct failing *f), const char *after, int *ret_status)
{
	struct process_end end = {0};
	int fds[2], status;
	if (fault.at == 0) { /* what libraries keep from now on is there in each process */
		failing_start_after(f, after);
		int result = fn(f);
		failing_stop();
		return result;
	}
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		close(fds[0]);
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		alarm(HANGS_S);
		end = run_counted(f, fn, after);
		fflush(NULL);
		_exit(write(fds[1], &end, sizeof(end)) != sizeof(end));
	}
	assert_true(pid > 0);
	close(fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	bool told = read(fds[0], &end, sizeof(end)) == sizeof(end);
	close(fds[0]);
	fault.fired = !told || end.fired;
	if (!told) {
		if (!WIFEXITED(status))
			fail_msg("the process ended by signal %d", WTERMSIG(status));
		*ret_status = WEXITSTATUS(status);
		return -ECHILD;
	}
	fault.count = end.count;
	fault.what = end.what;
	if (end.blocks > 0)
		fail_msg("%zu blocks of memory are lost", end.blocks);
	if (end.descriptors != 0)
		fail_msg("%+d descriptors", end.descriptors);
	return end.result;
}

static void say_point(void)
{
	if (fault.point[0])
		dprintf(fault.report, "at EVERY_FAILURE=%s (%s)\n", fault.point, fault.what);
}

static void on_alarm(int signal)
{
	(void)signal;
	say_point();
	_exit(1);
}

/* Splits "name:kind:n[+]"; false when it is for another scenario. */
static bool chosen(const char *point, const char *name, struct failing *f, unsigned long *ret_n)
{
	size_t len = strlen(name);
	if (strncmp(point, name, len) != 0 || point[len] != ':')
		return false;
	const char *kind = point + len + 1;
	for (unsigned i = 0; i < FAILING_KIND_COUNT; i++) {
		len = strlen(kind_names[i]);
		if (strncmp(kind, kind_names[i], len) == 0 && kind[len] == ':') {
			char *end;
			f->kind = (enum failing_kind)i;
			*ret_n = strtoul(kind + len + 1, &end, 10);
			f->forever = *end == '+';
			return true;
		}
	}
	return false;
}

static void run_kind(
	const struct failing_scenario *s, struct failing *f, unsigned step, unsigned long *points)
{
	for (unsigned long n = 1; run_point(s, f, n); n += step)
		++*points;
}

static void run_scenario(void **state)
{
	const struct failing_scenario *s = *state;
	const char *point = getenv("EVERY_FAILURE");
	bool all = point && strcmp(point, "all") == 0;
	bool most = all || (point && strcmp(point, "most") == 0);
	struct failing f = {.arg = s->arg};
	unsigned long n = 0, points = 0;
	if (point && !most && !chosen(point, s->name, &f, &n))
		skip();
	open_place(&f);
	if (point && !most) {
		fault.traced = true;
		run_point(s, &f, n);
		print_message("%lu calls counted\n", fault.count);
		close_place(&f);
		return;
	}
	/* What libraries keep from their first use on is no leak. */
	(void)run_point(s, &f, 0);
	for (unsigned kind = 0; kind < FAILING_KIND_COUNT; kind++) {
		if (s->without & (1U << kind))
			continue;
		bool memory = kind == FAILING_MEMORY;
		bool each = memory && (s->flags & FAILING_MANY) ? all : most;
		unsigned stride = memory ? s->stride : s->call_stride;
		stride = stride == 0 || all ? 1 : stride;
		f.kind = (enum failing_kind)kind;
		f.forever = false;
		run_kind(s, &f, each ? 1 : stride, &points);
		if (kind == FAILING_INTERRUPT || kind == FAILING_SHORT)
			continue;
		f.forever = true;
		run_kind(s, &f, stride, &points);
	}
	close_place(&f);
	print_message("%s: %lu points\n", s->name, points);
	assert_true(points > 0);
}

static int report(void **state)
{
	(void)state;
	fault.armed = ledger.on = false;
	say_point();
	fault.point[0] = '\0';
	return 0;
}

static void *json_alloc(size_t size)
{
	return malloc(size);
}

static void json_release(void *p)
{
	free(p);
}

int failing_run(const struct failing_scenario *scenarios, size_t n)
{
	log_set_level(LOG_LEVEL_ERROR);
	fault.report = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	signal(SIGALRM, on_alarm);
	signal(SIGPIPE, SIG_IGN);
	json_set_alloc_funcs(json_alloc, json_release);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(say_point);
	struct CMUnitTest *tests = calloc(n, sizeof(*tests));
	if (!tests)
		return 1;
	for (size_t i = 0; i < n; i++)
		tests[i] = (struct CMUnitTest){
			.name = scenarios[i].name,
			.test_func = run_scenario,
			.teardown_func = report,
			.initial_state = (void *)(uintptr_t)&scenarios[i],
		};
	int failed = _cmocka_run_group_tests("every failure", tests, n, NULL, NULL);
	free(tests);
	return failed;
}
