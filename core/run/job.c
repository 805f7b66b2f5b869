/* SPDX-License-Identifier: MIT */
#include "run/state.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

static void job_release(struct job *job)
{
	if (job->cancel_fd >= 0)
		close(job->cancel_fd);
	job->free(job);
}

/* ---- the threads ---- */

static void push(struct job ***end, struct job *job)
{
	job->next = NULL;
	**end = job;
	*end = &job->next;
}

static void *worker_run(void *arg)
{
	struct workers *w = arg;
	pthread_mutex_lock(&w->lock);
	for (;;) {
		w->idle++;
		while (!w->todo && !w->ending)
			pthread_cond_wait(&w->work, &w->lock);
		w->idle--;
		struct job *job = w->todo;
		if (!job)
			break;
		w->todo = job->next;
		w->queued--;
		if (!w->todo)
			w->todo_end = &w->todo;
		pthread_mutex_unlock(&w->lock);
		job->perform(job);
		pthread_mutex_lock(&w->lock);
		push(&w->done_end, job);
		uv_async_send(&w->wake);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* One more thread, which takes no signals. */
static int worker_add(struct workers *w)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int code = pthread_create(&w->threads[w->count], NULL, worker_run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->count += code == 0;
	return -code;
}

static struct job *take_done(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	struct job *first = w->done;
	w->done = NULL;
	w->done_end = &w->done;
	pthread_mutex_unlock(&w->lock);
	return first;
}

static void job_over(struct job *job)
{
	struct run *r = job->run;
	r->jobs--;
	r->ended++;
	if (job->live && job->live->job == job)
		job->live->job = NULL;
	if (!r->closing)
		job->done(job);
	job_release(job);
}

static void all_over(struct workers *w)
{
	for (struct job *job = take_done(w), *next; job; job = next) {
		next = job->next;
		job_over(job);
	}
}

static void on_wake(uv_async_t *handle)
{
	all_over(&((struct run *)handle->data)->workers);
}

int jobs_open(struct run *r, struct err *e)
{
	struct workers *w = &r->workers;
	int code = uv_async_init(&r->loop, &w->wake, on_wake);
	if (code < 0)
		return err_set(e, code, "cannot make an event loop: %s", uv_strerror(code));
	w->wake.data = r;
	w->todo_end = &w->todo;
	w->done_end = &w->done;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	w->open = true;
	return 0;
}

void jobs_close(struct run *r)
{
	struct workers *w = &r->workers;
	if (!w->open)
		return;
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->lock);
	while (w->count > 0)
		pthread_join(w->threads[--w->count], NULL);
	all_over(w);
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->lock);
	w->open = false;
}

/* ---- jobs ---- */

/* 0, or why there is no thread at all to do it. */
static int hand_over(struct workers *w, struct job *job)
{
	int code = 0;
	pthread_mutex_lock(&w->lock);
	if (w->queued >= w->idle && w->count < sizeof(w->threads) / sizeof(w->threads[0]))
		code = worker_add(w);
	if (w->count > 0) {
		push(&w->todo_end, job);
		w->queued++;
		pthread_cond_signal(&w->work);
		code = 0;
	}
	pthread_mutex_unlock(&w->lock);
	return code;
}

int job_start(struct run *r, struct live *live, struct job *job, struct err *e)
{
	job->run = r;
	job->live = live;
	job->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int code = job->cancel_fd < 0 ? -errno : hand_over(&r->workers, job);
	if (code < 0) {
		job_release(job);
		return err_errno(e, code, "cannot start a worker");
	}
	r->jobs++;
	if (live)
		live->job = job;
	return 0;
}

void job_cancel(struct job *job)
{
	uint64_t one = 1;
	job->cancelled = true;
	(void)!write(job->cancel_fd, &one,
		sizeof(one)); /* an eventfd takes one more than nobody counts */
}

struct git_ctx job_git(struct job *job, int64_t timeout_ms)
{
	struct git_ctx ctx = site_git(job->run->site);
	ctx.lock_fd = job->run->git_lock;
	ctx.cancel_fd = job->cancel_fd;
	ctx.deadline_ms = deadline_after(timeout_ms);
	return ctx;
}
