/* SPDX-License-Identifier: MIT */
/*
 * Limits, pause, and how a unit is ended: it is asked, its whole tree gets SIGTERM, then SIGKILL.
 */
#include "shim/keeper.h"

#include "base/clock.h"
#include "base/str.h"

#include <signal.h>
#include <stdio.h>

#define ORPHAN_GRACE_MS     10000
#define SAMPLE_MIN_MS       100
#define SAMPLE_MAX_MS       30000
#define SAMPLES_PER_SILENCE 8
#define BUSY_DIVISOR        100  /* 1 % of a core */
#define WCHAR_NOISE         4096 /* a process that waits still writes to its own wake-up pipe */
#define RATE_WINDOW_MS      5000

static bool is_set(int64_t limit_ms)
{
	return limit_ms > 0 && limit_ms != DURATION_OFF;
}

static int64_t sample_interval(const struct keeper *k)
{
	int64_t ms = k->spec.silence_ms / SAMPLES_PER_SILENCE;
	return ms < SAMPLE_MIN_MS ? SAMPLE_MIN_MS : ms > SAMPLE_MAX_MS ? SAMPLE_MAX_MS : ms;
}

void ladder_begin(struct keeper *k)
{
	int64_t now = clock_mono_ms();
	k->quiet_since = k->rate_begun_at = now;
	if (is_set(k->spec.timeout_ms))
		k->deadlines[DL_TIMEOUT] = deadline_after(k->spec.timeout_ms);
	if (k->spec.kind == UNIT_AGENT && is_set(k->spec.silence_ms))
		k->deadlines[DL_SAMPLE] = now + sample_interval(k);
}

int64_t ladder_age_ms(const struct keeper *k)
{
	int64_t until = k->paused_at ? k->paused_at : clock_mono_ms();
	return until - k->begun_at - k->paused_ms;
}

void ladder_kill_unit(struct keeper *k)
{
	k->ending = true;
	k->over = true; /* the sweep at the end is the SIGKILL */
}

static void sooner(int64_t *deadline, int64_t at)
{
	if (at < *deadline)
		*deadline = at;
}

void ladder_end_unit(struct keeper *k, int64_t kill_after_ms)
{
	if (kill_after_ms <= 0) {
		ladder_kill_unit(k);
		return;
	}
	sooner(&k->deadlines[DL_KILL], deadline_after(kill_after_ms));
	if (k->ending)
		return;
	k->ending = true;
	if (k->paused_at)
		ladder_resume(k); /* what is stopped does not act on SIGTERM */
	k->deadlines[DL_TIMEOUT] = k->deadlines[DL_SAMPLE] = DEADLINE_NONE;
	int64_t half = kill_after_ms / 2;
	k->deadlines[DL_TERM_TREE] =
		deadline_after(half < k->spec.kill_grace_ms ? half : k->spec.kill_grace_ms);
	k->sort->ask_to_end(k);
}

void ladder_extend(struct keeper *k, int64_t by_ms)
{
	if (by_ms > UNIT_WAITS_MAX_MS - k->waits_ms)
		by_ms = UNIT_WAITS_MAX_MS - k->waits_ms;
	if (by_ms <= 0)
		return;
	k->waits_ms += by_ms;
	if (k->deadlines[DL_TIMEOUT] != DEADLINE_NONE)
		k->deadlines[DL_TIMEOUT] += by_ms;
}

static void term_tree(struct keeper *k)
{
	/* The host is spared: it still has to hand over the result. */
	pid_t spared = k->spec.kind == UNIT_AGENT ? k->main_pid : 0;
	tree_signal(&k->tree, SIGTERM, spared);
	tree_signal(&k->tree, SIGCONT, spared);
}

void ladder_pause(struct keeper *k)
{
	if (k->paused_at || k->ending)
		return;
	tree_freeze(&k->tree);
	k->paused_at = clock_mono_ms();
	ctl_note(k, "paused");
}

void ladder_resume(struct keeper *k)
{
	if (!k->paused_at)
		return;
	static const enum deadline shifted[] = {DL_TIMEOUT, DL_TERM_TREE, DL_SAMPLE};
	tree_thaw(&k->tree);
	int64_t by = clock_mono_ms() - k->paused_at;
	k->paused_at = 0;
	k->paused_ms += by;
	k->quiet_since += by;
	k->rate_begun_at += by;
	for (size_t i = 0; i < sizeof(shifted) / sizeof(shifted[0]); i++)
		if (k->deadlines[shifted[i]] != DEADLINE_NONE)
			k->deadlines[shifted[i]] += by;
	k->sort->shift(k, by);
	ctl_note(k, "resumed");
}

/* Nothing said, next to no CPU, nothing written: is that so for the whole of silence_ms? */
static void sample(struct keeper *k, int64_t now)
{
	struct proc_usage usage;
	int64_t interval = sample_interval(k);
	tree_usage(&k->tree, &usage);
	/* Sums shrink when a process ends whose parent did not wait for it: that is activity too.
	 */
	bool busy = usage.cpu_ms < k->sampled.cpu_ms ||
		    usage.cpu_ms - k->sampled.cpu_ms > (uint64_t)(interval / BUSY_DIVISOR) ||
		    usage.write_bytes != k->sampled.write_bytes ||
		    usage.wchar_bytes < k->sampled.wchar_bytes ||
		    usage.wchar_bytes - k->sampled.wchar_bytes >= WCHAR_NOISE;
	k->sampled = usage;
	if (busy && k->quiet_since < now)
		k->quiet_since = now;
	k->deadlines[DL_SAMPLE] = now + interval;
	if (now - k->quiet_since < k->spec.silence_ms)
		return;
	CLEANUP_STR char *limit = format_duration(k->spec.silence_ms);
	keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_STALLED,
		"for %s no output, no work of its processes, nothing written",
		limit ? limit : "too long");
	ladder_end_unit(k, 2 * k->spec.kill_grace_ms);
}

static void check_rates(struct keeper *k, int64_t now)
{
	int64_t elapsed = now - k->rate_begun_at;
	if (elapsed < RATE_WINDOW_MS || k->ending)
		return;
	const struct unit_spec *s = &k->spec;
	int64_t events = k->rate_events * 1000 / elapsed, bytes = k->rate_bytes * 1000 / elapsed;
	if (s->runaway_events > 0 && events > s->runaway_events)
		keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_RUNAWAY,
			"%lld events a second, more than %lld", (long long)events,
			(long long)s->runaway_events);
	else if (s->runaway_bytes > 0 && bytes > s->runaway_bytes)
		keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_RUNAWAY,
			"%lld bytes of output a second, more than %lld", (long long)bytes,
			(long long)s->runaway_bytes);
	k->rate_begun_at = now;
	k->rate_events = k->rate_bytes = 0;
	if (k->cause_is_set && k->exit.cause == CAUSE_RUNAWAY)
		ladder_end_unit(k, 2 * s->kill_grace_ms);
}

static void time_out(struct keeper *k)
{
	int64_t ms = k->spec.timeout_ms;
	if (ms % 1000 == 0)
		snprintf(k->last_words, sizeof(k->last_words), "timed out after %llds",
			(long long)(ms / 1000));
	else
		snprintf(k->last_words, sizeof(k->last_words), "timed out after %.3fs",
			(double)ms / 1000);
	keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_TIMED_OUT, "%s", k->last_words);
	int64_t grace = k->spec.kill_grace_ms;
	ladder_end_unit(k, k->spec.kind == UNIT_AGENT ? 2 * grace : grace);
}

static bool take(struct keeper *k, enum deadline which, int64_t now)
{
	if (now < k->deadlines[which])
		return false;
	k->deadlines[which] = DEADLINE_NONE;
	return true;
}

void ladder_expired(struct keeper *k, int64_t now)
{
	(void)take(k, DL_LISTEN, now); /* it is polled again */
	if (take(k, DL_HINT, now))
		ctl_hint(k);
	if (take(k, DL_ORPHANED, now)) {
		keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_KILLED, UNIT_EXIT_ORPHANED);
		ladder_end_unit(k, k->spec.kill_grace_ms);
	}
	if (k->paused_at)
		return;
	if (take(k, DL_TIMEOUT, now))
		time_out(k);
	if (take(k, DL_SAMPLE, now))
		sample(k, now);
	if (take(k, DL_TERM_TREE, now))
		term_tree(k);
	if (take(k, DL_KILL, now))
		ladder_kill_unit(k);
	if (k->spec.kind == UNIT_AGENT)
		check_rates(k, now);
}

int64_t ladder_next(const struct keeper *k)
{
	int64_t next = DEADLINE_NONE;
	for (int i = 0; i < DL_COUNT; i++) {
		bool of_unit =
			i != DL_HINT && i != DL_ORPHANED && i != DL_JOURNAL && i != DL_LISTEN;
		if (!(of_unit && k->paused_at))
			sooner(&next, k->deadlines[i]);
	}
	return next;
}
