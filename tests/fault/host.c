/* SPDX-License-Identifier: Apache-2.0 */
/* A host finds itself as it was: a whole session changes no descriptor, thread, signal,
 * locale, environment, floating-point mode, limit or folder, prints nothing, and
 * computes the same whatever mode and locale the host has set. */
#include "session.h"

#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

extern char **environ;

#define MOST_FILES 64

/* What of a process a library could change. */
struct host {
    char files[MOST_FILES][128]; /* what each open descriptor leads to */
    int threads;
    sigset_t mask;
    struct sigaction actions[65];
    char locale[256];
    locale_t thread_locale;
    uint64_t environment;
    unsigned fp_mode;
    char folder[256];
    mode_t umask;
    cpu_set_t affinity;
    struct rlimit limits[RLIMIT_NLIMITS];
};

/* The thread's floating-point mode without its status flags. */
static unsigned fp_mode(void)
{
#if defined(__SSE__)
    return _mm_getcsr() & ~0x3fu;
#else
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return (unsigned)mode;
#endif
}

static void set_fp_mode(unsigned mode)
{
#if defined(__SSE__)
    _mm_setcsr(mode);
#else
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)mode));
#endif
}

#if defined(__SSE__)
enum { DEFAULT_MODE = 0x1f80, ODD_MODE = 0xdfc0 }; /* both flushes, round up */
#else
enum { DEFAULT_MODE = 0, ODD_MODE = 0x1400000 };
#endif

static int thread_count(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void look_at_files(struct host *host)
{
    for (int i = 0; i < MOST_FILES; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", i);
        const ssize_t length =
            readlink(path, host->files[i], sizeof host->files[i] - 1);
        host->files[i][length > 0 ? length : 0] = '\0';
    }
}

static void look(struct host *host)
{
    memset(host, 0, sizeof *host);
    look_at_files(host);
    host->threads = thread_count();
    pthread_sigmask(SIG_BLOCK, NULL, &host->mask);
    for (int i = 1; i < 65; i++) sigaction(i, NULL, &host->actions[i]);
    snprintf(host->locale, sizeof host->locale, "%s", setlocale(LC_ALL, NULL));
    host->thread_locale = uselocale((locale_t)0);
    for (char **entry = environ; *entry != NULL; entry++)
        host->environment = digest_bytes(host->environment, *entry, strlen(*entry));
    host->fp_mode = fp_mode();
    ck_assert_ptr_nonnull(getcwd(host->folder, sizeof host->folder));
    host->umask = umask(0);
    umask(host->umask);
    sched_getaffinity(0, sizeof host->affinity, &host->affinity);
    for (int i = 0; i < RLIMIT_NLIMITS; i++) getrlimit(i, &host->limits[i]);
}

static void compare(const struct host *before, const struct host *after)
{
    for (int i = 0; i < MOST_FILES; i++)
        ck_assert_str_eq(after->files[i], before->files[i]);
    ck_assert_int_eq(after->threads, before->threads);
    ck_assert_mem_eq(&after->mask, &before->mask, sizeof before->mask);
    for (int i = 1; i < 65; i++) {
        ck_assert_ptr_eq(after->actions[i].sa_handler, before->actions[i].sa_handler);
        ck_assert_int_eq(after->actions[i].sa_flags, before->actions[i].sa_flags);
    }
    ck_assert_str_eq(after->locale, before->locale);
    ck_assert(after->thread_locale == before->thread_locale);
    ck_assert_uint_eq(after->environment, before->environment);
    ck_assert_uint_eq(after->fp_mode, before->fp_mode);
    ck_assert_str_eq(after->folder, before->folder);
    ck_assert_uint_eq(after->umask, before->umask);
    ck_assert(CPU_EQUAL(&after->affinity, &before->affinity));
    ck_assert_mem_eq(after->limits, before->limits, sizeof before->limits);
}

/* Sessions on both engines with four threads; what the weights came to. */
static uint64_t run_sessions(vgg_gemm gemm)
{
    char dir[64];
    harness_mkdtemp(dir);
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.threads = 4;
    opts.gemm = gemm;
    vgg_context *ctx;
    uint64_t digests[2];
    ck_ok(vgg_context_create(&opts, &ctx));
    ck_ok(session_run(ctx, "cpu", dir, &digests[0]));
    ck_ok(session_run(ctx, "ref", dir, &digests[1]));
    vgg_device *device;
    ck_fails(vgg_device_open(ctx, "no such device", &device), VGG_EINVAL);
    vgg_context_free(ctx);
    harness_rmdir(dir);
    return digest_bytes(0, digests, sizeof digests);
}

static void check_unchanged(const struct host *before)
{
    struct host after;
    for (int i = 0; i < 1000 && thread_count() != before->threads; i++) usleep(1000);
    look(&after);
    compare(before, &after);
}

START_TEST(unchanged)
{
    struct host before;
    look(&before);
    run_sessions(VGG_GEMM_OWN);
    check_unchanged(&before);
}
END_TEST

/* OpenBLAS stays loaded, with a thread of its own that sleeps: that happens once. */
START_TEST(unchanged_but_for_openblas)
{
    run_sessions(VGG_GEMM_AUTO);
    struct host before;
    look(&before);
    run_sessions(VGG_GEMM_AUTO);
    check_unchanged(&before);
}
END_TEST

/* Signals that a thread of this process blocks, as /proc says. */
static uint64_t blocked_by(const char *thread)
{
    char path[300], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    unsigned long long mask = 0;
    while (fgets(line, sizeof line, file) != NULL) sscanf(line, "SigBlk: %llx", &mask);
    fclose(file);
    return mask;
}

/* While a device is open, no thread but the host's own takes a signal. */
START_TEST(signals_stay_with_the_host)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.threads = 4;
    vgg_context *ctx;
    vgg_device *device;
    ck_ok(vgg_context_create(&opts, &ctx));
    ck_ok(vgg_device_open(ctx, "cpu", &device));
    ck_assert_int_ge(thread_count(), 4);
    char own[16];
    snprintf(own, sizeof own, "%d", (int)getpid());
    const uint64_t wanted = 1ull << (SIGINT - 1) | 1ull << (SIGTERM - 1) |
                            1ull << (SIGALRM - 1) | 1ull << (SIGCHLD - 1);
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, own) != 0)
            ck_assert_uint_eq(blocked_by(entry->d_name) & wanted, wanted);
    closedir(dir);
    vgg_device_free(device);
    vgg_context_free(ctx);
}
END_TEST

static void odd_handler(int number)
{
    (void)number;
}

/* The same for a host that has settings of its own, and the same results. */
START_TEST(unchanged_odd_host)
{
    const uint64_t plain = run_sessions(VGG_GEMM_AUTO);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    signal(SIGUSR2, odd_handler);
    signal(SIGPIPE, SIG_IGN);
    umask(027);
    static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"};
    for (int i = 0; i < 3 && setlocale(LC_ALL, locales[i]) == NULL; i++) continue;
    struct host before;
    set_fp_mode(ODD_MODE);
    look(&before);
    ck_assert_uint_eq(before.fp_mode, ODD_MODE);
    const uint64_t odd = run_sessions(VGG_GEMM_AUTO);
    check_unchanged(&before);
    set_fp_mode(DEFAULT_MODE);
    ck_assert_msg(odd == plain, "results depend on the host's mode or locale");
}
END_TEST

/* Nothing on stdout or stderr, not even where the library refuses. */
START_TEST(silent)
{
    char path[] = "/tmp/vgg-silent-XXXXXX";
    const int file = mkstemp(path), out = dup(1), err = dup(2);
    ck_assert_int_ge(file, 0);
    fflush(NULL);
    dup2(file, 1);
    dup2(file, 2);
    run_sessions(VGG_GEMM_AUTO);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    struct stat st;
    ck_assert_int_eq(fstat(file, &st), 0);
    ck_assert_int_eq(st.st_size, 0);
    close(file);
    close(out);
    close(err);
    unlink(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fault/host");
    TCase *tcase = tcase_create("host");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, unchanged);
    tcase_add_test(tcase, unchanged_but_for_openblas);
    tcase_add_test(tcase, signals_stay_with_the_host);
    tcase_add_test(tcase, unchanged_odd_host);
    tcase_add_test(tcase, silent);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
