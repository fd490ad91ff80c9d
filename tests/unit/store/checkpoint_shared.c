/* SPDX-License-Identifier: Apache-2.0 */
/* One checkpoint's folder, and several trainers of a process, or of several, that save
 * to it while it is read: each save and each look succeeds, and nothing is left beside
 * the last. Where names can't be exchanged a look may come at a bad moment, so there
 * nobody looks. */
#include "harness.h"
#include "io/os.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vgg/vgg.h>

enum { SAVERS = 3, SAVES = 150, LOOKS = 20, FIRSTS = 60 };

static char base[64], dir[128];
static atomic_int saving;

/* No Check in threads: each says how it went. */
struct part {
    pthread_t thread;
    pthread_barrier_t *start;
    vgg_trainer *trainer;
    vgg_status status;
    char text[512];
};

static vgg_trainer *make_trainer(vgg_device *device)
{
    vgg_model *model;
    vgg_trainer *trainer;
    const vgg_shape in = {1, {4}};
    vgg_optimizer momentum = VGG_OPTIMIZER_INIT;
    momentum.momentum = 0.9;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &momentum;
    ck_ok(vgg_model_create_empty(NULL, &in, &model));
    ck_ok(vgg_model_add_linear(model, 3, NULL));
    ck_ok(vgg_trainer_create(model, device, &opts, &trainer));
    vgg_model_free(model);
    return trainer;
}

static bool went_well(struct part *part, vgg_status status)
{
    part->status = status;
    if (status != VGG_OK)
        snprintf(part->text, sizeof part->text, "%s", vgg_last_error());
    return status == VGG_OK;
}

static void *save(void *opaque)
{
    struct part *part = opaque;
    int left = SAVES;
    while (left > 0 && went_well(part, vgg_checkpoint_save(part->trainer, dir, NULL)))
        left--;
    atomic_fetch_sub(&saving, 1);
    return NULL;
}

static void *look(void *opaque)
{
    int left = LOOKS; /* at least, and as long as there are savers */
    while ((left-- > 0 || atomic_load(&saving) > 0) &&
           went_well(opaque, vgg_checkpoint_check(NULL, dir)))
        continue;
    return NULL;
}

static void *save_first(void *opaque)
{
    struct part *part = opaque;
    pthread_barrier_wait(part->start);
    went_well(part, vgg_checkpoint_save(part->trainer, dir, NULL));
    return NULL;
}

/* A file system that can't exchange two names. */
static int rename_plainly(int from_folder, const char *from, int to_folder,
                          const char *to, unsigned flags)
{
    errno = EINVAL;
    return flags != 0 ? -1
                      : vgg__os_real.renameat2(from_folder, from, to_folder, to, 0);
}

static void choose_system(int exchanges)
{
    static struct vgg__os plain;
    plain = vgg__os_real;
    plain.renameat2 = rename_plainly;
    vgg__os = exchanges ? &vgg__os_real : &plain;
}

static uint32_t count_entries(void)
{
    DIR *folder = opendir(base);
    ck_assert_ptr_nonnull(folder);
    uint32_t count = 0;
    while (readdir(folder) != NULL) count++;
    closedir(folder);
    return count;
}

START_TEST(savers_and_a_reader)
{
    vgg_device *device;
    struct part parts[SAVERS + 1] = {{0}}; /* the last one reads */
    const int count = SAVERS + (_i == 0);
    choose_system(_i == 0);
    harness_mkdtemp(base);
    snprintf(dir, sizeof dir, "%s/checkpoint", base);
    ck_ok(vgg_device_open(NULL, "ref", &device));
    for (int i = 0; i < SAVERS; i++) parts[i].trainer = make_trainer(device);
    ck_ok(vgg_checkpoint_save(parts[0].trainer, dir, NULL));
    atomic_store(&saving, SAVERS);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(
            pthread_create(&parts[i].thread, NULL, i < SAVERS ? save : look, &parts[i]),
            0);
    for (int i = 0; i < count; i++) pthread_join(parts[i].thread, NULL);
    for (int i = 0; i < count; i++)
        ck_assert_msg(parts[i].status == VGG_OK, "%s: %s", i < SAVERS ? "save" : "look",
                      parts[i].text);
    ck_ok(vgg_checkpoint_load(parts[0].trainer, dir, NULL));
    ck_assert_uint_eq(count_entries(), 3); /* ".", ".." and the checkpoint */
    for (int i = 0; i < SAVERS; i++) vgg_trainer_free(parts[i].trainer);
    vgg_device_free(device);
    harness_rmdir(base);
}
END_TEST

/* Several at once where there is none yet. */
START_TEST(first_saves)
{
    vgg_device *device;
    pthread_barrier_t start;
    struct part parts[SAVERS] = {{0}};
    choose_system(_i == 0);
    harness_mkdtemp(base);
    ck_ok(vgg_device_open(NULL, "ref", &device));
    pthread_barrier_init(&start, NULL, SAVERS);
    for (int i = 0; i < SAVERS; i++) {
        parts[i].trainer = make_trainer(device);
        parts[i].start = &start;
    }
    for (int round = 0; round < FIRSTS; round++) {
        snprintf(dir, sizeof dir, "%s/%d", base, round);
        for (int i = 0; i < SAVERS; i++)
            ck_assert_int_eq(
                pthread_create(&parts[i].thread, NULL, save_first, &parts[i]), 0);
        for (int i = 0; i < SAVERS; i++) pthread_join(parts[i].thread, NULL);
        for (int i = 0; i < SAVERS; i++)
            ck_assert_msg(parts[i].status == VGG_OK, "%s", parts[i].text);
        ck_ok(vgg_checkpoint_check(NULL, dir));
    }
    ck_assert_uint_eq(count_entries(), 2 + FIRSTS);
    for (int i = 0; i < SAVERS; i++) vgg_trainer_free(parts[i].trainer);
    pthread_barrier_destroy(&start);
    vgg_device_free(device);
    harness_rmdir(base);
}
END_TEST

/* What a process does with its one trainer; its exit status. */
static int save_alone(void)
{
    vgg_device *device;
    if (vgg_device_open(NULL, "ref", &device) != VGG_OK) return 1;
    vgg_trainer *trainer = make_trainer(device);
    for (int i = 0; i < SAVES; i++)
        if (vgg_checkpoint_save(trainer, dir, NULL) != VGG_OK) {
            fprintf(stderr, "%s\n", vgg_last_error());
            return 2;
        }
    return 0;
}

START_TEST(processes)
{
    pid_t children[SAVERS];
    choose_system(_i == 0);
    harness_mkdtemp(base);
    snprintf(dir, sizeof dir, "%s/checkpoint", base);
    for (int i = 0; i < SAVERS; i++) {
        children[i] = fork();
        if (children[i] == 0) _exit(save_alone());
        ck_assert_int_gt(children[i], 0);
    }
    for (int i = 0; i < SAVERS; i++) {
        int status = -1;
        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert_int_eq(status, 0);
    }
    ck_ok(vgg_checkpoint_check(NULL, dir));
    ck_assert_uint_eq(count_entries(), 3);
    harness_rmdir(base);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint_shared");
    TCase *tcase = tcase_create("checkpoint");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, savers_and_a_reader, 0, 2);
    tcase_add_loop_test(tcase, first_saves, 0, 2);
    tcase_add_loop_test(tcase, processes, 0, 2);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
