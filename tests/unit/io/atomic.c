/* SPDX-License-Identifier: Apache-2.0 */
/* Atomic files and folders: whatever call fails, and wherever the process is killed,
 * the old content or the new is there, whole, and nothing else is left. */
#include "io/atomic.h"
#include "core/error.h"
#include "faults.h"
#include "harness.h"
#include "io/input.h"
#include "io/os.h"

#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[64];
static char path[4096];

static void setup(void)
{
    faults_end();
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/target", base);
}

static void teardown(void)
{
    harness_rmdir(base);
}

static const char *in_base(const char *name)
{
    static char texts[2][4096];
    static unsigned turn;
    char *text = texts[turn++ % 2];
    snprintf(text, sizeof texts[0], "%s/%s", base, name);
    return text;
}

static void write_plain(const char *file, const char *text)
{
    FILE *f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

/* The file's text is one of two. */
static void check_text(const char *file, const char *a, const char *b)
{
    char text[64] = "";
    FILE *f = fopen(file, "r");
    ck_assert_msg(f != NULL, "%s: %s", file, strerror(errno));
    const size_t size = fread(text, 1, sizeof text - 1, f);
    text[size] = '\0';
    fclose(f);
    ck_assert_msg(strcmp(text, a) == 0 || strcmp(text, b) == 0, "found \"%s\"", text);
}

static vgg_status save_file(const char *text)
{
    struct vgg__atomic_file file;
    VGG_TRY(vgg__atomic_file_begin(&file, path));
    const size_t half = strlen(text) / 2;
    vgg_status status = vgg__out_write(&file.out, text, half);
    if (status == VGG_OK)
        status = vgg__out_write(&file.out, text + half, strlen(text) - half);
    if (status == VGG_OK) return vgg__atomic_file_commit(&file);
    vgg__atomic_file_abort(&file);
    return status;
}

static const char *const names[] = {"manifest", "data"};

static vgg_status save_folder(const char *text)
{
    struct vgg__atomic_folder folder;
    VGG_TRY(vgg__atomic_folder_begin(&folder, path, names, 2));
    vgg_status status = VGG_OK;
    for (int i = 0; i < 2 && status == VGG_OK; i++) {
        struct vgg__out out;
        status = vgg__atomic_folder_create(&folder, names[i], &out);
        if (status == VGG_OK) status = vgg__out_write(&out, text, strlen(text));
        if (status == VGG_OK) status = vgg__out_finish(&out);
        vgg__out_abandon(&out);
    }
    if (status == VGG_OK) return vgg__atomic_folder_commit(&folder);
    vgg__atomic_folder_abort(&folder);
    return status;
}

/* Both files of the folder have the same text, one of two. */
static void check_folder(const char *a, const char *b)
{
    int fd;
    char found[2][8] = {"", ""};
    ck_ok(vgg__atomic_folder_open(path, &fd));
    for (int i = 0; i < 2; i++) {
        struct vgg__input input;
        char *text;
        ck_ok(vgg__input_open(&input, fd, names[i], 0, names[i]));
        ck_ok(vgg__input_text(&input, NULL, 7, &text));
        strcpy(found[i], text);
        vgg__free(text);
        vgg__input_close(&input);
    }
    close(fd);
    ck_assert_str_eq(found[0], found[1]);
    ck_assert_msg(strcmp(found[0], a) == 0 || strcmp(found[0], b) == 0, "found %s",
                  found[0]);
}

START_TEST(file_new_and_replaced)
{
    ck_ok(save_file("one"));
    check_text(path, "one", "one");
    struct stat st;
    const mode_t mask = umask(0);
    umask(mask);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0666 & ~mask);
    ck_assert_int_eq(link(path, in_base("link")), 0);
    ck_ok(save_file("two"));
    check_text(path, "two", "two");
    check_text(in_base("link"), "one", "one"); /* a hard link keeps the old content */
    ck_assert_int_eq(faults_entries(base, ""), 2);
}
END_TEST

START_TEST(file_symbolic_link)
{
    write_plain(in_base("victim"), "mine");
    ck_assert_int_eq(symlink("victim", path), 0);
    ck_ok(save_file("new"));
    check_text(in_base("victim"), "mine", "mine");
    check_text(path, "new", "new");
    struct stat st;
    ck_assert_int_eq(lstat(path, &st), 0);
    ck_assert(S_ISREG(st.st_mode));
}
END_TEST

START_TEST(file_refused)
{
    struct vgg__atomic_file file;
    ck_fails_with(vgg__atomic_file_begin(&file, base), VGG_EIO, "found a folder");
    ck_fails_with(vgg__atomic_file_begin(&file, "/dev/null"), VGG_EIO,
                  "found a device");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_fails_with(vgg__atomic_file_begin(&file, path), VGG_EIO, "pipe");
    ck_fails(vgg__atomic_file_begin(&file, ""), VGG_EINVAL);
    ck_fails(vgg__atomic_file_begin(&file, "/"), VGG_EINVAL);
    ck_fails(vgg__atomic_file_begin(&file, ".."), VGG_EINVAL);
    ck_fails_with(vgg__atomic_file_begin(&file, in_base("no/such")), VGG_EIO,
                  "No such file");
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ck_fails_with(vgg__atomic_file_begin(&file, in_base(name)), VGG_EIO, "too long");
    name[255] = '\0'; /* the longest: its temporary names must be shorter */
    strcpy(path, in_base(name));
    ck_ok(save_file("long"));
    check_text(path, "long", "long");
}
END_TEST

START_TEST(file_leftovers)
{
    write_plain(in_base(".target.new-99-0-7"), "dead");
    write_plain(in_base(".other.new-99-0-7"), "not ours");
    write_plain(in_base(".target.new-99-1-7"), "living");
    const int fd = open(in_base(".target.new-99-1-7"), O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    ck_ok(save_file("one"));
    ck_assert_int_eq(faults_entries(base, ".target.new-99-0-7"), 0);
    ck_assert_int_eq(faults_entries(base, ".target.new-99-1-7"), 1);
    ck_assert_int_eq(faults_entries(base, ".other.new-99-0-7"), 1);
    close(fd);
    ck_ok(save_file("two"));
    ck_assert_int_eq(faults_entries(base, ".target."), 0);
}
END_TEST

/* What has a temporary name but for a byte is someone else's. */
START_TEST(file_leftovers_of_others)
{
    static const char *const others[] = {
        ".target.new-notes.txt", ".target.new-1-2",     ".target.new-1-2-3.old",
        ".target.new-1-2-3-4",   ".target.new--2-3",    ".target.new-1-2-",
        ".target.new-01-2-3",    ".target.new-1-2-0x3", ".target.new-1-2-12345678901",
        ".target.new",           ".target.new.1-2-3",
    };
    const int count = sizeof others / sizeof *others;
    for (int i = 0; i < count; i++) write_plain(in_base(others[i]), "mine");
    ck_assert_int_eq(mkdir(in_base(".target.new-1-2-4"), 0755), 0);
    write_plain(in_base(".target.new-1-2-4/data"), "a file knows no entries");
    ck_ok(save_file("one"));
    ck_ok(save_file("two"));
    for (int i = 0; i < count; i++) check_text(in_base(others[i]), "mine", "mine");
    ck_assert_int_eq(faults_entries(in_base(".target.new-1-2-4"), ""), 1);
    ck_assert_int_eq(faults_entries(base, ""), count + 2);
}
END_TEST

START_TEST(folder_leftovers)
{
    ck_assert_int_eq(mkdir(in_base(".target.new-1-2-3"), 0755), 0);
    write_plain(in_base(".target.new-1-2-3/data"), "half written");
    ck_assert_int_eq(mkdir(in_base(".target.new-1-2-4"), 0755), 0);
    write_plain(in_base(".target.new-1-2-4/data"), "x");
    write_plain(in_base(".target.new-1-2-4/notes"), "mine");
    ck_ok(save_folder("one"));
    check_folder("one", "one");
    ck_assert_int_eq(faults_entries(base, ".target.new-1-2-3"), 0);
    ck_assert_int_eq(faults_entries(in_base(".target.new-1-2-4"), ""), 2);
    ck_assert_int_eq(faults_entries(base, ""), 2);
}
END_TEST

#define THIRD ".target.vgg-old"

/* A folder of the third name that holds more than a save's files, or no manifest, or is
 * no folder, is not a leftover: it is neither brought back nor removed. */
static void plant_third(int kind)
{
    if (kind == 2) {
        write_plain(in_base(THIRD), "mine");
        return;
    }
    ck_assert_int_eq(mkdir(in_base(THIRD), 0755), 0);
    write_plain(in_base(THIRD "/data"), "mine");
    if (kind == 1) return;
    write_plain(in_base(THIRD "/manifest"), "mine");
    write_plain(in_base(THIRD "/notes"), "mine");
}

static void check_third(int kind)
{
    if (kind == 2)
        check_text(in_base(THIRD), "mine", "mine");
    else
        ck_assert_int_eq(faults_entries(in_base(THIRD), ""), kind == 1 ? 1 : 3);
    ck_assert_int_eq(faults_entries(base, ""), 2);
}

START_TEST(folder_third_of_others)
{
    plant_third(_i);
    ck_ok(save_folder("one"));
    check_third(_i);
    ck_ok(save_folder("two"));
    check_third(_i);
    faults_begin(FAULT_NO_EXCHANGE, 1000);
    ck_fails_with(save_folder("three"), VGG_EMISMATCH,
                  THIRD " beside it is someone else's: move that away");
    faults_end();
    check_third(_i);
    check_folder("two", "two");
}
END_TEST

/* A kill between two renames leaves the older folder by its third name, alone or beside
 * the new one. A kill at any call of the save that finds it so changes nothing: the
 * next one has its way. */
START_TEST(folder_third_of_ours)
{
    for (long n = 1;; n++) {
        harness_rmdir(base);
        ck_assert_int_eq(mkdir(base, 0700), 0);
        ck_ok(save_folder("old"));
        ck_assert_int_eq(rename(path, in_base(THIRD)), 0);
        if (_i == 1) {
            ck_assert_int_eq(rename(in_base(THIRD), in_base("away")), 0);
            ck_ok(save_folder("new"));
            ck_assert_int_eq(rename(in_base("away"), in_base(THIRD)), 0);
        }
        faults_begin(FAULT_STOP, n);
        save_folder("new");
        const long calls = faults_end();
        check_folder(_i == 1 ? "new" : "old", "new");
        ck_ok(save_folder("next"));
        check_folder("next", "next");
        ck_assert_int_eq(faults_entries(base, ""), 1);
        if (n > calls) break;
    }
}
END_TEST

START_TEST(folder_new_and_replaced)
{
    ck_ok(save_folder("one"));
    check_folder("one", "one");
    ck_ok(save_folder("two"));
    check_folder("two", "two");
    strcat(path, "//");
    ck_ok(save_folder("three"));
    check_folder("three", "three");
    ck_assert_int_eq(faults_entries(base, ""), 1);
}
END_TEST

START_TEST(folder_refused)
{
    int fd;
    ck_fails_with(vgg__atomic_folder_open(path, &fd), VGG_EIO, "No such file");
    write_plain(path, "a file");
    ck_fails_with(save_folder("x"), VGG_EMISMATCH, "expected a folder");
    ck_fails_with(vgg__atomic_folder_open(path, &fd), VGG_EMISMATCH,
                  "expected a folder");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink(base, path), 0);
    ck_fails_with(save_folder("x"), VGG_EMISMATCH, "symbolic link");
    ck_fails(vgg__atomic_folder_open(path, &fd), VGG_EMISMATCH);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    write_plain(in_base("target/data"), "x");
    ck_fails_with(save_folder("x"), VGG_EMISMATCH, "has no manifest");
    write_plain(in_base("target/manifest"), "x");
    write_plain(in_base("target/thesis.txt"), "x");
    ck_fails_with(save_folder("x"), VGG_EMISMATCH, "\"thesis.txt\"");
    ck_assert_int_eq(faults_entries(path, ""), 3);
    ck_assert_int_eq(unlink(in_base("target/thesis.txt")), 0);
    ck_ok(save_folder("x"));
    ck_assert_int_eq(faults_entries(base, ""), 1);
}
END_TEST

START_TEST(folder_empty_is_taken)
{
    ck_assert_int_eq(mkdir(path, 0755), 0);
    ck_ok(save_folder("one"));
    check_folder("one", "one");
    ck_assert_int_eq(faults_entries(base, ""), 1);
}
END_TEST

static const enum fault kinds[] = {FAULT_EIO, FAULT_ENOSPC, FAULT_EINTR, FAULT_SHORT,
                                   FAULT_NO_EXCHANGE};

/* Every call fails once, in every way; first with nothing there, then with an older
   one. */
static void fail_each_call(vgg_status (*save)(const char *), bool is_folder)
{
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (int old = 0; old < 2; old++)
            for (long n = 1;; n++) {
                harness_rmdir(base);
                ck_assert_int_eq(mkdir(base, 0700), 0);
                if (old) ck_ok(save("old"));
                const int descriptors = faults_descriptors();
                faults_begin(kinds[k], n);
                const vgg_status status = save("new");
                const long calls = faults_end();
                ck_assert_int_eq(faults_descriptors(), descriptors);
                ck_assert(status == VGG_OK || status == VGG_EIO);
                const char *other = status == VGG_OK ? "new" : old ? "old" : NULL;
                if (status != VGG_OK && old && is_folder) check_folder("old", "old");
                if (status == VGG_OK && is_folder) check_folder("new", "new");
                if (!is_folder && other != NULL) check_text(path, "new", other);
                /* A failing unlink can leave something; the next save takes it away. */
                ck_ok(save("next"));
                ck_assert_int_eq(faults_entries(base, ""), 1);
                if (n > calls) break;
            }
}

START_TEST(file_faults)
{
    fail_each_call(save_file, false);
}
END_TEST

START_TEST(folder_faults)
{
    fail_each_call(save_folder, true);
}
END_TEST

/* A kill at every call: nothing that follows has an effect. */
static void kill_at_each_call(vgg_status (*save)(const char *), bool is_folder,
                              bool exchange)
{
    for (long n = 1;; n++) {
        harness_rmdir(base);
        ck_assert_int_eq(mkdir(base, 0700), 0);
        ck_ok(save("old"));
        const int descriptors = faults_descriptors();
        faults_begin(exchange ? FAULT_STOP : FAULT_STOP_NO_EXCHANGE, n);
        save("new");
        const long calls = faults_end();
        ck_assert_int_eq(faults_descriptors(), descriptors);
        if (is_folder)
            check_folder("old", "new");
        else
            check_text(path, "old", "new");
        ck_ok(save("next"));
        if (is_folder)
            check_folder("next", "next");
        else
            check_text(path, "next", "next");
        ck_assert_int_eq(faults_entries(base, ""), 1);
        if (n > calls) break;
    }
}

START_TEST(file_kills)
{
    kill_at_each_call(save_file, false, true);
}
END_TEST

START_TEST(folder_kills)
{
    kill_at_each_call(save_folder, true, true);
}
END_TEST

START_TEST(folder_kills_without_exchange)
{
    kill_at_each_call(save_folder, true, false);
}
END_TEST

START_TEST(input)
{
    struct vgg__input in;
    char bytes[8], hash[VGG_SHA256_TEXT], *text;
    write_plain(path, "abc");
    ck_ok(vgg__input_open(&in, AT_FDCWD, path, 1, "abc.txt"));
    ck_assert_uint_eq(in.size, 3);
    ck_ok(vgg__input_read(&in, 1, bytes, 2));
    ck_assert_mem_eq(bytes, "bc", 2);
    ck_ok(vgg__input_read(&in, 3, bytes, 0));
    ck_fails(vgg__input_read(&in, 2, bytes, 2), VGG_ETRUNCATED);
    ck_fails(vgg__input_read(&in, UINT64_MAX, bytes, 2), VGG_ETRUNCATED);
    ck_ok(vgg__input_hash(&in, NULL, hash));
    ck_assert_str_eq(
        hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ck_fails(vgg__input_text(&in, NULL, 2, &text), VGG_ELIMIT);
    ck_assert_ptr_null(text);
    ck_ok(vgg__input_text(&in, NULL, 3, &text));
    ck_assert_str_eq(text, "abc");
    vgg__free(text);
    faults_begin(FAULT_SHORT, 1);
    memset(bytes, 0, sizeof bytes);
    ck_ok(vgg__input_read(&in, 0, bytes, 3));
    ck_assert_str_eq(bytes, "abc");
    faults_begin(FAULT_EINTR, 1);
    ck_ok(vgg__input_read(&in, 0, bytes, 3));
    faults_begin(FAULT_EIO, 1);
    ck_fails_with(vgg__input_read(&in, 0, bytes, 3), VGG_EIO, "abc.txt: can't read");
    faults_end();
    ck_assert_int_eq(truncate(path, 1), 0); /* it shrinks while it is open */
    ck_fails_with(vgg__input_read(&in, 0, bytes, 3), VGG_ETRUNCATED, "ends at byte 1");
    vgg__input_close(&in);
    ck_fails_with(vgg__input_open(&in, AT_FDCWD, base, 1, "b"), VGG_EIO, "a folder");
    ck_fails(vgg__input_open(&in, AT_FDCWD, in_base("none"), 1, "b"), VGG_EIO);
    ck_assert_int_eq(mkfifo(in_base("fifo"), 0600), 0);
    ck_fails_with(vgg__input_open(&in, AT_FDCWD, in_base("fifo"), 1, "b"), VGG_EIO,
                  "pipe");
    ck_assert_int_eq(symlink("target", in_base("link")), 0);
    ck_ok(vgg__input_open(&in, AT_FDCWD, in_base("link"), 1, "b"));
    vgg__input_close(&in);
    ck_fails(vgg__input_open(&in, AT_FDCWD, in_base("link"), 0, "b"), VGG_EIO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("atomic");
    TCase *tests = tcase_create("atomic");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, file_new_and_replaced);
    tcase_add_test(tests, file_symbolic_link);
    tcase_add_test(tests, file_refused);
    tcase_add_test(tests, file_leftovers);
    tcase_add_test(tests, file_leftovers_of_others);
    tcase_add_test(tests, folder_leftovers);
    tcase_add_loop_test(tests, folder_third_of_others, 0, 3);
    tcase_add_loop_test(tests, folder_third_of_ours, 0, 2);
    tcase_add_test(tests, folder_new_and_replaced);
    tcase_add_test(tests, folder_refused);
    tcase_add_test(tests, folder_empty_is_taken);
    tcase_add_test(tests, file_faults);
    tcase_add_test(tests, folder_faults);
    tcase_add_test(tests, file_kills);
    tcase_add_test(tests, folder_kills);
    tcase_add_test(tests, folder_kills_without_exchange);
    tcase_add_test(tests, input);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
