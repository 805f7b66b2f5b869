/* SPDX-License-Identifier: MIT */
#include "plugin/plugin.h"

#include "base/str.h"
#include "plugin/options.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SYMBOL "orch_harness"
/* A minor version only adds: everything up to `wait` has been there from the first. */
#define MIN_SIZE  (offsetof(struct orch_harness, wait) + sizeof(((struct orch_harness *)0)->wait))
#define MAX_SIZE  65536
#define MAX_PHDRS 256

/* Makes "harness 'NAME' (PATH): REASON" of a reason. */
static int refuse(struct err *e, int code, const char *path, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

static int refuse(struct err *e, int code, const char *path, const char *fmt, ...)
{
	char reason[700];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(reason, sizeof(reason), fmt, ap); /* cut when too long */
	va_end(ap);
	const char *base = strrchr(path, '/');
	base = base ? base + 1 : path;
	if (str_starts(base, "orch-harness-"))
		base += strlen("orch-harness-");
	int len = (int)strlen(base);
	if (len > 3 && str_ends(base, ".so"))
		len -= 3;
	return err_set(e, code, "harness '%.*s' (%s): %s", len, base, path, reason);
}

static int read_header(int fd, ElfW(Ehdr) * ret)
{
	ssize_t n = pread(fd, ret, sizeof(*ret), 0);
	if (n < 0)
		return -errno;
	return (size_t)n == sizeof(*ret) && memcmp(ret->e_ident, ELFMAG, SELFMAG) == 0 ? 0
										       : -ENOEXEC;
}

/* The loader maps what the headers say; beyond the end of the file that would be a SIGBUS. */
static bool is_truncated(int fd, const ElfW(Ehdr) * h, off_t size)
{
	if (h->e_phentsize != sizeof(ElfW(Phdr)) || h->e_phnum == 0 || h->e_phnum > MAX_PHDRS)
		return true;
	for (unsigned i = 0; i < h->e_phnum; i++) {
		ElfW(Phdr) p;
		off_t at = (off_t)(h->e_phoff + (ElfW(Off))i * sizeof(p));
		if (at < 0 || pread(fd, &p, sizeof(p), at) != (ssize_t)sizeof(p))
			return true;
		if (p.p_type == PT_LOAD &&
			(p.p_offset > (ElfW(Off))size || p.p_filesz > (ElfW(Off))size - p.p_offset))
			return true;
	}
	return false;
}

static int verify_elf(int fd, const char *path, off_t size, struct err *e)
{
	ElfW(Ehdr) h, own;
	int r = read_header(fd, &h);
	if (r == -ENOEXEC)
		return refuse(e, PLUGIN_INVALID, path, "not an ELF file");
	if (r < 0)
		return refuse(e, err_is_machine(r) ? r : PLUGIN_INVALID, path, "cannot read it: %s",
			strerror(-r));
	CLEANUP(closep) int own_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (own_fd < 0 || read_header(own_fd, &own) < 0)
		return refuse(e, own_fd < 0 && err_is_machine(-errno) ? -errno : -EIO, path,
			"cannot compare it with /proc/self/exe");
	if (h.e_ident[EI_CLASS] != own.e_ident[EI_CLASS] ||
		h.e_ident[EI_DATA] != own.e_ident[EI_DATA] || h.e_machine != own.e_machine)
		return refuse(e, PLUGIN_INVALID, path,
			"built for another kind of machine (ELF machine %u, class %u; this is %u, "
			"%u)",
			h.e_machine, h.e_ident[EI_CLASS], own.e_machine, own.e_ident[EI_CLASS]);
	if (h.e_type != ET_DYN)
		return refuse(e, PLUGIN_INVALID, path, "an ELF file, but not a shared object");
	if (is_truncated(fd, &h, size))
		return refuse(e, PLUGIN_INVALID, path, "truncated");
	return 0;
}

int plugin_verify(const char *path, struct err *e)
{
	/* O_NONBLOCK: a fifo of that name must not hold us up. */
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return refuse(e, PLUGIN_MISSING, path, "not found");
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return refuse(e, err_is_machine(-errno) ? -errno : PLUGIN_INVALID, path,
			"cannot open it: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(e, PLUGIN_INVALID, path, "not a regular file");
	return verify_elf(fd, path, st.st_size, e);
}

/* The loader's words, without the path that they begin with. */
static const char *loader_error(const char *path)
{
	const char *text = dlerror();
	if (!text)
		return "unknown error";
	size_t len = strlen(path);
	if (str_starts(text, path) && str_starts(text + len, ": "))
		text += len + 2;
	return text;
}

/* How many bytes the file really has for the descriptor, whatever the descriptor claims. */
static size_t symbol_size(const void *symbol)
{
	Dl_info info;
	const ElfW(Sym) *sym = NULL;
	if (!dladdr1(symbol, &info, (void **)(uintptr_t)&sym, RTLD_DL_SYMENT) || !sym)
		return 0;
	return ELF64_ST_TYPE(sym->st_info) == STT_OBJECT ? (size_t)sym->st_size : 0;
}

static int check_abi(const char *path, const struct orch_abi *abi, size_t available, struct err *e)
{
	if (available < sizeof(*abi))
		return refuse(e, PLUGIN_INVALID, path, "its symbol %s is no descriptor", SYMBOL);
	if (abi->magic != ORCH_ABI_MAGIC)
		return refuse(e, PLUGIN_INVALID, path, "wrong magic 0x%08x, expected 0x%08x",
			abi->magic, ORCH_ABI_MAGIC);
	if (abi->major != ORCH_ABI_MAJOR)
		return refuse(e, PLUGIN_INVALID, path,
			"made for plugin interface %u.%u, this orch has %u.%u", abi->major,
			abi->minor, ORCH_ABI_MAJOR, ORCH_ABI_MINOR);
	if (abi->size < MIN_SIZE)
		return refuse(e, PLUGIN_INVALID, path,
			"its descriptor is too short: %u bytes, at least %zu are needed", abi->size,
			MIN_SIZE);
	if (abi->size > MAX_SIZE || abi->size > available)
		return refuse(e, PLUGIN_INVALID, path, "its descriptor claims %u bytes and has %zu",
			abi->size, available);
	return 0;
}

static int check_descriptor(const char *path, const struct orch_harness *h, struct err *e)
{
	const char *why = NULL;
	if (!h->name || !name_is_valid(h->name, &why))
		return refuse(e, PLUGIN_INVALID, path, "its descriptor has %s",
			h->name ? "a bad name" : "no name");
	if (!h->spawn)
		return refuse(e, PLUGIN_INVALID, path, "it has no spawn function");
	if (!h->kill)
		return refuse(e, PLUGIN_INVALID, path, "it has no kill function");
	if (!h->wait)
		return refuse(e, PLUGIN_INVALID, path, "it has no wait function");
	struct err why_not = ERR_INIT;
	if (options_check_table(h->options, &why_not) < 0)
		return refuse(e, PLUGIN_INVALID, path, "it declares %s", why_not.msg);
	return 0;
}

int plugin_load(const char *path, struct plugin *ret, struct err *e)
{
	int r = plugin_verify(path, e);
	if (r != 0)
		return r;
	(void)dlerror();
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		const char *why = loader_error(path);
		return refuse(e,
			str_ends(why, strerror(EMFILE))   ? -EMFILE
			: str_ends(why, strerror(ENFILE)) ? -ENFILE
							  : PLUGIN_INVALID,
			path, "cannot be loaded: %s", why);
	}
	const void *symbol = dlsym(handle, SYMBOL);
	if (!symbol)
		return refuse(
			e, PLUGIN_INVALID, path, "not a harness: it has no symbol %s", SYMBOL);
	struct plugin p = {.handle = handle};
	r = check_abi(path, symbol, symbol_size(symbol), e);
	if (r != 0)
		return r;
	const struct orch_abi *abi = symbol;
	memcpy(&p.harness, symbol, abi->size < sizeof(p.harness) ? abi->size : sizeof(p.harness));
	r = check_descriptor(path, &p.harness, e);
	if (r != 0)
		return r;
	p.path = str_dup(path);
	if (!p.path)
		return err_nomem(e);
	*ret = p;
	return 0;
}

void plugin_deinit(struct plugin *p)
{
	free(p->path);
	p->path = NULL;
}
