/* SPDX-License-Identifier: Apache-2.0 */
/* The failing allocator and the loops over all its failures; see injector.h. */
#include "injector.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ALLOCATIONS                                                               \
    20000 /* of one operation; more is taken for an endless loop                       \
           */

static const struct scenario *all;
static const char *only; /* FAULT_SCENARIO: run but this one */

static void *injector_alloc(void *cookie, size_t size, size_t align)
{
    struct injector *injector = cookie;
    pthread_mutex_lock(&injector->lock);
    const long call = ++injector->calls, at = injector->fail_at;
    const bool fail = at > 0 && (call == at || (injector->forever && call > at));
    if (fail)
        injector->failed++;
    else
        injector->live++;
    pthread_mutex_unlock(&injector->lock);
    if (fail) return NULL;
    void *memory = aligned_alloc(align, (size + align - 1) / align * align);
    if (memory == NULL) abort(); /* the machine's own failure would confuse the count */
    memset(memory, 0xa5, size);  /* nobody may rely on zeros */
    return memory;
}

static void injector_release(void *cookie, void *memory)
{
    struct injector *injector = cookie;
    pthread_mutex_lock(&injector->lock);
    injector->live--;
    pthread_mutex_unlock(&injector->lock);
    free(memory);
}

static void arm(struct injector *injector, long fail_at, bool forever)
{
    pthread_mutex_lock(&injector->lock);
    injector->calls = injector->failed = 0;
    injector->fail_at = fail_at;
    injector->forever = forever;
    pthread_mutex_unlock(&injector->lock);
}

static void world_create(struct world *world, const struct scenario *scenario)
{
    *world = (struct world){.threads = scenario->threads > 0 ? scenario->threads : 1};
    pthread_mutex_init(&world->injector.lock, NULL);
    world->allocator =
        (vgg_allocator){&world->injector, injector_alloc, injector_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &world->allocator;
    opts.threads = world->threads;
    ck_ok(vgg_context_create(&opts, &world->ctx));
    if (scenario->make != NULL) ck_ok(scenario->make(world));
}

/* Give everything back; nothing may be left. */
static void world_free(struct world *world)
{
    vgg_metadata_free(world->metadata);
    vgg_trainer_free(world->trainer);
    vgg_metrics_free(world->metrics);
    vgg_loader_free(world->loader);
    vgg_loader_free(world->test);
    vgg_dataset_free(world->data);
    vgg_tensor_free(world->view);
    vgg_tensor_free(world->images);
    vgg_tensor_free(world->input);
    vgg_tensor_free(world->output);
    vgg_plan_free(world->plan);
    vgg_device_list_free(world->list);
    vgg_device_free(world->device);
    vgg_model_free(world->model);
    vgg_model_free(world->other);
    ck_assert_uint_eq(vgg_context_bytes(world->ctx), 0);
    vgg_context_free(world->ctx);
    ck_assert_int_eq(world->injector.live, 0);
    if (world->dir[0] != '\0') harness_rmdir(world->dir);
}

static uint64_t world_digest(struct world *world, const struct scenario *scenario)
{
    return scenario->digest != NULL ? scenario->digest(world) : 0;
}

/* One failure at `fail_at`; false if the operation was over before. */
static bool fails_well(const struct scenario *scenario, long fail_at, bool forever,
                       uint64_t expected)
{
    struct world world;
    world_create(&world, scenario);
    const uint64_t before = vgg_context_bytes(world.ctx);
    arm(&world.injector, fail_at, forever);
    vgg_status status = scenario->act(&world);
    const long failed = world.injector.failed;
    arm(&world.injector, 0, false);
    if (failed > 0) {
        ck_assert_msg(status == VGG_ENOMEM, "%s: allocation %ld failed, status %s: %s",
                      scenario->name, fail_at, vgg_status_name(status),
                      vgg_last_error());
        ck_assert_msg(strstr(vgg_last_error(), "out of memory") != NULL,
                      "%s: allocation %ld failed, text: %s", scenario->name, fail_at,
                      vgg_last_error());
        const uint64_t after = vgg_context_bytes(world.ctx);
        ck_assert_msg(after == before || scenario->keeps,
                      "%s: allocation %ld failed, %lu bytes before, %lu after",
                      scenario->name, fail_at, before, after);
        status = scenario->act(&world);
    }
    ck_assert_msg(status == VGG_OK, "%s: after allocation %ld failed: %s: %s",
                  scenario->name, fail_at, vgg_status_name(status), vgg_last_error());
    ck_assert_msg(world_digest(&world, scenario) == expected,
                  "%s: allocation %ld failed, and the result is another one",
                  scenario->name, fail_at);
    world_free(&world);
    return failed > 0;
}

/* Scenarios by turns with single and lasting failures. */
START_TEST(every_allocation)
{
    const struct scenario *scenario = &all[_i / 2];
    if (only != NULL && strcmp(only, scenario->name) != 0) return;
    struct world world;
    world_create(&world, scenario);
    arm(&world.injector, 0, false);
    ck_ok(scenario->act(&world));
    const long calls = world.injector.calls;
    ck_assert_msg((calls == 0) == scenario->needs_none, "%s: %ld allocations",
                  scenario->name, calls);
    const uint64_t expected = world_digest(&world, scenario);
    world_free(&world);
    long k = 1;
    while (fails_well(scenario, k, _i % 2 != 0, expected)) {
        k++;
        ck_assert_int_lt(k, MOST_ALLOCATIONS);
    }
    printf("%s, %s: %ld failures\n", scenario->name, _i % 2 ? "lasting" : "single",
           k - 1);
    fflush(stdout);
}
END_TEST

int injector_main(const char *name, const struct scenario *scenarios, int count)
{
    all = scenarios;
    only = getenv("FAULT_SCENARIO");
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create("allocations");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, every_allocation, 0, 2 * count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
