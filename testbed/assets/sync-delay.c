/*
 * Makes every sync to disk slower, and counts them.
 *
 * Loaded with LD_PRELOAD in front of the C library. The build machines sync in a fraction of a
 * millisecond; network-attached volumes take milliseconds. With this shim a benchmark shows how a
 * program behaves on such a volume, and how many syncs it asks for.
 *
 *   HERALD_SYNC_DELAY_US   microseconds added to each sync (default 0)
 *   HERALD_SYNC_COUNT      a file; its first 8 bytes hold the number of syncs so far, in the
 *                          machine's byte order, visible while the program runs
 *
 * Covers fsync, fdatasync, sync_file_range and msync as called through the C library.
 *
 * Build: cc -O2 -shared -fPIC -o sync-delay.so sync-delay.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static struct timespec delay;
static uint64_t fallback_counter;
static uint64_t *counter = &fallback_counter;

static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_sync_file_range)(int, off_t, off_t, unsigned int);
static int (*real_msync)(void *, size_t, int);

static void __attribute__((constructor)) sync_delay_init(void)
{
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_sync_file_range = dlsym(RTLD_NEXT, "sync_file_range");
    real_msync = dlsym(RTLD_NEXT, "msync");

    const char *us = getenv("HERALD_SYNC_DELAY_US");
    long total = us ? strtol(us, NULL, 10) : 0;
    delay.tv_sec = total / 1000000;
    delay.tv_nsec = (total % 1000000) * 1000;

    const char *path = getenv("HERALD_SYNC_COUNT");
    if (!path)
        return;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    if (ftruncate(fd, sizeof *counter) == 0) {
        void *shared = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (shared != MAP_FAILED)
            counter = shared;
    }
    close(fd);
}

static void count_and_wait(void)
{
    int saved = errno;
    struct timespec left = delay;
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
    /* A signal must not shorten the delay. */
    while ((left.tv_sec || left.tv_nsec) && nanosleep(&left, &left) == -1 && errno == EINTR)
        ;
    errno = saved;
}

int fsync(int fd)
{
    count_and_wait();
    return real_fsync(fd);
}

int fdatasync(int fd)
{
    count_and_wait();
    return real_fdatasync(fd);
}

int sync_file_range(int fd, off_t offset, off_t bytes, unsigned int flags)
{
    count_and_wait();
    return real_sync_file_range(fd, offset, bytes, flags);
}

int msync(void *address, size_t length, int flags)
{
    count_and_wait();
    return real_msync(address, length, flags);
}
