/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU engine when something fails: each call of CUDA, cuDNN and cuBLASLt in turn,
 * device memory at each size, the device itself at each moment. Whatever happens, the
 * engine answers with a status and a reason, misuses nothing and gives back everything;
 * and where all went well in spite of it, the result is right. */
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "core/error.h"
#include "cudnn/cudnn.h"
#include "guard.h"
#include "harness.h"
#include "simulated.h"
#include "targets.h"

static const char net_text[] = "2x6x6 conv3:4 bn relu tap conv3:8 relu max tap "
                               "linear:6 relu linear:5 loss";

struct work {
    const struct target *target;
    struct net net;
    struct data data;
    double *output;
    /* of a whole run; at its begin; until it gives back */
    uint64_t calls, before, busy;
    bool steps; /* loss, backward and update in one */
    bool opened;
};

static void begin(struct work *w, int target)
{
    *w = (struct work){.target = &targets[target]};
    struct net plain;
    net_parse(&plain, net_text);
    net_fuse(&plain, w->target->engine->fusions, &w->net);
    data_create(&w->data, &w->net, 3, DATA_REAL, 4);
    w->output = guard_array(3 * net_output_count(&w->net), sizeof(double));
}

static void end(struct work *w)
{
    guard_free(w->output);
    data_free(&w->data);
}

/* Everything that an engine is asked for, on an open device. */
static vgg_status use_program(struct work *w, void *store, void *program)
{
    const vgg_engine *engine = w->target->engine;
    const vgg_update update = {.kind = VGG_ADAM, .lr = 0.1, .epsilon = 1e-8, .t = 1};
    double sum, norm;
    uint32_t correct;
    vgg_run run = session_run_desc(&w->data);
    const float *taps[NET_TAPS] = {w->data.taps[0]}; /* the other one has none */
    run.loss_sum = &sum;
    run.correct = &correct;
    run.tap_gradients = taps;
    for (uint32_t i = 0; i < w->net.param_count; i++)
        VGG_TRY(
            engine->store_write(store, i, VGG_SLOT_VALUE, w->data.params[i], VGG_F32));
    for (int round = 0; round < 2; round++) { /* by calls, then recorded */
        VGG_TRY(engine->run(program, VGG_PHASE_FORWARD, &run));
        VGG_TRY(engine->run(program, VGG_PHASE_LOSS, &run));
        VGG_TRY(engine->run(program, VGG_PHASE_BACKWARD, &run));
    }
    VGG_TRY(engine->store_gradient_norm2(store, &norm));
    VGG_TRY(engine->store_scale_gradients(store, 0.5));
    VGG_TRY(engine->read(program, VGG_VIEW_OUTPUT, 0, w->output, VGG_F64));
    VGG_TRY(engine->store_update(store, &update));
    return engine->store_zero_gradients(store);
}

static vgg_status use_steps(struct work *w, void *store, void *program)
{
    const vgg_engine *engine = w->target->engine;
    const vgg_update update = {.kind = VGG_SGD, .lr = 0.1, .t = 1};
    double sum;
    uint32_t correct;
    vgg_run run = session_run_desc(&w->data);
    run.loss_sum = &sum;
    run.correct = &correct;
    run.update = &update;
    for (uint32_t i = 0; i < w->net.param_count; i++)
        VGG_TRY(
            engine->store_write(store, i, VGG_SLOT_VALUE, w->data.params[i], VGG_F32));
    for (int round = 0; round < 3; round++) { /* by calls, recorded, replayed */
        VGG_TRY(engine->run(program, VGG_PHASE_FORWARD, &run));
        VGG_TRY(engine->run(program, VGG_PHASE_STEP, &run));
    }
    return engine->read(program, VGG_VIEW_OUTPUT, 0, w->output, VGG_F64);
}

static vgg_status use_device(struct work *w, void *device)
{
    const vgg_engine *engine = w->target->engine;
    void *store = NULL, *program = NULL;
    vgg_status status = engine->store_create(device, w->net.params, w->net.param_count,
                                             w->target->precision, &store);
    if (status == VGG_OK && !w->steps)
        status = engine->store_gradients(store, w->net.params);
    const vgg_program_desc desc = {.stages = w->net.stages,
                                   .stage_count = w->net.stage_count,
                                   .batch = 4,
                                   .mode = VGG_MODE_TRAIN,
                                   .precision = w->target->precision,
                                   .input_gradient = !w->steps,
                                   .deterministic = !w->target->tunes,
                                   .step = w->steps,
                                   .params = w->net.params,
                                   .param_count = w->net.param_count};
    if (status == VGG_OK) status = engine->compile(device, store, &desc, &program);
    if (status == VGG_OK)
        status = (w->steps ? use_steps : use_program)(w, store, program);
    w->busy = vgg__simulated.calls - w->before;
    engine->program_free(program);
    engine->store_free(store);
    return status;
}

/* From nothing to nothing; a failure has a text. */
static vgg_status use(struct work *w)
{
    vgg_context *ctx;
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &guard_allocator;
    void *device = NULL;
    ck_ok(vgg_context_create(&opts, &ctx));
    const vgg_host host = session_host(ctx);
    w->before = vgg__simulated.calls;
    vgg_status status = w->target->engine->open(&host, 0, &device);
    w->opened = status == VGG_OK;
    if (w->opened) {
        status = use_device(w, device);
        w->target->engine->close(device);
    }
    w->calls = vgg__simulated.calls - w->before;
    if (status != VGG_OK) ck_assert_str_ne(vgg_last_error(), "");
    ck_assert_msg(vgg_context_bytes(ctx) == 0, "%llu bytes, after %s failed: %s",
                  (unsigned long long)vgg_context_bytes(ctx),
                  vgg__simulated.failed ? vgg__simulated.failed : "nothing",
                  vgg_last_error());
    vgg_context_free(ctx);
    return status;
}

static void check_sound(const char *what, uint64_t k)
{
    const char *complaint = vgg__simulated_complaint(), *leak = vgg__simulated_leak();
    const char *failed = vgg__simulated.failed ? vgg__simulated.failed : "none";
    ck_assert_msg(complaint == NULL, "%s %llu (%s): misuse: %s", what,
                  (unsigned long long)k, failed, complaint);
    ck_assert_msg(leak == NULL, "%s %llu (%s): not given back: %s", what,
                  (unsigned long long)k, failed, leak);
}

/* Each call in turn. One that fails alone may be got over (an algorithm that can't be
 * had is not the only one), but then the output must be that of a run without. */
static void fail_each_of(struct work w, cudaError_t error, bool sticky, uint64_t stride)
{
    ck_assert_int_eq(use(&w), VGG_OK);
    const uint64_t calls = w.calls, busy = w.busy;
    const size_t outputs = 3 * net_output_count(&w.net);
    double *want = guard_array(outputs, sizeof *want);
    for (size_t i = 0; i < outputs; i++) want[i] = w.output[i];
    ck_assert_uint_gt(calls, 500);
    for (uint64_t k = 1; k <= calls; k += stride) {
        vgg__simulated_reset();
        vgg__simulated.hurry = true;
        vgg__simulated.fail_call = k;
        vgg__simulated.fail_error = error;
        vgg__simulated.fail_sticky = sticky;
        const vgg_status status = use(&w);
        check_sound("call", k);
        if (status == VGG_OK) {
            ck_assert_msg(
                !sticky || k > busy, "call %llu of %llu (%s): the loss was not told",
                (unsigned long long)k, (unsigned long long)busy, vgg__simulated.failed);
            compare_label("call %llu", (unsigned long long)k);
            compare_rough("output", w.output, want, outputs, 2 * w.target->tolerance);
        } else {
            ck_assert_msg(status == VGG_EDEVICE || status == VGG_ENOMEM ||
                              status == VGG_EUNSUPPORTED,
                          "call %llu: %s", (unsigned long long)k,
                          vgg_status_name(status));
        }
    }
    guard_free(want);
    end(&w);
}

static void fail_each(int target, cudaError_t error, bool sticky, uint64_t stride)
{
    struct work w;
    begin(&w, target);
    fail_each_of(w, error, sticky, stride);
}

/* Targets 0 and 4: fp32 and bf16, algorithms by rule. Errors are told apart by what
 * they are; where they happen they are treated alike, so not all meet every call. */
START_TEST(call_fails)
{
    fail_each(_i == 0 ? 0 : 4, cudaErrorMemoryAllocation, false, _i == 0 ? 1 : 3);
}
END_TEST

START_TEST(call_fails_timed)
{
    fail_each(_i == 0 ? 1 : 5, cudaErrorInvalidValue, false, 11);
}
END_TEST

START_TEST(device_lost)
{
    fail_each(_i == 0 ? 0 : 4, cudaErrorIllegalAddress, true, _i == 0 ? 2 : 5);
}
END_TEST

START_TEST(step_fails)
{
    struct work w;
    begin(&w, _i / 2 == 0 ? 0 : 4);
    w.steps = true;
    if (_i % 2 == 0)
        fail_each_of(w, cudaErrorInvalidValue, false, 3);
    else
        fail_each_of(w, cudaErrorIllegalAddress, true, 5);
}
END_TEST

/* Memory for more and more of it, until it is enough. Where it is not enough for the
 * device, that can't be opened, and no batch would help; behind that one might. */
START_TEST(memory_cap)
{
    enum { CAPS = 60 };
    struct work w;
    int opened = 0;
    begin(&w, _i == 0 ? 0 : 4);
    ck_assert_int_eq(use(&w), VGG_OK);
    const uint64_t peak = vgg__simulated.peak;
    for (uint64_t i = 0; i <= CAPS; i++) {
        vgg__simulated_reset();
        vgg__simulated.memory = i < CAPS ? 4096 + (peak - 8192) * i / (CAPS - 1) : peak;
        const vgg_status status = use(&w);
        check_sound("cap", vgg__simulated.memory);
        opened += w.opened;
        const vgg_status short_of = w.opened ? VGG_ENOMEM : VGG_EDEVICE;
        ck_assert_msg(status == (i < CAPS ? short_of : VGG_OK), "cap %llu of %llu: %s",
                      (unsigned long long)vgg__simulated.memory,
                      (unsigned long long)peak, vgg_last_error());
        const char *remedy =
            w.opened ? ": use a smaller batch" : ": no room to open it, whatever";
        if (status != VGG_OK)
            ck_assert_msg(strstr(vgg_last_error(), remedy) != NULL, "%s",
                          vgg_last_error());
    }
    ck_assert_int_gt(opened, 1);
    ck_assert_int_lt(opened, CAPS);
    end(&w);
}
END_TEST

/* Other programs of a device go on after one could not be had. */
START_TEST(after_too_much)
{
    const struct target *target = &targets[0];
    struct net net;
    struct data data;
    struct session s;
    net_parse(&net, net_text);
    data_create(&data, &net, 2, DATA_REAL, 4);
    session_open(&s, target, &net, 2, VGG_MODE_TRAIN, false);
    const vgg_program_desc desc = {.stages = s.net.stages,
                                   .stage_count = s.net.stage_count,
                                   .batch = 1 << 20,
                                   .mode = VGG_MODE_TRAIN,
                                   .precision = target->precision,
                                   .deterministic = 1,
                                   .params = s.net.params,
                                   .param_count = s.net.param_count};
    void *program = NULL;
    vgg__simulated.memory = 256 << 20;
    ck_fails_with(target->engine->compile(s.device, s.store, &desc, &program),
                  VGG_ENOMEM, "use a smaller batch");
    ck_assert_ptr_null(program);
    session_write(&s, &data);
    session_forward(&s, &data);
    session_close(&s);
    data_free(&data);
}
END_TEST

/* ---- Products of warp groups ----------------------------------------------------- */

static void count_warnings(void *cookie, vgg_log_level level, const char *line)
{
    if (level == VGG_LOG_WARNING && strstr(line, "products of warp groups") != NULL)
        ++*(int *)cookie;
}

/* Where they come out wrong, whichever of the three, the device says so and works. */
START_TEST(groups_wrong)
{
    static const char *const kernels[] = {NULL, "conv_wgmma_forward", "conv_wgmma_data",
                                          "conv_wgmma_weights"};
    int warnings = 0;
    const vgg_logger logger = {&warnings, count_warnings};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.logger = &logger;
    vgg__simulated.idle = kernels[_i];
    struct session s = {.target = &targets[0]};
    session_open_device(&s, &opts);
    struct vgg__cudnn *const device = s.device;
    ck_assert(device->mma.wide);
    for (int round = 0; round < 2; round++) { /* it is tried once */
        ck_ok(vgg__cudnn_enter(device));
        ck_ok(vgg__cudnn_try_groups(device));
        vgg__cudnn_leave(device);
        ck_assert_int_eq(warnings, _i > 0);
        ck_assert_uint_eq(device->mma.wide, _i == 0);
    }
    s.target->engine->close(s.device);
    vgg_context_free(s.ctx);
    ck_assert_ptr_null(vgg__simulated_complaint());
}
END_TEST

/* Where they can't be run, likewise, whatever CUDA says, if only the device lives. */
START_TEST(groups_refused)
{
    static const cudaError_t errors[] = {
        cudaErrorNoKernelImageForDevice, cudaErrorInvalidValue,
        cudaErrorLaunchOutOfResources, cudaErrorMemoryAllocation,
        cudaErrorIllegalAddress};
    static const char *const calls[] = {"launch", "memcpyAsync"};
    int warnings = 0;
    const vgg_logger logger = {&warnings, count_warnings};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.logger = &logger;
    struct session s = {.target = &targets[0]};
    session_open_device(&s, &opts);
    struct vgg__cudnn *const device = s.device;
    const bool dies = errors[_i / 5] == cudaErrorIllegalAddress;
    vgg__simulated.fail_name = calls[_i % 5 / 3];
    vgg__simulated.fail_call = 1 + (uint64_t)(_i % 5 % 3);
    vgg__simulated.fail_error = errors[_i / 5];
    vgg__simulated.fail_sticky = dies;
    for (int round = 0; round < 2 && !device->lost; round++) {
        ck_ok(vgg__cudnn_enter(device));
        const vgg_status status = vgg__cudnn_try_groups(device);
        ck_assert_int_eq(status, dies ? VGG_EDEVICE : VGG_OK);
        if (!dies) ck_ok(vgg__cudnn_try(device)); /* and so does the rest */
        vgg__cudnn_leave(device);
        ck_assert_int_eq(warnings, !dies);
        ck_assert_uint_eq(device->mma.wide, dies);
    }
    ck_assert_int_eq(device->lost, dies);
    ck_assert_ptr_nonnull(vgg__simulated.failed);
    s.target->engine->close(s.device);
    vgg_context_free(s.ctx);
    ck_assert_ptr_null(vgg__simulated_complaint());
}
END_TEST

static void keep_info(void *cookie, vgg_log_level level, const char *line)
{
    if (level == VGG_LOG_INFO && strstr(line, "VGG_CUDA_WARP_GROUPS") != NULL)
        ++*(int *)cookie;
}

/* Somebody may turn them off: then they are not tried either. */
START_TEST(groups_off)
{
    static const struct {
        const char *said, *device;
        bool wide, told;
    } cases[] = {{NULL, "H100", true, false},  {"", "H100", true, false},
                 {"on", "H100", true, false},  {"off", "H100", false, true},
                 {"on", "A100", false, false}, {"off", "A100", false, false}};
    int told = 0;
    const vgg_logger logger = {&told, keep_info};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.logger = &logger;
    if (cases[_i].said != NULL) setenv("VGG_CUDA_WARP_GROUPS", cases[_i].said, 1);
    vgg__simulated.devices[0] = cases[_i].device;
    struct session s = {.target = &targets[0]};
    session_open_device(&s, &opts);
    struct vgg__cudnn *const device = s.device;
    ck_assert_uint_eq(device->mma.wide, cases[_i].wide);
    ck_assert_int_eq(told, cases[_i].told);
    ck_ok(vgg__cudnn_enter(device));
    ck_ok(vgg__cudnn_try_groups(device));
    vgg__cudnn_leave(device);
    ck_assert_int_eq(device->groups_tried, cases[_i].wide);
    s.target->engine->close(s.device);
    const vgg_host host = session_host(s.ctx);
    void *other = NULL;
    setenv("VGG_CUDA_WARP_GROUPS", "of", 1);
    ck_fails_with(s.target->engine->open(&host, 0, &other), VGG_EDEVICE,
                  "expected on or off, found 'of'");
    vgg_context_free(s.ctx);
    unsetenv("VGG_CUDA_WARP_GROUPS");
}
END_TEST

/* A program whose algorithms are timed tries them before it is compiled. */
START_TEST(groups_tried)
{
    struct net net;
    struct session s;
    vgg__simulated.idle = "conv_wgmma";
    net_parse(&net, "16x4x4 conv3:32 relu max loss");
    for (int timed = 0; timed < 2; timed++) {
        session_open(&s, &targets[4 + timed], &net, 1, VGG_MODE_TRAIN, false);
        ck_assert_uint_eq(((struct vgg__cudnn *)s.device)->mma.wide, !timed);
        session_close(&s);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faults");
    TCase *tcase = tcase_create("engine");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, call_fails, 0, 2);
    tcase_add_loop_test(tcase, call_fails_timed, 0, 2);
    tcase_add_loop_test(tcase, device_lost, 0, 2);
    tcase_add_loop_test(tcase, step_fails, 0, 4);
    tcase_add_loop_test(tcase, memory_cap, 0, 2);
    tcase_add_test(tcase, after_too_much);
    tcase_add_loop_test(tcase, groups_wrong, 0, 4);
    tcase_add_loop_test(tcase, groups_refused, 0, 25);
    tcase_add_loop_test(tcase, groups_off, 0, 6);
    tcase_add_test(tcase, groups_tried);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
