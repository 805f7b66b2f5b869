/* SPDX-License-Identifier: MIT */
/* What is remembered of harnesses: breakers, and what plans have spent through them. */
#include "store/db.h"

#include <errno.h>

int store_breaker(struct store *s, const char *credential, int64_t *ret_open_until,
	int64_t *ret_level, struct err *e)
{
	int64_t level = 0;
	int r = db_int(s, e, 0, ret_open_until,
		"SELECT open_until FROM breaker WHERE credential = ?", "s", credential);
	if (r == 0)
		r = db_int(s, e, 0, &level, "SELECT level FROM breaker WHERE credential = ?", "s",
			credential);
	if (r == 0)
		*ret_level = level;
	return r;
}

int store_breaker_set(
	struct store *s, const char *credential, int64_t open_until, int64_t level, struct err *e)
{
	return db_run(s, e,
		"INSERT INTO breaker (credential, open_until, level) VALUES (?, ?, ?)"
		" ON CONFLICT (credential) DO UPDATE SET open_until = excluded.open_until,"
		" level = excluded.level",
		"sii", credential, open_until, level);
}

int store_each_spent(struct store *s, int64_t plan_id, spent_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e,
		"SELECT a.harness,"
		" CAST(min(total(a.tokens_input + a.tokens_output + a.tokens_cache_write),"
		" " TOKENS_MAX ") AS INTEGER)"
		" FROM attempt a JOIN task t ON t.id = a.task_id WHERE t.plan_id = ?"
		" GROUP BY a.harness ORDER BY a.harness",
		"i", plan_id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		r = fn(ctx, col_str(q, 0), col_int(q, 1));
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}
