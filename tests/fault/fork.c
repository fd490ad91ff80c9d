/* SPDX-License-Identifier: Apache-2.0 */
/* A child of fork() goes on with what its parent had open: the same outputs, on its own
 * thread, and everything can be given back there; the parent does not notice. */
#include "feed.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const vgg_shape input_shape = {4, {4, 1, 8, 8}}; /* [n][c][h][w] */
static const vgg_shape output_shape = {2, {4, 3}};      /* [n][classes] */

static void make_world(struct world *world, vgg_gemm gemm)
{
    const vgg_arch arch = tiny_arch();
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.threads = 3;
    opts.gemm = gemm;
    vgg_plan_options plan = VGG_PLAN_OPTIONS_INIT;
    plan.batch = 4;
    *world = (struct world){0};
    ck_ok(vgg_context_create(&opts, &world->ctx));
    ck_ok(vgg_model_create(world->ctx, &arch, 1, NULL, &world->model));
    ck_ok(vgg_device_open(world->ctx, "cpu", &world->device));
    ck_ok(vgg_plan_create(world->model, world->device, &plan, &world->plan));
    ck_ok(vgg_tensor_create(world->ctx, VGG_F32, &input_shape, &world->input));
    ck_ok(vgg_tensor_create(world->ctx, VGG_F32, &output_shape, &world->output));
    float *input = vgg_tensor_data(world->input);
    for (int i = 0; i < 256; i++) input[i] = (float)(i * 37 % 64) / 64.0f;
}

static void free_world(struct world *world)
{
    vgg_tensor_free(world->input);
    vgg_tensor_free(world->output);
    vgg_plan_free(world->plan);
    vgg_device_free(world->device);
    vgg_model_free(world->model);
}

/* Digest of the plan's output; 0 if it failed. Without assertions: Check's take a lock.
 */
static uint64_t forward(struct world *world)
{
    memset(vgg_tensor_data(world->output), 0, vgg_tensor_bytes(world->output));
    if (vgg_plan_forward(world->plan, world->input, world->output) != VGG_OK) return 0;
    return digest_bytes(0, vgg_tensor_data(world->output),
                        vgg_tensor_bytes(world->output));
}

/* The number of the first step that went wrong, 0 if none did. */
static int use_in_child(struct world *world, uint64_t expected)
{
    if (forward(world) != expected) return 1;
    vgg_plan *plan;
    if (vgg_plan_create(world->model, world->device, NULL, &plan) != VGG_OK) return 2;
    vgg_plan_free(plan);
    free_world(world);
    if (vgg_context_bytes(world->ctx) != 0) return 3;
    vgg_device *device;
    if (vgg_device_open(world->ctx, "cpu", &device) != VGG_OK) return 4;
    vgg_device_free(device);
    if (vgg_context_bytes(world->ctx) != 0) return 5;
    vgg_context_free(world->ctx);
    return 0;
}

START_TEST(child_goes_on)
{
    struct world world;
    make_world(&world, _i == 0 ? VGG_GEMM_OWN : VGG_GEMM_AUTO);
    const uint64_t expected = forward(&world);
    ck_assert(expected != 0);
    for (int i = 0; i < 5; i++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(use_in_child(&world, expected));
        }
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: %d",
                      status);
        ck_assert(forward(&world) == expected);
    }
    free_world(&world);
    ck_assert_uint_eq(vgg_context_bytes(world.ctx), 0);
    vgg_context_free(world.ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fault/fork");
    TCase *tcase = tcase_create("fork");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, child_goes_on, 0, 2);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
