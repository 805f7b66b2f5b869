/* SPDX-License-Identifier: MIT */
/* A plan that parses is exported to a text that parses to the same plan. */
#include "fuzz.h"

#include "base/str.h"
#include "plan/plan.h"

#include <assert.h>
#include <string.h>

static struct plan *parse(const char *text, size_t len)
{
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	struct plan *p = NULL;
	int r = plan_parse_text("fuzz", "/nonexistent", text, len, NULL, &p, &d, &e);
	assert((r == 0) == (p != NULL) && (r == 0) == (d.errors == 0));
	vec_foreach(it, &d.list)
		assert(it->text && str_eq(it->file, "fuzz"));
	return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (memmem(data, size, "prompt_file", strlen("prompt_file")))
		return 0; /* would read files of the machine */
	CLEANUP_PLAN struct plan *p = parse((const char *)data, size);
	if (!p)
		return 0;
	CLEANUP_BUF struct buf text = BUF_INIT, again = BUF_INIT;
	int r = plan_export(p, PLAN_EXPORT_STATE, &text);
	assert(r == 0);
	CLEANUP_PLAN struct plan *q = parse(buf_cstr(&text), text.len);
	assert(q);
	CLEANUP(plan_diff_deinit) struct plan_diff d = PLAN_DIFF_INIT;
	r = plan_diff(p, q, &d);
	assert(r == 0 && d.changes.count == 0);
	r = plan_export(q, PLAN_EXPORT_STATE, &again);
	assert(r == 0 && str_eq(buf_cstr(&text), buf_cstr(&again)));
	return 0;
}
