/* SPDX-License-Identifier: Apache-2.0 */
/* What a user has beside a checkpoint or a weights' file stays as it is when they are
 * saved, whatever it is called. */
#include "harness.h"

#include <vgg/vgg.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static vgg_device *device;
static vgg_model *model;
static vgg_trainer *trainer;
static char base[64];

static void setup(void)
{
    const vgg_shape in = {1, {4}};
    harness_mkdtemp(base);
    ck_ok(vgg_device_open(NULL, "ref", &device));
    ck_ok(vgg_model_create_empty(NULL, &in, &model));
    ck_ok(vgg_model_add_linear(model, 3, NULL));
    ck_ok(vgg_trainer_create(model, device, NULL, &trainer));
}

static void teardown(void)
{
    vgg_trainer_free(trainer);
    vgg_model_free(model);
    vgg_device_free(device);
    harness_rmdir(base);
}

static const char *in_base(const char *name)
{
    static char texts[4][128];
    static unsigned turn;
    char *text = texts[turn++ % 4];
    snprintf(text, sizeof texts[0], "%s/%s", base, name);
    return text;
}

static void write_note(const char *name)
{
    FILE *file = fopen(in_base(name), "w");
    ck_assert_ptr_nonnull(file);
    fputs("mine", file);
    ck_assert_int_eq(fclose(file), 0);
}

static void check_note(const char *name)
{
    char text[8] = "";
    FILE *file = fopen(in_base(name), "r");
    ck_assert_msg(file != NULL, "%s is gone", name);
    ck_assert_ptr_nonnull(fgets(text, sizeof text, file));
    fclose(file);
    ck_assert_str_eq(text, "mine");
}

/* Of a first save, and of one that replaces. */
START_TEST(folders_beside_a_checkpoint)
{
    static const char *const folders[] = {".ck.old", ".ck.vgg-old", ".ck.new-1-2-3"};
    char notes[3][64];
    for (int i = 0; i < 3; i++) {
        snprintf(notes[i], sizeof notes[i], "%s/notes.txt", folders[i]);
        ck_assert_int_eq(mkdir(in_base(folders[i]), 0755), 0);
        write_note(notes[i]);
    }
    for (int save = 0; save < 2; save++) {
        ck_ok(vgg_checkpoint_save(trainer, in_base("ck"), NULL));
        ck_ok(vgg_checkpoint_check(NULL, in_base("ck")));
        for (int i = 0; i < 3; i++) check_note(notes[i]);
    }
}
END_TEST

/* A user's own copy of a checkpoint looks as one of the library's. */
START_TEST(copy_beside_a_checkpoint)
{
    ck_ok(vgg_checkpoint_save(trainer, in_base(".ck.old"), NULL));
    ck_ok(vgg_checkpoint_save(trainer, in_base("ck"), NULL));
    ck_ok(vgg_checkpoint_save(trainer, in_base("ck"), NULL));
    ck_ok(vgg_checkpoint_check(NULL, in_base(".ck.old")));
}
END_TEST

/* As in `flock DIR program`: the lock of the folder is not the library's. */
START_TEST(lock_of_the_parent)
{
    const int fd = open(base, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    ck_ok(vgg_checkpoint_save(trainer, in_base("ck"), NULL));
    ck_ok(vgg_checkpoint_save(trainer, in_base("ck"), NULL));
    ck_ok(vgg_weights_save(model, in_base("w.safetensors"), NULL));
    close(fd);
}
END_TEST

START_TEST(files_beside_weights)
{
    write_note(".w.safetensors.new-notes.txt");
    for (int save = 0; save < 2; save++) {
        ck_ok(vgg_weights_save(model, in_base("w.safetensors"), NULL));
        check_note(".w.safetensors.new-notes.txt");
    }
}
END_TEST

static mode_t mode_of(const char *name)
{
    struct stat st;
    ck_assert_int_eq(lstat(in_base(name), &st), 0);
    return st.st_mode;
}

/* What only its owner could read, only its owner can. */
START_TEST(permissions)
{
    for (int save = 0; save < 2; save++) {
        ck_ok(vgg_weights_save(model, in_base("w.safetensors"), NULL));
        ck_ok(vgg_checkpoint_save(trainer, in_base("ck"), NULL));
        ck_assert_int_eq(chmod(in_base("w.safetensors"), 0600), 0);
        ck_assert_int_eq(chmod(in_base("ck/weights.safetensors"), 0600), 0);
        ck_assert_int_eq(chmod(in_base("ck"), 0700), 0);
    }
    ck_ok(vgg_weights_save(model, in_base("w.safetensors"), NULL));
    ck_ok(vgg_checkpoint_save(trainer, in_base("ck"), NULL));
    ck_assert_uint_eq(mode_of("w.safetensors") & 07777, 0600);
    ck_assert_uint_eq(mode_of("ck/weights.safetensors") & 07777, 0600);
    ck_assert_uint_eq(mode_of("ck") & 07777, 0700);
}
END_TEST

/* A link at the path itself is replaced; one on the way to it is followed. */
START_TEST(links)
{
    write_note("note");
    ck_assert_int_eq(symlink("note", in_base("latest")), 0);
    ck_assert_int_eq(symlink(".", in_base("here")), 0);
    ck_ok(vgg_weights_save(model, in_base("here/latest"), NULL));
    ck_assert(S_ISREG(mode_of("latest")));
    check_note("note");
    ck_assert_int_eq(symlink("nowhere", in_base("ck")), 0);
    ck_fails_with(vgg_checkpoint_save(trainer, in_base("ck"), NULL), VGG_EMISMATCH,
                  "found a symbolic link");
    ck_assert(S_ISLNK(mode_of("ck")));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("beside");
    TCase *tests = tcase_create("beside");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, folders_beside_a_checkpoint);
    tcase_add_test(tests, copy_beside_a_checkpoint);
    tcase_add_test(tests, lock_of_the_parent);
    tcase_add_test(tests, files_beside_weights);
    tcase_add_test(tests, permissions);
    tcase_add_test(tests, links);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
