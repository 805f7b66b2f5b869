/* SPDX-License-Identifier: MIT */
/* Feeds the named files to a fuzz target, each whole and cut at a few places. */
#include "fuzz.h"

#include "config/text_file.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "%s: expected the files of a corpus\n", argv[0]);
		return 1;
	}
	for (int i = 1; i < argc; i++) {
		CLEANUP_BUF struct buf text = BUF_INIT;
		struct err e = ERR_INIT;
		if (text_file_read(argv[i], (size_t)1 << 20, -1, &text, &e) < 0) {
			fprintf(stderr, "%s\n", e.msg);
			return 1;
		}
		for (size_t cut = 0; cut < 8; cut++) {
			size_t len = text.len - text.len * cut / 8;
			/* A block of the exact size, so that a sanitizer sees reads behind it. */
			uint8_t *copy = malloc(len ? len : 1);
			if (!copy)
				return 1;
			for (size_t k = 0; k < len; k++)
				copy[k] = (uint8_t)text.data[k];
			LLVMFuzzerTestOneInput(copy, len);
			free(copy);
		}
	}
	printf("%d files replayed\n", argc - 1);
	return 0;
}
