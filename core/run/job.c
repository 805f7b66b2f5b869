/* SPDX-License-Identifier: MIT */
#include "run/state.h"

#include "base/clock.h"

#include <errno.h>
#include <sys/eventfd.h>

static void job_release(struct job *job)
{
	if (job->cancel_fd >= 0)
		close(job->cancel_fd);
	job->free(job);
}

static void job_perform(uv_work_t *work)
{
	struct job *job = work->data;
	job->perform(job);
}

static void job_after(uv_work_t *work, int status)
{
	struct job *job = work->data;
	struct run *r = job->run;
	(void)status; /* never UV_ECANCELED: jobs are cancelled by their descriptor */
	r->jobs--;
	if (job->live && job->live->job == job)
		job->live->job = NULL;
	if (!r->closing)
		job->done(job);
	job_release(job);
}

int job_start(struct run *r, struct live *live, struct job *job, struct err *e)
{
	job->run = r;
	job->live = live;
	job->work.data = job;
	job->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int code = job->cancel_fd < 0 ? -errno : 0;
	if (code == 0)
		code = uv_queue_work(&r->loop, &job->work, job_perform, job_after);
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
