/* Writes down what a process does to the files below POWER_ROOT, for a replay of a power cut.
 *
 * Loaded with LD_PRELOAD. Every call is carried out first and written down then, in one append to POWER_LOG:
 * so whatever a process was told to be done stands there before anything that it does next. A record is a
 * line "kind inode number number name name" with octets in hexadecimal, then the data of a write.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>


static int log_fd(void)
{
    static int fd = -2;
    int saved = errno;
    /* Daemons close what they have inherited, this too. */
    if (fd >= 0 && syscall(SYS_fcntl, fd, F_GETFD) < 0) fd = -2;
    if (fd == -2) {
        const char *path = getenv("POWER_LOG");
        int low = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
        fd = low < 0 ? -1 : (int)syscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, 900);
        if (fd < 0) fd = low;
    }
    errno = saved;
    return fd;
}

static void put(const char *kind, unsigned long inode, long long one, unsigned long long other,
                const char *name, const char *new_name, const void *data, size_t length)
{
    char line[2 * NAME_MAX * 2 + 200];
    int saved = errno, fd = log_fd(), end;
    const char *texts[2] = {name ? name : "", new_name ? new_name : ""};
    if (fd < 0) return;
    end = snprintf(line, sizeof line, "%s %lu %lld %llu %zu", kind, inode, one, other, length);
    for (int i = 0; i < 2; i++) {
        line[end++] = ' ';
        line[end++] = '.';
        for (const char *at = texts[i]; *at && end < (int)sizeof line - 8; at++)
            end += snprintf(line + end, 3, "%02x", (unsigned char)*at);
    }
    line[end++] = '\n';
    struct iovec parts[2] = {{line, (size_t)end}, {(void *)data, length}};
    syscall(SYS_writev, fd, parts, length ? 2 : 1);
    errno = saved;
}

/* Whether a path or descriptor is below the root. */
static int below(const char *path)
{
    const char *root = getenv("POWER_ROOT");
    size_t length = root ? strlen(root) : 0;
    return length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int path_of(int fd, char *out)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
    out[got < 0 ? 0 : got] = 0;
    return got > 0 && below(out);
}

static unsigned long inode_of(int fd)
{
    struct stat about;
    return fstat(fd, &about) || S_ISSOCK(about.st_mode) ? 0 : about.st_ino;
}

/* The directory of `path` (its inode) and the last name in it; 0 if that is not ours. */
static unsigned long parent_of(int at, const char *path, char *name)
{
    char text[PATH_MAX], real_path[PATH_MAX];
    unsigned long inode = 0;
    snprintf(text, sizeof text, "%s", path);
    size_t length = strlen(text);
    while (length > 1 && text[length - 1] == '/') text[--length] = 0;
    char *slash = strrchr(text, '/');
    snprintf(name, NAME_MAX + 1, "%.*s", NAME_MAX, slash ? slash + 1 : text);
    if (slash) slash[slash == text] = 0;
    int saved = errno;
    int fd = (int)syscall(SYS_openat, at, slash ? text : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        if (path_of(fd, real_path)) inode = inode_of(fd);
        syscall(SYS_close, fd);
    }
    errno = saved;
    return inode;
}

static unsigned long inode_at(int at, const char *path)
{
    struct stat about;
    int saved = errno;
    int bad = fstatat(at, path, &about, AT_SYMLINK_NOFOLLOW);
    errno = saved;
    return bad ? 0 : about.st_ino;
}

/* -- names */

static int opened(int at, const char *path, int flags, mode_t mode)
{
    char name[NAME_MAX + 1], where[PATH_MAX];
    int creating = (flags & O_CREAT) && (flags & O_TMPFILE) != O_TMPFILE;
    int was = creating && !(flags & O_EXCL) ? faccessat(at, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 : 0;
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd < 0) return fd;
    if (creating && !was) {
        unsigned long parent = parent_of(at, path, name);
        if (parent) put("create", parent, 0, inode_of(fd), name, 0, 0, 0);
    } else if ((flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY && path_of(fd, where)) {
        put("truncate", inode_of(fd), 0, 0, 0, 0, 0, 0);
    }
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
    }
int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }

static int made(int at, const char *path, mode_t mode)
{
    char name[NAME_MAX + 1];
    int done = (int)syscall(SYS_mkdirat, at, path, mode);
    unsigned long parent = done ? 0 : parent_of(at, path, name);
    if (parent) put("mkdir", parent, 0, inode_at(at, path), name, 0, 0, 0);
    return done;
}
int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return made(at, path, mode); }

static int removed(int at, const char *path, int flags)
{
    char name[NAME_MAX + 1];
    unsigned long parent = parent_of(at, path, name), inode = inode_at(at, path);
    int done = (int)syscall(SYS_unlinkat, at, path, flags);
    if (!done && parent) put("unlink", parent, 0, inode, name, 0, 0, 0);
    return done;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int at, const char *path, int flags) { return removed(at, path, flags); }
int remove(const char *path) { return removed(AT_FDCWD, path, 0); }

static int renamed(int from, const char *old, int to, const char *new, unsigned flags)
{
    char old_name[NAME_MAX + 1], new_name[NAME_MAX + 1];
    unsigned long inode = inode_at(from, old);
    unsigned long source = parent_of(from, old, old_name), target = parent_of(to, new, new_name);
    int done = (int)syscall(SYS_renameat2, from, old, to, new, flags);
    if (!done && source && target) put("rename", source, (long long)target, inode, old_name, new_name, 0, 0);
    return done;
}
int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return renamed(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    return renamed(from, old, to, new, flags);
}

static int linked(int from, const char *old, int to, const char *new, int flags)
{
    char name[NAME_MAX + 1];
    int done = (int)syscall(SYS_linkat, from, old, to, new, flags);
    unsigned long parent = done ? 0 : parent_of(to, new, name);
    if (parent) put("link", parent, 0, inode_at(to, new), name, 0, 0, 0);
    return done;
}
int link(const char *old, const char *new) { return linked(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags)
{
    return linked(from, old, to, new, flags);
}

/* -- octets */

static void wrote(int fd, const void *data, ssize_t count, long long offset)
{
    char where[PATH_MAX];
    if (count <= 0 || fd == log_fd()) return;
    int saved = errno;
    if (path_of(fd, where)) {
        if (offset < 0) offset = (long long)syscall(SYS_lseek, fd, 0, SEEK_CUR) - count;
        put("write", inode_of(fd), offset, 0, 0, 0, data, (size_t)count);
    }
    errno = saved;
}

ssize_t write(int fd, const void *data, size_t count)
{
    ssize_t done = syscall(SYS_write, fd, data, count);
    wrote(fd, data, done, -1);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t count, off_t offset)
{
    ssize_t done = syscall(SYS_pwrite64, fd, data, count, offset);
    wrote(fd, data, done, offset);
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset) { return pwrite(fd, data, count, offset); }

/* Calls that the programs are not known to make on these files: one more of them would be missed. */
static void unknown(const char *what, int fd)
{
    char where[PATH_MAX];
    if (path_of(fd, where)) put("unknown", inode_of(fd), 0, 0, what, 0, 0, 0);
}
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    unknown("writev", fd);
    return syscall(SYS_writev, fd, parts, count);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
    unknown("sendfile", out);
    return syscall(SYS_sendfile, out, in, offset, count);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) { return sendfile(out, in, offset, count); }
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t count, unsigned flags)
{
    unknown("copy_file_range", out);
    return syscall(SYS_copy_file_range, in, from, out, to, count, flags);
}

int ftruncate(int fd, off_t length)
{
    char where[PATH_MAX];
    int done = (int)syscall(SYS_ftruncate, fd, length);
    if (!done && path_of(fd, where)) put("truncate", inode_of(fd), length, 0, 0, 0, 0, 0);
    return done;
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

static int synced(long call, int fd)
{
    char where[PATH_MAX];
    int done = (int)syscall(call, fd);
    if (!done && path_of(fd, where)) put("sync", inode_of(fd), 0, 0, 0, 0, 0, 0);
    return done;
}
int fsync(int fd) { return synced(SYS_fsync, fd); }
int fdatasync(int fd) { return synced(SYS_fdatasync, fd); }
