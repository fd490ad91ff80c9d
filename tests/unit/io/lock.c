/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of a place: one has it at a time, nobody waits for ever, nothing is left. */
#include "io/lock.h"
#include "faults.h"
#include "harness.h"
#include "io/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[64], path[128], lock_path[128];
static struct vgg__place place, other;

static void setup(void)
{
    faults_end();
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/target", base);
    snprintf(lock_path, sizeof lock_path, "%s/.target.vgg-lock", base);
    ck_ok(vgg__place_open(&place, path));
    ck_ok(vgg__place_open(&other, path));
}

static void teardown(void)
{
    vgg__place_close(&place);
    vgg__place_close(&other);
    harness_rmdir(base);
}

START_TEST(one_at_a_time)
{
    vgg__lock_release(&place); /* none was taken */
    ck_ok(vgg__lock_take(&place));
    ck_fails_with(vgg__lock_take(&other), VGG_EIO,
                  "another save has had .target.vgg-lock beside it for 10 s: wait "
                  "until it ends, or remove that file");
    vgg__lock_release(&other);
    ck_fails(vgg__lock_take(&other), VGG_EIO); /* it is the holder's to give back */
    vgg__lock_release(&place);
    ck_assert_int_eq(faults_entries(base, ""), 0);
    ck_ok(vgg__lock_take(&other));
    vgg__lock_release(&other);
    ck_assert_int_eq(faults_entries(base, ""), 0);
}
END_TEST

/* As the remedy says: the file may be removed, and its holder does no harm to the one
 * that has the next. */
START_TEST(removed_by_hand)
{
    ck_ok(vgg__lock_take(&place));
    ck_assert_int_eq(unlink(lock_path), 0);
    ck_ok(vgg__lock_take(&other));
    vgg__lock_release(&place);
    ck_assert_int_eq(faults_entries(base, ""), 1);
    ck_fails(vgg__lock_take(&place), VGG_EIO);
    vgg__lock_release(&other);
    ck_assert_int_eq(faults_entries(base, ""), 0);
}
END_TEST

START_TEST(leftover)
{
    const int fd = open(lock_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_ok(vgg__lock_take(&place));
    vgg__lock_release(&place);
    ck_assert_int_eq(faults_entries(base, ""), 0);
}
END_TEST

START_TEST(of_others)
{
    const int fd = open(lock_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, "mine", 4), 4);
    close(fd);
    for (int kind = 0; kind < 4; kind++) {
        if (kind == 1) ck_assert_int_eq(mkdir(lock_path, 0755), 0);
        if (kind == 2) ck_assert_int_eq(mkfifo(lock_path, 0600), 0);
        if (kind == 3) ck_assert_int_eq(symlink("nowhere", lock_path), 0);
        ck_fails_with(vgg__lock_take(&place), VGG_EMISMATCH,
                      ".target.vgg-lock beside it is someone else's: move that away");
        vgg__lock_release(&place);
        ck_assert_int_eq(faults_entries(base, ""), 1);
        ck_assert_int_eq(remove(lock_path), 0);
    }
}
END_TEST

/* flock() as over NFS: an exclusive lock is for who may write. Every other call is
 * interrupted. */
static int flock_of_nfs(int fd, int operation)
{
    static unsigned calls;
    if (calls++ % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    if ((operation & LOCK_EX) && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
        errno = EBADF;
        return -1;
    }
    return flock(fd, operation);
}

/* A second save finds the lock taken, whether it makes the file or finds it. */
START_TEST(over_nfs)
{
    const struct vgg__os *const plain = vgg__os;
    struct vgg__os nfs = *plain;
    nfs.flock = flock_of_nfs;
    vgg__os = &nfs;
    ck_ok(vgg__lock_take(&place));
    vgg__os = plain;
    ck_fails(vgg__lock_take(&other), VGG_EIO);
    vgg__os = &nfs;
    vgg__lock_release(&place);
    const int fd = open(lock_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_ok(vgg__lock_take(&other));
    vgg__os = plain;
    ck_fails(vgg__lock_take(&place), VGG_EIO);
    vgg__lock_release(&other);
    ck_assert_int_eq(faults_entries(base, ""), 0);
}
END_TEST

/* Whatever call fails, no descriptor is lost, and the next one has its way. */
START_TEST(faults)
{
    static const enum fault kinds[] = {FAULT_EIO, FAULT_EINTR, FAULT_STOP};
    const int descriptors = faults_descriptors();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (long n = 1;; n++) {
            faults_begin(kinds[k], n);
            vgg__lock_take(&place);
            vgg__lock_release(&place);
            const long calls = faults_end();
            ck_assert_int_eq(faults_descriptors(), descriptors);
            ck_ok(vgg__lock_take(&other));
            vgg__lock_release(&other);
            ck_assert_int_eq(faults_entries(base, ""), 0);
            if (n > calls) break;
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lock");
    TCase *tests = tcase_create("lock");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, one_at_a_time);
    tcase_add_test(tests, removed_by_hand);
    tcase_add_test(tests, leftover);
    tcase_add_test(tests, of_others);
    tcase_add_test(tests, over_nfs);
    tcase_add_test(tests, faults);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
