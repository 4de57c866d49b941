/* Ends or stops the process, or fails for want of space, at the n-th call that changes files below a
 * folder.
 *
 * Loaded with LD_PRELOAD. `fer_arm` begins to count; before, calls pass through. Calls on other
 * files are never counted. Python, numpy and HDF5 reach the kernel through these functions of libc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, HALF, FULL, STOP };

static int mode = -1;
static long calls, target;
static char prefix[PATH_MAX];

void fer_arm(const char *folder, int what, long at) {
    snprintf(prefix, sizeof prefix, "%s", folder);
    calls = 0;
    target = at;
    mode = what;
}

void fer_disarm(void) { mode = -1; }

long fer_calls(void) { return calls; }

static int below(const char *path) { return !strncmp(path, prefix, strlen(prefix)); }

/* A relative path counts when the working directory lies below the folder. */
static int path_counts(const char *path) {
    char here[PATH_MAX];
    if (mode < 0 || !path) return 0;
    if (path[0] == '/') return below(path);
    return getcwd(here, sizeof here) && below(here);
}

static int file_counts(int descriptor) {
    char link[64], path[PATH_MAX];
    ssize_t size;
    if (mode < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}

/* Whether this call is the one; a full disk stays full. */
static int is_due(void) {
    long now = __sync_add_and_fetch(&calls, 1);
    return mode == FULL ? now >= target : now == target;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    pause();
}

/* Ends the process; a request to stop lets it go on with the call. */
static void strike(void) {
    if (mode == STOP) kill(getpid(), SIGTERM);
    else if (mode != COUNT) die();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITES(name, declared, passed, half)                                  \
    ssize_t name declared {                                                    \
        if (file_counts(fd) && is_due()) {                                     \
            if (mode == FULL) { errno = ENOSPC; return -1; }                   \
            if (mode == HALF) { half; }                                        \
            strike();                                                          \
        }                                                                      \
        return REAL(name) passed;                                              \
    }

WRITES(write, (int fd, const void *data, size_t size), (fd, data, size),
       REAL(write)(fd, data, size / 2))
WRITES(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at),
       REAL(pwrite)(fd, data, size / 2, at))
WRITES(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at),
       REAL(pwrite64)(fd, data, size / 2, at))
WRITES(writev, (int fd, const struct iovec *data, int number), (fd, data, number), (void)0)

/* Calls that take no space: they end the process, but do not fail on a full disk. */
#define CHANGES(name, declared, passed, counts)                                \
    int name declared {                                                        \
        if ((counts) && mode != FULL && is_due()) strike();                    \
        return REAL(name) passed;                                              \
    }

CHANGES(rename, (const char *old, const char *new), (old, new), path_counts(old))
CHANGES(renameat, (int a, const char *old, int b, const char *new), (a, old, b, new),
        path_counts(old))
CHANGES(renameat2, (int a, const char *old, int b, const char *new, unsigned int flags),
        (a, old, b, new, flags), path_counts(old))
CHANGES(unlink, (const char *path), (path), path_counts(path))
CHANGES(unlinkat, (int fd, const char *path, int flags), (fd, path, flags),
        path[0] == '/' ? path_counts(path) : file_counts(fd))
CHANGES(rmdir, (const char *path), (path), path_counts(path))
CHANGES(link, (const char *old, const char *new), (old, new), path_counts(new))
CHANGES(symlink, (const char *old, const char *new), (old, new), path_counts(new))
CHANGES(ftruncate, (int fd, off_t size), (fd, size), file_counts(fd))
CHANGES(fsync, (int fd), (fd), file_counts(fd))

int mkdir(const char *path, mode_t rights) {
    if (path_counts(path) && is_due()) {
        if (mode == FULL) { errno = ENOSPC; return -1; }
        strike();
    }
    return REAL(mkdir)(path, rights);
}

/* Opening for writing makes or empties a file. */
#define OPENS(name)                                                            \
    int name(const char *path, int flags, ...) {                               \
        mode_t rights = 0;                                                     \
        if (flags & (O_CREAT | O_TMPFILE)) {                                   \
            va_list rest;                                                      \
            va_start(rest, flags);                                             \
            rights = va_arg(rest, mode_t);                                     \
            va_end(rest);                                                      \
        }                                                                      \
        if ((flags & (O_CREAT | O_TRUNC)) && path_counts(path) && is_due()) {  \
            if (mode == FULL) { errno = ENOSPC; return -1; }                   \
            strike();                                                          \
        }                                                                      \
        return REAL(name)(path, flags, rights);                                \
    }

OPENS(open)
OPENS(open64)
