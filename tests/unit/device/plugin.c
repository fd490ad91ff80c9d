/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins: where they are looked for, every way in which they fail with its reason, and
 * that the processor is there whatever they do. Each test is a process of its own. */
#include "harness.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vgg/vgg.h>

#include "backend.h"

#define FILE_NAME      "vgg-cudnn.so"
#define TEXT(number)   #number
#define TEXT_OF(macro) TEXT(macro)
#define ABI            TEXT_OF(VGG_ENGINE_ABI)

static char dir[64], path[128];
static char log_text[4096];

/* Lines as level and text, for instance "1:device auto: ...". */
static void take_log(void *cookie, vgg_log_level level, const char *line)
{
    const size_t length = strlen(log_text);
    snprintf(log_text + length, sizeof log_text - length, "%d:%s\n", (int)level, line);
}

static void set_up(void)
{
    unsetenv("VGG_PLUGIN_DIR");
    harness_mkdtemp(dir);
    snprintf(path, sizeof path, "%s/" FILE_NAME, dir);
    log_text[0] = '\0';
}

static void tear_down(void)
{
    harness_rmdir(dir);
}

/* Put a built plugin into the folder. */
static void place(const char *plugin)
{
    ck_assert_int_eq(symlink(plugin, path), 0);
}

static vgg_context *context_with(const char *folder)
{
    const vgg_logger logger = {NULL, take_log};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.logger = &logger;
    opts.plugin_dir = folder;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    return ctx;
}

/* The engine's reason in the list of a context; NULL: it is not refused. */
static const char *refusal(vgg_context *ctx)
{
    static char text[1024];
    vgg_device_list *list;
    ck_ok(vgg_device_list_create(ctx, &list));
    text[0] = '\0';
    for (uint32_t i = 0; i < vgg_device_list_refused_count(list); i++)
        if (strcmp(vgg_device_list_refused_engine(list, i), "cudnn") == 0)
            snprintf(text, sizeof text, "%s", vgg_device_list_refused_reason(list, i));
    bool has_cpu = false;
    for (uint32_t i = 0; i < vgg_device_list_count(list); i++)
        has_cpu = has_cpu || strcmp(vgg_device_list_name(list, i), "cpu") == 0;
    ck_assert_msg(has_cpu, "the list has no cpu");
    vgg_device_list_free(list);
    return text[0] ? text : NULL;
}

/* Every name of the engine is refused with this reason; auto gives the processor. */
static void check_refused(vgg_context *ctx, const char *reason)
{
    static const char *const names[] = {"cuda", "cuda:0", "cuda:3", "cudnn"};
    char expected[1024];
    vgg_device *device;
    const char *found = refusal(ctx);
    ck_assert_ptr_nonnull(found);
    ck_assert_str_eq(found, reason);
    snprintf(expected, sizeof expected, "engine cudnn: %s", reason);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_fails(vgg_device_open(ctx, names[i], &device), VGG_EDEVICE);
        ck_assert_str_eq(vgg_last_error(), expected);
        ck_assert_ptr_null(device);
    }
    log_text[0] = '\0';
    ck_ok(vgg_device_open(ctx, NULL, &device));
    ck_assert_str_eq(vgg_device_engine(device), "cpu");
    vgg_device_free(device);
}

static const struct {
    const char *plugin, *reason; /* after the path */
} faults[] = {
    {PLUGINS "/faulty-2.so", "expected the engine cudnn, found tpu"},
    {PLUGINS "/faulty-3.so", "expected the engine cudnn, found no name"},
    {PLUGINS "/faulty-4.so", "the engine has no function compile"},
    {PLUGINS "/faulty-5.so",
     "does not work with version " ABI " of the engine contract: install the two of "
     "one build"},
    {PLUGINS "/faulty-6.so", "on strike since Monday"},
    {PLUGINS "/faulty-7.so", "the engine has one of data_create and data_free"},
    {PLUGINS "/faulty-8.so", "no function vgg_engine_entry: not a plugin of libvgg"},
};

START_TEST(faulty_plugins)
{
    set_up();
    char reason[1024];
    place(faults[_i].plugin);
    snprintf(reason, sizeof reason, "%s: %s", path, faults[_i].reason);
    vgg_context *ctx = context_with(dir);
    check_refused(ctx, reason);
    snprintf(reason, sizeof reason, "1:device auto: not cudnn: engine cudnn: %s: %s\n",
             path, faults[_i].reason);
    ck_assert_str_eq(log_text, reason);
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

/* The table's two numbers that must be the library's. */
START_TEST(versions_that_differ)
{
    static const char *const plugins[] = {PLUGINS "/faulty-0.so",
                                          PLUGINS "/faulty-1.so"};
    set_up();
    char reason[1024];
    place(plugins[_i]);
    snprintf(reason, sizeof reason,
             "%s: made for version %d of the engine contract (%zu bytes), this library "
             "has version %d (%zu bytes): install the two of one build",
             path, VGG_ENGINE_ABI - (_i == 0), sizeof(vgg_engine) - 8 * (_i == 1),
             VGG_ENGINE_ABI, sizeof(vgg_engine));
    vgg_context *ctx = context_with(dir);
    check_refused(ctx, reason);
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

/* Files that are no shared objects: the dynamic loader's own words, one line. */
START_TEST(files_that_are_no_plugins)
{
    static const struct {
        const char *content, *reason;
    } files[] = {{"", "file too short"}, {"#!/bin/sh\necho no\n", "file too short"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        set_up();
        FILE *file = fopen(path, "w");
        ck_assert_ptr_nonnull(file);
        fputs(files[i].content, file);
        fclose(file);
        char reason[1024];
        snprintf(reason, sizeof reason, "%s: can't be loaded: %s", path,
                 files[i].reason);
        vgg_context *ctx = context_with(dir);
        check_refused(ctx, reason);
        vgg_context_free(ctx);
        tear_down();
    }
    set_up();
    ck_assert_int_eq(mkdir(path, 0700), 0);
    vgg_context *ctx = context_with(dir);
    const char *reason = refusal(ctx);
    ck_assert_ptr_nonnull(reason);
    ck_assert_ptr_nonnull(strstr(reason, path));
    ck_assert_ptr_nonnull(strstr(reason, "can't be loaded: "));
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

/* Most machines: no file, which is told calmly, and to the log for those alone who want
 * everything. */
START_TEST(no_plugin)
{
    set_up();
    vgg_context *ctx = context_with(dir);
    const char *reason = refusal(ctx);
    if (reason == NULL || strncmp(reason, "not installed", 13) != 0) {
        vgg_context_free(ctx);
        tear_down();
        return; /* this machine has one */
    }
    char begin[256];
    snprintf(begin, sizeof begin,
             "not installed: a build with -Dcudnn=enabled makes " FILE_NAME
             ", expected in %s, ",
             dir);
    ck_assert_msg(strncmp(reason, begin, strlen(begin)) == 0, "%s", reason);
    ck_assert_ptr_nonnull(strstr(reason, " or " INSTALLED));
    check_refused(ctx, reason);
    snprintf(begin, sizeof begin, "0:device auto: not cudnn: engine cudnn: not inst");
    ck_assert_msg(strncmp(log_text, begin, strlen(begin)) == 0, "%s", log_text);
    vgg_context_free(ctx);

    /* A folder that is not there is a folder without a plugin. */
    ctx = context_with("/nowhere/to/be/found");
    ck_assert_ptr_nonnull(strstr(refusal(ctx), "not installed"));
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

/* The plugin's file in the place of its folder is taken, wherever it is named. */
START_TEST(the_file_itself)
{
    set_up();
    place(REMOTE "/" FILE_NAME);
    vgg_device *device;
    setenv("VGG_PLUGIN_DIR", path, 1);
    ck_ok(vgg_device_open(NULL, "cuda", &device));
    vgg_device_free(device);
    setenv("VGG_PLUGIN_DIR", "/dev/null", 1);
    vgg_context *ctx = context_with(path);
    ck_assert_ptr_null(refusal(ctx));
    vgg_context_free(ctx);
    /* One in the working directory is not looked for where the loader looks. */
    ck_assert_int_eq(chdir(dir), 0);
    ctx = context_with(FILE_NAME);
    ck_assert_ptr_null(refusal(ctx));
    vgg_context_free(ctx);
    ck_assert_int_eq(chdir("/"), 0);
    tear_down();
}
END_TEST

/* What dlopen() would die of: a file that an installation did not finish. */
START_TEST(a_file_cut_off)
{
    set_up();
    FILE *from = fopen(REMOTE "/" FILE_NAME, "rb");
    FILE *to = fopen(path, "wb");
    ck_assert(from != NULL && to != NULL);
    ck_assert_int_eq(fseek(from, 0, SEEK_END), 0);
    const long size = ftell(from);
    rewind(from);
    char *bytes = malloc((size_t)size);
    ck_assert_uint_eq(fread(bytes, 1, (size_t)size, from), size);
    fclose(from);
    /* The end holds no more than names for debuggers. */
    for (long length = size / 2; length >= 0; length = length / 2 - 1) {
        rewind(to);
        ck_assert_int_eq(ftruncate(fileno(to), 0), 0);
        ck_assert_uint_eq(fwrite(bytes, 1, (size_t)length, to), length);
        ck_assert_int_eq(fflush(to), 0);
        vgg_context *ctx = context_with(dir);
        ck_assert_ptr_nonnull(refusal(ctx));
        ck_assert_msg(strstr(refusal(ctx), "can't be loaded: ") != NULL, "%s",
                      refusal(ctx));
        vgg_context_free(ctx);
    }
    free(bytes);
    fclose(to);
    remove(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* nobody waits for its other end */
    vgg_context *ctx = context_with(dir);
    ck_assert_ptr_nonnull(strstr(refusal(ctx), "no regular file"));
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

/* Another file is refused, whatever there is in the folders behind it. */
START_TEST(a_file_that_is_another)
{
    set_up();
    setenv("VGG_PLUGIN_DIR", REMOTE, 1);
    vgg_context *ctx = context_with("/dev/null");
    check_refused(ctx, "/dev/null: expected the folder of " FILE_NAME
                       " or that file, found another file");
    ck_assert_msg(strncmp(log_text, "1:device auto: not cudnn: ", 26) == 0, "%s",
                  log_text);
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

START_TEST(folders_have_an_order)
{
    set_up();
    char other[64], text[256];
    harness_mkdtemp(other);
    snprintf(text, sizeof text, "%s/" FILE_NAME, other);
    place(PLUGINS "/faulty-6.so");
    ck_assert_int_eq(symlink(PLUGINS "/faulty-2.so", text), 0);
    setenv("VGG_PLUGIN_DIR", other, 1);

    vgg_context *plain = context_with(NULL), *chosen = context_with(dir);
    ck_assert_ptr_nonnull(strstr(refusal(plain), "found tpu"));
    ck_assert_ptr_nonnull(strstr(refusal(NULL), "found tpu"));
    ck_assert_ptr_nonnull(strstr(refusal(chosen), "on strike"));
    vgg_context_free(chosen);
    /* A chosen folder without one does not keep the environment's out. */
    ck_assert_int_eq(unlink(path), 0);
    chosen = context_with(dir);
    ck_assert_ptr_nonnull(strstr(refusal(chosen), "found tpu"));
    vgg_context_free(chosen);

    char *longer = malloc(2000);
    memset(longer, 'x', 1999);
    longer[1999] = '\0';
    setenv("VGG_PLUGIN_DIR", longer, 1);
    ck_assert_str_eq(refusal(plain), "VGG_PLUGIN_DIR: longer than 1023 bytes");
    setenv("VGG_PLUGIN_DIR", "", 1); /* as if it were not set */
    const char *reason = refusal(plain);
    ck_assert(reason == NULL || strstr(reason, "VGG_PLUGIN_DIR") == NULL);
    ck_assert(reason == NULL || strstr(reason, "expected in , ") == NULL);
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    vgg_context *ctx;
    opts.plugin_dir = longer;
    ck_fails_with(vgg_context_create(&opts, &ctx), VGG_EINVAL,
                  "plugin_dir: expected 1 to 1023 bytes, found more");
    opts.plugin_dir = "";
    ck_fails_with(vgg_context_create(&opts, &ctx), VGG_EINVAL,
                  "plugin_dir: expected 1 to 1023 bytes, found none");
    free(longer);
    vgg_context_free(plain);
    harness_rmdir(other);
    tear_down();
}
END_TEST

/* A folder that may not be looked into is a reason, not the same as nothing there. */
START_TEST(a_closed_folder)
{
    char expected[256];
    const char *forks = getenv("CK_FORK");
    if (forks != NULL && strcmp(forks, "no") == 0) return;
    if (getuid() == 0 && setuid(65534) != 0) return;
    unsetenv("VGG_PLUGIN_DIR");
    vgg_context *ctx = context_with("/proc/1/cwd");
    const char *reason = refusal(ctx);
    snprintf(expected, sizeof expected, "/proc/1/cwd/" FILE_NAME ": Permission denied");
    ck_assert_ptr_nonnull(reason);
    ck_assert_str_eq(reason, expected);
    vgg_context_free(ctx);
}
END_TEST

/* A sound plugin is preferred, and its devices are opened by each of their names. */
START_TEST(a_sound_plugin)
{
    static const struct {
        const char *asked, *found;
    } names[] = {{NULL, "cuda:0"},    {"auto", "cuda:0"},   {"cuda", "cuda:0"},
                 {"cudnn", "cuda:0"}, {"cuda:0", "cuda:0"}, {"cuda:1", "cuda:1"},
                 {"cpu", "cpu"},      {"ref", "ref"}};
    set_up();
    setenv("REMOTE_DEVICES", "2", 1);
    vgg_context *ctx = context_with(REMOTE);
    vgg_device_list *list;
    vgg_device *device;
    ck_assert_ptr_null(refusal(ctx));
    ck_ok(vgg_device_list_create(ctx, &list));
    ck_assert_uint_eq(vgg_device_list_count(list), 4);
    ck_assert_str_eq(vgg_device_list_name(list, 0), "cuda:0");
    ck_assert_str_eq(vgg_device_list_name(list, 1), "cuda:1");
    ck_assert_str_eq(vgg_device_list_engine(list, 1), "cudnn");
    ck_assert_str_eq(vgg_device_list_text(list, 1), "a test's engine");
    ck_assert_str_eq(vgg_device_list_name(list, 2), "cpu");
    vgg_device_list_free(list);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_ok(vgg_device_open(ctx, names[i].asked, &device));
        ck_assert_str_eq(vgg_device_name(device), names[i].found);
        if (names[i].found[1] == 'u')
            ck_assert_str_eq(vgg_device_text(device), "a test's engine around ref");
        vgg_device_free(device);
    }
    static const char *const unknown[] = {"cuda:2", "cuda:", "cuda:0x"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        char text[128];
        ck_fails(vgg_device_open(ctx, unknown[i], &device), VGG_EDEVICE);
        snprintf(text, sizeof text, "no device %s; engine cudnn has cuda:0, cuda:1",
                 unknown[i]);
        ck_assert_str_eq(vgg_last_error(), text);
    }
    static const char *const nonsense[] = {"cudaX", "cud", "", "cudnn:0", "AUTO"};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++)
        ck_fails_with(vgg_device_open(ctx, nonsense[i], &device), VGG_EINVAL,
                      "is unknown; expected auto, cuda, cuda:0 (or another number), "
                      "cpu or ref");
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

START_TEST(an_engine_without_devices)
{
    set_up();
    setenv("REMOTE_DEVICES", "0", 1);
    setenv("VGG_PLUGIN_DIR", REMOTE, 1);
    vgg_device *device;
    const char *reason = refusal(NULL);
    ck_assert_ptr_nonnull(reason);
    ck_assert_str_eq(reason, "engine cudnn found no device");
    ck_fails(vgg_device_open(NULL, "cuda", &device), VGG_EDEVICE);
    ck_assert_str_eq(vgg_last_error(), "engine cudnn found no device");
    ck_ok(vgg_device_open(NULL, NULL, &device));
    ck_assert_str_eq(vgg_device_name(device), "cpu");
    vgg_device_free(device);
    tear_down();
}
END_TEST

/* What is listed may still not open: by name that is an error, else a line in the
 * log. */
START_TEST(a_device_that_does_not_open)
{
    set_up();
    setenv("REMOTE_BROKEN", "1", 1);
    vgg_context *ctx = context_with(REMOTE);
    vgg_device *device;
    ck_assert_ptr_null(refusal(ctx));
    ck_fails(vgg_device_open(ctx, "cuda", &device), VGG_EDEVICE);
    ck_assert_str_eq(vgg_last_error(), "cuda:0: broken today");
    ck_assert_ptr_null(device);
    ck_ok(vgg_device_open(ctx, "auto", &device));
    ck_assert_str_eq(vgg_device_name(device), "cpu");
    ck_assert_str_eq(log_text, "1:device auto: not cudnn: cuda:0: broken today\n");
    vgg_device_free(device);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

/* Of several devices the first that opens is taken where no number is named. */
START_TEST(the_first_that_opens)
{
    static const char *const names[] = {"auto", "cuda", "cudnn"};
    set_up();
    setenv("REMOTE_DEVICES", "3", 1);
    setenv("REMOTE_BROKEN", "1", 1);
    vgg_context *ctx = context_with(REMOTE);
    vgg_device *device;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char line[128];
        log_text[0] = '\0';
        ck_ok(vgg_device_open(ctx, names[i], &device));
        ck_assert_str_eq(vgg_device_name(device), "cuda:1");
        vgg_device_free(device);
        snprintf(line, sizeof line, "1:device %s: not cuda:0: cuda:0: broken today\n",
                 names[i]);
        ck_assert_str_eq(log_text, line);
    }
    ck_fails_with(vgg_device_open(ctx, "cuda:0", &device), VGG_EDEVICE,
                  "cuda:0: broken today");
    ck_ok(vgg_device_open(ctx, "cuda:2", &device));
    ck_assert_str_eq(vgg_device_name(device), "cuda:2");
    vgg_device_free(device);
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

START_TEST(none_that_opens)
{
    set_up();
    setenv("REMOTE_DEVICES", "2", 1);
    setenv("REMOTE_BROKEN", "2", 1);
    vgg_context *ctx = context_with(REMOTE);
    vgg_device *device;
    ck_fails(vgg_device_open(ctx, "cuda", &device), VGG_EDEVICE);
    ck_assert_str_eq(vgg_last_error(),
                     "none of 2 devices opens; the last: cuda:1: broken today");
    log_text[0] = '\0';
    ck_ok(vgg_device_open(ctx, NULL, &device));
    ck_assert_str_eq(vgg_device_name(device), "cpu");
    ck_assert_str_eq(log_text,
                     "1:device auto: not cuda:0: cuda:0: broken today\n"
                     "1:device auto: not cudnn: none of 2 devices opens; the last: "
                     "cuda:1: broken today\n");
    vgg_device_free(device);
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

/* Where the host's memory ends, the next device would not be better off. */
START_TEST(no_memory_for_a_device)
{
    static const char *const names[] = {"auto", "cuda", "cuda:1"};
    const vgg_logger logger = {NULL, take_log};
    set_up();
    setenv("REMOTE_DEVICES", "2", 1);
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.logger = &logger;
    opts.plugin_dir = REMOTE;
    opts.max_bytes = 1;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        vgg_device *device;
        ck_fails_with(vgg_device_open(ctx, names[i], &device), VGG_ENOMEM,
                      "out of memory");
        ck_assert_ptr_null(device);
    }
    ck_assert_str_eq(log_text, "");
    vgg_context_free(ctx);
    tear_down();
}
END_TEST

static void *open_and_list(void *failed)
{
    vgg_device *device = NULL;
    vgg_device_list *list = NULL;
    const bool good = vgg_device_list_create(NULL, &list) == VGG_OK &&
                      vgg_device_list_count(list) == 3 &&
                      vgg_device_open(NULL, "cuda", &device) == VGG_OK;
    vgg_device_free(device);
    vgg_device_list_free(list);
    return good ? NULL : failed;
}

/* Several threads ask first; and what is loaded stays, whatever is given back. */
START_TEST(threads_load_it_once)
{
    set_up();
    setenv("VGG_PLUGIN_DIR", REMOTE, 1);
    ck_assert_ptr_null(dlopen(REMOTE "/" FILE_NAME, RTLD_NOW | RTLD_NOLOAD));
    pthread_t threads[8];
    void *failed;
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, open_and_list, dir), 0);
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
        ck_assert_ptr_null(failed);
    }
    ck_assert_ptr_nonnull(dlopen(REMOTE "/" FILE_NAME, RTLD_NOW | RTLD_NOLOAD));
    /* Nobody else's lookup finds the plugin's function. */
    ck_assert_ptr_null(dlsym(RTLD_DEFAULT, "vgg_engine_entry"));
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device/plugin");
    TCase *tcase = tcase_create("plugins");
    tcase_add_loop_test(tcase, faulty_plugins, 0, sizeof faults / sizeof *faults);
    tcase_add_loop_test(tcase, versions_that_differ, 0, 2);
    tcase_add_test(tcase, files_that_are_no_plugins);
    tcase_add_test(tcase, no_plugin);
    tcase_add_test(tcase, the_file_itself);
    tcase_add_test(tcase, a_file_cut_off);
    tcase_add_test(tcase, a_file_that_is_another);
    tcase_add_test(tcase, folders_have_an_order);
    tcase_add_test(tcase, a_closed_folder);
    tcase_add_test(tcase, a_sound_plugin);
    tcase_add_test(tcase, an_engine_without_devices);
    tcase_add_test(tcase, a_device_that_does_not_open);
    tcase_add_test(tcase, the_first_that_opens);
    tcase_add_test(tcase, none_that_opens);
    tcase_add_test(tcase, no_memory_for_a_device);
    tcase_add_test(tcase, threads_load_it_once);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
