/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures are decoded to Pillow's pixels, and nothing that comes does harm: see
 * make_picture_fixtures.py. A kind that this build does not read is refused with its
 * own text, and its other cases are left out. */
#include "harness.h"

#include "files.h"
#include "picture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "picture_fixture.h"

enum { FIXTURES = sizeof fixtures / sizeof fixtures[0] };

#define CUT "ends before the picture does"

/* The n-th malloc() of the code under test fails, where n is not 0. */
static unsigned failing;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
    return failing && --failing == 0 ? NULL : __real_malloc(size);
}

static bool is_kind(const struct fixture *f, const char *start)
{
    return strncmp(f->name, start, strlen(start)) == 0;
}

/* Does this build read the kind of a fixture? */
static bool readable(const struct fixture *f)
{
    return (!is_kind(f, "png") || picture_named("a.png")) &&
           (!is_kind(f, "jpeg") || picture_named("a.jpg"));
}

/* The fixtures of kinds that this build reads. */
static const struct fixture *read_ones[FIXTURES];

static int count_read_ones(void)
{
    int count = 0;
    for (int i = 0; i < FIXTURES; i++)
        if (readable(&fixtures[i])) read_ones[count++] = &fixtures[i];
    if (count < FIXTURES)
        printf("skipped %d pictures: this build reads only %s\n", FIXTURES - count,
               picture_kinds());
    return count;
}

static int decode(const uint8_t *bytes, size_t size, struct picture *out,
                  char why[PICTURE_WHY])
{
    memset(out, 0x55, sizeof *out);
    memset(why, 'x', PICTURE_WHY);
    const int status = picture_decode(bytes, size, 3, out, why);
    ck_assert(status == 0 || status == -1);
    ck_assert_ptr_nonnull(memchr(why, '\0', PICTURE_WHY));
    ck_assert_ptr_null(strchr(why, '\n'));
    ck_assert_msg((why[0] == '\0') == (status == 0), "%d with '%s'", status, why);
    ck_assert((out->pixels != NULL) == (status == 0));
    return status;
}

/* Decoding must fail, and `text` be the reason. */
static void refused(const void *bytes, size_t size, const char *text)
{
    struct picture picture;
    char why[PICTURE_WHY];
    ck_assert_msg(decode(bytes, size, &picture, why) == -1, "expected '%s'", text);
    ck_assert_str_eq(why, text);
}

static uint32_t sum(const struct picture *p)
{
    return (uint32_t)crc32(0, p->pixels, p->channels * p->height * p->width);
}

static void check_pixels(const struct fixture *f, const struct picture *p)
{
    ck_assert_msg(p->width == f->width && p->height == f->height, "%s: %u x %u",
                  f->name, p->width, p->height);
    ck_assert_msg(sum(p) == (p->channels == 3 ? f->rgb : f->gray),
                  "%s, %u channels: CRC %08x", f->name, p->channels, sum(p));
}

/* JPEG exactly too: of libjpeg-turbo, 2.1.5 and 3.2.0 decode these files to equal bits.
 * */
START_TEST(same_as_pillow)
{
    const struct fixture *const f = &fixtures[_i];
    for (uint32_t channels = 1; channels <= 3; channels += 2) {
        struct picture p;
        char why[PICTURE_WHY];
        const int status = picture_decode(f->bytes, f->size, channels, &p, why);
        if (!readable(f)) {
            ck_assert_int_eq(status, -1);
            ck_assert_ptr_nonnull(strstr(why, ": this build can't read it (lib"));
            continue;
        }
        ck_assert_msg(status == 0, "%s: %s", f->name, why);
        ck_assert_uint_eq(p.channels, channels);
        check_pixels(f, &p);
        free(p.pixels);
    }
}
END_TEST

/* Files of maxval 1 to 254 whose samples are 0 to maxval, and one over it. */
START_TEST(every_maxval_is_scaled)
{
    uint32_t crc = 0;
    for (int maxval = 1; maxval < 255; maxval++) {
        uint8_t file[300];
        const int head = sprintf((char *)file, "P5 %d 1 %d\n", maxval + 2, maxval);
        for (int i = 0; i < maxval + 2; i++) file[head + i] = (uint8_t)i;
        struct picture p;
        char why[PICTURE_WHY];
        ck_assert_int_eq(picture_decode(file, (size_t)(head + maxval + 2), 1, &p, why),
                         0);
        crc = (uint32_t)crc32(crc, p.pixels, p.width);
        free(p.pixels);
    }
    ck_assert_uint_eq(crc, every_maxval);
}
END_TEST

/* A copy of its own size: reading behind it is seen by the sanitizer. */
static uint8_t *copied(const uint8_t *bytes, size_t size)
{
    uint8_t *const copy = malloc(size ? size : 1);
    return size ? memcpy(copy, bytes, size) : copy;
}

/* Cut anywhere, a file is refused. Only the end marker of a JPEG with one scan, which
 * stands behind the whole picture, may be missing. */
START_TEST(cut_anywhere)
{
    const struct fixture *const f = read_ones[_i];
    const bool marker = is_kind(f, "jpeg") && !strstr(f->name, "progressive");
    for (uint32_t size = 0; size < f->size; size++) {
        uint8_t *const copy = copied(f->bytes, size);
        struct picture p;
        char why[PICTURE_WHY];
        const int status = decode(copy, size, &p, why);
        const bool whole = marker && size >= f->size - 2;
        ck_assert_msg((status == 0) == whole, "%s, %u of %u bytes: %s", f->name, size,
                      f->size, why);
        if (status == 0) check_pixels(f, &p);
        const bool told = status == 0 || strstr(why, ": " CUT) != NULL ||
                          strcmp(why, "neither PNG, JPEG nor PNM") == 0 ||
                          strcmp(why, "empty") == 0;
        ck_assert_msg(told, "%s, %u of %u bytes: %s", f->name, size, f->size, why);
        free(p.pixels);
        free(copy);
    }
}
END_TEST

START_TEST(bytes_behind_the_end)
{
    const struct fixture *const f = read_ones[_i];
    struct bytes file = {0};
    struct picture p;
    char why[PICTURE_WHY];
    bytes_add(&file, f->bytes, f->size);
    bytes_fill(&file, 0xff, 100);
    ck_assert_msg(decode(file.at, file.size, &p, why) == 0, "%s: %s", f->name, why);
    check_pixels(f, &p);
    free(p.pixels);
    bytes_free(&file);
}
END_TEST

/* With a byte changed there is a picture or a reason, and nothing is printed. */
START_TEST(any_byte_changed)
{
    const struct fixture *const f = read_ones[_i];
    FILE *const said = tmpfile();
    ck_assert_ptr_nonnull(said);
    fflush(stdout);
    dup2(fileno(said), STDOUT_FILENO);
    dup2(fileno(said), STDERR_FILENO);
    for (uint32_t i = 0; i < 3 * f->size; i++) {
        const uint8_t changes[] = {0xff, (uint8_t)(1 << i % 8),
                                   (uint8_t)(i * 7 % 255 + 1)};
        uint8_t *const copy = copied(f->bytes, f->size);
        copy[i / 3] ^= changes[i % 3];
        struct picture p;
        char why[PICTURE_WHY];
        decode(copy, f->size, &p, why);
        free(p.pixels);
        free(copy);
    }
    ck_assert_int_eq(lseek(STDERR_FILENO, 0, SEEK_END), 0);
}
END_TEST

/* Every malloc() of the decoders fails once. */
START_TEST(no_memory)
{
    const struct fixture *const f = read_ones[_i];
    unsigned failed = 0;
    for (int status = -1; status != 0; failed++) {
        struct picture p;
        char why[PICTURE_WHY];
        failing = failed + 1;
        status = picture_decode(f->bytes, f->size, 3, &p, why);
        failing = 0; /* Check allocates too */
        ck_assert_msg(status == 0 || strstr(why, ": no memory for "), "%s", why);
        ck_assert((p.pixels != NULL) == (status == 0));
        free(p.pixels);
    }
    ck_assert_uint_eq(failed,
                      3); /* the picture, its row or rows; no more is one more */
}
END_TEST

static const struct fixture *find(const char *name)
{
    for (int i = 0; i < FIXTURES; i++)
        if (strcmp(fixtures[i].name, name) == 0) return &fixtures[i];
    ck_abort_msg("no fixture %s", name);
    return NULL;
}

static void *decode_all(void *unused)
{
    intptr_t wrong = 0;
    for (int i = 0; i < 5 * FIXTURES; i++) {
        const struct fixture *const f = &fixtures[i % FIXTURES];
        struct picture p;
        char why[PICTURE_WHY];
        if (picture_decode(f->bytes, f->size, 3, &p, why) == 0)
            wrong += sum(&p) != f->rgb;
        else
            wrong += readable(f);
        free(p.pixels);
    }
    return (void *)wrong;
}

START_TEST(in_threads)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, decode_all, NULL), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
}
END_TEST

START_TEST(no_kind)
{
    refused("", 0, "empty");
    refused(NULL, 0, "empty");
    refused("GIF89a", 6, "neither PNG, JPEG nor PNM");
    refused("\x89PNG\r\n\x1a\r", 8, "neither PNG, JPEG nor PNM");
    refused("\xff\xd8", 2, "neither PNG, JPEG nor PNM");
    refused("P6", 2, "neither PNG, JPEG nor PNM");
    refused("P8 1 1 255 a", 12, "neither PNG, JPEG nor PNM");
    refused("Pages of a book", 15, "neither PNG, JPEG nor PNM");
}
END_TEST

/* What a PNM file may not say, and what the reason is. */
static const struct {
    const char *file, *why;
} wrong_pnm[] = {
    {"P1 1 1 1", "PNM: P1, only P5 and P6 (binary) are read"},
    {"P4\n1 1\na", "PNM: P4, only P5 and P6 (binary) are read"},
    {"P7\nWIDTH 1\n", "PNM: P7, only P5 and P6 (binary) are read"},
    {"P5 ", "PNM: " CUT},
    {"P5 # 1 1 255 a", "PNM: " CUT},
    {"P5 1", "PNM: " CUT},
    {"P5 1 1", "PNM: " CUT},
    {"P5 1 1 ", "PNM: " CUT},
    {"P5 1 1 255", "PNM: " CUT},
    {"P5 1 1 255 ", "PNM: " CUT},
    {"P6 1 1 255 ab", "PNM: " CUT},
    {"P5 1 1 256 a", "PNM: " CUT},
    {"P5 1 1 \xff", "PNM: expected maxval as a number, found byte 0xff"},
    {"P5 1 1 \x01 a", "PNM: expected maxval as a number, found byte 0x01"},
    {"P5 -1 1 255 a", "PNM: expected the width as a number, found '-'"},
    {"P5 1 -1 255 a", "PNM: expected the height as a number, found '-'"},
    {"P5 1 1 -1 a", "PNM: expected maxval as a number, found '-'"},
    {"P5 1x1 255 a", "PNM: expected the width as a number, found 'x'"},
    {"P5 1 1.0 255 a", "PNM: expected the height as a number, found '.'"},
    {"P5 1 1 0 a", "PNM: maxval 0, it may be 1 to 65535"},
    {"P5 1 1 65536 ab", "PNM: maxval over 65535"},
    {"P5 1 1 4294967551 a", "PNM: maxval over 65535"},
    {"P5 4294967297 1 255 a", "PNM: the width over 214748364"},
    {"P5 1 18446744073709551617 255 a", "PNM: the height over 214748364"},
    {"P5 0 1 255 a", "PNM: 0 x 1 pixels, sides may be 1 to 32768"},
    {"P5 1 0 255 a", "PNM: 1 x 0 pixels, sides may be 1 to 32768"},
    {"P5 40000 1 255 a", "PNM: 40000 x 1 pixels, sides may be 1 to 32768"},
    {"P5 1 32769 255 a", "PNM: 1 x 32769 pixels, sides may be 1 to 32768"},
    {"P5 32768 32768 255 a", "PNM: 32768 x 32768 pixels, at most 268435456 in all"},
    {"P6 32768 8192 65535 a", "PNM: " CUT},
};

START_TEST(pnm_refused)
{
    refused(wrong_pnm[_i].file, strlen(wrong_pnm[_i].file), wrong_pnm[_i].why);
}
END_TEST

/* One blank ends the header, whatever the pixel behind it looks like. */
START_TEST(pnm_first_pixel)
{
    static const char *const files[] = {"P5 1 1 255\n#", "P5\t1\v1\f255\r\n",
                                        "P5 1 1 255# a\n0"};
    static const char pixels[] = "#\n0";
    for (int i = 0; i < 3; i++) {
        struct picture p;
        char why[PICTURE_WHY];
        ck_assert_int_eq(decode((const uint8_t *)files[i], strlen(files[i]), &p, why),
                         0);
        ck_assert_int_eq(p.pixels[0], pixels[i]);
        free(p.pixels);
    }
}
END_TEST

static void be32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* A PNG of these sides, with the right CRC, and of nothing more than its fixture's
 * data. */
static void png_of_sides(uint32_t width, uint32_t height, const char *why)
{
    const struct fixture *const f = find("png_rgb_8");
    uint8_t *const copy = copied(f->bytes, f->size);
    be32(copy + 16, width);
    be32(copy + 20, height);
    be32(copy + 29, (uint32_t)crc32(0, copy + 12, 17));
    refused(copy, f->size, why);
    free(copy);
}

START_TEST(png_sides)
{
    png_of_sides(0, 11, "PNG: 0 x 11 pixels, sides may be 1 to 32768");
    png_of_sides(13, 0, "PNG: 13 x 0 pixels, sides may be 1 to 32768");
    png_of_sides(40000, 1, "PNG: 40000 x 1 pixels, sides may be 1 to 32768");
    png_of_sides(1, UINT32_MAX, "PNG: 1 x 4294967295 pixels, sides may be 1 to 32768");
    png_of_sides(32768, 32768, "PNG: 32768 x 32768 pixels, at most 268435456 in all");
    png_of_sides(32768, 8192, "PNG: " CUT);
    png_of_sides(13, 12, "PNG: Not enough image data");
}
END_TEST

/* A chunk's CRC is changed, and this is told: NULL, nothing. */
static void png_with(const char *name, const char *chunk, const char *why)
{
    const struct fixture *const f = find(name);
    uint8_t *const copy = copied(f->bytes, f->size);
    uint8_t *const place = memmem(copy, f->size, chunk, 4);
    ck_assert_ptr_nonnull(place);
    place[4 + ((size_t)place[-2] << 8 | place[-1])] ^= 1;
    struct picture p;
    char text[PICTURE_WHY];
    if (why) {
        refused(copy, f->size, why);
    } else {
        ck_assert_int_eq(decode(copy, f->size, &p, text), 0);
        check_pixels(f, &p);
        free(p.pixels);
    }
    free(copy);
}

START_TEST(png_damaged)
{
    png_with("png_gray_8", "IHDR", "PNG: IHDR: CRC error");
    png_with("png_gray_8", "IDAT", "PNG: IDAT: CRC error");
    png_with("png_palette_8", "PLTE", "PNG: PLTE: CRC error");
    png_with("png_gray_8", "IEND", "PNG: IEND: CRC error");
    png_with("png_more_chunks", "iCCP", NULL);
    png_with("png_more_chunks", "tEXt", NULL);
    png_with("png_rgb_trns", "tRNS", NULL);
}
END_TEST

/* A text of 9 MB, more than libpng likes to keep, is passed over. */
START_TEST(png_large_text)
{
    const struct fixture *const f = find("png_rgb_8");
    struct bytes file = {0};
    bytes_add(&file, f->bytes, 33);
    bytes_be32(&file, 9000000);
    const size_t name = file.size;
    bytes_add(&file, "tEXtTitle", 10);
    bytes_fill(&file, 'a', 9000000 - 6);
    bytes_be32(&file, (uint32_t)crc32(0, file.at + name, 9000004));
    bytes_add(&file, f->bytes + 33, f->size - 33);
    struct picture p;
    char why[PICTURE_WHY];
    ck_assert_msg(decode(file.at, file.size, &p, why) == 0, "%s", why);
    check_pixels(f, &p);
    free(p.pixels);
    bytes_free(&file);
}
END_TEST

START_TEST(jpeg_refused)
{
    refused(jpeg_cmyk, sizeof jpeg_cmyk, "JPEG: CMYK; convert it to RGB");
    const struct fixture *const f = find("jpeg_gray");
    uint8_t *const copy = copied(f->bytes, f->size);
    uint8_t *const frame = memmem(copy, f->size, "\xff\xc0\0\x0b", 4);
    ck_assert_ptr_nonnull(frame);
    frame[4] = 12;
    struct picture p;
    char why[PICTURE_WHY];
    ck_assert_int_eq(decode(copy, f->size, &p, why), -1);
    frame[4] = 8;
    be32(frame + 5, 40000u << 16 | 1);
    refused(copy, f->size, "JPEG: 1 x 40000 pixels, sides may be 1 to 32768");
    be32(frame + 5, 32768u << 16 | 32768);
    refused(copy, f->size, "JPEG: 32768 x 32768 pixels, at most 268435456 in all");
    be32(frame + 5, 110u << 16 | 130); /* an end marker, but rows are missing */
    refused(copy, f->size, "JPEG: " CUT);
    be32(frame + 5, 11u << 16);
    ck_assert_int_eq(decode(copy, f->size, &p, why), -1); /* in libjpeg's words */
    free(copy);
}
END_TEST

/* A progressive file whose first scan is there `times` times: that changes no pixel. */
static int many_scans(int times, struct picture *p, char why[PICTURE_WHY])
{
    const struct fixture *const f = find("jpeg_progressive");
    const uint8_t *const from = memmem(f->bytes, f->size, "\xff\xda", 2);
    const size_t before = (size_t)(from - f->bytes);
    const uint8_t *const to = memmem(from, f->size - before, "\xff\xc4", 2);
    struct bytes file = {0};
    bytes_add(&file, f->bytes, before);
    for (int i = 0; i < times; i++) bytes_add(&file, from, (size_t)(to - from));
    bytes_add(&file, to, f->size - (size_t)(to - f->bytes));
    const int status = decode(file.at, file.size, p, why);
    bytes_free(&file);
    return status;
}

START_TEST(jpeg_scans)
{
    struct picture p;
    char why[PICTURE_WHY];
    for (int times = 1; times < 500; times += 400) {
        ck_assert_msg(many_scans(times, &p, why) == 0, "%s", why);
        check_pixels(find("jpeg_progressive"), &p);
        free(p.pixels);
    }
    ck_assert_int_eq(many_scans(501, &p, why), -1);
    ck_assert_str_eq(why, "JPEG: more than 500 scans");
}
END_TEST

/* The file with restarts: up to RST1, then other bytes, then what is behind RST2 or
 * not. */
static int restarted(const char *bytes, bool rest, struct picture *p,
                     char why[PICTURE_WHY])
{
    const struct fixture *const f = find("jpeg_restarts");
    const uint8_t *const first = memmem(f->bytes, f->size, "\xff\xd1", 2);
    const uint8_t *const second = memmem(f->bytes, f->size, "\xff\xd2", 2);
    struct bytes file = {0};
    bytes_add(&file, f->bytes, (size_t)(first - f->bytes) + 2);
    bytes_add(&file, bytes, strlen(bytes));
    if (rest) bytes_add(&file, second + 2, f->size - 2 - (size_t)(second - f->bytes));
    const int status = decode(file.at, file.size, p, why);
    bytes_free(&file);
    return status;
}

START_TEST(jpeg_restarts_lost)
{
    struct picture p;
    char why[PICTURE_WHY];
    /* A stretch is lost, and the rest is there: Pillow takes it. */
    ck_assert_msg(restarted("\xff\xd2", true, &p, why) == 0, "%s", why);
    free(p.pixels);
    /* The rest is lost, with an end marker, or after a marker that has had its turn. */
    ck_assert_int_eq(restarted("\xff\xd9", false, &p, why), -1);
    ck_assert_str_eq(why, "JPEG: " CUT);
    ck_assert_int_eq(restarted("\xff\xd0\xff\xd9", false, &p, why), -1);
    ck_assert_str_eq(why, "JPEG: " CUT);
}
END_TEST

START_TEST(names)
{
    static const char *const pnm[] = {"a.ppm", "a.pgm", "b/c.pnm", "A.PPM", ".a.Pnm"};
    static const char *const none[] = {"",       "a",         "png",   ".png",
                                       "a.png ", "a.jpeg.gz", "a.jpe", "a.pam"};
    for (int i = 0; i < 5; i++) ck_assert(picture_named(pnm[i]));
    for (int i = 0; i < 8; i++) ck_assert_msg(!picture_named(none[i]), "%s", none[i]);
#ifdef VGG_PNG
    ck_assert(picture_named("a.png") && picture_named("x/y.PNG"));
    ck_assert_ptr_nonnull(strstr(picture_kinds(), "PNG, "));
#else
    ck_assert(!picture_named("a.png"));
#endif
#ifdef VGG_JPEG
    ck_assert(picture_named("a.jpg") && picture_named("a.JPEG"));
    ck_assert_ptr_nonnull(strstr(picture_kinds(), "JPEG, "));
#else
    ck_assert(!picture_named("a.jpg") && !picture_named("a.jpeg"));
#endif
    ck_assert_ptr_nonnull(strstr(picture_kinds(), "PNM"));
}
END_TEST

static void add_refusals(TCase *t)
{
    tcase_add_test(t, no_kind);
    tcase_add_loop_test(t, pnm_refused, 0, sizeof wrong_pnm / sizeof wrong_pnm[0]);
    tcase_add_test(t, pnm_first_pixel);
    if (picture_named("a.png")) {
        tcase_add_test(t, png_sides);
        tcase_add_test(t, png_damaged);
        tcase_add_test(t, png_large_text);
    }
    if (picture_named("a.jpg")) {
        tcase_add_test(t, jpeg_refused);
        tcase_add_test(t, jpeg_scans);
        tcase_add_test(t, jpeg_restarts_lost);
    }
}

int main(void)
{
    Suite *suite = suite_create("picture");
    TCase *files = tcase_create("files");
    TCase *refusals = tcase_create("refusals");
    const int count = count_read_ones();
    tcase_set_timeout(files, 60);
    tcase_add_loop_test(files, same_as_pillow, 0, FIXTURES);
    tcase_add_loop_test(files, cut_anywhere, 0, count);
    tcase_add_loop_test(files, bytes_behind_the_end, 0, count);
    tcase_add_loop_test(files, any_byte_changed, 0, count);
    tcase_add_loop_test(files, no_memory, 0, count);
    tcase_add_test(files, in_threads);
    tcase_add_test(files, every_maxval_is_scaled);
    tcase_add_test(files, names);
    add_refusals(refusals);
    suite_add_tcase(suite, files);
    suite_add_tcase(suite, refusals);
    return harness_main(&suite, 1);
}
