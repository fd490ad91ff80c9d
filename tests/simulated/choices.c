/* SPDX-License-Identifier: Apache-2.0 */
/* Choices by timing that the GPU engine keeps on disk: the next run takes the same, and
 * a file that is not the answer to what was asked counts as absent. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compare.h"
#include "cudnn/cache.h"
#include "guard.h"
#include "harness.h"
#include "simulated.h"
#include "targets.h"

enum { FP32_TIMED = 1, BF16_TIMED = 5 };

static const char small_net[] =
    "2x8x8 conv3:8 relu max conv3:16 relu max linear:9 relu linear:5 loss";
/* Of as many channels as the engine's kernels for pooled gradients take. */
static const char wide_net[] =
    "32x4x4 conv3:32 relu max conv3:64 relu max linear:9 relu linear:5 loss";

/* ---- A network's choices --------------------------------------------------------- */

enum { LINES = 8, SAMPLES = 3, NUMBERS = SAMPLES * 5 + 2 };

/* How a program describes its choices, and what it computes by them. */
struct chosen {
    char text[LINES][400];
    double numbers[NUMBERS]; /* outputs, their loss, the gradients' norm */
};

static void compute(struct session *s, const struct data *data, double *numbers)
{
    const vgg_engine *engine = s->target->engine;
    uint32_t correct;
    vgg_run run = session_run_desc(data);
    run.loss_sum = &numbers[NUMBERS - 2];
    run.correct = &correct;
    ck_ok(engine->run(s->program, VGG_PHASE_FORWARD, &run));
    ck_ok(engine->run(s->program, VGG_PHASE_LOSS, &run));
    ck_ok(engine->store_zero_gradients(s->store));
    ck_ok(engine->run(s->program, VGG_PHASE_BACKWARD, &run));
    ck_ok(engine->store_gradient_norm2(s->store, &numbers[NUMBERS - 1]));
    ck_ok(engine->read(s->program, VGG_VIEW_OUTPUT, 0, numbers, VGG_F64));
}

static void choose(const char *net_text, struct chosen *out)
{
    struct net net;
    struct data data;
    struct session s;
    *out = (struct chosen){0};
    net_parse(&net, net_text);
    data_create(&data, &net, SAMPLES, DATA_REAL, 2);
    session_open(&s, &targets[BF16_TIMED], &net, SAMPLES, VGG_MODE_TRAIN, false);
    ck_assert_uint_le(s.net.stage_count, LINES);
    for (uint32_t i = 0; i < s.net.stage_count; i++) {
        s.target->engine->describe(s.program, i, out->text[i], sizeof *out->text);
        ck_assert_uint_lt(strlen(out->text[i]), sizeof *out->text - 1);
    }
    session_write(&s, &data);
    compute(&s, &data, out->numbers);
    session_close(&s);
    data_free(&data);
}

static void check_same(const struct chosen *got, const struct chosen *want)
{
    const int seed = (int)vgg__simulated.seed;
    for (int i = 0; i < LINES; i++)
        ck_assert_msg(strcmp(got->text[i], want->text[i]) == 0, "seed %d:\n%s\n%s",
                      seed, want->text[i], got->text[i]);
    compare_label("seed %d", seed);
    compare_exact("numbers", got->numbers, want->numbers, NUMBERS);
}

/* Do `what` to every file of a folder; how many there are. */
static int each_file(const char *folder, void (*what)(const char *path))
{
    DIR *dir = opendir(folder);
    int count = 0;
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[512];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (what) what(path);
        count++;
    }
    closedir(dir);
    return count;
}

static void cut(const char *path)
{
    ck_assert_int_eq(truncate(path, 70), 0);
}

static void change(const char *path)
{
    FILE *file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    fseek(file, -3, SEEK_END);
    const int byte = fgetc(file);
    fseek(file, -3, SEEK_END);
    fputc(byte ^ 1, file);
    fclose(file);
}

/* Choices are kept in a folder of the test's own. */
static void begin_keeping(char folder[64])
{
    harness_mkdtemp(folder);
    setenv("VGG_CACHE_DIR", folder, 1);
}

static void end_keeping(const char *folder)
{
    setenv("VGG_CACHE_DIR", "", 1);
    harness_rmdir(folder);
}

/* Timing differs from seed to seed; what was chosen first stays, and with it the bits.
 * By the first of the two seeds a backward takes the pooled gradient, by the second the
 * full one. */
START_TEST(kept_choices)
{
    static const uint64_t seeds[] = {1, 3};
    char folder[64];
    struct chosen first, again;
    begin_keeping(folder);
    vgg__simulated.seed = seeds[_i];
    choose(wide_net, &first);
    ck_assert_msg((strstr(first.text[0], "pooled gradient") != NULL) == (_i == 0),
                  "another seed is needed: %s", first.text[0]);
    const uint64_t calls = vgg__simulated.calls;
    for (uint64_t seed = 1; seed < 6; seed++) {
        vgg__simulated.seed = seed;
        choose(wide_net, &again);
        check_same(&again, &first);
    }
    /* Nothing is tried out. */
    ck_assert_uint_lt((vgg__simulated.calls - calls) / 5, calls / 2);
    end_keeping(folder);
}
END_TEST

/* What describes a program's last linear layer and its first convolution. */
static void describe(struct session *s, char linear[400], char conv[400])
{
    for (uint32_t i = 0; i < s->net.stage_count; i++)
        if (s->net.stages[i].kind == VGG_STAGE_LINEAR)
            s->target->engine->describe(s->program, i, linear, 400);
    s->target->engine->describe(s->program, 0, conv, 400);
}

/* Algorithms of all products that there are, and the time of those that were timed; and
 * what is never taken. A linear layer's gradient of weights is not timed. */
START_TEST(told)
{
    char linear[400] = "", conv[400] = "";
    struct net net;
    struct session s;
    const bool timed = targets[_i].tunes, trains = _i < 4;
    net_parse(&net, wide_net);
    session_open(&s, &targets[_i], &net, SAMPLES,
                 trains ? VGG_MODE_TRAIN : VGG_MODE_INFER, false);
    describe(&s, linear, conv);
    const char *data = strstr(linear, "; data cuBLASLt 66, tile ");
    const char *weights = strstr(linear, "; weights cuBLASLt 66, tile ");
    ck_assert_ptr_nonnull(strstr(linear, "forward cuBLASLt 66, tile "));
    ck_assert_int_eq(strstr(linear, " us") != NULL, timed);
    ck_assert_int_eq(data != NULL, trains);
    ck_assert_int_eq(weights != NULL, trains);
    if (trains) ck_assert_int_eq(strstr(data, " us; weights") != NULL, timed);
    if (trains) ck_assert_ptr_null(strstr(weights, " us"));
    ck_assert_int_eq(strstr(conv, "; data ") != NULL, trains);
    ck_assert_int_eq(strstr(conv, "; weights ") != NULL, trains);
    if (_i <= FP32_TIMED) ck_assert_ptr_nonnull(strstr(conv, " refused: results vary"));
    if (!trains) ck_assert_ptr_null(strstr(conv, "refused"));
    session_close(&s);
}
END_TEST

/* A kept algorithm that cuBLASLt won't take any more is chosen anew. */
START_TEST(refused_algorithm)
{
    char folder[64];
    struct chosen first, again;
    begin_keeping(folder);
    choose(small_net, &first);
    vgg__simulated.fail_name = "ltMatmulAlgoCheck";
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_error = cudaErrorInvalidValue;
    const uint64_t calls = vgg__simulated.calls;
    choose(small_net, &again);
    ck_assert_str_eq(vgg__simulated.failed, "ltMatmulAlgoCheck");
    const uint64_t more = vgg__simulated.calls - calls;
    check_same(&again, &first);
    choose(small_net, &again);
    check_same(&again, &first);
    ck_assert_uint_gt(more, vgg__simulated.calls - calls - more);
    end_keeping(folder);
}
END_TEST

/* Where files say nothing, or the library is another, all is chosen anew. */
START_TEST(new_choices)
{
    char folder[64];
    struct chosen chosen;
    begin_keeping(folder);
    choose(small_net, &chosen);
    const int files = each_file(folder, NULL);
    ck_assert_int_gt(files, 2);
    each_file(folder, cut);
    choose(small_net, &chosen);
    each_file(folder, change);
    choose(small_net, &chosen);
    ck_assert_int_eq(each_file(folder, NULL), files);
    vgg__simulated.dnn_version += 100;
    choose(small_net, &chosen);
    ck_assert_int_eq(each_file(folder, NULL), 2 * files);
    vgg__simulated.lt_version += 100;
    choose(small_net, &chosen);
    ck_assert_int_eq(each_file(folder, NULL), 3 * files);
    setenv("VGG_CACHE_DIR", "/proc/none", 1); /* where nothing can be kept */
    choose(small_net, &chosen);
    end_keeping(folder);
}
END_TEST

/* ---- Files ----------------------------------------------------------------------- */

static void session_with_device(struct session *s)
{
    const vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    *s = (struct session){.target = &targets[BF16_TIMED]};
    session_open_device(s, &opts);
}

static void close_device(struct session *s)
{
    s->target->engine->close(s->device);
    vgg_context_free(s->ctx);
    session_closed();
}

static char kept_file[512];

static void note_path(const char *path)
{
    snprintf(kept_file, sizeof kept_file, "%s", path);
}

static size_t read_all(const char *path, unsigned char *data, size_t room)
{
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    const size_t size = fread(data, 1, room, file);
    ck_assert_uint_lt(size, room);
    fclose(file);
    return size;
}

static void write_all(const char *path, const unsigned char *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    fclose(file);
}

/* Whether there is an answer to a question; one that there is is the one that was
 * kept. */
static bool is_kept(struct session *s, const char *question,
                    const struct vgg__cached *want)
{
    struct vgg__cached got;
    if (!vgg__cache_load(s->device, question, &got)) return false;
    ck_assert_uint_eq(got.way, want->way);
    ck_assert_uint_eq(got.flag, want->flag);
    ck_assert_uint_eq(got.ns, want->ns);
    ck_assert_uint_eq(got.refused, want->refused);
    ck_assert_str_eq(got.name, want->name);
    ck_assert_uint_eq(got.length, want->length);
    if (want->length > 0)
        ck_assert_int_eq(memcmp(got.text, want->text, want->length), 0);
    ((struct vgg__cudnn *)s->device)->machine.host.release(got.text);
    return true;
}

static char bytes[] = "a\0text\n of bytes\xff";
static const struct vgg__cached answers[] = {
    {.way = 4, .flag = 7, .ns = 12345, .refused = 2, .name = ""},
    {1, 0, UINT32_MAX, 0, "an engine, compiled", bytes, sizeof bytes}};

/* Every bit of a file turned over, every length that is cut, and one byte more. */
START_TEST(changed_files)
{
    char folder[64];
    unsigned char data[1024];
    struct session s;
    const struct vgg__cached *const answer = &answers[_i];
    session_with_device(&s);
    begin_keeping(folder);
    ck_assert(!is_kept(&s, "what", answer));
    vgg__cache_save(s.device, "what", answer);
    ck_assert(is_kept(&s, "what", answer));
    ck_assert_int_eq(each_file(folder, note_path), 1);
    const size_t size = read_all(kept_file, data, sizeof data - 1);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        write_all(kept_file, data, size);
        ck_assert_msg(!is_kept(&s, "what", answer), "bit %zu of byte %zu was believed",
                      bit % 8, bit / 8);
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    data[size] = '0';
    for (size_t length = 0; length <= size + 1; length++) {
        write_all(kept_file, data, length);
        ck_assert_msg(is_kept(&s, "what", answer) == (length == size),
                      "%zu of %zu bytes", length, size);
    }
    end_keeping(folder);
    close_device(&s);
}
END_TEST

/* Two questions whose names are one: only the one that is in the file is answered. */
START_TEST(other_question)
{
    char folder[64], mine[512];
    unsigned char data[1024];
    struct session s;
    session_with_device(&s);
    begin_keeping(folder);
    vgg__cache_save(s.device, "what", &answers[0]);
    each_file(folder, note_path);
    snprintf(mine, sizeof mine, "%s", kept_file);
    const size_t size = read_all(mine, data, sizeof data);
    ck_assert_int_eq(unlink(mine), 0);
    vgg__cache_save(s.device, "then", &answers[0]);
    ck_assert_int_eq(each_file(folder, note_path), 1);
    ck_assert_str_ne(kept_file, mine);
    ck_assert(is_kept(&s, "then", &answers[0]));
    write_all(kept_file, data, size);
    ck_assert(!is_kept(&s, "then", &answers[0]));
    end_keeping(folder);
    close_device(&s);
}
END_TEST

/* ---- Writing that fails ---------------------------------------------------------- */

/* Files of this process end at so many bytes, as on a disk that is full then: a write
 * takes what there is room for, and the next one fails. */
static void limit_files(rlim_t most)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = most < limit.rlim_max ? most : limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The disk fills up after every number of bytes that a file may have: what was kept
 * before stays, to the bit, and without that there is nothing; never a part. */
START_TEST(full_disk)
{
    char folder[64];
    unsigned char old[1024], now[1024];
    struct session s;
    session_with_device(&s);
    begin_keeping(folder);
    vgg__cache_save(s.device, "what", &answers[0]);
    ck_assert_int_eq(each_file(folder, note_path), 1);
    const size_t size = read_all(kept_file, old, sizeof old);
    const size_t most = size + answers[1].length; /* less than the new file has */
    for (size_t room = 0; room < most; room++)
        for (int first = 0; first < 2; first++) {
            limit_files(room);
            vgg__cache_save(s.device, first ? "then" : "what", &answers[1]);
            limit_files(RLIM_INFINITY);
            ck_assert_int_eq(each_file(folder, NULL), 1);
            ck_assert(!is_kept(&s, "then", &answers[1]));
            ck_assert_uint_eq(read_all(kept_file, now, sizeof now), size);
            ck_assert_int_eq(memcmp(now, old, size), 0);
        }
    vgg__cache_save(s.device, "what", &answers[1]);
    ck_assert(is_kept(&s, "what", &answers[1]));
    ck_assert_int_eq(each_file(folder, NULL), 1);
    end_keeping(folder);
    close_device(&s);
}
END_TEST

/* Where the file should go is a folder: it stays, and nothing is left beside it. */
START_TEST(place_is_taken)
{
    char folder[64];
    struct session s;
    session_with_device(&s);
    begin_keeping(folder);
    vgg__cache_save(s.device, "what", &answers[0]);
    ck_assert_int_eq(each_file(folder, note_path), 1);
    ck_assert_int_eq(unlink(kept_file), 0);
    ck_assert_int_eq(mkdir(kept_file, 0700), 0);
    vgg__cache_save(s.device, "what", &answers[0]);
    ck_assert(!is_kept(&s, "what", &answers[0]));
    ck_assert_int_eq(each_file(folder, note_path), 1);
    end_keeping(folder);
    close_device(&s);
}
END_TEST

/* A network whose choices can't be kept computes by them all the same: as one that
 * keeps nothing does. */
START_TEST(nothing_kept)
{
    char folder[64];
    struct chosen want, got;
    harness_mkdtemp(folder);
    const struct vgg__simulated start = vgg__simulated;
    choose(small_net, &want);
    vgg__simulated_reset(); /* the same times again */
    vgg__simulated = start;
    setenv("VGG_CACHE_DIR", folder, 1);
    limit_files(100);
    choose(small_net, &got);
    limit_files(RLIM_INFINITY);
    ck_assert_int_eq(each_file(folder, NULL), 0);
    check_same(&got, &want);
    end_keeping(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("choices");
    TCase *tcase = tcase_create("cudnn");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, kept_choices, 0, 2);
    tcase_add_loop_test(tcase, told, 0, (int)target_count);
    tcase_add_test(tcase, refused_algorithm);
    tcase_add_test(tcase, new_choices);
    tcase_add_loop_test(tcase, changed_files, 0, 2);
    tcase_add_test(tcase, other_question);
    tcase_add_test(tcase, full_disk);
    tcase_add_test(tcase, place_is_taken);
    tcase_add_test(tcase, nothing_kept);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
