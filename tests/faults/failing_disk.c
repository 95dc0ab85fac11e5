/* Makes system calls on the storage fail or hang, for a worker that runs with this library in LD_PRELOAD.
 *
 * The file named by FAILING_DISK holds a line for each call that shall not work as usual:
 *
 *     fsync 28        it fails with that errno; write, fsync and close, of temporary files only
 *     create 30       files and directories cannot be made, with that errno; "open 116": nothing can be opened,
 *                     "stat 116": nothing be looked at
 *     fsync hang      it blocks until the line is gone, as on a hard NFS mount whose server is gone
 *     rename replayed it is done and answered as a replay on NFS is: ENOENT for rename and unlink, EEXIST
 *                     for mkdir
 *     names folded    upper case is taken for lower case, as on SMB
 *
 * Calls that can hang: open, write, fsync, close, rename, mkdir, unlink, stat, statvfs, readdir; "all" stands for
 * each of them. They hang on the storage root (WORKER_STORAGE__ROOT) and on what lies in it. "key hang" does the
 * same to opening a file in WORKER_CREDENTIALS__DIR. While there is no such file, everything works.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Resolved by name once for each call: the library itself defines what it wraps. */
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static long direct(long number, long a, long b, long c, long d) {
    REAL(syscall);
    return real(number, a, b, c, d);
}

/* What the switch says of a call: the word after its name; empty when it says nothing. */
static void told(const char *call, char word[16]) {
    const char *file = getenv("FAILING_DISK");
    char text[512], *rest = text, *line, name[32], said[16];
    word[0] = 0;
    if (!file)
        return;
    int opened = (int)direct(SYS_openat, AT_FDCWD, (long)file, O_RDONLY | O_CLOEXEC, 0);
    if (opened < 0)
        return;
    long length = direct(SYS_read, opened, (long)text, sizeof text - 1, 0);
    direct(SYS_close, opened, 0, 0, 0);
    if (length <= 0)
        return;
    text[length] = 0;
    while ((line = strsep(&rest, "\n")))
        if (sscanf(line, "%31s %15s", name, said) == 2
            && (!strcmp(name, call) || (!strcmp(name, "all") && strcmp(call, "key"))))
            strcpy(word, said);
}

static int path_of(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = direct(SYS_readlinkat, AT_FDCWD, (long)link, (long)path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

static int is_temporary(int fd) {
    char path[PATH_MAX];
    size_t length = path_of(fd, path) ? strlen(path) : 0;
    return length > 5 && strcmp(path + length - 5, ".part") == 0;
}

static int is_under(const char *variable, const char *path) {
    const char *root = getenv(variable);
    size_t length = root ? strlen(root) : 0;
    return length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int is_stored(const char *path) {
    return is_under("WORKER_STORAGE__ROOT", path);
}

/* Whether a name, relative to a directory, is that of something on the storage. */
static int is_stored_at(int directory, const char *name) {
    char path[PATH_MAX];
    if (name && name[0] == '/')
        return is_stored(name);
    return directory >= 0 && path_of(directory, path) && is_stored(path);
}

static void hang_while_told(const char *call) {
    char word[16];
    const struct timespec pause = {0, 10 * 1000 * 1000};
    for (told(call, word); !strcmp(word, "hang"); told(call, word))
        nanosleep(&pause, NULL);
}

/* Leaves errno alone: readdir(3) tells the end of a directory by it. */
static void hang_at(const char *call, int directory, const char *name) {
    int number = errno;
    if (is_stored_at(directory, name))
        hang_while_told(call);
    errno = number;
}

/* The errno with which a call on an open file shall fail; 0 for none. It may hang before. */
static int fault(const char *call, int fd) {
    char word[16];
    told(call, word);
    if (!word[0])
        return 0;
    hang_at(call, fd, NULL);
    return is_temporary(fd) ? atoi(word) : 0;
}

/* What a call that was done gives: its result, or a replay's errno. */
static int replayed(const char *call, int result, int number) {
    char word[16];
    int before = errno;
    told(call, word);
    errno = before;
    if (result || strcmp(word, "replayed"))
        return result;
    errno = number;
    return -1;
}

/* A name on the storage as the volume has it: in lower case where it folds names. */
static const char *folded(int directory, const char *name, char *buffer) {
    char word[16];
    int number = errno;
    const char *root = getenv("WORKER_STORAGE__ROOT");
    told("names", word);
    if (!strcmp(word, "folded") && is_stored_at(directory, name) && strlen(name) < PATH_MAX) {
        size_t keep = name[0] == '/' ? strlen(root) : 0;
        for (size_t at = 0; at <= strlen(name); at++)
            buffer[at] = at < keep ? name[at] : (char)tolower(name[at]);
        name = buffer;
    }
    errno = number;
    return name;
}

static int failed(int number) {
    errno = number;
    return -1;
}

/* The errno with which something on the storage is refused; 0 for none. */
static int refusal(const char *call, int directory, const char *name) {
    char word[16];
    int number = errno;
    told(call, word);
    int refused = word[0] && is_stored_at(directory, name) ? atoi(word) : 0;
    errno = number;
    return refused;
}

int fsync(int fd) {
    int number = fault("fsync", fd);
    return number ? failed(number) : (int)direct(SYS_fsync, fd, 0, 0, 0);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    int number = fault("write", fd);
    return number ? failed(number) : direct(SYS_write, fd, (long)bytes, (long)count, 0);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    int number = fault("write", fd);
    return number ? failed(number) : direct(SYS_writev, fd, (long)pieces, count, 0);
}

int close(int fd) {
    int number = fault("close", fd);
    int result = (int)direct(SYS_close, fd, 0, 0, 0);
    return number ? failed(number) : result;
}

static int open_at(int directory, const char *name, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    hang_at("open", directory, name);
    if (is_under("WORKER_CREDENTIALS__DIR", name))
        hang_while_told("key");
    int number = refusal("open", directory, name);
    if (!number && flags & O_CREAT)
        number = refusal("create", directory, name);
    if (number)
        return failed(number);
    return (int)direct(SYS_openat, directory, (long)folded(directory, name, buffer), flags, mode);
}

#define OPEN_MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *name, int flags, ...) {
    OPEN_MODE(flags)
    return open_at(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...) {
    OPEN_MODE(flags)
    return open_at(AT_FDCWD, name, flags | O_LARGEFILE, mode);
}

int openat(int directory, const char *name, int flags, ...) {
    OPEN_MODE(flags)
    return open_at(directory, name, flags, mode);
}

int openat64(int directory, const char *name, int flags, ...) {
    OPEN_MODE(flags)
    return open_at(directory, name, flags | O_LARGEFILE, mode);
}

/* openat2(2) has no function of its own in the C library. */
long syscall(long number, ...) {
    REAL(syscall);
    long argument[6];
    char buffer[PATH_MAX];
    va_list rest;
    va_start(rest, number);
    for (int at = 0; at < 6; at++)
        argument[at] = va_arg(rest, long);
    va_end(rest);
#ifdef SYS_openat2
    if (number == SYS_openat2) {
        hang_at("open", (int)argument[0], (const char *)argument[1]);
        int number = refusal("open", (int)argument[0], (const char *)argument[1]);
        if (number)
            return failed(number);
        argument[1] = (long)folded((int)argument[0], (const char *)argument[1], buffer);
    }
#endif
    return real(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    hang_at("rename", AT_FDCWD, from);
    return replayed("rename", real(from, to), ENOENT);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    REAL(renameat);
    char old[PATH_MAX], new[PATH_MAX];
    hang_at("rename", from_directory, from);
    from = folded(from_directory, from, old);
    to = folded(to_directory, to, new);
    return replayed("rename", real(from_directory, from, to_directory, to), ENOENT);
}

int mkdir(const char *name, mode_t mode) {
    REAL(mkdir);
    hang_at("mkdir", AT_FDCWD, name);
    return replayed("mkdir", real(name, mode), EEXIST);
}

int mkdirat(int directory, const char *name, mode_t mode) {
    REAL(mkdirat);
    char buffer[PATH_MAX];
    hang_at("mkdir", directory, name);
    int number = refusal("create", directory, name);
    if (number)
        return failed(number);
    return replayed("mkdir", real(directory, folded(directory, name, buffer), mode), EEXIST);
}

int unlink(const char *name) {
    REAL(unlink);
    hang_at("unlink", AT_FDCWD, name);
    return replayed("unlink", real(name), ENOENT);
}

int unlinkat(int directory, const char *name, int flags) {
    REAL(unlinkat);
    char buffer[PATH_MAX];
    hang_at("unlink", directory, name);
    return replayed("unlink", real(directory, folded(directory, name, buffer), flags), ENOENT);
}

#define STAT(name) \
    int name(const char *path, struct stat *found) { \
        REAL(name); \
        hang_at("stat", AT_FDCWD, path); \
        int number = refusal("stat", AT_FDCWD, path); \
        if (number) \
            return failed(number); \
        return real(path, found); \
    }
STAT(stat)
STAT(lstat)

#define STAT64(name) \
    int name(const char *path, struct stat64 *found) { \
        REAL(name); \
        hang_at("stat", AT_FDCWD, path); \
        int number = refusal("stat", AT_FDCWD, path); \
        if (number) \
            return failed(number); \
        return real(path, found); \
    }
STAT64(stat64)
STAT64(lstat64)

int fstatat(int directory, const char *name, struct stat *found, int flags) {
    REAL(fstatat);
    char buffer[PATH_MAX];
    hang_at("stat", directory, name);
    int number = refusal("stat", directory, name);
    if (number)
        return failed(number);
    return real(directory, folded(directory, name, buffer), found, flags);
}

int fstatat64(int directory, const char *name, struct stat64 *found, int flags) {
    REAL(fstatat64);
    char buffer[PATH_MAX];
    hang_at("stat", directory, name);
    return real(directory, folded(directory, name, buffer), found, flags);
}

int fstatvfs(int fd, struct statvfs *found) {
    REAL(fstatvfs);
    hang_at("statvfs", fd, NULL);
    return real(fd, found);
}

int fstatvfs64(int fd, struct statvfs64 *found) {
    REAL(fstatvfs64);
    hang_at("statvfs", fd, NULL);
    return real(fd, found);
}

int statvfs(const char *path, struct statvfs *found) {
    REAL(statvfs);
    hang_at("statvfs", AT_FDCWD, path);
    return real(path, found);
}

int statvfs64(const char *path, struct statvfs64 *found) {
    REAL(statvfs64);
    hang_at("statvfs", AT_FDCWD, path);
    return real(path, found);
}

struct dirent64 *readdir64(DIR *directory) {
    REAL(readdir64);
    hang_at("readdir", dirfd(directory), NULL);
    return real(directory);
}

struct dirent *readdir(DIR *directory) {
    REAL(readdir);
    hang_at("readdir", dirfd(directory), NULL);
    return real(directory);
}
