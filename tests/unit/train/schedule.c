/* SPDX-License-Identifier: Apache-2.0 */
/* Learning rates: every rule at its beginning, corners and end; bad recipes. */
#include <math.h>
#include <vgg/train.h>

#include "harness.h"

static double rate(const vgg_schedule *schedule, uint64_t step)
{
    double lr;
    ck_ok(vgg_schedule_rate(schedule, 0.8, step, 10, 6, &lr)); /* 60 steps in all */
    return lr;
}

START_TEST(constant_stays)
{
    ck_assert_double_eq(rate(NULL, 0), 0.8);
    ck_assert_double_eq(rate(NULL, 1000000), 0.8);
}
END_TEST

START_TEST(step_falls_each_so_many_epochs)
{
    vgg_schedule schedule = VGG_SCHEDULE_INIT;
    schedule.kind = VGG_SCHEDULE_STEP;
    schedule.step_epochs = 2;
    schedule.gamma = 0.5;
    ck_assert_double_eq(rate(&schedule, 19), 0.8);
    ck_assert_double_eq(rate(&schedule, 20), 0.4);
    ck_assert_double_eq(rate(&schedule, 59), 0.2);
}
END_TEST

START_TEST(multistep_falls_at_milestones)
{
    vgg_schedule schedule = VGG_SCHEDULE_INIT;
    schedule.kind = VGG_SCHEDULE_MULTISTEP;
    schedule.gamma = 0.5;
    schedule.milestone_count = 2;
    schedule.milestones[0] = 1;
    schedule.milestones[1] = 4;
    ck_assert_double_eq(rate(&schedule, 9), 0.8);
    ck_assert_double_eq(rate(&schedule, 10), 0.4);
    ck_assert_double_eq(rate(&schedule, 39), 0.4);
    ck_assert_double_eq(rate(&schedule, 40), 0.2);
}
END_TEST

START_TEST(cosine_goes_from_lr_to_min)
{
    vgg_schedule schedule = VGG_SCHEDULE_INIT;
    schedule.kind = VGG_SCHEDULE_COSINE;
    schedule.min_lr = 0.2;
    ck_assert_double_eq(rate(&schedule, 0), 0.8);
    ck_assert_double_eq_tol(rate(&schedule, 30), 0.5, 1e-15);
    ck_assert_double_eq_tol(rate(&schedule, 60), 0.2, 1e-15);
    ck_assert_double_eq_tol(rate(&schedule, 600), 0.2, 1e-15);
}
END_TEST

START_TEST(warmup_rises_evenly_then_the_rule_holds)
{
    vgg_schedule schedule = VGG_SCHEDULE_INIT;
    schedule.kind = VGG_SCHEDULE_COSINE;
    schedule.warmup_epochs = 0.4; /* 4 steps */
    ck_assert_double_eq_tol(rate(&schedule, 0), 0.2, 1e-15);
    ck_assert_double_eq_tol(rate(&schedule, 3), 0.8, 1e-15);
    ck_assert_double_eq_tol(rate(&schedule, 4), 0.8, 1e-15);
    ck_assert_double_eq_tol(rate(&schedule, 32), 0.4, 1e-15); /* half of the 56 left */
}
END_TEST

/* A warm-up is as many steps as are nearest to its epochs. */
START_TEST(warmup_is_rounded_to_steps)
{
    static const struct {
        double epochs;
        uint64_t steps;
    } cases[] = {{0.26, 3}, {0.24, 2}, {0.05, 1}, {0.29, 3}, {1.17, 12}};
    vgg_schedule schedule = VGG_SCHEDULE_INIT;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint64_t steps = cases[i].steps;
        schedule.warmup_epochs = cases[i].epochs;
        ck_assert_double_eq_tol(rate(&schedule, 0), 0.8 / (double)steps, 1e-15);
        ck_assert_double_eq_tol(rate(&schedule, steps - 1), 0.8, 1e-15);
    }
    /* 28.999999999999996 steps of an epoch of 100. */
    double lr;
    schedule.warmup_epochs = 0.29;
    ck_ok(vgg_schedule_rate(&schedule, 0.8, 0, 100, 6, &lr));
    ck_assert_double_eq_tol(lr, 0.8 / 29, 1e-15);
}
END_TEST

START_TEST(bad_recipes_are_refused)
{
    double lr = 1.0;
    vgg_schedule schedule = VGG_SCHEDULE_INIT;
    schedule.kind = 4;
    ck_fails_with(vgg_schedule_rate(&schedule, 0.1, 0, 1, 1, &lr), VGG_EINVAL,
                  "kind is 4");
    ck_assert_double_eq(lr, 0.0);
    schedule = (vgg_schedule)VGG_SCHEDULE_INIT;
    schedule.gamma = NAN;
    ck_fails_with(vgg_schedule_rate(&schedule, 0.1, 0, 1, 1, &lr), VGG_EINVAL, "gamma");
    schedule = (vgg_schedule)VGG_SCHEDULE_INIT;
    schedule.warmup_epochs = -1.0;
    ck_fails_with(vgg_schedule_rate(&schedule, 0.1, 0, 1, 1, &lr), VGG_EINVAL,
                  "warmup");
    schedule = (vgg_schedule)VGG_SCHEDULE_INIT;
    schedule.milestone_count = 9;
    ck_fails_with(vgg_schedule_rate(&schedule, 0.1, 0, 1, 1, &lr), VGG_EINVAL,
                  "at most 8");
    schedule.milestone_count = 2;
    schedule.milestones[0] = schedule.milestones[1] = 3;
    ck_fails_with(vgg_schedule_rate(&schedule, 0.1, 0, 1, 1, &lr), VGG_EINVAL,
                  "rising");
    schedule = (vgg_schedule)VGG_SCHEDULE_INIT;
    schedule.kind = VGG_SCHEDULE_STEP;
    schedule.step_epochs = 0;
    ck_fails_with(vgg_schedule_rate(&schedule, 0.1, 0, 1, 1, &lr), VGG_EINVAL,
                  "step_epochs");
    schedule = (vgg_schedule)VGG_SCHEDULE_INIT;
    schedule.kind = VGG_SCHEDULE_COSINE;
    schedule.min_lr = 0.2;
    ck_fails_with(vgg_schedule_rate(&schedule, 0.1, 0, 1, 1, &lr), VGG_EINVAL,
                  "min_lr is 0.2, above lr 0.1");
    schedule = (vgg_schedule)VGG_SCHEDULE_INIT;
    schedule.reserved = 7;
    ck_fails_with(vgg_schedule_rate(&schedule, 0.1, 0, 1, 1, &lr), VGG_EINVAL,
                  "vgg_schedule.reserved: must be 0, found 7");
    ck_fails(vgg_schedule_rate(NULL, -0.1, 0, 1, 1, &lr), VGG_EINVAL);
    ck_fails(vgg_schedule_rate(NULL, 0.1, 0, 0, 1, &lr), VGG_EINVAL);
    ck_fails(vgg_schedule_rate(NULL, 0.1, 0, 1, 0, &lr), VGG_EINVAL);
    ck_fails(vgg_schedule_rate(NULL, 0.1, 0, 1, 1, NULL), VGG_EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schedule");
    TCase *tc = tcase_create("rates");
    tcase_add_test(tc, constant_stays);
    tcase_add_test(tc, step_falls_each_so_many_epochs);
    tcase_add_test(tc, multistep_falls_at_milestones);
    tcase_add_test(tc, cosine_goes_from_lr_to_min);
    tcase_add_test(tc, warmup_rises_evenly_then_the_rule_holds);
    tcase_add_test(tc, warmup_is_rounded_to_steps);
    tcase_add_test(tc, bad_recipes_are_refused);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
