/* SPDX-License-Identifier: MIT */
#include "store/db.h"

#include "base/str.h"

int store_seen(struct store *s, char **ret, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e, "SELECT repository FROM seen", "");
	int r = q ? db_next(s, q, e) : (e ? e->code : -EIO);
	if (r < 0)
		return r;
	char *text = r > 0 ? str_dup(col_str(q, 0)) : NULL;
	if (r > 0) {
		db_done(q);
		if (!text)
			return err_nomem(e);
	}
	*ret = text;
	return 0;
}

int store_seen_set(struct store *s, const char *text, struct err *e)
{
	return db_run(s, e,
		"INSERT INTO seen (id, repository) VALUES (1, ?)"
		" ON CONFLICT (id) DO UPDATE SET repository = excluded.repository",
		"s", text);
}
