/* SPDX-License-Identifier: MIT */
/*
 * sim-replay [--trace] FILE
 * Goes through a run of orch again: FILE is one of <state directory>/inputs. Exit status 0: the
 * same decisions were made; 1: not the same, and stderr names the line; 2: FILE cannot be replayed.
 */
#include "replay.h"

#include <stdio.h>
#include <string.h>

static void closefp(FILE **file)
{
	if (*file)
		fclose(*file);
}

/* A last line without an end was cut off when the run was. */
static enum replay_result replay_file(struct replay *p, FILE *file)
{
	CLEANUP(freep) char *line = NULL;
	enum replay_result result = REPLAY_SAME;
	size_t cap = 0;
	ssize_t len = 0;
	while (result == REPLAY_SAME && (len = getline(&line, &cap, file)) > 0 &&
		line[len - 1] == '\n')
		result = replay_line(p, line, (size_t)len);
	return result;
}

int main(int argc, char **argv)
{
	const char *name = NULL;
	bool trace = false, wrong = false;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--trace") == 0) {
			trace = true;
		} else {
			wrong |= name || argv[i][0] == '-';
			name = argv[i];
		}
	}
	if (wrong || !name) {
		fprintf(stderr, "usage: sim-replay [--trace] FILE\n");
		return 2;
	}
	CLEANUP(closefp) FILE *file = fopen(name, "re");
	CLEANUP(replay_freep) struct replay *p = replay_new(name, trace);
	if (!file || !p) {
		perror(name);
		return 2;
	}
	enum replay_result result = replay_file(p, file);
	if (result != REPLAY_SAME)
		return result == REPLAY_DIFFERS ? 1 : 2;
	const char *ended = replay_ended(p);
	printf("%s: %llu steps, as they were recorded%s%s\n", name,
		(unsigned long long)replay_steps(p), ended ? "; not compared further: " : "",
		ended ? ended : "");
	return 0;
}
