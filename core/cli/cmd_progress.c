/* SPDX-License-Identifier: MIT */
/* orch progress: an agent says what it is about. */
#include "cli/agent.h"
#include "cli/commands.h"

#include "base/str.h"

#include <string.h>

int cmd_progress(struct cli *cli, int argc, char **argv)
{
	int status = cli_plain_options(cli, argc, argv);
	if (status >= 0)
		return status;
	if (optind + 1 != argc || !argv[optind][0])
		return cli_usage(cli, "expected one text");
	if (!utf8_is_valid(argv[optind], strlen(argv[optind])))
		return cli_usage(cli, "the text is not valid UTF-8");
	return agent_tell(cli, "progress", json_pack("{s:s}", "text", argv[optind]));
}
