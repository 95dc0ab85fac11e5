/* Makes system calls on temporary files fail, for a worker that runs with this library in LD_PRELOAD.
 *
 * The file named by FAILING_DISK holds a call's name and the errno that it shall fail with, such as
 * "fsync 28"; while there is none, everything works.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_temporary(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 5)
        return 0;
    path[length] = 0;
    return strcmp(path + length - 5, ".part") == 0;
}

/* The errno that this call shall fail with; 0 for none. */
static int fault(const char *call, int fd) {
    const char *file = getenv("FAILING_DISK");
    char text[64] = {0}, name[32] = {0};
    int number = 0;
    if (!file || !is_temporary(fd))
        return 0;
    int opened = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY);
    if (opened < 0)
        return 0;
    ssize_t length = syscall(SYS_read, opened, text, sizeof text - 1);
    syscall(SYS_close, opened);
    if (length <= 0 || sscanf(text, "%31s %d", name, &number) != 2 || strcmp(name, call) != 0)
        return 0;
    return number;
}

int fsync(int fd) {
    int number = fault("fsync", fd);
    if (number) {
        errno = number;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    int number = fault("write", fd);
    if (number) {
        errno = number;
        return -1;
    }
    return syscall(SYS_write, fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    int number = fault("write", fd);
    if (number) {
        errno = number;
        return -1;
    }
    return syscall(SYS_writev, fd, pieces, count);
}

int close(int fd) {
    int number = fault("close", fd);
    int result = (int)syscall(SYS_close, fd);
    if (number) {
        errno = number;
        return -1;
    }
    return result;
}
