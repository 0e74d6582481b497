/* A disk that is watched, and that fails when it is told to. Preloaded (LD_PRELOAD) into a process that has SQLite open files:
 *
 *     cc -shared -fPIC -O2 -Wall -Wextra -Werror -o disk.so disk.c -ldl -lpthread
 *
 * It sees every call by which the database, its WAL and its rollback journal change, and every synchronisation of them and of
 * their folder. `disk_watch` says which they are and where to write them down, `disk_fault` at which call what is to happen.
 * The formats are told in disk.py, which reads them.
 *
 * Calls that change a file are carried out and written down under one lock, so the order of the record is the one in which
 * they happened. A synchronisation is not: its beginning and its end are written down, it covers what was written before its
 * beginning, and it holds nobody up. What goes to a client is written down before it is sent: whoever has it, has it later.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { START, CREATE, WRITE, TRUNCATE, UNLINK, SYNC, SYNCED, SEND, SENT };          /* op of a record */
enum { DATABASE = 1, WAL, JOURNAL, FOLDER };                                        /* name of a record */
enum { ONCE, FROM_THEN_ON, KILL_BEFORE, KILL_HALFWAY, KILL_AFTER };                 /* how of a fault */

#define DESCRIPTORS 4096

struct record {
    uint8_t op, name;
    uint16_t zero;
    uint32_t length;
    uint64_t file; /* the inode; of SEND and SENT the descriptor */
    uint64_t offset;
} __attribute__((packed));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char names[4][PATH_MAX], folder[PATH_MAX];
static int record_to = -1, watching = 0;
static unsigned char kinds[DESCRIPTORS];
static uint64_t files[DESCRIPTORS];

static int fault_ops = 0, fault_how = 0, fault_error = 0, fault_met = 0;
static long fault_when = 0, calls = 0, after = 0, synced_after = 0;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t real_write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(fd, data, size);
}

static ssize_t real_pwrite(int fd, const void *data, size_t size, off64_t offset)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return real(fd, data, size, offset);
}

static void die(const char *why)
{
    real_write(2, why, strlen(why));
    _exit(99);
}

/* At the call number `when`, of those whose bits (1 << op) are in `ops`, do `how`. Calls are counted from here. */
void disk_fault(int ops, long when, int how, int error)
{
    fault_ops = ops, fault_when = when, fault_how = how, fault_error = error;
    calls = after = synced_after = 0;
    fault_met = 0;
}

/* How many calls there were of those in `ops`. */
long disk_calls(void) { return calls; }

/* How many writes to, and how many syncs of the watched files there were after the fault was first met. */
long disk_after(void) { return after; }
long disk_synced_after(void) { return synced_after; }

static void put(int op, int name, uint64_t file, uint64_t offset, const void *data, uint32_t length)
{
    if (record_to < 0) return;
    static char buffer[sizeof(struct record) + (1 << 20)];
    struct record head = {op, name, 0, data ? length : 0, file, offset};
    size_t size = sizeof head + head.length;
    if (size > sizeof buffer) die("disk: a call that is too large\n");
    memcpy(buffer, &head, sizeof head);
    if (data) memcpy(buffer + sizeof head, data, length);
    if (real_write(record_to, buffer, size) != (ssize_t)size) die("disk: the record cannot be written\n");
}

/* Watch the database of this absolute path; write everything down on the descriptor `to`, or nowhere if that is -1. */
void disk_watch(const char *database, int to)
{
    snprintf(names[DATABASE], PATH_MAX, "%s", database);
    snprintf(names[WAL], PATH_MAX, "%s-wal", database);
    snprintf(names[JOURNAL], PATH_MAX, "%s-journal", database);
    snprintf(folder, PATH_MAX, "%s", database);
    char *slash = strrchr(folder, '/');
    if (!slash) die("disk_watch: the path is not absolute\n");
    *slash = 0;
    record_to = to;
    put(START, 0, 0, 0, NULL, 0);
    watching = 1;
}

static int kind_of(int fd) { return watching && fd >= 0 && fd < DESCRIPTORS ? kinds[fd] : 0; }

static int name_of(const char *path)
{
    for (int name = DATABASE; name <= JOURNAL; name++)
        if (!strcmp(path, names[name])) return name;
    return strcmp(path, folder) ? 0 : FOLDER;
}

static void end(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether this call is to fail; it does not return if it is to be the last one. -1: it is to be the last, and half of it.
 *
 * SQLite goes on as if nothing had happened if the folder cannot be synchronised, which it does before the first of its
 * commits. That hurts nobody, as the store has done so itself by then: what comes after it is counted from the next failure. */
static int faulty(int op, int name)
{
    if (fault_met) {
        if (op == SYNC) synced_after++;
        else after++;
    }
    if (!(fault_ops & 1 << op)) return 0;
    calls++;
    if (!fault_when) return 0;
    if (fault_how == FROM_THEN_ON ? calls < fault_when : calls != fault_when) return 0;
    if (op != SYNC || name != FOLDER) fault_met = 1;
    switch (fault_how) {
    case KILL_BEFORE: end(); return 0;
    case KILL_HALFWAY: return op == WRITE ? -1 : 0;
    case KILL_AFTER: return -2;
    default: errno = fault_error; return 1;
    }
}

static int opened(const char *path, int flags, mode_t mode, int (*call)(const char *, int, mode_t))
{
    int name = watching ? name_of(path) : 0;
    if (!name) {
        int fd = call(path, flags, mode);
        if (fd >= 0 && fd < DESCRIPTORS) kinds[fd] = 0;
        return fd;
    }
    pthread_mutex_lock(&lock);
    struct stat there;
    int fresh = flags & O_CREAT && stat(path, &there) < 0;
    int fault = fresh ? faulty(CREATE, name) : 0;
    int fd = fault > 0 ? -1 : call(path, flags, mode);
    int error = errno;
    if (fd >= DESCRIPTORS) die("disk: too many descriptors\n");
    if (fd >= 0 && !fstat(fd, &there)) {
        if (flags & O_TRUNC && !fresh) die("disk: a watched file is opened to be emptied, which is not recorded\n");
        kinds[fd] = name;
        files[fd] = there.st_ino;
        if (fresh) put(CREATE, name, there.st_ino, 0, NULL, 0);
    }
    if (fault < 0) end();
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

static int call_open(const char *path, int flags, mode_t mode)
{
    REAL(int, "open64", const char *, int, ...);
    return real(path, flags, mode);
}

static int call_openat(const char *path, int flags, mode_t mode)
{
    REAL(int, "openat64", int, const char *, int, ...);
    return real(AT_FDCWD, path, flags, mode);
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags, flags);
    return opened(path, flags, mode, call_open);
}

int open64(const char *path, int flags, ...)
{
    MODE(flags, flags);
    return opened(path, flags, mode, call_open);
}

static int at(int where, const char *path, int flags, mode_t mode)
{
    if (where == AT_FDCWD || path[0] == '/') return opened(path, flags, mode, call_openat);
    REAL(int, "openat64", int, const char *, int, ...);
    int fd = real(where, path, flags, mode);
    if (fd >= 0 && fd < DESCRIPTORS) kinds[fd] = 0;
    return fd;
}

int openat(int where, const char *path, int flags, ...)
{
    MODE(flags, flags);
    return at(where, path, flags, mode);
}

int openat64(int where, const char *path, int flags, ...)
{
    MODE(flags, flags);
    return at(where, path, flags, mode);
}

int close(int fd)
{
    REAL(int, "close", int);
    if (fd >= 0 && fd < DESCRIPTORS) kinds[fd] = 0;
    return real(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    int name = kind_of(fd);
    if (!name) return real_pwrite(fd, data, size, offset);
    pthread_mutex_lock(&lock);
    int fault = faulty(WRITE, name);
    ssize_t written = fault > 0 ? -1 : real_pwrite(fd, data, fault == -1 ? size / 2 : size, offset);
    int error = errno;
    if (written > 0) put(WRITE, name, files[fd], offset, data, written);
    if (fault < 0) end();
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

/* Whether what is written there is told to a client, and to be recorded. */
static int is_told(int fd)
{
    int domain = 0;
    socklen_t length = sizeof domain;
    return record_to >= 0 && !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) && domain == AF_INET;
}

static ssize_t call_write(int fd, const void *data, size_t size, int flags)
{
    (void)flags;
    return real_write(fd, data, size);
}

static ssize_t call_send(int fd, const void *data, size_t size, int flags)
{
    REAL(ssize_t, "send", int, const void *, size_t, int);
    return real(fd, data, size, flags);
}

static ssize_t tell(int fd, const void *data, size_t size, int flags, ssize_t (*call)(int, const void *, size_t, int))
{
    pthread_mutex_lock(&lock);
    put(SEND, 0, fd, 0, data, size);
    pthread_mutex_unlock(&lock);
    ssize_t sent = call(fd, data, size, flags);
    int error = errno;
    pthread_mutex_lock(&lock);
    put(SENT, 0, fd, sent > 0 ? sent : 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return sent;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    return is_told(fd) ? tell(fd, data, size, flags, call_send) : call_send(fd, data, size, flags);
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (kind_of(fd)) return pwrite64(fd, data, size, lseek64(fd, 0, SEEK_CUR));
    return is_told(fd) ? tell(fd, data, size, 0, call_write) : real_write(fd, data, size);
}

int ftruncate64(int fd, off64_t size)
{
    REAL(int, "ftruncate64", int, off64_t);
    int name = kind_of(fd);
    if (!name) return real(fd, size);
    pthread_mutex_lock(&lock);
    int fault = faulty(TRUNCATE, name);
    int result = fault > 0 ? -1 : real(fd, size);
    int error = errno;
    if (!result) put(TRUNCATE, name, files[fd], size, NULL, 0);
    if (fault < 0) end();
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int unlink(const char *path)
{
    REAL(int, "unlink", const char *);
    int name = watching ? name_of(path) : 0;
    if (!name || name == FOLDER) return real(path);
    pthread_mutex_lock(&lock);
    int fault = faulty(UNLINK, name);
    int result = fault > 0 ? -1 : real(path);
    int error = errno;
    if (!result) put(UNLINK, name, 0, 0, NULL, 0);
    if (fault < 0) end();
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int synced(int fd, int (*call)(int))
{
    int name = kind_of(fd);
    if (!name) return call(fd);
    uint64_t file = files[fd];
    pthread_mutex_lock(&lock);
    int fault = faulty(SYNC, name);
    if (fault > 0) {
        int error = errno;
        pthread_mutex_unlock(&lock);
        errno = error;
        return -1;
    }
    put(SYNC, name, file, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    int result = call(fd);
    int error = errno;
    pthread_mutex_lock(&lock);
    if (!result) put(SYNCED, name, file, 0, NULL, 0);
    if (fault < 0) end();
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int call_fsync(int fd)
{
    REAL(int, "fsync", int);
    return real(fd);
}

static int call_fdatasync(int fd)
{
    REAL(int, "fdatasync", int);
    return real(fd);
}

int fsync(int fd) { return synced(fd, call_fsync); }
int fdatasync(int fd) { return synced(fd, call_fdatasync); }
