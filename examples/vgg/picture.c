/* SPDX-License-Identifier: Apache-2.0 */
/* Which kind of picture some bytes are, and the one kind that needs no library: PNM, of
 * which P5 (gray) and P6 (RGB) are read. Samples below a maxval other than 255 are
 * scaled to 0..255, those of 16 bits too. */
#include "picture.h"

#include "picture_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Bytes of a PNM file, and how far they are read. */
struct scan {
    const uint8_t *bytes;
    size_t size, at;
    char *why;
};

static bool is_blank(int byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static int ends_early(char why[PICTURE_WHY])
{
    return picture_refuse(why, "PNM: ends before the picture does");
}

/* The next byte of a header, -1 at the end. A comment, from # to the end of its line,
 * reads as that line's end, wherever it is: netpbm reads so. */
static int header_byte(struct scan *scan)
{
    if (scan->at == scan->size) return -1;
    int byte = scan->bytes[scan->at++];
    const bool comment = byte == '#';
    while (comment && byte != '\n' && byte != '\r') {
        if (scan->at == scan->size) return -1;
        byte = scan->bytes[scan->at++];
    }
    return byte;
}

/* A number of the header, 0 to `most`, and the one blank that ends it. */
static int header_number(struct scan *scan, const char *name, uint32_t most,
                         uint32_t *value)
{
    int byte = header_byte(scan);
    while (is_blank(byte)) byte = header_byte(scan);
    if (byte == -1) return ends_early(scan->why);
    uint32_t sum = 0;
    while (byte >= '0' && byte <= '9') {
        sum = sum * 10 + (uint32_t)(byte - '0');
        if (sum > most) return picture_refuse(scan->why, "PNM: %s over %u", name, most);
        byte = header_byte(scan);
        if (byte == -1) return ends_early(scan->why);
        if (is_blank(byte)) {
            *value = sum;
            return 0;
        }
    }
    if (byte > ' ' && byte < 0x7f)
        return picture_refuse(scan->why, "PNM: expected %s as a number, found '%c'",
                              name, byte);
    return picture_refuse(scan->why, "PNM: expected %s as a number, found byte 0x%02x",
                          name, (unsigned)byte);
}

/* As Pillow computes it: in double, halves to the even side, over maxval white. */
static uint8_t scaled(uint32_t sample, uint32_t maxval)
{
    return (uint8_t)fmin(255, rint((double)sample / maxval * 255));
}

/* The samples of a row as bytes; two bytes each above 255, the high one first. */
static void scale_row(const uint8_t *from, uint32_t maxval, size_t count, uint8_t *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] = maxval < 256 ? scaled(from[i], maxval)
                             : scaled(from[2 * i] << 8 | from[2 * i + 1], maxval);
}

/* The rows behind the header: `count` samples each. */
static int pnm_rows(const uint8_t *from, uint32_t maxval, uint32_t channels,
                    struct picture *out, char why[PICTURE_WHY])
{
    const size_t count = (size_t)out->width * channels, step = maxval < 256 ? 1 : 2;
    uint8_t *const row = malloc(count);
    if (!row) return picture_refuse(why, "PNM: no memory for a row");
    for (uint32_t y = 0; y < out->height; y++, from += count * step) {
        if (maxval != 255) scale_row(from, maxval, count, row);
        picture_put(out, y, maxval == 255 ? from : row, channels);
    }
    free(row);
    return 0;
}

static int pnm(const uint8_t *bytes, size_t size, struct picture *out,
               char why[PICTURE_WHY])
{
    if (bytes[1] != '5' && bytes[1] != '6')
        return picture_refuse(why, "PNM: P%c, only P5 and P6 (binary) are read",
                              bytes[1]);
    struct scan scan = {.bytes = bytes, .size = size, .at = 2, .why = why};
    uint32_t width = 0, height = 0, maxval = 0;
    /* Sides too large for a picture are told as such, both of them; those too large for
     * a number first. */
    if (header_number(&scan, "the width", INT32_MAX / 10, &width) != 0 ||
        header_number(&scan, "the height", INT32_MAX / 10, &height) != 0 ||
        header_number(&scan, "maxval", 65535, &maxval) != 0)
        return -1;
    if (maxval == 0) return picture_refuse(why, "PNM: maxval 0, it may be 1 to 65535");
    if (picture_sides("PNM", height, width, why) != 0) return -1;
    const uint32_t channels = bytes[1] == '6' ? 3 : 1;
    const uint64_t need = (uint64_t)height * width * channels * (maxval < 256 ? 1 : 2);
    if (size - scan.at < need) return ends_early(why);
    if (picture_open(out, "PNM", height, width, why) != 0) return -1;
    return pnm_rows(bytes + scan.at, maxval, channels, out, why);
}

static bool is_png(const uint8_t *bytes, size_t size)
{
    return size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static bool is_jpeg(const uint8_t *bytes, size_t size)
{
    return size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0;
}

static bool is_pnm(const uint8_t *bytes, size_t size)
{
    return size >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '7' &&
           (is_blank(bytes[2]) || bytes[2] == '#');
}

static const struct kind {
    const char *name, *library;
    const char *ends[3]; /* of a file's name; NULL fills up */
    bool (*is)(const uint8_t *bytes, size_t size);
    picture_reader *read; /* NULL: the library was not there */
} kinds[] = {
    {
        .name = "PNG",
        .library = "libpng",
        .ends = {".png"},
        .is = is_png,
#ifdef VGG_PNG
        .read = picture_png,
#endif
    },
    {
        .name = "JPEG",
        .library = "libjpeg",
        .ends = {".jpg", ".jpeg"},
        .is = is_jpeg,
#ifdef VGG_JPEG
        .read = picture_jpeg,
#endif
    },
    {.name = "PNM", .ends = {".ppm", ".pgm", ".pnm"}, .is = is_pnm, .read = pnm},
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

static int read_kind(const struct kind *kind, const uint8_t *bytes, size_t size,
                     struct picture *out, char why[PICTURE_WHY])
{
    if (kind->read) return kind->read(bytes, size, out, why);
    return picture_refuse(why, "%s: this build can't read it (%s was not there)",
                          kind->name, kind->library);
}

int picture_decode(const uint8_t *bytes, size_t size, uint32_t channels,
                   struct picture *out, char why[PICTURE_WHY])
{
    *out = (struct picture){.channels = channels};
    why[0] = '\0';
    int i = 0;
    while (i < KINDS && !kinds[i].is(bytes, size)) i++;
    const int status = i < KINDS  ? read_kind(&kinds[i], bytes, size, out, why)
                       : size > 0 ? picture_refuse(why, "neither PNG, JPEG nor PNM")
                                  : picture_refuse(why, "empty");
    if (status == 0) return 0;
    free(out->pixels);
    *out = (struct picture){0};
    return -1;
}

bool picture_named(const char *name)
{
    const size_t length = strlen(name);
    for (int i = 0; i < KINDS; i++)
        for (int j = 0; j < 3 && kinds[i].read && kinds[i].ends[j]; j++) {
            const size_t tail = strlen(kinds[i].ends[j]);
            if (length > tail &&
                strcasecmp(name + length - tail, kinds[i].ends[j]) == 0)
                return true;
        }
    return false;
}

const char *picture_kinds(void)
{
#if defined VGG_PNG && defined VGG_JPEG
    return "PNG, JPEG, PNM";
#elif defined VGG_PNG
    return "PNG, PNM";
#elif defined VGG_JPEG
    return "JPEG, PNM";
#else
    return "PNM";
#endif
}
