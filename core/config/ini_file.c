/* SPDX-License-Identifier: MIT */
#include "config/ini.h"

#include "base/str.h"
#include "config/text_file.h"

int ini_load_file(const char *path, int cancel_fd, struct ini *ret, struct diags *d, struct err *e)
{
	*ret = INI_INIT;
	CLEANUP_BUF struct buf text = BUF_INIT;
	int r = text_file_read(path, INI_MAX_BYTES, cancel_fd, &text, e);
	if (r < 0)
		return r;
	r = ini_load_text(str_eq(path, "-") ? "<stdin>" : path, buf_cstr(&text), text.len, ret, d);
	return r < 0 ? err_nomem(e) : 0;
}
