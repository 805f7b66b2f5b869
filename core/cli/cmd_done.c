/* SPDX-License-Identifier: MIT */
/* orch done: an agent says how its work ended; its own end still follows. */
#include "cli/agent.h"
#include "cli/commands.h"

#include "base/str.h"

#include <string.h>

int cmd_done(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"blocked", required_argument, NULL, 'b'},
		{"not-needed", required_argument, NULL, 'n'}, CLI_OPTIONS};
	const char *outcome = "ok", *reason = NULL;
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val != 'b' && val != 'n')
			return cli_usage(cli, "unknown option '-%c'", val);
		if (reason)
			return cli_usage(cli, "--blocked or --not-needed, one of them");
		outcome = val == 'b' ? "blocked" : "not_needed";
		reason = optarg;
	}
	if (optind != argc)
		return cli_usage(cli, "expected nothing more");
	if (reason && (!reason[0] || !utf8_is_valid(reason, strlen(reason))))
		return cli_usage(cli, "expected the reason, as text");
	return agent_tell(
		cli, "done", json_pack("{s:s, s:s*}", "outcome", outcome, "text", reason));
}
