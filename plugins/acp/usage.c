/* SPDX-License-Identifier: MIT */
/*
 * What a turn used. The answer to the prompt has it; what is heard before that is told under the
 * same id, so that a budget can end a turn that is under way.
 */
#include "acp.h"

#include <stdio.h>

static int64_t not_negative(int64_t n)
{
	return n > 0 ? n : 0;
}

static void tell(struct orch_agent *a)
{
	struct acp *acp = a->own;
	const struct acp_usage *u = &acp->usage;
	char id[32];
	(void)snprintf(id, sizeof(id), "turn-%u", u->turn);
	drive_usage(a, &(struct drive_usage){.id = id,
			       .input = u->input,
			       .output = u->output,
			       .cache_read = u->cache_read,
			       .cache_write = u->cache_write,
			       .cost = acp->cost - acp->cost_before});
}

void acp_usage_begins(struct acp *acp)
{
	acp->usage = (struct acp_usage){
		.turn = acp->usage.turn + 1,
		.context = acp->usage.context_max,
		.context_max = acp->usage.context_max,
	};
	acp->cost_before = acp->cost;
}

/*
 * Its context grows by what is read and written, each token once: what it has grown by was used, at
 * least. The first size that is told says nothing: some of it was cached, or is of earlier turns.
 */
void acp_usage_context(struct orch_agent *a, const json_t *update)
{
	struct acp *acp = a->own;
	struct acp_usage *u = &acp->usage;
	const json_t *cost = line_get(update, "cost.amount");
	int64_t used = line_int(update, "used");
	if (json_is_number(cost))
		acp->cost = json_number_value(cost);
	if (u->context == 0)
		u->context = used;
	if (used <= u->context_max)
		return;
	u->context_max = used;
	if (u->heard || used == u->context)
		return;
	u->input = used - u->context;
	tell(a);
}

/* Of Qwen Code: after each answer of the model, cached input within input; thoughts may be in the
 * total only. */
void acp_usage_step(struct orch_agent *a, const json_t *usage)
{
	struct acp *acp = a->own;
	struct acp_usage *u = &acp->usage;
	int64_t input = line_int(usage, "inputTokens"), output = line_int(usage, "outputTokens");
	int64_t cached = line_int(usage, "cachedReadTokens");
	int64_t rest = line_int(usage, "totalTokens") - input;
	if (!u->heard)
		u->input = 0;
	u->heard = true;
	u->input += not_negative(input - cached);
	u->output += rest > output ? rest : output;
	u->cache_read += cached;
	tell(a);
}

/* False: it says nothing, as after a cancel. */
static bool read_turn(const json_t *result, struct acp_usage *u)
{
	const json_t *of = line_get(result, "usage");
	if (of) {
		u->input = line_int(of, "inputTokens");
		u->output = line_int(of, "outputTokens");
		u->cache_read = line_int(of, "cachedReadTokens");
		u->cache_write = line_int(of, "cachedWriteTokens");
	} else { /* Gemini CLI */
		of = line_get(result, "_meta.quota.token_count");
		u->input = line_int(of, "input_tokens");
		u->output = line_int(of, "output_tokens");
	}
	return u->input + u->output + u->cache_read + u->cache_write > 0;
}

void acp_usage_ends(struct orch_agent *a, const json_t *result)
{
	struct acp *acp = a->own;
	struct acp_usage told = {0};
	if (read_turn(result, &told)) {
		acp->usage.input = told.input;
		acp->usage.output = told.output;
		acp->usage.cache_read = told.cache_read;
		acp->usage.cache_write = told.cache_write;
	} else if (acp->cost <= acp->cost_before) {
		return;
	}
	tell(a);
}
