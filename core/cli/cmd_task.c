/* SPDX-License-Identifier: MIT */
/* orch task: what this agent is to do. */
#include "cli/agent.h"
#include "cli/commands.h"

#include "base/buf.h"
#include "os/file.h"

#include <fcntl.h>

#define PROMPT_LIMIT (64 << 20)

int cmd_task(struct cli *cli, int argc, char **argv)
{
	struct err e = ERR_INIT;
	CLEANUP_BUF struct buf text = BUF_INIT;
	int status = cli_plain_options(cli, argc, argv);
	if (status >= 0)
		return status;
	if (optind != argc)
		return cli_usage(cli, "expected nothing more");
	const char *path = agent_variable(cli, "ORCH_PROMPT_FILE");
	if (!path)
		return EXIT_USAGE;
	if (file_read(AT_FDCWD, path, PROMPT_LIMIT, &text, &e) < 0)
		return cli_error(cli, &e);
	fwrite(buf_cstr(&text), 1, text.len, stdout);
	return cli_flush(0);
}
