/* SPDX-License-Identifier: Apache-2.0 */
/* A trainer's recipe and position as JSON: one table says which fields there are, how
 * they are written, and which must agree when a training goes on. */
#include "store/record.h"

#include "core/error.h"
#include "core/memory.h"
#include "io/json.h"
#include "model/model.h"
#include "plan/plan.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LARGEST_TEXT 65536 /* bytes */

enum type { U32, U64, F32, F64, MILESTONES };

struct field {
    const char *name;
    enum type type;
    bool recipe; /* must be equal when loading */
    size_t offset;
};

#define AT(member) offsetof(struct vgg__record, member)

static const struct field option_fields[] = {
    {"lr", F64, true, AT(opts.lr)},
    {"clip_norm", F64, true, AT(opts.clip_norm)},
    {"seed", U64, true, AT(opts.seed)},
    {"steps_per_epoch", U64, true, AT(opts.steps_per_epoch)},
    {"epochs", U32, false, AT(opts.epochs)},
    {"batch", U32, true, AT(opts.batch)},
    {"accumulate", U32, true, AT(opts.accumulate)},
    {"label_smoothing", F32, true, AT(opts.label_smoothing)},
};

static const struct field optimizer_fields[] = {
    {"kind", U32, true, AT(optimizer.kind)},
    {"nesterov", U32, true, AT(optimizer.nesterov)},
    {"momentum", F64, true, AT(optimizer.momentum)},
    {"weight_decay", F64, true, AT(optimizer.weight_decay)},
    {"beta1", F64, true, AT(optimizer.beta1)},
    {"beta2", F64, true, AT(optimizer.beta2)},
    {"epsilon", F64, true, AT(optimizer.epsilon)},
};

static const struct field schedule_fields[] = {
    {"kind", U32, true, AT(schedule.kind)},
    {"step_epochs", U32, true, AT(schedule.step_epochs)},
    {"gamma", F64, true, AT(schedule.gamma)},
    {"min_lr", F64, true, AT(schedule.min_lr)},
    {"warmup_epochs", F64, true, AT(schedule.warmup_epochs)},
    {"milestone_count", U32, true, AT(schedule.milestone_count)},
    {"milestones", MILESTONES, true, AT(schedule.milestones)},
};

static const struct field model_fields[] = {
    {"trainable", U64, true, AT(trainable)},
    {"batches_tracked", U64, false, AT(batches_tracked)},
};

static const struct field progress_fields[] = {
    {"epoch", U64, false, AT(progress.epoch)},
    {"batch", U64, false, AT(progress.batch)},
    {"batches", U64, false, AT(progress.batches)},
    {"step", U64, false, AT(progress.step)},
    {"seen", U64, false, AT(progress.seen)},
    {"correct", U64, false, AT(progress.correct)},
    {"loss_sum", F64, false, AT(progress.loss_sum)},
    {"batch_loss", F64, false, AT(progress.batch_loss)},
    {"lr", F64, false, AT(progress.lr)},
    {"gradient_norm", F64, false, AT(progress.gradient_norm)},
    {"test_loss", F64, false, AT(progress.test_loss)},
    {"test_accuracy", F64, false, AT(progress.test_accuracy)},
    {"best_accuracy", F64, false, AT(progress.best_accuracy)},
    {"best_epoch", U64, false, AT(progress.best_epoch)},
    {"steps_per_epoch", U64, false, AT(steps_per_epoch)},
};

#define GROUP(name, fields)                                                            \
    {                                                                                  \
        name, fields, sizeof fields / sizeof fields[0]                                 \
    }
#define LARGEST_GROUP (sizeof progress_fields / sizeof progress_fields[0])

static const struct {
    const char *name;
    const struct field *fields;
    uint32_t count;
} groups[] = {
    GROUP("options", option_fields),    GROUP("optimizer", optimizer_fields),
    GROUP("schedule", schedule_fields), GROUP("model", model_fields),
    GROUP("progress", progress_fields),
};

#define GROUPS (sizeof groups / sizeof groups[0])

void vgg__record_take(const vgg_trainer *trainer, struct vgg__record *record)
{
    const vgg_model *model = trainer->model;
    memset(record, 0, sizeof *record);
    record->opts = trainer->opts;
    record->opts.optimizer = NULL;
    record->opts.schedule = NULL;
    record->optimizer = trainer->optimizer;
    record->schedule = trainer->schedule;
    for (uint32_t i = record->schedule.milestone_count; i < VGG_MAX_MILESTONES; i++)
        record->schedule.milestones[i] = 0;
    record->progress = trainer->progress;
    record->steps_per_epoch = trainer->steps_per_epoch;
    record->batches_tracked = model->batches_tracked;
    for (uint32_t i = 0; i < model->param_count; i++)
        if (vgg__plan_trains(trainer->plan, i))
            record->trainable += model->params[i]->count;
}

/* ---- Writing --------------------------------------------------------------------- */

/* Read the field's bytes as what they are; an f32 is exact as a double. */
static double real_value(const struct vgg__record *record, const struct field *field)
{
    const char *p = (const char *)record + field->offset;
    float single;
    double wide;
    if (field->type == F32) {
        memcpy(&single, p, sizeof single);
        return single;
    }
    memcpy(&wide, p, sizeof wide);
    return wide;
}

static uint64_t integer_value(const struct vgg__record *record,
                              const struct field *field)
{
    const char *p = (const char *)record + field->offset;
    uint32_t narrow;
    uint64_t wide;
    if (field->type == U32) {
        memcpy(&narrow, p, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, p, sizeof wide);
    return wide;
}

static void put_field(struct vgg__json_out *json, const struct vgg__record *record,
                      const struct field *field)
{
    switch (field->type) {
    case U32:
    case U64:
        vgg__json_put_u64(json, field->name, integer_value(record, field));
        break;
    case F32:
    case F64:
        vgg__json_put_exact(json, field->name, real_value(record, field));
        break;
    case MILESTONES:
        vgg__json_open(json, field->name, '[');
        for (uint32_t i = 0; i < VGG_MAX_MILESTONES; i++)
            vgg__json_put_u64(json, NULL, record->schedule.milestones[i]);
        vgg__json_close(json, ']');
        break;
    }
}

vgg_status vgg__record_write(vgg_context *ctx, const struct vgg__record *record,
                             char **text, size_t *size)
{
    struct vgg__json_out json;
    vgg__json_out_begin(&json, ctx, false);
    vgg__json_open(&json, NULL, '{');
    for (uint32_t g = 0; g < GROUPS; g++) {
        vgg__json_open(&json, groups[g].name, '{');
        for (uint32_t i = 0; i < groups[g].count; i++)
            put_field(&json, record, &groups[g].fields[i]);
        vgg__json_close(&json, '}');
    }
    vgg__json_close(&json, '}');
    *text = json.text;
    *size = json.size;
    if (json.status != VGG_OK) {
        vgg__json_out_free(&json);
        *text = NULL;
    }
    return json.status;
}

/* ---- Reading --------------------------------------------------------------------- */

static vgg_status read_milestones(struct vgg__json *json, struct vgg__record *record)
{
    VGG_TRY(vgg__json_expect(json, VGG_JSON_ARRAY));
    for (uint32_t i = 0; i < VGG_MAX_MILESTONES; i++)
        VGG_TRY(vgg__json_read_u32(json, &record->schedule.milestones[i]));
    return vgg__json_expect(json, VGG_JSON_ARRAY_END);
}

static vgg_status read_real(struct vgg__json *json, const struct field *field,
                            void *out)
{
    double value = 0.0;
    VGG_TRY(vgg__json_read_exact(json, &value));
    const float single = (float)value;
    if (field->type == F32 && (double)single != value)
        return vgg__json_fail(json, VGG_EFORMAT,
                              "%s: expected a number that f32 can hold", field->name);
    memcpy(out, field->type == F32 ? (const void *)&single : &value,
           field->type == F32 ? sizeof single : sizeof value);
    return VGG_OK;
}

static vgg_status read_field(struct vgg__json *json, struct vgg__record *record,
                             const struct field *field)
{
    void *out = (char *)record + field->offset;
    switch (field->type) {
    case U32:
        return vgg__json_read_u32(json, out);
    case U64:
        return vgg__json_read_u64(json, out);
    case MILESTONES:
        return read_milestones(json, record);
    default:
        return read_real(json, field, out);
    }
}

static vgg_status read_group(struct vgg__json *json, struct vgg__record *record,
                             uint32_t g)
{
    const char *names[LARGEST_GROUP];
    const uint32_t count = groups[g].count;
    uint32_t seen = 0, which;
    for (uint32_t i = 0; i < count; i++) names[i] = groups[g].fields[i].name;
    VGG_TRY(vgg__json_expect(json, VGG_JSON_OBJECT));
    for (;;) {
        VGG_TRY(vgg__json_field(json, names, count, &seen, &which));
        if (which == count) break;
        VGG_TRY(read_field(json, record, &groups[g].fields[which]));
    }
    return vgg__json_complete(json, names, count, seen, groups[g].name);
}

static bool is_share(double value)
{
    return isnan(value) || (value >= 0.0 && value <= 1.0);
}

/* Values that no training can have reached. */
vgg_status vgg__record_check(const struct vgg__record *record, const char *shown)
{
    const vgg_progress *p = &record->progress;
    const struct {
        bool good;
        const char *what;
    } checks[] = {
        {p->correct <= p->seen, "correct is above seen"},
        {isfinite(p->loss_sum), "loss_sum is not finite"},
        {isfinite(p->batch_loss), "batch_loss is not finite"},
        {isfinite(p->lr) && p->lr >= 0.0, "lr is not a rate"},
        {isfinite(p->gradient_norm) && p->gradient_norm >= 0.0,
         "gradient_norm is not a norm"},
        {is_share(p->test_accuracy), "test_accuracy is not between 0 and 1"},
        {is_share(p->best_accuracy), "best_accuracy is not between 0 and 1"},
        {p->batches == 0 || p->batch <= p->batches, "batch is above batches"},
        {record->batches_tracked <= INT64_MAX, "batches_tracked is over 2^63"},
        {p->step < UINT64_MAX / 2 && p->epoch < UINT64_MAX / 2 &&
             p->best_epoch < UINT64_MAX / 2,
         "step, epoch or best_epoch over 2^63"},
    };
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        if (!checks[i].good)
            return vgg__fail(VGG_EFORMAT, "%s: progress: %s", shown, checks[i].what);
    return VGG_OK;
}

static vgg_status parse(struct vgg__json *json, struct vgg__record *record)
{
    const char *names[GROUPS];
    uint32_t seen = 0, which;
    for (uint32_t g = 0; g < GROUPS; g++) names[g] = groups[g].name;
    VGG_TRY(vgg__json_expect(json, VGG_JSON_OBJECT));
    for (;;) {
        VGG_TRY(vgg__json_field(json, names, GROUPS, &seen, &which));
        if (which == GROUPS) break;
        VGG_TRY(read_group(json, record, which));
    }
    VGG_TRY(vgg__json_complete(json, names, GROUPS, seen, "the trainer"));
    return vgg__json_expect(json, VGG_JSON_END);
}

vgg_status vgg__record_read(vgg_context *ctx, const struct vgg__input *input,
                            struct vgg__record *record)
{
    struct vgg__json json;
    char *text;
    memset(record, 0, sizeof *record);
    VGG_TRY(vgg__input_text(input, ctx, LARGEST_TEXT, &text));
    vgg__json_begin(&json, input->shown, text, (size_t)input->size);
    vgg_status status = parse(&json, record);
    if (status == VGG_OK) status = vgg__record_check(record, input->shown);
    vgg__free(text);
    return status;
}

/* ---- Comparing ------------------------------------------------------------------- */

static vgg_status match_field(const struct vgg__record *saved,
                              const struct vgg__record *own, const char *shown,
                              const char *group, const struct field *field)
{
    if (field->type == MILESTONES) {
        if (memcmp(saved->schedule.milestones, own->schedule.milestones,
                   sizeof own->schedule.milestones) == 0)
            return VGG_OK;
        return vgg__fail(VGG_EMISMATCH, "%s: %s.%s differ from the trainer's", shown,
                         group, field->name);
    }
    if (field->type == U32 || field->type == U64) {
        const uint64_t a = integer_value(saved, field), b = integer_value(own, field);
        if (a == b) return VGG_OK;
        return vgg__fail(VGG_EMISMATCH,
                         "%s: %s.%s is %" PRIu64 ", the trainer has %" PRIu64, shown,
                         group, field->name, a, b);
    }
    const double a = real_value(saved, field), b = real_value(own, field);
    if (a == b) return VGG_OK;
    return vgg__fail(VGG_EMISMATCH, "%s: %s.%s is %.17g, the trainer has %.17g", shown,
                     group, field->name, a, b);
}

vgg_status vgg__record_match(const struct vgg__record *saved,
                             const struct vgg__record *own, const char *shown)
{
    for (uint32_t g = 0; g < GROUPS; g++)
        for (uint32_t i = 0; i < groups[g].count; i++)
            if (groups[g].fields[i].recipe)
                VGG_TRY(match_field(saved, own, shown, groups[g].name,
                                    &groups[g].fields[i]));
    return VGG_OK;
}
