/* SPDX-License-Identifier: Apache-2.0 */
/* Learning rates: a function of the step alone, so a resumed training needs no
 * state. */
#include "train/schedule.h"

#include <math.h>

#include "core/error.h"
#include "core/fpmode.h"
#include "core/options.h"

/* Conditions are written so that NaN fails them. */
static vgg_status check(const vgg_schedule *schedule)
{
    if (schedule->kind > VGG_SCHEDULE_COSINE)
        return vgg__fail(VGG_EINVAL, "schedule kind is %u; expected 0 to 3",
                         schedule->kind);
    if (schedule->kind == VGG_SCHEDULE_STEP && schedule->step_epochs < 1)
        return vgg__fail(VGG_EINVAL, "step_epochs is 0; expected at least 1");
    if (!(schedule->gamma > 0.0 && isfinite(schedule->gamma)))
        return vgg__fail(VGG_EINVAL, "gamma is %g; expected a number > 0",
                         schedule->gamma);
    if (!(schedule->min_lr >= 0.0 && isfinite(schedule->min_lr)))
        return vgg__fail(VGG_EINVAL, "min_lr is %g; expected a number >= 0",
                         schedule->min_lr);
    if (!(schedule->warmup_epochs >= 0.0 && schedule->warmup_epochs <= 1e9))
        return vgg__fail(VGG_EINVAL, "warmup_epochs is %g; expected 0 to 1e9",
                         schedule->warmup_epochs);
    if (schedule->milestone_count > VGG_MAX_MILESTONES)
        return vgg__fail(VGG_EINVAL, "milestone_count is %u; expected at most %d",
                         schedule->milestone_count, VGG_MAX_MILESTONES);
    if (schedule->reserved != 0)
        return vgg__fail(VGG_EINVAL, "vgg_schedule.reserved: must be 0, found %u",
                         schedule->reserved);
    for (uint32_t i = 1; i < schedule->milestone_count; i++)
        if (schedule->milestones[i] <= schedule->milestones[i - 1])
            return vgg__fail(VGG_EINVAL,
                             "milestone %u is %u, after %u; expected rising "
                             "epochs",
                             i, schedule->milestones[i], schedule->milestones[i - 1]);
    return VGG_OK;
}

vgg_status vgg__schedule_read(const vgg_schedule *given, vgg_schedule *out)
{
    *out = (vgg_schedule)VGG_SCHEDULE_INIT;
    VGG_TRY(vgg__options_read("vgg_schedule", given, sizeof *out, out, sizeof *out));
    return check(out);
}

vgg_status vgg__schedule_fits(const vgg_schedule *schedule, double lr)
{
    if (schedule->kind == VGG_SCHEDULE_COSINE && schedule->min_lr > lr)
        return vgg__fail(VGG_EINVAL, "min_lr is %g, above lr %g; a cosine falls",
                         schedule->min_lr, lr);
    return VGG_OK;
}

static uint32_t milestones_passed(const vgg_schedule *schedule, uint64_t epoch)
{
    uint32_t passed = 0;
    while (passed < schedule->milestone_count && schedule->milestones[passed] <= epoch)
        passed++;
    return passed;
}

static double rate(const vgg_schedule *schedule, double lr, uint64_t step,
                   uint64_t steps_per_epoch, uint64_t epochs)
{
    const double warmup =
        floor(schedule->warmup_epochs * (double)steps_per_epoch + 0.5);
    if ((double)step < warmup) return lr * ((double)step + 1.0) / warmup;
    const uint64_t epoch = step / steps_per_epoch;
    const double rest = (double)steps_per_epoch * (double)epochs - warmup;
    const double done = rest > 0.0 ? ((double)step - warmup) / rest : 1.0;
    switch (schedule->kind) {
    case VGG_SCHEDULE_STEP:
        return lr * pow(schedule->gamma, (double)(epoch / schedule->step_epochs));
    case VGG_SCHEDULE_MULTISTEP:
        return lr * pow(schedule->gamma, milestones_passed(schedule, epoch));
    case VGG_SCHEDULE_COSINE:
        return schedule->min_lr +
               (lr - schedule->min_lr) * 0.5 * (1.0 + cos(M_PI * fmin(done, 1.0)));
    default:
        return lr;
    }
}

vgg_status vgg_schedule_rate(const vgg_schedule *given, double lr, uint64_t step,
                             uint64_t steps_per_epoch, uint64_t epochs, double *out)
{
    VGG_REQUIRE(out != NULL);
    *out = 0.0;
    VGG_REQUIRE(isfinite(lr) && lr >= 0.0);
    VGG_REQUIRE(steps_per_epoch >= 1);
    VGG_REQUIRE(epochs >= 1);
    vgg_schedule schedule;
    VGG_TRY(vgg__schedule_read(given, &schedule));
    VGG_TRY(vgg__schedule_fits(&schedule, lr));
    const uint64_t mode = vgg__fpmode_enter();
    const double value = rate(&schedule, lr, step, steps_per_epoch, epochs);
    vgg__fpmode_leave(mode);
    if (!isfinite(value))
        return vgg__fail(VGG_ENONFINITE,
                         "the learning rate of step %llu is not finite: "
                         "gamma is %g",
                         (unsigned long long)step, schedule.gamma);
    *out = value;
    return VGG_OK;
}
