/* SPDX-License-Identifier: MIT */
/*
 * Real units while the engine's own calls fail (the keeper's do not); see failing.h. Whatever
 * fails, the unit runs once or not at all, a later look finds what became of it, and nothing is
 * left.
 */
#include "failing.h"

#include "units_fixture.h"

#define EVENT_MS 15000 /* then an event is lost */

/* The unit of a point, and what the calls that fail have got of it. */
struct life {
	struct unit_spec spec;
	struct lifecycle *lc;
	struct unit *u;
	struct unit_exit exit;
};

static void begin(struct failing *f, struct life *l, const char *command)
{
	struct err e = ERR_INIT;
	*l = (struct life){.exit = UNIT_EXIT_INIT};
	unit_spec_init(&l->spec, UNIT_INVARIANT);
	assert_int_equal(unit_spec_new_id(&l->spec, &e), 0);
	l->spec.name = strdup("test");
	l->spec.plan = strdup("plan");
	l->spec.cwd = strdup(f->dir);
	l->spec.command = strdup(command);
	l->spec.kill_grace_ms = 300;
	l->spec.containment = *(const enum unit_containment *)f->arg;
}

static void end(struct life *l)
{
	char tmpdir[32];
	snprintf(tmpdir, sizeof(tmpdir), "/tmp/orch-%.8s", l->spec.id);
	if (access(tmpdir, F_OK) == 0)
		fail_msg("%s is left", tmpdir);
	unit_exit_deinit(&l->exit);
	unit_spec_deinit(&l->spec);
	unit_free(l->u);
	lifecycle_close(l->lc);
	assert_nothing_left();
}

static int open_it(struct failing *f, struct life *l, struct err *e)
{
	return lifecycle_open(f->dir, ORCH_SHIM, NULL, &l->lc, e);
}

/* Forgets what the first engine had. */
static void open_again(struct failing *f, struct life *l)
{
	struct err e = ERR_INIT;
	unit_free(l->u);
	lifecycle_close(l->lc);
	l->u = NULL;
	l->lc = NULL;
	if (open_it(f, l, &e) < 0)
		fail_msg("%s", e.msg);
}

static int to_the_end(struct life *l, struct err *e)
{
	for (;;) {
		struct unit_event event;
		int r = unit_read(l->u, &event, e);
		if (r < 0)
			return r;
		if (r == 1 && event.type == UNIT_EVENT_GONE)
			return unit_exit_read(l->u, &l->exit, e);
		if (r == 1)
			continue;
		struct pollfd p = {.fd = unit_fd(l->u), .events = POLLIN};
		if (poll(&p, 1, EVENT_MS) == 0)
			fail_msg("no event came");
	}
}

static int start_it(struct life *l, struct err *e)
{
	return unit_start(l->lc, &l->spec, environ, &l->u, e);
}

/* Nothing fails any more. */
static enum unit_found find(struct life *l)
{
	enum unit_found found;
	struct err e = ERR_INIT;
	if (unit_adopt(l->lc, l->spec.id, &l->u, &found, &e) < 0)
		fail_msg("%s", e.msg);
	return found;
}

static void finish_well(struct life *l)
{
	struct err e = ERR_INIT;
	unit_exit_deinit(&l->exit);
	l->exit = UNIT_EXIT_INIT;
	if (to_the_end(l, &e) < 0)
		fail_msg("%s", e.msg);
}

/* What a later engine makes of it. */
static void resume(struct failing *f, struct life *l)
{
	struct err e = ERR_INIT;
	open_again(f, l);
	switch (find(l)) {
	case UNIT_FOUND_LIVE:
		finish_well(l);
		break;
	case UNIT_FOUND_ENDED:
		unit_exit_deinit(&l->exit);
		l->exit = UNIT_EXIT_INIT;
		if (lifecycle_exit_read(l->lc, l->spec.id, &l->exit, &e) < 0)
			fail_msg("%s", e.msg);
		break;
	case UNIT_FOUND_NEVER_RAN:
		if (start_it(l, &e) < 0)
			fail_msg("%s", e.msg);
		finish_well(l);
		break;
	default:
		fail_msg("it was taken for lost");
	}
}

static void ended_once(struct failing *f, const struct life *l)
{
	assert_int_equal(l->exit.cause, CAUSE_EXITED);
	assert_int_equal(l->exit.exit_code, 3);
	CLEANUP(freep) char *ran = failing_read(f, "ran");
	assert_string_equal(ran, "x\n");
}

/* The calls that may fail are over, with this result. */
static int judge(struct failing *f, struct life *l, int result)
{
	failing_stop();
	if (result < 0)
		resume(f, l);
	ended_once(f, l);
	end(l);
	return result;
}

static const char once[] = "echo x >> ran; exit 3";

static int first_unit(struct failing *f, struct err *e)
{
	struct life l;
	begin(f, &l, once);
	failing_start(f);
	int r = open_it(f, &l, e);
	if (r == 0)
		r = start_it(&l, e);
	if (r == 0)
		r = to_the_end(&l, e);
	return judge(f, &l, r);
}

/* By the nursery. */
static int second_unit(struct failing *f, struct err *e)
{
	struct life l, before;
	begin(f, &before, "true");
	begin(f, &l, once);
	if (open_it(f, &before, e) < 0 || start_it(&before, e) < 0)
		fail_msg("%s", e->msg);
	finish_well(&before);
	unit_free(before.u);
	l.lc = before.lc;
	before.u = NULL;
	before.lc = NULL;
	failing_start(f);
	int r = start_it(&l, e);
	if (r == 0)
		r = to_the_end(&l, e);
	r = judge(f, &l, r);
	end(&before);
	return r;
}

static int adopted(struct failing *f, struct err *e)
{
	struct life l;
	enum unit_found found;
	begin(f, &l, "echo x >> ran; while [ ! -e go ]; do sleep 0.01; done; exit 3");
	if (open_it(f, &l, e) < 0 || start_it(&l, e) < 0)
		fail_msg("%s", e->msg);
	open_again(f, &l);
	failing_start(f);
	int r = unit_adopt(l.lc, l.spec.id, &l.u, &found, e);
	failing_stop();
	assert_true((l.u != NULL) == (r == 0 && found == UNIT_FOUND_LIVE));
	failing_write(f, "go", "now");
	if (r == 0 && found == UNIT_FOUND_LOST && f->forever) {
		/* To us it was a keeper that is not there, or hangs up, for five seconds. */
		const char *what = failing_what();
		assert_true(
			str_eq(what, "connect") || str_eq(what, "send") || str_eq(what, "recv"));
	} else {
		if (r == 0)
			finish_well(&l);
		else
			resume(f, &l);
		ended_once(f, &l);
	}
	end(&l);
	return r;
}

static int lost(struct failing *f, struct err *e)
{
	struct life l;
	struct unit_event event;
	enum unit_found found;
	begin(f, &l, "(setsid sleep 60 &); echo x >> ran; exec sleep 60");
	if (open_it(f, &l, e) < 0 || start_it(&l, e) < 0)
		fail_msg("%s", e->msg);
	assert_true(await_event(l.u, UNIT_EVENT_STARTED, &event));
	kill(unit_keeper_pid(l.u), SIGKILL);
	open_again(f, &l);
	failing_start(f);
	int r = unit_adopt(l.lc, l.spec.id, &l.u, &found, e);
	failing_stop();
	assert_null(l.u);
	if (r == 0)
		assert_int_equal(found, UNIT_FOUND_LOST);
	found = find(&l);
	assert_true(found == UNIT_FOUND_ENDED || (r < 0 && found == UNIT_FOUND_LOST));
	struct err again = ERR_INIT;
	if (lifecycle_exit_read(l.lc, l.spec.id, &l.exit, &again) < 0)
		fail_msg("%s", again.msg);
	assert_int_equal(l.exit.cause, CAUSE_LOST);
	/* Its directory for temporary files may have stayed; every start looks for such. */
	int removed;
	if (lifecycle_tidy(l.lc, &removed, &again) < 0)
		fail_msg("%s", again.msg);
	end(&l);
	return r;
}

int main(void)
{
	static enum unit_containment automatic = CONTAINMENT_AUTO,
				     subreaper = CONTAINMENT_SUBREAPER;
	const struct failing_scenario scenarios[] = {
		{"first unit", first_unit, 0, 0, 3, &automatic, 3},
		{"second unit", second_unit, 0, 0, 3, &automatic, 3},
		{"adopted", adopted, 0, 0, 3, &automatic, 3},
		/* All of /proc is looked through. */
		{"lost", lost, 0, 0, 61, &automatic, 61},
		{"lost, subreaper", lost, 0, 0, 61, &subreaper, 61},
	};
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* Ours has been read; each of these many keepers would look for leaks, which takes longer
	 * than its unit. */
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	return failing_run(scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
}
