/* SPDX-License-Identifier: MIT */
#include "base/map.h"
#include "git/guard.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGEST_BYTES 32
#define DIGEST_HEX   (2 * DIGEST_BYTES + 1)

/* Lines "<name>\t<value>"; paths are relative to the common directory. */

static int add_refs(const struct git_ctx *ctx, struct buf *text, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {
		"for-each-ref", "--format=%(refname)%09%(objectname)%(symref)", NULL};
	int r = git_run_ok(ctx, &(struct git_cmd){.argv = argv}, &o, e);
	if (r < 0)
		return r;
	for (char *line = o.out.data; line && *line;) {
		char *end = strchr(line, '\n');
		size_t len = end ? (size_t)(end - line) + 1 : strlen(line);
		if (!str_starts(line, "refs/orch/") && !str_starts(line, "refs/heads/orch/"))
			buf_add(text, line, len);
		line += len;
	}
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_hooks(const char *common_dir, char ***names, struct err *e)
{
	CLEANUP_STR char *dir = path_join(common_dir, "hooks");
	DIR *d = NULL;
	int r = dir ? dir_list(dir, &d, e) : err_nomem(e);
	struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)) != NULL) {
		CLEANUP_STR char *name = str_printf("hooks/%s", entry->d_name);
		bool own = str_eq(entry->d_name, ".") || str_eq(entry->d_name, "..");
		if (!name || (!own && strv_add(names, name) < 0))
			r = err_nomem(e);
	}
	if (d)
		closedir(d);
	if (*names)
		qsort(*names, strv_len(*names), sizeof(**names), compare_names);
	return r;
}

/* "" when it cannot be read. 0, or that descriptors or memory are short. */
static int digest_file(const char *path, char ret[DIGEST_HEX])
{
	unsigned char chunk[16384], digest[DIGEST_BYTES];
	crypto_generichash_state state;
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : 1;
	ret[0] = '\0';
	if (fd < 0 && err_is_shortage(-errno))
		return -errno;
	crypto_generichash_init(&state, NULL, 0, sizeof(digest));
	while (n > 0 || (n < 0 && fd >= 0 && errno == EINTR)) {
		n = read(fd, chunk, sizeof(chunk));
		if (n > 0)
			crypto_generichash_update(&state, chunk, (unsigned long long)n);
	}
	if (n < 0)
		return 0;
	crypto_generichash_final(&state, digest, sizeof(digest));
	sodium_bin2hex(ret, DIGEST_HEX, digest, sizeof(digest));
	return 0;
}

/* Mode, link target and content. */
static int add_file(const char *path, const char *name, struct buf *text)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		return 0;
	char target[4096] = "";
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
	}
	buf_addf(text, "%s (mode)\t%o %s\n", name, (unsigned)st.st_mode, target);
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	char digest[DIGEST_HEX];
	int r = digest_file(path, digest);
	buf_addf(text, "%s\t%s\n", name, digest);
	return r;
}

int git_tamper_snapshot(const struct git_ctx *ctx, char **ret_text, struct err *e)
{
	static const char *const fixed[] = {"config", "config.worktree", "info/exclude",
		"info/attributes", "info/grafts", "objects/info/alternates", "logs/refs/stash",
		"hooks", NULL};
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_STRV char **names = NULL;
	int r = list_hooks(ctx->repo->common_dir, &names, e);
	if (r < 0)
		return r;
	for (size_t i = 0; fixed[i]; i++)
		if (strv_add(&names, fixed[i]) < 0)
			return err_nomem(e);
	r = add_refs(ctx, &text, e);
	if (r < 0)
		return r;
	for (size_t i = 0; names[i]; i++) {
		CLEANUP_STR char *path = path_join(ctx->repo->common_dir, names[i]);
		if (!path)
			return err_nomem(e);
		r = add_file(path, names[i], &text);
		if (r < 0)
			return err_errno(e, r, "cannot read '%s'", path);
	}
	char *s = buf_check(&text) < 0 ? NULL : buf_steal(&text);
	if (!s)
		return err_nomem(e);
	*ret_text = s;
	return 0;
}

/* Where in text the object id of a ref stands; NULL: it is not there. */
static const char *find_oid(const char *text, const struct git_ref_update *move)
{
	size_t len = strlen(move->ref), n = strlen(move->old.hex);
	for (const char *line = text; line && *line;) {
		const char *end = strchr(line, '\n');
		if (strncmp(line, move->ref, len) == 0 && line[len] == '\t' && end &&
			(size_t)(end - line) == len + 1 + n)
			return line + len + 1;
		line = end ? end + 1 : NULL;
	}
	return NULL;
}

void git_tamper_follow(
	char *before, const char *after, const struct git_ref_update *moves, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *was = find_oid(before, &moves[i]), *at = was;
		size_t len = strlen(moves[i].old.hex);
		for (size_t k = i; was && k < n; k++)
			if (str_eq(moves[k].ref, moves[i].ref) &&
				strncmp(at, moves[k].old.hex, len) == 0)
				at = moves[k].new.hex;
		const char *is = after ? find_oid(after, &moves[i]) : at;
		if (was && is && strncmp(at, is, len) == 0)
			memmove(before + (was - before), is, len);
	}
}

/* Splits text into lines in place and maps each name to its value. */
static int read_items(char *text, struct map *items)
{
	for (char *line = text; *line;) {
		char *end = strchr(line, '\n'), *tab = strchr(line, '\t');
		if (end)
			*end = '\0';
		if (tab && (!end || tab < end)) {
			*tab = '\0';
			int r = map_put(items, line, tab + 1);
			if (r < 0 && r != -EEXIST)
				return r;
		}
		if (!end)
			break;
		line = end + 1;
	}
	return 0;
}

/* What is told of one item; a digest says nothing to a person. Owned; was, is: NULL: there is none.
 */
static char *describe(const char *name, const char *was, const char *is)
{
	bool file = !str_starts(name, "refs/") && !str_ends(name, " (mode)");
	if (file)
		return str_printf("%s %s", name,
			!was  ? "is new"
			: !is ? "was removed"
			      : "was changed");
	if (!was)
		return str_printf("%s is new (%s)", name, is);
	return is ? str_printf("%s changed from %s to %s", name, was, is)
		  : str_printf("%s was removed (it was %s)", name, was);
}

int git_tamper_diff(const char *before, const char *after, char ***ret_changes)
{
	CLEANUP_STRV char **changes = NULL;
	CLEANUP_STR char *old_text = strdup(before);
	CLEANUP_STR char *new_text = strdup(after);
	CLEANUP(map_deinit) struct map old_items = MAP_INIT;
	CLEANUP(map_deinit) struct map new_items = MAP_INIT;
	if (!old_text || !new_text || read_items(old_text, &old_items) < 0 ||
		read_items(new_text, &new_items) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < old_items.count; i++) {
		const char *name = old_items.entries[i].key, *was = old_items.entries[i].value;
		const char *is = map_get(&new_items, name);
		if (str_eq(was, is))
			continue;
		CLEANUP_STR char *line = describe(name, was, is);
		if (!line || strv_add(&changes, line) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < new_items.count; i++) {
		const char *name = new_items.entries[i].key, *is = new_items.entries[i].value;
		if (map_get(&old_items, name))
			continue;
		CLEANUP_STR char *line = describe(name, NULL, is);
		if (!line || strv_add(&changes, line) < 0)
			return -ENOMEM;
	}
	*ret_changes = TAKE(changes);
	return 0;
}
