/* SPDX-License-Identifier: MIT */
/*
 * SQLite behind the store: cached statements, binding by a format, one way to report an error. Only
 * files of core/store include this.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include "store/store.h"

#include <sqlite3.h>

/* Tokens and their sums are cut to it: a sum that overflows is a REAL, refused in its column. */
#define TOKENS_MAX "9007199254740992"

struct db_cached {
	const char *sql; /* a literal: its address is the key */
	sqlite3_stmt *stmt;
};

struct store {
	sqlite3 *db;
	struct db_cached cache[256];
	sqlite3_stmt *rollback; /* prepared, so that it needs no memory when memory is out */
	bool in_transaction;
	int lost; /* why SQLite has rolled that transaction back by itself; 0: it has not */
};

/* The error of the last call, as a negative errno with a message "<what>: <why>". */
int db_error(struct store *s, struct err *e, const char *what);
int db_exec(struct store *s, const char *sql, struct err *e) MUST_CHECK;

/*
 * Prepares (once; sql must be a literal) and binds: i int64_t, s const char * (NULL: SQL NULL; not
 * copied), b bool as int, d double. The statement is reset before. NULL on error.
 */
sqlite3_stmt *db_query(
	struct store *s, struct err *e, const char *sql, const char *format, ...) MUST_CHECK;
/* 1: a row; 0: done (the statement is reset); negative: an error. */
int db_next(struct store *s, sqlite3_stmt *stmt, struct err *e) MUST_CHECK;
/* For a caller that does not read to the end. */
void db_done(sqlite3_stmt *stmt);
/* After a callback gave r for a row: whether that ends the query, which is done with then. A
 * failure that says nothing gets its words here. */
bool db_stopped(sqlite3_stmt *stmt, int r, struct err *e) MUST_CHECK;
/* Runs a statement that gives no rows. */
int db_run(struct store *s, struct err *e, const char *sql, const char *format, ...) MUST_CHECK;
/* The first column of the first row; `otherwise` when there is none. */
int db_int(struct store *s, struct err *e, int64_t otherwise, int64_t *ret, const char *sql,
	const char *format, ...) MUST_CHECK;

static inline const char *col_str(sqlite3_stmt *stmt, int i)
{
	return (const char *)sqlite3_column_text(stmt, i);
}
static inline int64_t col_int(sqlite3_stmt *stmt, int i)
{
	return sqlite3_column_int64(stmt, i);
}
static inline bool col_bool(sqlite3_stmt *stmt, int i)
{
	return sqlite3_column_int(stmt, i) != 0;
}

/* migrations.c */
int store_migrate(struct store *s, struct err *e) MUST_CHECK;
int store_schema_version(struct store *s, int *ret, struct err *e) MUST_CHECK;

#endif
