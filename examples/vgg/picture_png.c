/* SPDX-License-Identifier: Apache-2.0 */
/* PNG, by libpng: every colour type and depth, interlaced or not, becomes gray or RGB
 * of 8 bits.
 *
 * libpng reports by calling back and expects not to come back: what it needs is in one
 * struct, whose owner cleans up after either end. Of the file's chunks only IHDR, PLTE,
 * tRNS, IDAT and IEND are looked into. Their CRC errors are errors, and so is an end
 * before IEND's. */
#include "picture_rows.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    png_structp png;
    png_infop info;
    const uint8_t *at;
    size_t size, left;
    struct picture *out;
    uint8_t *rows; /* one row, or all rows of an interlaced picture: [h][w][c] */
    char *why;
    jmp_buf escape;
};

_Noreturn static void give_up(png_structp png, png_const_charp reason)
{
    struct reading *const r = png_get_error_ptr(png);
    picture_refuse(r->why, "PNG: %s", reason);
    longjmp(r->escape, 1);
}

static void pass_over(png_structp png, png_const_charp warning)
{
    (void)png, (void)warning;
}

static void read_bytes(png_structp png, png_bytep to, size_t size)
{
    struct reading *const r = png_get_io_ptr(png);
    if (size > r->left) png_error(png, "ends before the picture does");
    memcpy(to, r->at, size);
    r->at += size;
    r->left -= size;
}

/* libpng has limits of its own too, but says "Invalid IHDR data" for any of them. */
static int check_sides(const uint8_t *bytes, size_t size, char why[PICTURE_WHY])
{
    if (size < 24 || memcmp(bytes + 12, "IHDR", 4) != 0) return 0; /* libpng tells */
    return picture_sides("PNG", png_get_uint_32(bytes + 20),
                         png_get_uint_32(bytes + 16), why);
}

static void set_up(struct reading *r)
{
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, give_up, pass_over);
    if (r->png) r->info = png_create_info_struct(r->png);
    if (!r->info) {
        picture_refuse(r->why, "PNG: libpng can't start");
        longjmp(r->escape, 1);
    }
    png_set_read_fn(r->png, r, read_bytes);
    png_set_benign_errors(r->png, 1); /* warnings all, in every build of libpng */
    png_set_user_limits(r->png, PICTURE_SIDE, PICTURE_SIDE);
    png_set_chunk_malloc_max(r->png, 1 << 20);
    png_set_chunk_cache_max(r->png, 8);
    /* -1: all chunks that a picture can do without, known ones too. */
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
#ifdef PNG_MAXIMUM_INFLATE_WINDOW
    /* There are files whose zlib header names too small a window; Pillow reads them. */
    png_set_option(r->png, PNG_MAXIMUM_INFLATE_WINDOW, PNG_OPTION_ON);
#endif
}

/* Gray or RGB of 8 bits from now on. The alpha channel is left out, not blended, and
 * tRNS, which would become one, does not count. Of 16 bits the high byte stays, of gray
 * ones too: Pillow clips these at 255, which leaves next to nothing of a picture. */
static void ask_for_bytes(struct reading *r)
{
    if (png_get_color_type(r->png, r->info) == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(r->png);
    else if (png_get_bit_depth(r->png, r->info) < 8)
        png_set_expand_gray_1_2_4_to_8(r->png);
    png_set_strip_16(r->png);
    png_set_strip_alpha(r->png);
}

/* A byte of deflate stands for at most 1032: a file that can't hold its pixels gets no
 * memory for them. */
static void check_file_size(struct reading *r, uint32_t height)
{
    const uint64_t rows = (uint64_t)png_get_rowbytes(r->png, r->info) * height;
    if (rows / 1032 > r->size) png_error(r->png, "ends before the picture does");
}

static void read_picture(struct reading *r)
{
    set_up(r);
    png_read_info(r->png, r->info);
    const uint32_t height = png_get_image_height(r->png, r->info);
    const uint32_t width = png_get_image_width(r->png, r->info);
    check_file_size(r, height);
    ask_for_bytes(r);
    const int passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    const uint32_t channels = png_get_channels(r->png, r->info);
    const size_t row = png_get_rowbytes(r->png, r->info);
    if ((channels != 1 && channels != 3) || row != (size_t)width * channels)
        png_error(r->png, "rows of an unexpected form");

    if (picture_open(r->out, "PNG", height, width, r->why) != 0) longjmp(r->escape, 1);
    const size_t step = passes > 1 ? row : 0;
    r->rows = malloc(passes > 1 ? row * height : row);
    if (!r->rows) png_error(r->png, "no memory for rows");
    for (int pass = 1; pass <= passes; pass++)
        for (uint32_t y = 0; y < height; y++) {
            png_read_row(r->png, r->rows + y * step, NULL);
            if (pass == passes) picture_put(r->out, y, r->rows + y * step, channels);
        }
    png_read_end(r->png, NULL);
}

/* No local may change between setjmp() and longjmp(): there is none. */
static int attempt(struct reading *r)
{
    if (setjmp(r->escape)) return -1;
    read_picture(r);
    return 0;
}

int picture_png(const uint8_t *bytes, size_t size, struct picture *out,
                char why[PICTURE_WHY])
{
    if (check_sides(bytes, size, why) != 0) return -1;
    struct reading r = {
        .at = bytes, .size = size, .left = size, .out = out, .why = why};
    const int status = attempt(&r);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    free(r.rows);
    return status;
}
