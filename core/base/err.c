/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void err_format(struct err *e, const char *fmt, va_list ap)
{
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	if (!e)
		return code;
	va_list ap;
	va_start(ap, fmt);
	err_format(e, fmt, ap);
	va_end(ap);
	e->code = code;
	e->status = 0;
	return code;
}

int err_errno(struct err *e, int code, const char *fmt, ...)
{
	if (!e)
		return code;
	va_list ap;
	va_start(ap, fmt);
	err_format(e, fmt, ap);
	va_end(ap);
	e->code = code;
	e->status = 0;
	size_t len = strlen(e->msg);
	snprintf(e->msg + len, sizeof(e->msg) - len, ": %s", strerror(-code));
	return code;
}

int err_exit(struct err *e, enum exit_status status, const char *fmt, ...)
{
	if (!e)
		return -EINVAL;
	va_list ap;
	va_start(ap, fmt);
	err_format(e, fmt, ap);
	va_end(ap);
	e->code = -EINVAL;
	e->status = (int)status;
	return e->code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	if (!e)
		return -EINVAL;
	char tail[sizeof(e->msg)];
	memcpy(tail, e->msg, sizeof(tail));
	va_list ap;
	va_start(ap, fmt);
	err_format(e, fmt, ap);
	va_end(ap);
	size_t len = strlen(e->msg);
	snprintf(e->msg + len, sizeof(e->msg) - len, ": %s", tail);
	return e->code;
}

bool err_is_shortage(int code)
{
	return code == -EMFILE || code == -ENFILE || code == -EAGAIN || code == -ENOMEM;
}

bool err_is_machine(int code)
{
	return err_is_shortage(code) || code == -ENOSPC || code == -EDQUOT || code == -EFBIG ||
	       code == -EIO || code == -EROFS;
}

int err_status(const struct err *e)
{
	if (e->status)
		return e->status;
	switch (-e->code) {
	case ENOENT:
	case ENOTDIR:
	case ENAMETOOLONG:
	case ELOOP:
		return EXIT_NOINPUT;
	case EACCES:
	case EPERM:
	case EROFS:
	case EEXIST:
		return EXIT_CANTCREAT;
	case ECANCELED: /* by a stop signal */
		return EXIT_INTERRUPTED;
	case EIO:
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
	/* Not ours either: the machine has run out of something. */
	case EAGAIN:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return EXIT_IO;
	default:
		return EXIT_SOFTWARE;
	}
}
