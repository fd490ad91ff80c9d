/* SPDX-License-Identifier: Apache-2.0 */
/* What `vgg bench` has measured, for people and for programs.
 *
 * GFLOP are 1e9 operations of direct convolutions and matrix products, two for each
 * multiply-accumulate, whatever the engine computes instead; so a fast algorithm may
 * show more of them a second than the processor can do. GB/s are 1e9 of the bytes that
 * no engine can do without moving. */
#include "bench.h"
#include "json.h"

#include <math.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Widths: of the table, of its longest name, of its numbers, and of each of these. */
enum { TABLE = 100, NAME = 24, TRAIN_NUMBERS = 50, INFER_NUMBERS = 28 };
enum { MS = 7, GFLOPS = 8, GBS = 6, SHARE = 7 };

static const char *const part_names[] = {
    [PART_INPUT] = "input", [PART_PREPARE] = "prepare weights",
    [PART_LOSS] = "loss",   [PART_UPDATE] = "update",
    [PART_OTHER] = "other",
};

/* Work of the whole network, of a step. */
struct work {
    double forward, backward; /* operations */
    uint64_t bytes;
};

static struct work stage_work(const vgg_stage_info *info)
{
    return (struct work){info->forward_flops, info->backward_flops,
                         info->forward_bytes + info->backward_bytes};
}

static void add_work(struct work *sum, const struct work *more)
{
    sum->forward += more->forward;
    sum->backward += more->backward;
    sum->bytes += more->bytes;
}

/* The loss moves next to nothing and is no stage of the table. */
static struct work work_of(const struct bench *b)
{
    struct work sum = {0, 0, 0};
    for (uint32_t i = 0; i < vgg_plan_stage_count(b->watched); i++) {
        vgg_stage_info info;
        vgg_plan_stage(b->watched, i, &info);
        const struct work work = stage_work(&info);
        if (strcmp(info.kind, "loss") != 0) add_work(&sum, &work);
    }
    return sum;
}

static double images_per_second(const struct bench *b)
{
    double sum = 0.0;
    for (uint64_t i = 0; i < b->s->steps; i++) sum += b->times[i];
    return sum > 0 ? (double)b->seen / sum : 0.0;
}

/* The time that a share of the steps does not exceed (nearest rank). */
static double percentile(const struct bench *b, double share)
{
    const uint64_t count = b->s->steps;
    uint64_t rank = (uint64_t)(share * (double)count + 0.999999);
    if (rank < 1) rank = 1;
    return b->times[rank > count ? count - 1 : rank - 1];
}

static double median_step(const struct bench *b)
{
    return median_time(b->times, b->s->steps);
}

/* Digits of milliseconds behind the point: six characters hold them all. */
static int ms_digits(const struct bench *b)
{
    const double step = median_step(b);
    return step < 0.1 ? 3 : step < 1.0 ? 2 : step < 10.0 ? 1 : 0;
}

/* ---- Text ------------------------------------------------------------------------ */

/* Widths of the table's texts. */
struct table {
    int name, out, algorithm;
    bool train;
    int digits;  /* of milliseconds, behind the point */
    double step; /* seconds that are 100 % */
};

/* A row: seconds, and what was done in them; 0 is shown as "-". */
struct row {
    const char *name, *out, *algorithm;
    double forward, backward, all;
    struct work work;
};

static int longer(int width, const char *text, int most)
{
    const int length = (int)strlen(text);
    return length < width ? width : length > most ? most : length;
}

static struct table lay_out(const struct bench *b)
{
    struct table t = {.name = (int)strlen(part_names[PART_PREPARE]),
                      .out = (int)strlen("output"),
                      .algorithm = (int)strlen("algorithm"),
                      .train = b->s->mode == MODE_TRAIN,
                      .digits = ms_digits(b),
                      .step = median_step(b)};
    for (uint32_t i = 0; i < b->profile.stages; i++) {
        vgg_stage_info info;
        char out[64];
        vgg_plan_stage(b->watched, i, &info);
        vgg_shape_text(&info.out, out, sizeof out);
        t.name = longer(t.name, info.name, NAME);
        t.out = longer(t.out, out, (int)sizeof out);
        t.algorithm = longer(t.algorithm, info.algorithm, TABLE);
    }
    const int left =
        TABLE - (t.train ? TRAIN_NUMBERS : INFER_NUMBERS) - t.name - t.out - 2;
    if (t.algorithm > left) t.algorithm = left;
    return t;
}

/* What is longer than its column ends in dots. */
static void print_text(const char *text, int width)
{
    if ((int)strlen(text) <= width) {
        printf("%-*s", width, text);
        return;
    }
    int shown = width - 3;
    while (shown > 0 && text[shown - 1] == ' ') shown--;
    printf("%.*s...%*s", shown, text, width - 3 - shown, "");
}

static void print_number(double value, int width, int digits)
{
    if (value > 0)
        printf(" %*.*f", width - 1, digits, value);
    else
        printf("%*s", width, "-");
}

static double rate(double amount, double seconds)
{
    return seconds > 0 ? 1e-9 * amount / seconds : 0.0;
}

static void print_row(const struct table *t, const struct row *r)
{
    print_text(r->name, t->name);
    putchar(' ');
    print_text(r->out, t->out);
    putchar(' ');
    print_text(r->algorithm, t->algorithm);
    if (t->train) {
        print_number(1e3 * r->forward, MS, t->digits);
        print_number(rate(r->work.forward, r->forward), GFLOPS, 1);
        print_number(1e3 * r->backward, MS, t->digits);
        print_number(rate(r->work.backward, r->backward), GFLOPS, 1);
        print_number(rate((double)r->work.bytes, r->forward + r->backward), GBS, 1);
        print_number(1e3 * r->all, MS, t->digits);
    } else {
        print_number(1e3 * r->all, MS, t->digits);
        print_number(rate(r->work.forward, r->forward), GFLOPS, 1);
        print_number(rate((double)r->work.bytes, r->forward), GBS, 1);
    }
    printf(" %*.1f%%\n", SHARE - 2, 100.0 * r->all / t->step);
}

static void print_head(const struct table *t)
{
    const int left = t->name + t->out + t->algorithm + 2;
    if (t->train)
        printf("%*s%*s%*s%*s\n", left, "", MS + GFLOPS, "forward", MS + GFLOPS,
               "backward", GBS + MS + SHARE, "both");
    printf("%-*s %-*s %-*s%*s%*s", t->name, "stage", t->out, "output", t->algorithm,
           "algorithm", MS, "ms", GFLOPS, "GFLOP/s");
    if (t->train)
        printf("%*s%*s%*s%*s", MS, "ms", GFLOPS, "GFLOP/s", GBS, "GB/s", MS, "ms");
    if (!t->train) printf("%*s", GBS, "GB/s");
    printf("%*s\n", SHARE, "share");
}

/* A row a stage, a row for each part of the step that took time, and the step. */
static void print_table(const struct bench *b)
{
    const struct profile *p = &b->profile;
    const struct table t = lay_out(b);
    struct row step = {.name = "step", .out = "", .algorithm = "", .all = t.step};
    putchar('\n');
    print_head(&t);
    for (uint32_t i = 0; i < p->stages; i++) {
        vgg_stage_info info;
        char out[64];
        vgg_plan_stage(b->watched, i, &info);
        vgg_shape_text(&info.out, out, sizeof out);
        struct row r = {.name = info.name,
                        .out = out,
                        .algorithm = info.algorithm,
                        .forward = profile_forward(p, i),
                        .backward = profile_backward(p, i),
                        .work = stage_work(&info)};
        r.all = r.forward + r.backward;
        step.forward += r.forward;
        step.backward += r.backward;
        add_work(&step.work, &r.work);
        print_row(&t, &r);
    }
    for (unsigned i = 0; i < PARTS; i++) {
        const struct row r = {part_names[i], "", "", .all = profile_part(p, i)};
        if (r.all > 0) print_row(&t, &r);
    }
    print_row(&t, &step);
    putchar('\n');
}

static const char *const modes[] = {"train", "infer"};

/* One line, or two where it would be wider than the table. */
static void print_device(const struct bench *b)
{
    const char *name = vgg_device_name(b->it.device);
    const char *text = vgg_device_text(b->it.device);
    const char *half = strstr(text, "; ");
    if (half && strlen(name) + 2 + strlen(text) > TABLE)
        printf("%s: %.*s\n%s\n", name, (int)(half - text), text, half + 2);
    else
        printf("%s: %s\n", name, text);
}

static void report_text(const struct bench *b)
{
    const struct work work = work_of(b);
    const double gflop = (work.forward + work.backward) / 1e9 / (double)b->batch;
    const double images = images_per_second(b);
    const int digits = ms_digits(b);
    printf("%s, batch %llu, %llu steps after %llu to warm up, ", modes[b->s->mode],
           (unsigned long long)b->batch, (unsigned long long)b->s->steps,
           (unsigned long long)b->s->warmup);
    if (strcmp(vgg_device_name(b->it.device), "cpu") == 0)
        printf("%u threads, ", (unsigned)vgg_context_threads(b->it.ctx));
    printf("%s images\n", b->it.train_loader ? "real" : "random");
    if (b->s->stages && b->profile.plan)
        print_table(b);
    else if (b->s->stages)
        printf("no times of stages: the engine %s does not take them\n",
               vgg_device_engine(b->it.device));
    printf("%.1f images/s, median step %.*f ms, p95 %.*f ms, peak memory %s\n", images,
           digits, 1e3 * median_step(b), digits, 1e3 * percentile(b, 0.95),
           readable_bytes(peak_rss_bytes()));
    printf("%.1f GFLOP/s (direct convolution: %.3g GFLOP an image), plan %s\n",
           images * gflop, gflop, readable_bytes(vgg_plan_bytes(b->watched)));
    print_device(b);
    printf("%s%s%s\n", flag_find("precision")->choices[b->s->precision],
           b->s->weights ? ", linear weights in bf16" : "",
           b->s->deterministic ? ", deterministic" : "");
    if (b->s->plan) printf("\n%s", vgg_plan_describe(b->watched));
}

/* ---- JSON ------------------------------------------------------------------------ */

static void json_stages(struct json *j, const struct bench *b)
{
    const struct profile *p = &b->profile;
    const uint32_t batch = (uint32_t)b->batch;
    json_array(j, "stages");
    for (uint32_t i = 0; i < p->stages; i++) {
        vgg_stage_info info;
        vgg_plan_stage(b->watched, i, &info);
        const double forward = profile_forward(p, i), backward = profile_backward(p, i);
        json_object(j, NULL);
        json_text(j, "name", info.name);
        json_text(j, "kind", info.kind);
        json_shape(j, "in", batch, &info.in);
        json_shape(j, "out", batch, &info.out);
        json_text(j, "algorithm", info.algorithm);
        json_real(j, "forward_s", forward);
        json_real(j, "backward_s", backward);
        json_real(j, "prepare_s", profile_prepare(p, i));
        json_real(j, "forward_gflop", info.forward_flops / 1e9);
        json_real(j, "backward_gflop", info.backward_flops / 1e9);
        json_count(j, "bytes", info.forward_bytes + info.backward_bytes);
        json_count(j, "kept_bytes", info.kept_bytes);
        json_real(j, "share", (forward + backward) / median_step(b));
        json_end(j);
    }
    json_end(j);
}

/* An element a line; no line of a plan's description is longer. */
static void json_plan(struct json *j, const struct bench *b)
{
    enum { LINE = 512 };
    const char *text = vgg_plan_describe(b->watched);
    json_array(j, "plan");
    while (*text) {
        const size_t length = strcspn(text, "\n");
        char line[LINE];
        snprintf(line, sizeof line, "%.*s", (int)length, text);
        json_text(j, NULL, line);
        text += length + (text[length] == '\n');
    }
    json_end(j);
}

/* Null where the engine times no stages. */
static void json_parts(struct json *j, const struct bench *b)
{
    static const char *const keys[] = {
        [PART_INPUT] = "input_s", [PART_PREPARE] = "prepare_s",
        [PART_LOSS] = "loss_s",   [PART_UPDATE] = "update_s",
        [PART_OTHER] = "other_s",
    };
    for (unsigned i = 0; i < PARTS; i++)
        json_real(j, keys[i], b->profile.plan ? profile_part(&b->profile, i) : NAN);
}

/* The first "model name" of Linux's list of processors; "" where it has none. */
static void processor_name(char name[256])
{
    char line[512];
    name[0] = '\0';
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        snprintf(name, 256, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file) fclose(file);
}

static void json_machine(struct json *j)
{
    char processor[256], text[512];
    struct utsname system = {0};
    processor_name(processor);
    uname(&system);
    json_object(j, "machine");
    json_text(j, "processor", printable(processor, text, sizeof text));
    json_count(j, "processors", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    json_count(j, "memory_bytes",
               (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    json_text(j, "architecture", system.machine);
    json_text(j, "system", system.sysname);
    json_text(j, "release", system.release);
    json_end(j);
}

static void report_json(const struct bench *b)
{
    const struct work work = work_of(b);
    const double gflop = (work.forward + work.backward) / 1e9 / (double)b->batch;
    const double images = images_per_second(b);
    struct json j = {.file = stdout};
    json_object(&j, NULL);
    json_text(&j, "mode", modes[b->s->mode]);
    json_count(&j, "batch", b->batch);
    json_count(&j, "steps", b->s->steps);
    json_real(&j, "images_per_s", images);
    json_real(&j, "median_step_s", median_step(b));
    json_real(&j, "p95_step_s", percentile(b, 0.95));
    json_count(&j, "peak_rss_bytes", peak_rss_bytes());
    json_text(&j, "engine", vgg_device_engine(b->it.device));
    json_text(&j, "name", vgg_device_name(b->it.device));
    json_text(&j, "device", vgg_device_text(b->it.device));
    json_text(&j, "precision", flag_find("precision")->choices[b->s->precision]);
    json_text(&j, "linear_weights", flag_find("weights")->choices[b->s->weights]);
    json_bool(&j, "deterministic", b->s->deterministic != 0);
    json_count(&j, "threads", vgg_context_threads(b->it.ctx));
    json_bool(&j, "data_loading", b->it.train_loader != NULL);
    json_real(&j, "gflop_per_image", gflop);
    json_real(&j, "gflops", images * gflop);
    json_count(&j, "plan_bytes", vgg_plan_bytes(b->watched));
    json_plan(&j, b);
    json_parts(&j, b);
    json_stages(&j, b);
    json_machine(&j);
    json_text(&j, "version", vgg_version());
    json_end(&j);
}

void bench_report(const struct bench *b)
{
    if (b->s->format == FORMAT_JSON)
        report_json(b);
    else
        report_text(b);
}
