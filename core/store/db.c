/* SPDX-License-Identifier: MIT */
#include "store/db.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUSY_TIMEOUT_MS 1000
#define RESERVE_BYTES   (4 << 20)

int db_error(struct store *s, struct err *e, const char *what)
{
	int code = -EIO;
	int os_error = sqlite3_system_errno(s->db);
	switch (sqlite3_errcode(s->db)) {
	case SQLITE_FULL:
		code = -ENOSPC;
		break;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		code = -EBUSY;
		break;
	case SQLITE_NOMEM:
		code = -ENOMEM;
		break;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		code = -EBADMSG;
		break;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		code = -EACCES;
		break;
	case SQLITE_CONSTRAINT:
	case SQLITE_MISUSE:
	case SQLITE_ERROR:
	case SQLITE_RANGE:
		code = -EPROTO;
		break;
	case SQLITE_CANTOPEN:
		/* Where it cannot create a file (disk full), SQLite tries to read one, and keeps
		 * only that second error: that there is none. What is missing was looked at before.
		 */
		code = os_error && os_error != ENOENT ? -os_error : -EIO;
		break;
	default:
		break;
	}
	if (s->in_transaction && sqlite3_get_autocommit(s->db))
		s->lost = code;
	(void)err_set(e, code, "database: %s: %s", what, sqlite3_errmsg(s->db));
	if (e && code == -EBUSY)
		e->status = EXIT_IO; /* nobody of ours holds it: we have the lock */
	return code;
}

int db_exec(struct store *s, const char *sql, struct err *e)
{
	if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		return db_error(s, e, sql);
	return 0;
}

static sqlite3_stmt *db_prepare(struct store *s, const char *sql, struct err *e)
{
	size_t n = sizeof(s->cache) / sizeof(s->cache[0]);
	size_t i = ((uintptr_t)sql >> 3) % n;
	while (s->cache[i].sql && s->cache[i].sql != sql)
		i = (i + 1) % n;
	if (!s->cache[i].sql) {
		if (sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->cache[i].stmt,
			    NULL) != SQLITE_OK) {
			(void)db_error(s, e, sql);
			return NULL;
		}
		s->cache[i].sql = sql;
	}
	sqlite3_reset(s->cache[i].stmt);
	return s->cache[i].stmt;
}

static int db_bind(sqlite3_stmt *stmt, const char *format, va_list ap)
{
	for (int i = 0; format[i]; i++) {
		int r = SQLITE_MISUSE;
		const char *text;
		switch (format[i]) {
		case 'i':
			r = sqlite3_bind_int64(stmt, i + 1, va_arg(ap, int64_t));
			break;
		case 'b':
			r = sqlite3_bind_int(stmt, i + 1, va_arg(ap, int) != 0);
			break;
		case 'd':
			r = sqlite3_bind_double(stmt, i + 1, va_arg(ap, double));
			break;
		case 's':
			text = va_arg(ap, const char *);
			r = text ? sqlite3_bind_text(stmt, i + 1, text, -1, SQLITE_STATIC)
				 : sqlite3_bind_null(stmt, i + 1);
			break;
		default:
			break;
		}
		if (r != SQLITE_OK)
			return r;
	}
	return SQLITE_OK;
}

static sqlite3_stmt *db_vquery(
	struct store *s, struct err *e, const char *sql, const char *format, va_list ap)
{
	/* What came after would be kept without what came before. */
	if (s->lost) {
		(void)err_set(e, s->lost, "database: nothing is saved after an earlier error");
		return NULL;
	}
	sqlite3_stmt *stmt = db_prepare(s, sql, e);
	if (stmt && db_bind(stmt, format, ap) != SQLITE_OK) {
		(void)db_error(s, e, sql);
		return NULL;
	}
	return stmt;
}

sqlite3_stmt *db_query(struct store *s, struct err *e, const char *sql, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	sqlite3_stmt *stmt = db_vquery(s, e, sql, format, ap);
	va_end(ap);
	return stmt;
}

int db_next(struct store *s, sqlite3_stmt *stmt, struct err *e)
{
	int r = sqlite3_step(stmt);
	if (r == SQLITE_ROW)
		return 1;
	if (r == SQLITE_DONE) {
		sqlite3_reset(stmt);
		return 0;
	}
	r = db_error(s, e, sqlite3_sql(stmt));
	sqlite3_reset(stmt);
	return r;
}

void db_done(sqlite3_stmt *stmt)
{
	sqlite3_reset(stmt);
}

bool db_stopped(sqlite3_stmt *stmt, int r, struct err *e)
{
	if (r == 0)
		return false;
	if (r == -ENOMEM && e && !e->code)
		err_nomem(e);
	else if (r < 0 && e && !e->code)
		err_set(e, r, "%s", strerror(-r));
	db_done(stmt);
	return true;
}

int db_run(struct store *s, struct err *e, const char *sql, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	sqlite3_stmt *stmt = db_vquery(s, e, sql, format, ap);
	va_end(ap);
	if (!stmt)
		return e ? e->code : -EIO;
	int r = db_next(s, stmt, e);
	if (r > 0) {
		db_done(stmt);
		r = 0;
	}
	return r;
}

int db_int(struct store *s, struct err *e, int64_t otherwise, int64_t *ret, const char *sql,
	const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	sqlite3_stmt *stmt = db_vquery(s, e, sql, format, ap);
	va_end(ap);
	if (!stmt)
		return e ? e->code : -EIO;
	int r = db_next(s, stmt, e);
	if (r < 0)
		return r;
	*ret = r ? col_int(stmt, 0) : otherwise;
	if (r)
		db_done(stmt);
	return 0;
}

/* ---- opening ---- */

static int store_configure(struct store *s, enum store_mode mode, struct err *e)
{
	sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
	sqlite3_extended_result_codes(s->db, 0);
	int r = db_exec(s, "PRAGMA foreign_keys = ON", e);
#ifndef ORCH_DEBUG
	/* The words come from our own tables. SQLite builds a B-tree of each CHECK's list, at every
	 * statement: more work than the statement itself. */
	if (r == 0)
		r = db_exec(s, "PRAGMA ignore_check_constraints = ON", e);
#endif
	if (r == 0 && mode == STORE_WRITE)
		r = db_exec(s, "PRAGMA journal_mode = WAL", e);
	if (r == 0)
		r = db_exec(s,
			mode == STORE_WRITE ? "PRAGMA synchronous = FULL"
					    : "PRAGMA query_only = ON",
			e);
	if (r == 0 && sqlite3_prepare_v3(s->db, "ROLLBACK", -1, SQLITE_PREPARE_PERSISTENT,
			      &s->rollback, NULL) != SQLITE_OK)
		r = db_error(s, e, "ROLLBACK");
	return r;
}

static int store_check_version(
	struct store *s, enum store_mode mode, const char *path, struct err *e)
{
	int version;
	int r = store_schema_version(s, &version, e);
	if (r < 0)
		return r;
	int latest = store_schema_latest();
	if (version > latest)
		return err_set(e, -EPROTO,
			"'%s' was written by a newer orch (schema %d; this one knows %d): nothing "
			"was "
			"changed; use the newer orch, or another repository",
			path, version, latest);
	if (mode == STORE_READ && version < latest)
		return err_set(e, -ESTALE, "'%s' has schema %d and must be upgraded to %d first",
			path, version, latest);
	return mode == STORE_WRITE ? store_migrate(s, e) : 0;
}

/* Without room for it there is nothing to hold back; the database will say so soon enough. */
static void make_reserve(const char *state_dir)
{
	CLEANUP_STR char *path = path_join(state_dir, STORE_RESERVE_FILE);
	CLEANUP(closep)
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
	if (fd >= 0 && posix_fallocate(fd, 0, RESERVE_BYTES) != 0)
		unlink(path);
}

void store_release_reserve(const char *state_dir)
{
	CLEANUP_STR char *path = path_join(state_dir, STORE_RESERVE_FILE);
	if (path)
		unlink(path);
}

int store_open(const char *state_dir, enum store_mode mode, struct store **ret, struct err *e)
{
	CLEANUP_STR char *path = path_join(state_dir, STORE_FILE);
	struct store *fresh = calloc(1, sizeof(*fresh));
	CLEANUP(store_closep) struct store *s = fresh;
	if (!path || !s)
		return err_nomem(e);
	struct stat st;
	if (mode == STORE_READ && stat(path, &st) < 0)
		return err_errno(e, -errno, "cannot open '%s'", path);
	/* Read-write also for readers: they must be able to recover a WAL left by a crash. */
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW |
		    (mode == STORE_WRITE ? SQLITE_OPEN_CREATE : 0);
	mode_t mask = umask(0077);
	int r = sqlite3_open_v2(path, &s->db, flags, NULL);
	umask(mask);
	if (!s->db)
		return err_nomem(e);
	if (r != SQLITE_OK)
		return db_error(s, e, path);
	if (mode == STORE_WRITE)
		make_reserve(state_dir);
	r = store_configure(s, mode, e);
	if (r == 0)
		r = store_check_version(s, mode, path, e);
	if (r < 0)
		return r;
	*ret = TAKE(s);
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < sizeof(s->cache) / sizeof(s->cache[0]); i++)
		sqlite3_finalize(s->cache[i].stmt);
	sqlite3_finalize(s->rollback);
	sqlite3_close(s->db);
	free(s);
}

bool store_has_moved(struct store *s)
{
	int moved = 0;
	return sqlite3_file_control(s->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
	       moved;
}

int store_begin(struct store *s, struct err *e)
{
	int r = db_run(s, e, "BEGIN IMMEDIATE", "");
	s->in_transaction = r == 0;
	return r;
}

int store_commit(struct store *s, struct err *e)
{
	int r = db_run(s, e, "COMMIT", "");
	if (r < 0)
		store_rollback(s);
	s->in_transaction = false;
	return r;
}

void store_rollback(struct store *s)
{
	if (s->in_transaction && !sqlite3_get_autocommit(s->db)) {
		/* If this fails, SQLite has rolled back by itself. */
		sqlite3_step(s->rollback);
		sqlite3_reset(s->rollback);
	}
	s->in_transaction = false;
	s->lost = 0;
}

bool store_in_transaction(const struct store *s)
{
	return s->in_transaction;
}

int store_check(struct store *s, char **ret, struct err *e)
{
	sqlite3_stmt *stmt = db_query(s, e, "PRAGMA integrity_check(1)", "");
	if (!stmt)
		return e ? e->code : -EIO;
	int r = db_next(s, stmt, e);
	if (r <= 0)
		return r < 0 ? r : err_set(e, -EIO, "database: integrity_check said nothing");
	char *text = str_dup(col_str(stmt, 0));
	db_done(stmt);
	if (!text)
		return err_nomem(e);
	*ret = text;
	return 0;
}
