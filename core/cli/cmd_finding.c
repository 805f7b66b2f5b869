/* SPDX-License-Identifier: MIT */
/* orch finding: an agent records something that a person should know. */
#include "cli/agent.h"
#include "cli/commands.h"

#include "base/buf.h"
#include "base/str.h"
#include "os/file.h"

#include <string.h>
#include <unistd.h>

#define BODY_LIMIT (1 << 20)

static bool severity_is_known(const char *severity)
{
	static const char *const known[] = {"info", "low", "medium", "high", "critical"};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (str_eq(severity, known[i]))
			return true;
	return false;
}

int cmd_finding(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"severity", required_argument, NULL, 's'},
		{"title", required_argument, NULL, 't'}, CLI_OPTIONS};
	const char *severity = NULL, *title = NULL;
	CLEANUP_BUF struct buf body = BUF_INIT;
	struct err e = ERR_INIT;
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 's')
			severity = optarg;
		else if (val == 't')
			title = optarg;
		else
			return cli_usage(cli, "unknown option '-%c'", val);
	}
	if (!severity_is_known(severity))
		return cli_usage(cli, "--severity: expected info, low, medium, high or critical");
	if (!title || !title[0] || !utf8_is_valid(title, strlen(title)))
		return cli_usage(cli, "--title: expected a line of text");
	if (!isatty(STDIN_FILENO) &&
		fd_read_all(STDIN_FILENO, "standard input", BODY_LIMIT, &body, &e) < 0)
		return cli_error(cli, &e);
	if (!utf8_is_valid(buf_cstr(&body), body.len))
		return cli_usage(cli, "the body (standard input) is not valid UTF-8");
	return agent_tell(cli, "finding",
		json_pack("{s:s, s:s, s:s*}", "severity", severity, "title", title, "body",
			body.len ? buf_cstr(&body) : NULL));
}
