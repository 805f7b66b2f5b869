/* SPDX-License-Identifier: MIT */
/* The verbs; each lives in cmd_<verb>.c. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/cli.h"

int cmd_dispatch(struct cli *cli, int argc, char **argv);
int cmd_plan_check(struct cli *cli, int argc, char **argv);
int cmd_plan_import(struct cli *cli, int argc, char **argv);
int cmd_plan_approve(struct cli *cli, int argc, char **argv);
int cmd_plan_list(struct cli *cli, int argc, char **argv);
int cmd_plan_show(struct cli *cli, int argc, char **argv);
int cmd_plan_remove(struct cli *cli, int argc, char **argv);
int cmd_plan_set(struct cli *cli, int argc, char **argv);
int cmd_plan_export(struct cli *cli, int argc, char **argv);
int cmd_plan_reset(struct cli *cli, int argc, char **argv);
int cmd_plan_delete(struct cli *cli, int argc, char **argv);
int cmd_doctor(struct cli *cli, int argc, char **argv);
int cmd_report(struct cli *cli, int argc, char **argv);
int cmd_status(struct cli *cli, int argc, char **argv);
int cmd_log(struct cli *cli, int argc, char **argv);
int cmd_gate(struct cli *cli, int argc, char **argv);
int cmd_approve(struct cli *cli, int argc, char **argv);
int cmd_reject(struct cli *cli, int argc, char **argv);
int cmd_pause(struct cli *cli, int argc, char **argv);
int cmd_resume(struct cli *cli, int argc, char **argv);
int cmd_stop(struct cli *cli, int argc, char **argv);
int cmd_send(struct cli *cli, int argc, char **argv);
int cmd_task(struct cli *cli, int argc, char **argv);
int cmd_check(struct cli *cli, int argc, char **argv);
int cmd_progress(struct cli *cli, int argc, char **argv);
int cmd_finding(struct cli *cli, int argc, char **argv);
int cmd_done(struct cli *cli, int argc, char **argv);
int cmd_retry(struct cli *cli, int argc, char **argv);
int cmd_init(struct cli *cli, int argc, char **argv);
int cmd_config_show(struct cli *cli, int argc, char **argv);
int cmd_config_check(struct cli *cli, int argc, char **argv);
int cmd_harness_list(struct cli *cli, int argc, char **argv);
int cmd_harness_show(struct cli *cli, int argc, char **argv);
int cmd_harness_check(struct cli *cli, int argc, char **argv);
int cmd_invariant_add(struct cli *cli, int argc, char **argv);
int cmd_invariant_remove(struct cli *cli, int argc, char **argv);
int cmd_invariant_list(struct cli *cli, int argc, char **argv);
int cmd_invariant_show(struct cli *cli, int argc, char **argv);
int cmd_invariant_test(struct cli *cli, int argc, char **argv);
int cmd_invariant_preset(struct cli *cli, int argc, char **argv);
int cmd_merge(struct cli *cli, int argc, char **argv);
int cmd_cleanup(struct cli *cli, int argc, char **argv);

#endif
