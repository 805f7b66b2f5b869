/* SPDX-License-Identifier: MIT */
/* A configuration file of any bytes; what a good one is printed as loads to the same values. */
#include "fuzz.h"

#include "base/str.h"
#include "config/config.h"

#include <assert.h>
#include <sys/mman.h>

/* A file in memory with these bytes; *ret_path is its name. */
static int memory_file(const void *data, size_t size, char **ret_path)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	assert(write(fd, data, size) == (ssize_t)size);
	*ret_path = str_printf("/proc/self/fd/%d", fd);
	assert(*ret_path);
	return fd;
}

static struct config *load(const void *data, size_t size, size_t *ret_errors)
{
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	CLEANUP_STR char *path = NULL;
	CLEANUP(closep) int fd = memory_file(data, size, &path);
	assert(fd >= 0);
	struct config_sources sources = {.explicit_file = path};
	struct config *c = NULL;
	struct err e = ERR_INIT;
	int r = config_load(&sources, &c, &d, &e);
	assert(r == 0 && c);
	*ret_errors = d.errors;
	return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t errors;
	CLEANUP_CONFIG struct config *c = load(data, size, &errors);
	if (errors > 0)
		return 0;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	assert(out);
	int r = config_print(c, out);
	assert(r == 0);
	fclose(out);
	CLEANUP_CONFIG struct config *again = load(text, len, &errors);
	assert(errors == 0);
	vec_foreach(v, &c->values) {
		size_t found = 0;
		vec_foreach(w, &again->values)
			found += str_eq(v->section, w->section) && str_eq(v->label, w->label) &&
				 str_eq(v->key, w->key) && str_eq(v->value, w->value);
		assert(found == 1);
	}
	free(text);
	return 0;
}
