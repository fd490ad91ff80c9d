/* SPDX-License-Identifier: Apache-2.0 */
/* What the GPU engine does beyond what all engines do: GPUs of several kinds, libraries
 * that refuse, threads, data that stays on the device. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "compare.h"
#include "core/error.h"
#include "cudnn/device.h"
#include "guard.h"
#include "harness.h"
#include "simulated.h"
#include "targets.h"

enum { FP32, FP32_TIMED, TF32, TF32_TIMED, BF16, BF16_TIMED };

static const char net_text[] =
    "2x8x8 conv3:8 relu max conv3:16 relu max linear:9 relu linear:5 loss";

static void check_sound(void)
{
    const char *complaint = vgg__simulated_complaint(), *leak = vgg__simulated_leak();
    ck_assert_msg(complaint == NULL, "misuse: %s", complaint);
    ck_assert_msg(leak == NULL, "not given back: %s", leak);
}

/* ---- Devices --------------------------------------------------------------------- */

static vgg_context *new_context(void)
{
    vgg_context *ctx;
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &guard_allocator;
    ck_ok(vgg_context_create(&opts, &ctx));
    return ctx;
}

START_TEST(probing)
{
    const vgg_engine *engine = targets[0].engine;
    vgg_context *ctx = new_context();
    const vgg_host host = session_host(ctx);
    vgg_device_desc list[4];
    uint32_t count = 9;
    memcpy(vgg__simulated.devices, (const char *[4]){"H100", "T4"},
           sizeof vgg__simulated.devices);
    ck_ok(engine->probe(&host, list, 4, &count));
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(list[0].name, "cuda:0");
    ck_assert_str_eq(list[1].name, "cuda:1");
    ck_assert_ptr_nonnull(strstr(list[0].text, "NVIDIA H100"));
    ck_assert_ptr_nonnull(strstr(list[1].text, "Tesla T4"));
    ck_ok(engine->probe(&host, list, 1, &count));
    ck_assert_uint_eq(count, 1);
    vgg__simulated.devices[0] = NULL;
    ck_fails_with(engine->probe(&host, list, 4, &count), VGG_EDEVICE, "GPU");
    ck_assert_uint_eq(count, 0);
    vgg__simulated.driver = 0;
    ck_fails_with(engine->probe(&host, list, 4, &count), VGG_EDEVICE, "GPU");
    vgg__simulated.missing = "cuDNN (libcudnn.so.9) was not found";
    ck_fails_with(engine->probe(&host, list, 4, &count), VGG_EDEVICE, "libcudnn.so.9");
    void *device = NULL;
    ck_fails_with(engine->open(&host, 0, &device), VGG_EDEVICE, "libcudnn.so.9");
    ck_assert_ptr_null(device);
    vgg_context_free(ctx);
    check_sound();
}
END_TEST

static const char *const gpus[] = {"H100", "H200", "A100", "L4", "B200", "T4"};
enum { GPUS = sizeof gpus / sizeof *gpus };

/* A whole run on every kind of GPU, in every precision that it has. */
START_TEST(each_gpu)
{
    struct net net;
    struct data data;
    struct outcome want;
    vgg__simulated.devices[0] = gpus[_i];
    net_parse(&net, net_text);
    data_create(&data, &net, 3, DATA_REAL, 2);
    run_net(&target_ref64, &net, &data, VGG_MODE_TRAIN, &want);
    for (uint32_t i = 0; i < target_count; i++) {
        struct outcome got;
        if (strcmp(gpus[_i], "T4") == 0 && targets[i].precision != VGG_FP32) continue;
        compare_label("%s on %s", targets[i].label, gpus[_i]);
        run_net(&targets[i], &net, &data, VGG_MODE_TRAIN, &got);
        compare_outcomes(&net, &data, &got, &want,
                         closeness_of(&targets[i], &net, &data, VGG_MODE_TRAIN));
        outcome_free(&got);
    }
    outcome_free(&want);
    data_free(&data);
}
END_TEST

/* What an older GPU does not have is said before anything is compiled. */
START_TEST(older_gpu)
{
    static const uint32_t precisions[] = {VGG_BF16, VGG_TF32};
    vgg__simulated.devices[0] = "T4";
    struct session s = {.target = &targets[FP32]};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    struct net net;
    net_parse(&net, net_text);
    session_open_device(&s, &opts);
    for (int i = 0; i < 2; i++) {
        const char *why = "";
        ck_assert(
            !s.target->engine->supports(s.device, &net.stages[0], precisions[i], &why));
        ck_assert_ptr_nonnull(strstr(why, "8.0"));
    }
    s.target->engine->close(s.device);
    vgg_context_free(s.ctx);
    session_closed();
}
END_TEST

/* The caller's own device stays the current one. */
START_TEST(second_gpu)
{
    char reason[64];
    const struct vgg__api *api = vgg__api_open(reason, sizeof reason);
    const vgg_engine *engine = targets[FP32].engine;
    vgg_context *ctx = new_context();
    const vgg_host host = session_host(ctx);
    vgg_device_desc list[4];
    uint32_t count;
    void *device;
    int current = -1;
    vgg__simulated.devices[1] = "A100";
    ck_ok(engine->probe(&host, list, 4, &count));
    ck_ok(engine->open(&host, 1, &device));
    ck_assert_int_eq(api->getDevice(&current), cudaSuccess);
    ck_assert_int_eq(current, 0);
    char text[256];
    engine->device_text(device, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "A100"));
    engine->close(device);
    ck_assert_int_eq(api->getDevice(&current), cudaSuccess);
    ck_assert_int_eq(current, 0);
    vgg_context_free(ctx);
    check_sound();
}
END_TEST

/* ---- Refusals -------------------------------------------------------------------- */

static void run_all(const char *what)
{
    struct net net;
    struct data data;
    struct outcome want;
    net_parse(&net, net_text);
    data_create(&data, &net, 3, DATA_REAL, 2);
    run_net(&target_ref64, &net, &data, VGG_MODE_TRAIN, &want);
    for (uint32_t i = 0; i < target_count; i++) {
        struct outcome got;
        compare_label("%s, %s", targets[i].label, what);
        run_net(&targets[i], &net, &data, VGG_MODE_TRAIN, &got);
        compare_outcomes(&net, &data, &got, &want,
                         closeness_of(&targets[i], &net, &data, VGG_MODE_TRAIN));
        outcome_free(&got);
    }
    outcome_free(&want);
    data_free(&data);
}

/* A library that compiles nothing, or knows nothing but its fallbacks. */
START_TEST(refusals)
{
    vgg__simulated.refuse = SIMULATED_NO_RUNTIME;
    run_all("nothing compiled");
    vgg__simulated.refuse = SIMULATED_NO_HEURISTIC;
    run_all("fallbacks");
    vgg__simulated.refuse = SIMULATED_NO_RUNTIME | SIMULATED_NO_HEURISTIC;
    run_all("fallbacks, nothing compiled");
}
END_TEST

/* One that can't do a small convolution is no library to work with. */
START_TEST(no_plans)
{
    const vgg_engine *engine = targets[FP32].engine;
    vgg_context *ctx = new_context();
    const vgg_host host = session_host(ctx);
    void *device = NULL;
    vgg__simulated.refuse = SIMULATED_NO_GRAPH;
    ck_fails_with(engine->open(&host, 0, &device), VGG_EDEVICE, "convolution");
    ck_assert_ptr_null(device);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
    check_sound();
}
END_TEST

/* ---- Threads --------------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    const struct net *net;
    const struct data *data;
    const struct target *target;
    struct session session;
    double *output;
    vgg_status status;
};

/* A training of its own, on a program of its own; no Check in threads. */
static void *work(void *opaque)
{
    struct worker *w = opaque;
    const vgg_engine *engine = w->target->engine;
    const vgg_update update = {.kind = VGG_SGD, .lr = 0.01, .t = 1};
    double sum;
    uint32_t correct;
    vgg_run run = session_run_desc(w->data);
    run.loss_sum = &sum;
    run.correct = &correct;
    vgg_status status = VGG_OK;
    for (int i = 0; status == VGG_OK && i < 5; i++) {
        status = engine->store_zero_gradients(w->session.store);
        if (status == VGG_OK)
            status = engine->run(w->session.program, VGG_PHASE_FORWARD, &run);
        if (status == VGG_OK)
            status = engine->run(w->session.program, VGG_PHASE_LOSS, &run);
        if (status == VGG_OK)
            status = engine->run(w->session.program, VGG_PHASE_BACKWARD, &run);
        if (status == VGG_OK) status = engine->store_update(w->session.store, &update);
    }
    if (status == VGG_OK)
        status =
            engine->read(w->session.program, VGG_VIEW_OUTPUT, 0, w->output, VGG_F64);
    w->status = status;
    return NULL;
}

/* Contexts of their own, all at once; each gets what it would get alone. */
START_TEST(threads)
{
    enum { WORKERS = 4 };
    struct worker workers[WORKERS], alone;
    struct net net;
    struct data data;
    net_parse(&net, net_text);
    data_create(&data, &net, 3, DATA_REAL, 2);
    for (int i = 0; i <= WORKERS; i++) {
        struct worker *w = i < WORKERS ? &workers[i] : &alone;
        *w = (struct worker){.net = &net, .data = &data, .target = &targets[BF16]};
        w->output = guard_array(15, sizeof *w->output);
        session_open(&w->session, w->target, &net, 3, VGG_MODE_TRAIN, false);
        session_write(&w->session, &data);
    }
    work(&alone);
    ck_assert_int_eq(alone.status, VGG_OK);
    for (int i = 0; i < WORKERS; i++)
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]),
                         0);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        ck_assert_int_eq(workers[i].status, VGG_OK);
        compare_label("worker %d", i);
        compare_exact("output", workers[i].output, alone.output, 15);
    }
    for (int i = 0; i <= WORKERS; i++) {
        struct worker *w = i < WORKERS ? &workers[i] : &alone;
        guard_free(w->output);
        session_close(&w->session);
    }
    data_free(&data);
}
END_TEST

/* ---- Data on the device ---------------------------------------------------------- */

enum { IMAGES = 7, STORED = 8, SHOWN = 6, TOP = 1, LEFT = 2, CHANNELS = 2 };

static uint8_t pixel(uint64_t image, uint32_t c, uint32_t y, uint32_t x)
{
    return (uint8_t)(image * 31 + c * 101 + y * 17 + x * 5 + 1);
}

static vgg_status read_image(void *cookie, uint64_t index, uint8_t *image)
{
    (void)cookie;
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t y = 0; y < STORED; y++)
            for (uint32_t x = 0; x < STORED; x++) *image++ = pixel(index, c, y, x);
    return VGG_OK;
}

static vgg_status read_broken(void *cookie, uint64_t index, uint8_t *image)
{
    if (index == 3) return vgg__fail(VGG_EIO, "image 3 can't be read");
    return read_image(cookie, index, image);
}

/* Small steps, so that bf16 holds them: 1 .. 128 in halves. */
static void make_table(float table[CHANNELS * 256])
{
    for (int i = 0; i < CHANNELS * 256; i++) table[i] = (float)(i % 256 / 2 + 1);
}

static vgg_data_desc describe_data(const float *table)
{
    return (vgg_data_desc){.count = IMAGES,
                           .stored = {CHANNELS, STORED, STORED},
                           .shown = {CHANNELS, SHOWN, SHOWN},
                           .resize_rule = VGG_NO_RESIZE,
                           .top = TOP,
                           .left = LEFT,
                           .table = table,
                           .read = read_image};
}

/* As backend.h says, pixel by pixel. */
static double shown(const vgg_sample *s, uint32_t c, uint32_t y, uint32_t x,
                    const float *table)
{
    if (s->erase_height > 0 && y >= s->erase_top &&
        y < s->erase_top + s->erase_height && x >= s->erase_left &&
        x < s->erase_left + s->erase_width)
        return 0;
    const int64_t row = (int64_t)y + s->down;
    const int64_t column = (s->flip ? SHOWN - 1 - (int64_t)x : x) + s->right;
    if (row < 0 || row >= SHOWN || column < 0 || column >= SHOWN) return table[c * 256];
    return table[c * 256 +
                 pixel(s->index, c, TOP + (uint32_t)row, LEFT + (uint32_t)column)];
}

static vgg_sample draw(uint32_t i, uint32_t round)
{
    return (vgg_sample){.index = (i * 3 + round) % IMAGES,
                        .down = (int32_t)(i + round) % 3 - 1,
                        .right = (int32_t)(i * 2 + round) % 5 - 2,
                        .flip = (i + round) % 2,
                        .erase_top = 1,
                        .erase_left = 2,
                        .erase_height = i == 1 ? 3 : 0,
                        .erase_width = 2};
}

static void check_samples(struct session *s, void *set, uint32_t count, uint32_t round,
                          const float *table)
{
    vgg_sample samples[4];
    double got[4 * CHANNELS * SHOWN * SHOWN];
    for (uint32_t i = 0; i < count; i++) samples[i] = draw(i, round);
    const vgg_run run = {.count = count, .data = set, .samples = samples};
    ck_ok(s->target->engine->run(s->program, VGG_PHASE_FORWARD, &run));
    memset(samples, 0xee, sizeof samples); /* they are the caller's again */
    ck_ok(s->target->engine->read(s->program, VGG_VIEW_OUTPUT, 0, got, VGG_F64));
    for (uint32_t k = 0; k < count * CHANNELS * SHOWN * SHOWN; k++) {
        const uint32_t x = k % SHOWN, y = k / SHOWN % SHOWN;
        const uint32_t c = k / (SHOWN * SHOWN) % CHANNELS;
        const vgg_sample sample = draw(k / (SHOWN * SHOWN * CHANNELS), round);
        const double want = shown(&sample, c, y, x, table);
        ck_assert_msg(got[k] == want, "%s, round %u: element %u is %g, expected %g",
                      s->target->label, round, k, got[k], want);
    }
}

START_TEST(resident)
{
    float table[CHANNELS * 256];
    struct net net;
    struct session s;
    void *set = NULL;
    make_table(table);
    net_parse(&net, "2x6x6 relu");
    session_open(&s, &targets[_i], &net, 4, VGG_MODE_INFER, false);
    vgg_data_desc desc = describe_data(table);
    ck_ok(s.target->engine->data_create(s.device, &desc, &set));
    for (uint32_t round = 0; round < 5; round++)
        check_samples(&s, set, round == 2 ? 3 : 4, round, table);
    s.target->engine->data_free(set);
    desc.read = read_broken;
    ck_fails_with(s.target->engine->data_create(s.device, &desc, &set), VGG_EIO,
                  "image 3");
    ck_assert_ptr_null(set);
    session_close(&s);
}
END_TEST

/* Running statistics after forwards that are queued one behind the other (or, if
 * `waits`, each alone). */
static void run_ahead(const struct target *target, bool waits, double mean[CHANNELS])
{
    float table[CHANNELS * 256];
    double output[4 * CHANNELS * SHOWN * SHOWN];
    struct net net;
    struct data data;
    struct session s;
    void *set = NULL;
    make_table(table);
    net_parse(&net, "2x6x6 bn");
    data_create(&data, &net, 4, DATA_REAL, 3);
    session_open(&s, target, &net, 4, VGG_MODE_TRAIN, false);
    session_write(&s, &data);
    const vgg_data_desc desc = describe_data(table);
    ck_ok(target->engine->data_create(s.device, &desc, &set));
    for (uint32_t round = 0; round < 6; round++) {
        vgg_sample samples[4];
        for (uint32_t i = 0; i < 4; i++) samples[i] = draw(i, round);
        const vgg_run run = {.count = 4, .data = set, .samples = samples};
        ck_ok(target->engine->run(s.program, VGG_PHASE_FORWARD, &run));
        if (waits)
            ck_ok(target->engine->read(s.program, VGG_VIEW_OUTPUT, 0, output, VGG_F64));
    }
    ck_ok(target->engine->store_read(s.store, (uint32_t)net.stages[0].mean,
                                     VGG_SLOT_VALUE, mean, VGG_F64));
    target->engine->data_free(set);
    session_close(&s);
    data_free(&data);
}

/* Samples are not overwritten before they have been shown. */
START_TEST(forwards_ahead)
{
    double alone[CHANNELS], ahead[CHANNELS];
    run_ahead(&targets[_i], true, alone);
    run_ahead(&targets[_i], false, ahead);
    for (int c = 0; c < CHANNELS; c++) ck_assert_double_eq(ahead[c], alone[c]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine");
    TCase *tcase = tcase_create("cudnn");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, probing);
    tcase_add_loop_test(tcase, each_gpu, 0, GPUS);
    tcase_add_test(tcase, older_gpu);
    tcase_add_test(tcase, second_gpu);
    tcase_add_test(tcase, refusals);
    tcase_add_test(tcase, no_plans);
    tcase_add_test(tcase, threads);
    tcase_add_loop_test(tcase, resident, 0, (int)target_count);
    tcase_add_loop_test(tcase, forwards_ahead, 0, (int)target_count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
