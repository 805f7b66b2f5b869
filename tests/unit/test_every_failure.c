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
	else if (r == 0 || (read != -ENOENT && read != -EBADMSG))
		fail_msg("%d, then %d: %s", r, read, ignored.msg);
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
	if (r == JOURNAL_BLOCKED) {
		assert_false(str_ends(text, "\n"));
	} else if (r == 0) {
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
	else if (r == 0 || loaded != -ENOENT)
		fail_msg("%d, then %d: %s", r, loaded, ignored.msg);
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

/* ---- config ---- */

static const char system_ini[] = "[orch]\nmax_agents = 3\n; a comment\n[harness:claude]\n"
				 "model = large\npass_env = A*, B\n";
static const char user_ini[] = "[orch]\ntask_timeout = 1h\n[invariant:build]\n"
			       "command =\n\tmake\n\tmake check\ntimeout = 5m\n";
static const char repo_ini[] = "[halt]\ncommit = branch\n[harness:claude]\nmodel* = a%20b%20\n"
			       "max_agents = 2\n";

static int load_config(struct failing *f, struct config **ret, struct diags *d, struct err *e)
{
	static char *environment[] = {(char *)(uintptr_t) "ORCH_ON_CRASH=kill",
		(char *)(uintptr_t) "ORCH_HARNESS_CLAUDE_EFFORT=high", NULL};
	char system_file[96], user_file[96], repo_file[96];
	snprintf(system_file, sizeof(system_file), "%s/system.ini", f->dir);
	snprintf(user_file, sizeof(user_file), "%s/user.ini", f->dir);
	snprintf(repo_file, sizeof(repo_file), "%s/repo.ini", f->dir);
	struct config_sources sources = {
		.system_file = system_file,
		.user_file = user_file,
		.repo_file = repo_file,
		.environment = environment,
	};
	return config_load(&sources, ret, d, e);
}

static void assert_config(const struct config *c)
{
	assert_int_equal(c->orch.max_agents, 3);
	assert_int_equal(c->orch.task_timeout_ms, 3600000);
	assert_int_equal(c->orch.on_crash, CONFIG_ON_CRASH_KILL);
	assert_int_equal(c->halt.commit, CONFIG_HALT_COMMIT_BRANCH);
	const struct config_harness *h = config_harness_find(c, "claude");
	assert_non_null(h);
	assert_int_equal(h->max_agents, 2);
	assert_int_equal(strv_len(h->pass_env), 2);
	assert_int_equal(h->options.count, 2);
	assert_string_equal(h->options.items[0].value, "a b ");
	assert_string_equal(h->options.items[1].value, "high");
	const struct invariant *inv = config_invariant_find(c, "build");
	assert_non_null(inv);
	assert_string_equal(inv->command, "make\nmake check");
	assert_int_equal(inv->timeout_ms, 300000);
	assert_true(str_ends(config_origin(c, "harness", "claude", "model"), "/repo.ini:4"));
}

static void write_config(struct failing *f)
{
	failing_write(f, "system.ini", system_ini);
	failing_write(f, "user.ini", user_ini);
	failing_write(f, "repo.ini", repo_ini);
}

/* A layer that cannot be read is never taken for one that is not there. */
static int config_in(struct failing *f, struct err *e)
{
	CLEANUP_CONFIG struct config *c = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	write_config(f);
	failing_start(f);
	int r = load_config(f, &c, &d, e);
	if (r == 0)
		r = config_set(c, "orch", NULL, "drain_timeout", "7s", "--drain-timeout", e);
	failing_stop();
	if (r == 0) {
		if (d.errors)
			diags_print(&d, stderr);
		assert_int_equal(d.errors, 0);
		assert_config(c);
		assert_int_equal(c->orch.drain_timeout_ms, 7000);
	}
	return r;
}

/* Mistakes are said, or there is no memory; a file with mistakes is never a good one. */
static int config_mistakes(struct failing *f, struct err *e)
{
	CLEANUP_CONFIG struct config *c = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	failing_write(f, "system.ini", "[orch]\nmax_agent = 3\nmax_agents = many\n[none]\nx\n");
	failing_write(f, "user.ini", "[harness:a]\nmax_agents = -1\n[orch]\n[orch]\n");
	failing_start(f);
	int r = load_config(f, &c, &d, e);
	failing_stop();
	if (r == 0)
		assert_true(d.errors >= 5);
	return r;
}

static int config_out(struct failing *f, struct err *e)
{
	CLEANUP_CONFIG struct config *c = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	char *once = NULL, *out = NULL;
	size_t size;
	write_config(f);
	assert_int_equal(load_config(f, &c, &d, e), 0);
	FILE *stream = open_memstream(&once, &size);
	assert_non_null(stream);
	assert_int_equal(config_print(c, stream), 0);
	fclose(stream);
	stream = open_memstream(&out, &size);
	assert_non_null(stream);
	failing_start(f);
	int r = config_print(c, stream);
	failing_stop();
	fclose(stream);
	bool same = str_eq(out, once);
	free(once);
	free(out);
	if (r < 0)
		return err_errno(e, r, "print");
	assert_true(same);
	return 0;
}

/* The text is as it was, or has the whole change. */
static int config_edit(struct failing *f, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_BUF struct buf before = BUF_INIT;
	buf_adds(&text, repo_ini);
	failing_start(f);
	int r = ini_edit_set(&text, "orch", NULL, "setup", "a\n# b ", e);
	failing_stop();
	if (r < 0) {
		assert_string_equal(buf_cstr(&text), repo_ini);
		return r;
	}
	assert_true(str_starts(buf_cstr(&text), repo_ini));
	buf_adds(&before, buf_cstr(&text));
	failing_start(f);
	r = ini_edit_remove(&text, "harness", "claude", NULL, e);
	failing_stop();
	if (r < 0)
		assert_string_equal(buf_cstr(&text), buf_cstr(&before));
	else
		assert_null(strstr(buf_cstr(&text), "claude"));
	return r;
}

/* ---- plan ---- */

static const char plan_text[] =
	"[plan]\nname = demo\nharness = shell\ninvariants = shared\ncopy = .env, a b/*\n"
	"setup =\n\tmake deps\n"
	"[invariant:build]\ncommand = make\nexpect = 2\n"
	"[task:one]\nprompt = A long prompt, in more than one line.\n    # not a comment\n"
	"invariants = build, shared\nretry_max = 1\n"
	"[task:two]\ncommand = true\ndepends_on = one\ngate = human_review\ntimeout = off\n"
	"[task:three]\nprompt_file = prompt.md\ndepends_on = one, two\ntag = a ; tag\n"
	"[state]\nstatus = halted\nreason = stopped\n"
	"[state:one]\nstatus = passed\nattempt = 2\noutcome = ok\ntokens = input 1, output 2, "
	"cache_read 3, "
	"cache_write 4\n";

static struct invariant shared_invariant = {
	.name = (char *)(uintptr_t) "shared",
	.command = (char *)(uintptr_t) "make check",
	.timeout_ms = 1000,
};
static const struct plan_context context = {.shared = &shared_invariant, .n_shared = 1};

static int parse_plan(
	struct failing *f, const char *text, struct plan **ret, struct diags *d, struct err *e)
{
	return plan_parse_text("plan.ini", f->dir, text, strlen(text), &context, ret, d, e);
}

static struct plan *good_plan(struct failing *f)
{
	struct plan *plan = NULL;
	struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	failing_write(f, "prompt.md", "from a file");
	int r = parse_plan(f, plan_text, &plan, &d, &e);
	diags_print(&d, stderr);
	diags_deinit(&d);
	assert_int_equal(r, 0);
	return plan;
}

static char *exported(const struct plan *p)
{
	struct buf out = BUF_INIT;
	assert_int_equal(plan_export(p, PLAN_EXPORT_STATE, &out), 0);
	return buf_steal(&out);
}

static int plan_in(struct failing *f, struct err *e)
{
	CLEANUP_PLAN struct plan *good = good_plan(f);
	CLEANUP_PLAN struct plan *plan = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	failing_write(f, "plan.ini", plan_text);
	CLEANUP_STR char *path = path_join(f->dir, "plan.ini");
	failing_start(f);
	int r = plan_parse_file(path, &context, &plan, &d, e);
	failing_stop();
	if (r < 0) {
		assert_null(plan);
		return r;
	}
	CLEANUP_STR char *want = exported(good);
	CLEANUP_STR char *got = exported(plan);
	assert_string_equal(got, want);
	return 0;
}

static int plan_mistakes(struct failing *f, struct err *e)
{
	static const char text[] = "[plan]\nname = demo\n[task:a]\nprompt = x\ndepends_on = b, a\n"
				   "[task:b]\ncommand = x\ndepends_on = a, nobody\ngate = maybe\n"
				   "[task:c]\ninvariants = other\n";
	struct plan *plan = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	failing_start(f);
	int r = parse_plan(f, text, &plan, &d, e);
	failing_stop();
	assert_true(r < 0);
	assert_null(plan);
	if (r != -EBADMSG)
		return r;
	assert_true(d.errors > 0);
	/* The answer that is wanted here; only its text may have suffered. */
	assert_non_null(strstr(e->msg, "plan.ini"));
	return 0;
}

static int plan_out(struct failing *f, struct err *e)
{
	CLEANUP_PLAN struct plan *plan = good_plan(f);
	CLEANUP_STR char *want = exported(plan);
	CLEANUP_BUF struct buf out = BUF_INIT;
	failing_start(f);
	int r = plan_export(plan, PLAN_EXPORT_STATE, &out);
	failing_stop();
	if (r < 0)
		return err_errno(e, r, "export");
	assert_string_equal(buf_cstr(&out), want);
	return 0;
}

static int plan_differences(struct failing *f, struct err *e)
{
	CLEANUP_PLAN struct plan *a = good_plan(f);
	CLEANUP_PLAN struct plan *b = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	assert_int_equal(parse_plan(f,
				 "[plan]\nname = demo\nbase = main\n[task:one]\nprompt = y\n"
				 "[task:four]\ncommand = x\n[invariant:build]\ncommand = z\n",
				 &b, &d, e),
		0);
	struct plan_diff diff = PLAN_DIFF_INIT;
	CLEANUP_BUF struct buf text = BUF_INIT;
	failing_start(f);
	int r = plan_diff(a, b, &diff);
	for (size_t i = 0; r == 0 && i < diff.changes.count; i++) {
		CLEANUP_STR char *line = plan_change_text(&diff.changes.items[i], a, b);
		if (line)
			buf_addf(&text, "%s\n", line);
		r = line ? buf_check(&text) : -ENOMEM;
	}
	failing_stop();
	size_t n = diff.changes.count;
	plan_diff_deinit(&diff);
	if (r < 0)
		return err_errno(e, r, "differences");
	assert_int_equal(n, 14);
	assert_non_null(strstr(buf_cstr(&text), "task 'four'"));
	assert_non_null(strstr(buf_cstr(&text), "base"));
	return 0;
}

/* The plan has the whole change or none. */
static int plan_change(struct failing *f, struct err *e)
{
	CLEANUP_PLAN struct plan *plan = good_plan(f);
	CLEANUP_STR char *before = exported(plan);
	failing_start(f);
	int r = plan_set(plan, "two", "invariants", "build, shared", &context, e);
	failing_stop();
	CLEANUP_STR char *after = exported(plan);
	if (r < 0)
		assert_string_equal(after, before);
	else
		assert_int_equal(plan->tasks.items[1].n_invariants, 2);
	return r;
}

static int plan_of_prompt(struct failing *f, struct err *e)
{
	CLEANUP_PLAN struct plan *plan = NULL;
	failing_start(f);
	int r = plan_from_prompt("Fix the login page, and test it.", &plan, e);
	failing_stop();
	if (r == 0)
		assert_string_equal(
			plan->tasks.items[0].prompt, "Fix the login page, and test it.");
	return r;
}

/* ---- plugin ---- */

static int plugin_event(struct failing *f, struct err *e)
{
	static const char line[] = "{\"kind\":\"tool_result\",\"data\":{\"id\":\"call-1\","
				   "\"ok\":true,\"output\":\"some \xff output\",\"more\":[1,2]}}";
	enum orch_event_kind kind = ORCH_EVENT_MESSAGE;
	json_t *data = NULL;
	char *text = NULL;
	size_t len = 0;
	failing_start(f);
	int r = event_parse_line(line, sizeof(line) - 1, &kind, &data, e);
	if (r == 0)
		text = event_encode(kind, data, &len);
	failing_stop();
	json_decref(data);
	if (r == 0 && !text)
		return err_nomem(e);
	if (r == 0)
		assert_string_equal(text,
			"{\"kind\":\"tool_result\",\"data\":{\"id\":\"call-1\",\"ok\":true,"
			"\"output\":\"some \xef\xbf\xbd output\",\"more\":[1,2]}}");
	free(text);
	return r;
}

/* A long event is cut, says so and keeps what its kind must have. */
static int plugin_event_cut(struct failing *f, struct err *e)
{
	CLEANUP_STR char *longer = new_text();
	json_t *data = json_pack("{s:s,s:s,s:s}", "id", "call-1", "name", "sh", "note", longer);
	json_object_set_new(data, "input", json_pack("{s:s}", "text", longer));
	char *text;
	size_t len = 0;
	failing_start(f);
	text = event_encode(ORCH_EVENT_TOOL_CALL, data, &len);
	failing_stop();
	json_decref(data);
	if (!text)
		return err_nomem(e);
	assert_int_equal(len, strlen(text));
	assert_true(len <= EVENT_MAX_BYTES && len > 1000);
	assert_non_null(strstr(text, "\"id\":\"call-1\""));
	assert_non_null(strstr(text, "\"name\":\"sh\""));
	assert_non_null(strstr(text, "\"input\":"));
	assert_non_null(strstr(text, "\"cut\":true"));
	assert_true(str_ends(text, "}}"));
	free(text);
	return 0;
}

static const struct orch_option option_table[] = {
	ORCH_OPTION("model", ORCH_OPTION_STRING, "large", "which model"),
	ORCH_OPTION("loud", ORCH_OPTION_BOOL, "no", "a switch"),
	ORCH_OPTION("rest", ORCH_OPTION_DURATION, "1m30s", "a time"),
	ORCH_OPTIONS_END,
};

static int plugin_options(struct failing *f, struct err *e)
{
	static const struct plugin_setting settings[] = {{"model", "other"}, {"loud", "on"}};
	CLEANUP(option_values_deinit) struct option_values v = OPTION_VALUES_INIT;
	failing_start(f);
	int r = options_check_table(option_table, e);
	if (r == 0)
		r = options_resolve(option_table, settings, 2, &v, e);
	failing_stop();
	if (r == 0) {
		assert_string_equal(option_values_get(&v, "model")->text, "other");
		assert_string_equal(option_values_get(&v, "loud")->text, "yes");
		assert_int_equal(option_values_get(&v, "rest")->number, 90000);
	}
	return r;
}

struct heard {
	char text[64];
};

static void hear(void *user, int stream, const char *line, size_t len, unsigned int line_flags)
{
	struct heard *heard = user;
	(void)stream;
	(void)len;
	(void)line_flags;
	size_t at = strlen(heard->text);
	snprintf(heard->text + at, sizeof(heard->text) - at, "%s|", line);
}

/* A line that was cut by a lost part is not silently another line. */
static int plugin_lines(struct failing *f, struct err *e)
{
	CLEANUP(lines_deinit) struct lines l = LINES_INIT;
	struct heard heard = {""};
	char one[] = "first\nsec", two[] = "ond\nthi", three[] = "rd";
	failing_start(f);
	int r = lines_feed(&l, one, strlen(one), 1, hear, &heard);
	if (r == 0)
		r = lines_feed(&l, two, strlen(two), 1, hear, &heard);
	if (r == 0)
		r = lines_feed(&l, three, strlen(three), 1, hear, &heard);
	if (r == 0)
		lines_end(&l, 1, hear, &heard);
	failing_stop();
	if (r < 0)
		return err_errno(e, r, "lines");
	assert_string_equal(heard.text, "first|second|third|");
	return 0;
}

/* ---- shim ---- */

/* What was accepted arrives, whole and in order. */
static int shim_proto(struct failing *f, struct err *e)
{
	int fds[2];
	CLEANUP(proto_writer_deinit) struct proto_writer w = PROTO_WRITER_INIT;
	CLEANUP(proto_reader_deinit) struct proto_reader reader = PROTO_READER_INIT;
	CLEANUP_BUF struct buf got = BUF_INIT;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	failing_start(f);
	int r = proto_send(fds[0], PROTO_LOG, 1, 0, "0123456789", 10);
	if (r == 0)
		r = proto_write(&w, PROTO_PROC_OUTPUT, 1, 7, "abc", 3);
	if (r == 0)
		r = proto_write_json(
			&w, PROTO_EVENT, 0, json_pack("{s:s}", "kind", "a text of some length"));
	if (r == 0)
		r = proto_writer_flush(&w, fds[0]);
	if (r == 0)
		r = proto_send_json(fds[0], PROTO_RESULT, 0, json_pack("{s:i}", "rc", 5));
	if (r < 0)
		(void)err_errno(e, r, "write");
	for (int n = 0; r == 0 && n < 4;) {
		struct proto_frame frame;
		r = proto_reader_feed(&reader, fds[1]);
		if (r == -EINTR)
			r = 1;
		if (r < 0)
			(void)err_errno(e, r, "feed");
		while (r > 0 && (r = proto_reader_next(&reader, &frame, e)) == 1) {
			json_t *json = NULL;
			n++;
			if (frame.type == PROTO_EVENT || frame.type == PROTO_RESULT)
				r = proto_frame_json(&frame, &json, e);
			buf_addf(&got, "%u:%s ", frame.type, frame.data);
			json_decref(json);
			r = r < 0 ? r : 1;
		}
	}
	failing_stop();
	close(fds[0]);
	close(fds[1]);
	if (r == 0 && buf_check(&got) < 0)
		r = err_nomem(e);
	if (r == 0)
		assert_string_equal(buf_cstr(&got), "35:0123456789 5:abc 36:{\"kind\":\"a text of "
						    "some length\"} 42:{\"rc\":5} ");
	return r;
}

/* ---- engine ---- */

static int build_engine(struct engine **ret)
{
	const struct engine_config config = {
		.max_agents = 4, .drain_ms = 1000, .backoff_ms = 1000, .backoff_max_ms = 1000};
	const struct engine_plan_init plan = {
		.status = PLAN_RUNNING, .admit = ADMIT_ALL, .worktrees = true};
	const struct engine_breaker_init breaker = {0};
	const struct engine_harness_init harness = {0};
	struct engine *engine = engine_new(&config);
	uint32_t index, tasks[10];
	int r = engine ? engine_add_breaker(engine, &breaker, &index) : -ENOMEM;
	if (r == 0)
		r = engine_add_harness(engine, &harness, &index);
	if (r == 0)
		r = engine_add_plan(engine, &plan, &index);
	for (uint32_t i = 0; r == 0 && i < 10; i++) {
		const struct engine_task_init task = {
			.id = i,
			.mode = MODE_PENDING,
			.has_checks = true,
			.candidate = true,
			.retry_max = 1,
		};
		r = engine_add_task(engine, &task, &tasks[i]);
		if (r == 0 && i > 0)
			r = engine_add_dependency(engine, tasks[i], tasks[(i - 1) / 2]);
	}
	*ret = engine;
	return r;
}

/* Runs a plan to its end, or to a step for which there is no memory: then nothing goes on. */
static int engine_life(struct failing *f, struct err *e)
{
	CLEANUP(engine_freep) struct engine *engine = NULL;
	struct engine_actions actions = ENGINE_ACTIONS_INIT;
	int64_t now = 0;
	failing_start(f);
	int r = build_engine(&engine);
	bool built = r == 0;
	if (r == 0)
		r = engine_begin(engine, now, &actions);
	if (r < 0)
		(void)err_nomem(e);
	for (size_t i = 0; r == 0 && i < actions.list.count; i++) {
		struct engine_action a = actions.list.items[i];
		struct engine_event ev = {.task = a.task, .now = ++now, .plan = ENGINE_NONE};
		if (a.kind == ACT_PREPARE) {
			ev.kind = EVENT_PREPARED;
		} else if (a.kind == ACT_START) {
			ev.kind = EVENT_STARTED;
			r = engine_step(engine, &ev, &actions, e);
			ev.kind = EVENT_ENDED;
			ev.outcome = OUTCOME_OK;
			ev.text = "it ended";
		} else if (a.kind == ACT_COMMIT) {
			ev.kind = EVENT_COMMITTED;
		} else if (a.kind == ACT_GATE) {
			ev.kind = EVENT_GATED;
			/* One attempt is red, and tried again at once. */
			ev.result = a.task == 1 && engine_task(engine, 1)->attempt == 1
					    ? RESULT_FAILED
					    : RESULT_DONE;
			ev.text = "red";
		} else if (a.kind == ACT_MERGE) {
			ev.kind = EVENT_MERGED;
		} else {
			continue;
		}
		if (r == 0)
			r = engine_step(engine, &ev, &actions, e);
	}
	failing_stop();
	if (r < 0 && built) {
		struct err again = ERR_INIT;
		const struct engine_event tick = {
			.kind = EVENT_TICK, .now = ++now, .plan = ENGINE_NONE};
		/* What could not be built is only freed. */
		if (built)
			assert_int_equal(engine_step(engine, &tick, &actions, &again), -ENOMEM);
	}
	if (r == 0) {
		assert_true(engine_is_done(engine));
		assert_int_equal(engine_plan_count(engine, 0, TASK_PASSED), 10);
	}
	engine_actions_deinit(&actions);
	return r;
}

#define MEMORY_ONLY (FAILING_ALL & ~(1U << FAILING_MEMORY))
#define NOT_SHORT   (1U << FAILING_SHORT)

static const struct failing_scenario scenarios[] = {
	{"base buf", base_buf, MEMORY_ONLY, 0, 0, NULL, 0},
	{"base vec", base_vec, MEMORY_ONLY, 0, 0, NULL, 0},
	{"base map", base_map, MEMORY_ONLY, 0, 0, NULL, 0},
	{"base strv", base_strv, MEMORY_ONLY, 0, 0, NULL, 0},
	{"base diag", base_diag, MEMORY_ONLY, 0, 0, NULL, 0},
	{"os write atomic", os_write_atomic, 0, 0, 0, NULL, 0},
	{"os write below", os_write_below, 0, 0, 0, NULL, 0},
	{"os read", os_read, 0, 0, 0, NULL, 0},
	{"os dirs", os_dirs, 0, 0, 0, NULL, 0},
	{"os remove", os_remove, 0, 0, 0, NULL, 0},
	{"os lock", os_lock, 0, 0, 0, NULL, 0},
	{"os sock", os_sock, 0, 0, 0, NULL, 0},
	{"os fds", os_fds, 0, 0, 0, NULL, 0},
	{"unit spec out", unit_spec_out, 0, 0, 0, NULL, 0},
	{"unit spec in", unit_spec_in, 0, 0, 0, NULL, 0},
	{"unit journal out", unit_journal_out, 0, 0, 0, NULL, 0},
	{"unit journal wide", unit_journal_wide, NOT_SHORT, 0, 0, NULL, 0},
	{"unit journal in", unit_journal_in, 0, 0, 0, NULL, 0},
	{"unit journal first", unit_journal_first, NOT_SHORT, 0, 0, NULL, 0},
	{"unit exit out", unit_exit_out, 0, 0, 0, NULL, 0},
	{"unit exit in", unit_exit_in, 0, 0, 0, NULL, 0},
	{"config in", config_in, 0, 0, 0, NULL, 0},
	{"config mistakes", config_mistakes, 0, 0, 0, NULL, 0},
	{"config out", config_out, MEMORY_ONLY, 0, 0, NULL, 0},
	{"config edit", config_edit, MEMORY_ONLY, 0, 0, NULL, 0},
	{"plan in", plan_in, 0, 0, 0, NULL, 0},
	{"plan mistakes", plan_mistakes, MEMORY_ONLY, 0, 0, NULL, 0},
	{"plan out", plan_out, MEMORY_ONLY, 0, 0, NULL, 0},
	{"plan differences", plan_differences, MEMORY_ONLY, 0, 0, NULL, 0},
	{"plan change", plan_change, MEMORY_ONLY, 0, 0, NULL, 0},
	{"plan of a prompt", plan_of_prompt, MEMORY_ONLY, 0, 0, NULL, 0},
	{"plugin event", plugin_event, MEMORY_ONLY, 0, 0, NULL, 0},
	{"plugin event cut", plugin_event_cut, MEMORY_ONLY, 0, 0, NULL, 0},
	{"plugin options", plugin_options, MEMORY_ONLY, 0, 0, NULL, 0},
	{"plugin lines", plugin_lines, MEMORY_ONLY, 0, 0, NULL, 0},
	{"shim proto", shim_proto, 0, 0, 0, NULL, 0},
	{"engine life", engine_life, MEMORY_ONLY, 0, 0, NULL, 0},
};

int main(void)
{
	return failing_run(scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
}
