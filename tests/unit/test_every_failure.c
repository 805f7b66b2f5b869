/* SPDX-License-Identifier: MIT */
/* The layers without a database and without git; see failing.h. */
#include "failing.h"

#include "base/diag.h"
#include "base/map.h"
#include "base/str.h"
#include "config/config.h"
#include "config/ini.h"
#include "engine/engine.h"
#include "os/file.h"
#include "os/lock.h"
#include "os/sock.h"
#include "plan/plan.h"
#include "plugin/event.h"
#include "plugin/lines.h"
#include "plugin/options.h"
#include "shim/proto.h"
#include "unit/exit.h"
#include "unit/journal.h"
#include "unit/spec.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* ---- base ---- */

static int base_buf(struct failing *f, struct err *e)
{
	CLEANUP_BUF struct buf b = BUF_INIT;
	failing_start(f);
	for (int i = 0; i < 100; i++)
		buf_addf(&b, "%d ", i);
	buf_adds(&b, "end");
	CLEANUP_STR char *text = buf_check(&b) == 0 ? buf_steal(&b) : NULL;
	failing_stop();
	if (!text)
		return err_nomem(e);
	assert_int_equal(strlen(text), 293);
	assert_true(str_ends(text, " 99 end"));
	return 0;
}

static int base_vec(struct failing *f, struct err *e)
{
	struct VEC(int) v = {0};
	int r = 0;
	failing_start(f);
	for (int i = 0; i < 100 && r == 0; i++) {
		int *slot = VEC_PUSH(&v);
		if (slot)
			*slot = i;
		else
			r = err_nomem(e);
	}
	failing_stop();
	assert_true(r < 0 || v.count == 100);
	for (size_t i = 0; i < v.count; i++)
		assert_int_equal(v.items[i], i);
	VEC_FREE(&v);
	return r;
}

/* What was in the map before a failure stays in it, and it can be used on. */
static int base_map(struct failing *f, struct err *e)
{
	CLEANUP(map_deinit) struct map m = MAP_INIT;
	int failures = 0;
	char key[16];
	failing_start(f);
	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "key%d", i);
		int r = map_put(&m, key, &m);
		if (r == -ENOMEM)
			failures++;
		else
			assert_int_equal(r, 0);
		assert_int_equal(map_get(&m, key) != NULL, r == 0);
	}
	failing_stop();
	assert_int_equal(m.count, 100 - failures);
	assert_true(f->forever || failures <= 1);
	return failures ? err_nomem(e) : 0;
}

static int base_strv(struct failing *f, struct err *e)
{
	CLEANUP_STRV char **v = NULL;
	CLEANUP_STRV char **parts = NULL;
	CLEANUP_STRV char **copy = NULL;
	CLEANUP_STR char *text = NULL;
	CLEANUP_STR char *path = NULL;
	CLEANUP_STR char *safe = NULL;
	CLEANUP_STR char *time = NULL;
	int r = 0;
	failing_start(f);
	for (int i = 0; i < 20 && r == 0; i++) {
		r = strv_add(&v, i % 2 ? "odd" : "even");
		assert_int_equal(strv_len(v), r == 0 ? i + 1 : i);
	}
	parts = r == 0 ? strv_split("a, b ,,c", ",") : NULL;
	copy = parts ? strv_copy(parts) : NULL;
	text = copy ? strv_join(copy, "+") : NULL;
	path = text ? path_join("dir", text) : NULL;
	safe = path ? str_printable("\x1b[1m\xff", 5, false) : NULL;
	time = safe ? format_duration(90000) : NULL;
	if (time)
		r = str_replace(&text, "other");
	failing_stop();
	if (!time || r < 0)
		return err_nomem(e);
	assert_string_equal(path, "dir/a+b+c");
	assert_string_equal(text, "other");
	assert_string_equal(safe, "\\x1b[1m\xef\xbf\xbd");
	assert_string_equal(time, "1m30s");
	return 0;
}

/* A finding that could not be kept still counts: what is wrong stays wrong. */
static int base_diag(struct failing *f, struct err *e)
{
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	char *out = NULL;
	size_t size;
	FILE *stream = open_memstream(&out, &size);
	assert_non_null(stream);
	failing_start(f);
	for (unsigned i = 0; i < 20; i++)
		diags_error(&d, i % 2 ? "b" : "a", i, "number %u", i);
	diags_print(&d, stream);
	failing_stop();
	fclose(stream);
	assert_int_equal(d.errors, 20);
	bool whole = str_starts(out, "a: error: number 0\na:2: error: number 2\n") &&
		     str_ends(out, "b:19: error: number 19\n");
	free(out);
	assert_true(whole || failing_fired());
	return whole ? 0 : err_nomem(e);
}

/* ---- os ---- */

static const char old_text[] = "old";

static char *new_text(void)
{
	char *text = malloc(100001);
	assert_non_null(text);
	memset(text, 'n', 100000);
	text[100000] = '\0';
	return text;
}

static int os_write_atomic(struct failing *f, struct err *e)
{
	failing_write(f, "file", old_text);
	CLEANUP_STR char *fresh = new_text();
	failing_start(f);
	int r = file_write_atomic(f->dirfd, "file", fresh, strlen(fresh), 0600, e);
	failing_stop();
	CLEANUP_STR char *now = failing_read(f, "file");
	assert_non_null(now);
	assert_true(str_eq(now, fresh) || (r < 0 && str_eq(now, old_text)));
	return r;
}

static int os_write_below(struct failing *f, struct err *e)
{
	assert_int_equal(mkdirat(f->dirfd, "sub", 0700), 0);
	failing_start(f);
	int r = file_write_atomic(f->dirfd, "sub/file", "text", 4, 0600, e);
	failing_stop();
	CLEANUP_STR char *now = failing_read(f, "sub/file");
	assert_true(r < 0 ? !now || str_eq(now, "text") : str_eq(now, "text"));
	return r;
}

static int os_read(struct failing *f, struct err *e)
{
	CLEANUP_STR char *fresh = new_text();
	failing_write(f, "file", fresh);
	CLEANUP_BUF struct buf text = BUF_INIT;
	failing_start(f);
	int r = file_read(f->dirfd, "file", 1 << 20, &text, e);
	failing_stop();
	if (r == 0)
		assert_string_equal(buf_cstr(&text), fresh);
	return r;
}

static int os_dirs(struct failing *f, struct err *e)
{
	int fd = -1;
	failing_start(f);
	int r = dir_make(f->dirfd, "a/b/c", 0700, e);
	if (r == 0)
		r = dir_make(f->dirfd, "a/b", 0700, e);
	if (r == 0)
		r = dir_open(f->dirfd, "a/b/c", &fd, e);
	if (r == 0)
		r = dir_sync(fd, "a/b/c", e);
	failing_stop();
	if (r == 0)
		assert_true(file_exists(f->dirfd, "a/b/c"));
	if (fd >= 0)
		close(fd);
	return r;
}

/* After a failure it can be done again; after success nothing is left. */
static int os_remove(struct failing *f, struct err *e)
{
	assert_int_equal(dir_make(f->dirfd, "tree/a/b", 0700, e), 0);
	assert_int_equal(dir_make(f->dirfd, "tree/c", 0700, e), 0);
	assert_int_equal(symlinkat("../keep", f->dirfd, "tree/link"), 0);
	failing_write(f, "keep", "kept");
	failing_write(f, "tree/a/b/x", "x");
	failing_write(f, "tree/c/y", "y");
	assert_int_equal(fchmodat(f->dirfd, "tree/c", 0, 0), 0);
	failing_start(f);
	int r = dir_remove_tree(f->dirfd, "tree", e);
	failing_stop();
	assert_int_equal(file_exists(f->dirfd, "tree"), r < 0);
	assert_true(file_exists(f->dirfd, "keep"));
	struct err again = ERR_INIT;
	assert_int_equal(dir_remove_tree(f->dirfd, "tree", &again), 0);
	assert_false(file_exists(f->dirfd, "tree"));
	return r;
}

static int os_lock(struct failing *f, struct err *e)
{
	CLEANUP(closep) int fd = -1;
	CLEANUP_BUF struct buf holder = BUF_INIT;
	bool held = false;
	failing_start(f);
	int r = lock_take(f->dirfd, "lock", 0, &fd, e);
	if (r == 0)
		r = lock_write_holder(fd, "me", e);
	if (r == 0)
		r = lock_read_holder(f->dirfd, "lock", &holder, e);
	if (r == 0)
		r = lock_is_held(f->dirfd, "lock", &held, e);
	failing_stop();
	assert_true(r <= 0); /* nobody else has it */
	if (r == 0) {
		assert_string_equal(buf_cstr(&holder), "me");
		assert_true(held);
	}
	return r;
}

static int os_sock(struct failing *f, struct err *e)
{
	CLEANUP(closep) int server = -1;
	CLEANUP(closep) int client = -1;
	CLEANUP(closep) int conn = -1;
	CLEANUP_STR char *path = path_join(f->dir, "s");
	struct sock_peer peer = {0};
	failing_start(f);
	int r = sock_listen(f->dirfd, "s", 4, &server, e);
	if (r == 0)
		r = sock_connect_path(path, &client, e);
	if (r == 0) {
		r = sock_accept(server, &conn);
		if (r < 0)
			(void)err_errno(e, r, "accept");
	}
	if (r == 0) {
		r = sock_peer(conn, &peer);
		if (r < 0)
			(void)err_errno(e, r, "peer");
	}
	failing_stop();
	if (r == 0)
		assert_int_equal(peer.pid, getpid());
	return r;
}

static int os_fds(struct failing *f, struct err *e)
{
	int pair[2], pipe[2], got[2] = {-1, -1};
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
	char text[16] = "";
	failing_start(f);
	int r = sock_send_fds(pair[0], "two", 4, pipe, 2);
	if (r == 0)
		r = (int)sock_recv_fds(pair[1], text, sizeof(text), got, 2);
	failing_stop();
	if (r > 0) {
		assert_string_equal(text, "two");
		assert_int_equal(write(got[1], "x", 1), 1);
		assert_int_equal(read(pipe[0], text, 1), 1);
		close(got[0]);
		close(got[1]);
	} else if (r < 0) {
		(void)err_errno(e, r, "descriptors");
	}
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(pipe[i]);
	}
	return r;
}

/* ---- unit ---- */

static int fill_spec(struct unit_spec *s)
{
	unit_spec_init(s, UNIT_AGENT);
	memcpy(s->id, "0123456789abcdef0123456789abcdef", UNIT_ID_LEN);
	s->plan = str_dup("plan");
	s->cwd = str_dup("/w \"quoted\"\n\xc3\xa9 and a text that is longer than small buffers");
	s->harness = str_dup("shell");
	s->plugin_path = str_dup("/plugins");
	s->containment = CONTAINMENT_SUBREAPER;
	int r = unit_spec_add_option(s, "model", "big");
	if (r == 0)
		r = unit_spec_add_option(s, "effort", "high");
	if (r == 0)
		r = strv_add(&s->argv, "a b");
	if (r == 0)
		r = strv_add(&s->argv, "");
	if (r == 0)
		r = strv_add(&s->mask_env, "SECRET");
	return r < 0 || !s->plan || !s->cwd || !s->harness || !s->plugin_path ? -ENOMEM : 0;
}

static void assert_same_spec(const struct unit_spec *a, const struct unit_spec *b)
{
	assert_string_equal(a->id, b->id);
	assert_string_equal(a->plan, b->plan);
	assert_string_equal(a->cwd, b->cwd);
	assert_string_equal(a->harness, b->harness);
	assert_string_equal(a->plugin_path, b->plugin_path);
	assert_int_equal(a->containment, b->containment);
	assert_int_equal(a->options.count, b->options.count);
	for (size_t i = 0; i < a->options.count; i++) {
		assert_string_equal(a->options.items[i].key, b->options.items[i].key);
		assert_string_equal(a->options.items[i].value, b->options.items[i].value);
	}
	assert_int_equal(strv_len(a->argv), strv_len(b->argv));
	for (size_t i = 0; i < strv_len(a->argv); i++)
		assert_string_equal(a->argv[i], b->argv[i]);
	assert_int_equal(strv_len(a->mask_env), strv_len(b->mask_env));
}

/* What is half written is never taken for a whole spec. */
static int unit_spec_out(struct failing *f, struct err *e)
{
	CLEANUP_UNIT_SPEC struct unit_spec s = {0};
	CLEANUP_UNIT_SPEC struct unit_spec t = {0};
	failing_start(f);
	int r = fill_spec(&s) < 0 ? err_nomem(e) : unit_spec_new_id(&s, e);
	if (r == 0)
		r = unit_spec_write(f->dirfd, &s, e);
	failing_stop();
	struct err ignored = ERR_INIT;
	int read = unit_spec_read(f->dirfd, &t, &ignored);
	if (read == 0)
		assert_same_spec(&s, &t);
	else
		assert_true(r < 0 && (read == -ENOENT || read == -EBADMSG));
	return r;
}

static int unit_spec_in(struct failing *f, struct err *e)
{
	CLEANUP_UNIT_SPEC struct unit_spec s = {0};
	CLEANUP_UNIT_SPEC struct unit_spec t = {0};
	assert_int_equal(fill_spec(&s), 0);
	assert_int_equal(unit_spec_write(f->dirfd, &s, e), 0);
	failing_start(f);
	int r = unit_spec_read(f->dirfd, &t, e);
	failing_stop();
	if (r == 0)
		assert_same_spec(&s, &t);
	return r;
}

static int append(struct journal *j, const char *kind, const char *text)
{
	json_t *data = json_pack("{s:s}", "text", text);
	if (!data)
		return -ENOMEM;
	int r = journal_append(j, 1, kind, data);
	json_decref(data);
	return r;
}

struct seen {
	int64_t seqs[8];
	char kinds[8][16];
	size_t lens[8], n;
	bool cut[8];
};

static int see(void *user, const struct journal_line *line)
{
	struct seen *seen = user;
	assert_true(seen->n < 8);
	size_t i = seen->n++;
	seen->seqs[i] = line->seq;
	seen->lens[i] = json_string_length(json_object_get(line->data, "text"));
	seen->cut[i] = line->cut;
	snprintf(seen->kinds[i], sizeof(seen->kinds[i]), "%s", line->kind);
	return 0;
}

static void read_journal(struct failing *f, struct seen *seen)
{
	struct err e = ERR_INIT;
	int64_t offset = 0, bad = 0;
	assert_int_equal(journal_read(f->dirfd, &offset, 1 << 20, see, seen, &bad, &e), 0);
	assert_int_equal(bad, 0);
	for (size_t i = 0; i < seen->n; i++)
		assert_int_equal(seen->seqs[i], i + 1);
}

/*
 * Lines that were taken are read back, each whole and once, in order. One that is blocked is
 * written later; one for which there was no memory can be given again.
 */
static int unit_journal_out(struct failing *f, struct err *e)
{
	struct journal j = {.fd = -1};
	CLEANUP_STR char *longer = new_text();
	const char *const texts[] = {"one", longer, "three"};
	int r = journal_open(f->dirfd, &j, e);
	assert_int_equal(r, 0);
	assert_int_equal(append(&j, "message", "first"), 0);
	journal_close(&j);
	struct seen seen = {0};
	size_t taken = 1;
	bool blocked = false;
	failing_start(f);
	r = journal_open(f->dirfd, &j, e);
	for (size_t i = 0; r == 0 && i < 3; i++) {
		r = append(&j, "progress", texts[i]);
		blocked = r == JOURNAL_BLOCKED;
		taken += r == 0 || blocked;
		if (r < 0)
			(void)err_errno(e, r, "append");
		if (blocked)
			r = journal_flush(&j);
		if (r == 0)
			r = journal_sync(&j, e);
	}
	failing_stop();
	/* The disk takes it again. */
	if (j.fd >= 0 && j.pending.len > 0) {
		assert_true(blocked);
		assert_int_equal(journal_flush(&j), 0);
	}
	if (j.fd >= 0)
		assert_int_equal(append(&j, "finding", "last"), 0);
	bool opened = j.fd >= 0;
	journal_close(&j);
	read_journal(f, &seen);
	assert_int_equal(seen.n, taken + opened);
	assert_string_equal(seen.kinds[seen.n - 1], opened ? "finding" : "message");
	if (seen.n > 2 + (size_t)opened) {
		assert_true(seen.cut[2]);
		assert_true(seen.lens[2] > 40000);
	}
	return r;
}

/* Nested data is cut to fit, and says so; nothing is left out without a word. */
static int unit_journal_wide(struct failing *f, struct err *e)
{
	struct journal j = {.fd = -1};
	assert_int_equal(journal_open(f->dirfd, &j, e), 0);
	json_t *data = json_object(), *list = json_array();
	for (int i = 0; i < 30; i++)
		json_array_append_new(list, json_pack("{s:s}", "k", "0123456789"));
	CLEANUP_STR char *longer = new_text();
	json_object_set_new(data, "text", json_string(longer));
	json_object_set_new(data, "list", list);
	json_object_set_new(data, "end", json_true());
	failing_start(f);
	int r = journal_append(&j, 1, "message", data);
	failing_stop();
	json_decref(data);
	journal_close(&j);
	CLEANUP_STR char *text = failing_read(f, UNIT_FILE_JOURNAL);
	if (r == 0) {
		assert_non_null(strstr(text, "\"end\":true},\"cut\":true}\n"));
		size_t n = 0;
		for (const char *p = text; (p = strstr(p, "0123456789")); p++)
			n++;
		assert_int_equal(n, 30);
	} else {
		(void)err_errno(e, r, "append");
		assert_string_equal(text, "");
	}
	return r;
}

/* An event is handed over once, or the reading fails and is done again: none is skipped. */
static int unit_journal_in(struct failing *f, struct err *e)
{
	struct journal j;
	assert_int_equal(journal_open(f->dirfd, &j, e), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(append(&j, "message", "some text of more than 16 bytes"), 0);
	journal_close(&j);
	int64_t offset = 0, bad = 0;
	struct seen seen = {0};
	failing_start(f);
	int r = journal_read(f->dirfd, &offset, 1 << 20, see, &seen, &bad, e);
	failing_stop();
	assert_int_equal(bad, 0);
	if (r == 0 && f->kind != FAILING_SHORT)
		assert_int_equal(seen.n, 3);
	struct err again = ERR_INIT;
	assert_int_equal(journal_read(f->dirfd, &offset, 1 << 20, see, &seen, &bad, &again), 0);
	assert_int_equal(seen.n, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(seen.seqs[i], i + 1);
		assert_int_equal(seen.lens[i], 31);
	}
	return r;
}

static int unit_journal_first(struct failing *f, struct err *e)
{
	struct journal j;
	assert_int_equal(journal_open(f->dirfd, &j, e), 0);
	assert_int_equal(append(&j, JOURNAL_KIND_STARTED, "x"), 0);
	journal_close(&j);
	failing_start(f);
	int r = journal_has_started(f->dirfd, e);
	failing_stop();
	assert_true(r != 0); /* "it never ran" would start it a second time */
	return r;
}

static void fill_exit(struct unit_exit *x)
{
	x->cause = CAUSE_STALLED;
	x->text = str_dup("why it ended, in more than a few words");
	x->outcome = str_dup("ok");
	x->exit_code = 3;
	x->usage = (struct unit_usage){1, 2, 3, 4, 0.25};
	x->contained = true;
	x->last_message = str_dup("\xff not UTF-8, with \"quotes\" and more");
	assert_true(x->text && x->outcome && x->last_message);
}

static void assert_same_exit(const struct unit_exit *y)
{
	assert_int_equal(y->cause, CAUSE_STALLED);
	assert_string_equal(y->text, "why it ended, in more than a few words");
	assert_string_equal(y->outcome, "ok");
	assert_int_equal(y->exit_code, 3);
	assert_int_equal(y->usage.cache_write, 4);
	assert_true(y->contained);
	assert_string_equal(y->last_message, "\xef\xbf\xbd not UTF-8, with \"quotes\" and more");
}

/* exit.json is there whole, or not at all; a commit that failed can be made again. */
static int unit_exit_out(struct failing *f, struct err *e)
{
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	CLEANUP_UNIT_EXIT struct unit_exit y = UNIT_EXIT_INIT;
	CLEANUP_UNIT_EXIT struct unit_exit z = UNIT_EXIT_INIT;
	struct err ignored = ERR_INIT;
	int reserve = -1;
	fill_exit(&x);
	failing_start(f);
	int r = unit_exit_reserve(f->dirfd, &reserve, e);
	if (r == 0)
		r = unit_exit_commit(f->dirfd, reserve, &x, e);
	failing_stop();
	int loaded = unit_exit_load(f->dirfd, &y, &ignored);
	if (loaded == 0)
		assert_same_exit(&y);
	else
		assert_true(r < 0 && loaded == -ENOENT);
	if (r < 0) {
		assert_int_equal(unit_exit_commit(f->dirfd, -1, &x, &ignored), 0);
		assert_int_equal(unit_exit_load(f->dirfd, &z, &ignored), 0);
		assert_same_exit(&z);
	}
	return r;
}

static int unit_exit_in(struct failing *f, struct err *e)
{
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	CLEANUP_UNIT_EXIT struct unit_exit y = UNIT_EXIT_INIT;
	fill_exit(&x);
	assert_int_equal(unit_exit_commit(f->dirfd, -1, &x, e), 0);
	failing_start(f);
	int r = unit_exit_load(f->dirfd, &y, e);
	failing_stop();
	if (r == 0)
		assert_same_exit(&y);
	return r;
}

#define MEMORY_ONLY (FAILING_ALL & ~(1U << FAILING_MEMORY))
#define NOT_SHORT   (1U << FAILING_SHORT)

static const struct failing_scenario scenarios[] = {
	{"base buf", base_buf, MEMORY_ONLY, 0, 0, NULL},
	{"base vec", base_vec, MEMORY_ONLY, 0, 0, NULL},
	{"base map", base_map, MEMORY_ONLY, 0, 0, NULL},
	{"base strv", base_strv, MEMORY_ONLY, 0, 0, NULL},
	{"base diag", base_diag, MEMORY_ONLY, 0, 0, NULL},
	{"os write atomic", os_write_atomic, 0, 0, 0, NULL},
	{"os write below", os_write_below, 0, 0, 0, NULL},
	{"os read", os_read, 0, 0, 0, NULL},
	{"os dirs", os_dirs, 0, 0, 0, NULL},
	{"os remove", os_remove, 0, 0, 0, NULL},
	{"os lock", os_lock, 0, 0, 0, NULL},
	{"os sock", os_sock, 0, 0, 0, NULL},
	{"os fds", os_fds, 0, 0, 0, NULL},
	{"unit spec out", unit_spec_out, 0, 0, 0, NULL},
	{"unit spec in", unit_spec_in, 0, 0, 0, NULL},
	{"unit journal out", unit_journal_out, 0, 0, 0, NULL},
	{"unit journal wide", unit_journal_wide, NOT_SHORT, 0, 0, NULL},
	{"unit journal in", unit_journal_in, 0, 0, 0, NULL},
	{"unit journal first", unit_journal_first, NOT_SHORT, 0, 0, NULL},
	{"unit exit out", unit_exit_out, 0, 0, 0, NULL},
	{"unit exit in", unit_exit_in, 0, 0, 0, NULL},
};

int main(void)
{
	return failing_run(scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
}
