/* Keeps a worker that runs with this library in LD_PRELOAD waiting for the address of a host.
 *
 * The file named by DEAF_RESOLVER holds the host's name; while there is none, everything works.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int is_silent_about(const char *host) {
    const char *path = getenv("DEAF_RESOLVER");
    char named[256] = {0};
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file)
        return 0;
    int found = fscanf(file, "%255s", named);
    fclose(file);
    return found == 1 && host && !strcmp(host, named);
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    __typeof__(&getaddrinfo) real = (__typeof__(&getaddrinfo))dlsym(RTLD_NEXT, "getaddrinfo");
    const struct timespec pause = {0, 10 * 1000 * 1000};
    while (is_silent_about(host))
        nanosleep(&pause, NULL);
    return real(host, service, hints, found);
}
