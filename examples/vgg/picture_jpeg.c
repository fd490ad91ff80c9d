/* SPDX-License-Identifier: Apache-2.0 */
/* JPEG, by libjpeg-turbo or another libjpeg, with its defaults (the accurate integer
 * transform, smooth upsampling), which are Pillow's.
 *
 * libjpeg goes on where a file ends or its data do, in gray, and only warns. Here both
 * end the reading. Other warnings pass, as they do in Pillow: bytes too many between
 * markers, or a damaged stretch that a restart marker ends. */
#include "picture_rows.h"

#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs FILE */
#include <stdlib.h>

#include <jerror.h>
#include <jpeglib.h>

/* Each scan of a progressive file goes over the whole picture, and costs a file next to
 * nothing. Encoders write about ten. */
enum { SCANS_MOST = 500 };
static const uint64_t scanned_most = (uint64_t)1 << 32; /* pixels: a few seconds */

struct reading {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    bool may_end; /* all that is missing may be the end marker */
    struct picture *out;
    uint8_t *row; /* [w][c] */
    char *why;
    jmp_buf escape;
};

_Noreturn static void give_up(struct reading *r, const char *reason)
{
    picture_refuse(r->why, "JPEG: %s", reason);
    longjmp(r->escape, 1);
}

_Noreturn static void on_error(j_common_ptr jpeg)
{
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    give_up(jpeg->client_data, text);
}

/* Within a scan's data: after a marker that restarts they go on, before another one the
 * rest is missing. */
static void check_marker(struct reading *r)
{
    const int marker = r->jpeg.unread_marker;
    if (marker != 0 && (marker < JPEG_RST0 || marker > JPEG_RST0 + 7))
        give_up(r, "ends before the picture does");
}

/* Level -1 is a warning, others are for those who trace the library. */
static void on_message(j_common_ptr jpeg, int level)
{
    if (level < 0 && jpeg->err->msg_code == JWRN_HIT_MARKER)
        check_marker(jpeg->client_data);
}

static void on_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void on_progress(j_common_ptr jpeg)
{
    struct reading *const r = jpeg->client_data;
    const uint64_t scans = (uint64_t)r->jpeg.input_scan_number;
    if (scans > SCANS_MOST) give_up(r, "more than 500 scans");
    if (scans * r->jpeg.image_width * r->jpeg.image_height > scanned_most)
        give_up(r, "so many scans that they go over 2^32 pixels");
}

static void no_more(j_decompress_ptr jpeg)
{
    (void)jpeg;
}

/* The bytes are all there from the start, so this is their end. */
static boolean on_end(j_decompress_ptr jpeg)
{
    static const JOCTET end_marker[] = {0xff, JPEG_EOI};
    struct reading *const r = jpeg->client_data;
    if (!r->may_end) give_up(r, "ends before the picture does");
    r->source.next_input_byte = end_marker;
    r->source.bytes_in_buffer = sizeof end_marker;
    return TRUE;
}

static void on_skip(j_decompress_ptr jpeg, long count)
{
    struct reading *const r = jpeg->client_data;
    if (count <= 0) return;
    if ((size_t)count > r->source.bytes_in_buffer)
        give_up(r, "ends before the picture does");
    r->source.next_input_byte += count;
    r->source.bytes_in_buffer -= (size_t)count;
}

/* Another marker than the restart that was due. After a damaged stretch libjpeg would
 * not warn once more. */
static boolean on_resync(j_decompress_ptr jpeg, int desired)
{
    const boolean done = jpeg_resync_to_restart(jpeg, desired);
    check_marker(jpeg->client_data);
    return done;
}

static void set_up(struct reading *r)
{
    jpeg_std_error(&r->errors);
    r->errors.error_exit = on_error;
    r->errors.emit_message = on_message;
    r->errors.output_message = on_output;
    r->jpeg.err = &r->errors;
    r->jpeg.client_data = r;
    jpeg_create_decompress(&r->jpeg);
    r->progress.progress_monitor = on_progress;
    r->jpeg.progress = &r->progress;
    r->jpeg.src = &r->source;
}

/* What the library is to make of the file's colours. */
static void ask_for_bytes(struct reading *r)
{
    const J_COLOR_SPACE space = r->jpeg.jpeg_color_space;
    if (r->jpeg.data_precision != 8) give_up(r, "not 8 bits a sample; convert it to 8");
    if (space == JCS_CMYK || space == JCS_YCCK) give_up(r, "CMYK; convert it to RGB");
    if (space == JCS_GRAYSCALE)
        r->jpeg.out_color_space = JCS_GRAYSCALE;
    else if (space == JCS_YCbCr || space == JCS_RGB)
        r->jpeg.out_color_space = JCS_RGB;
    else
        give_up(r, "neither gray nor RGB; convert it to RGB");
}

static void read_picture(struct reading *r)
{
    struct jpeg_decompress_struct *const jpeg = &r->jpeg;
    set_up(r);
    jpeg_read_header(jpeg, TRUE);
    ask_for_bytes(r);
    /* With one scan, rows that came without a warning are whole. A second scan may be
     * missing without a trace, and arithmetic coding runs on past its end. */
    r->may_end = !jpeg_has_multiple_scans(jpeg) && !jpeg->arith_code;
    if (picture_open(r->out, "JPEG", jpeg->image_height, jpeg->image_width, r->why) !=
        0)
        longjmp(r->escape, 1);
    jpeg_start_decompress(jpeg);
    const uint32_t channels = (uint32_t)jpeg->output_components;
    r->row = malloc((size_t)jpeg->output_width * channels);
    if (!r->row) give_up(r, "no memory for a row");
    while (jpeg->output_scanline < jpeg->output_height) {
        const uint32_t y = jpeg->output_scanline;
        jpeg_read_scanlines(jpeg, &r->row, 1);
        picture_put(r->out, y, r->row, channels);
    }
}

/* No local may change between setjmp() and longjmp(): there is none. */
static int attempt(struct reading *r)
{
    if (setjmp(r->escape)) return -1;
    read_picture(r);
    return 0;
}

int picture_jpeg(const uint8_t *bytes, size_t size, struct picture *out,
                 char why[PICTURE_WHY])
{
    struct reading r = {
        .source = {.next_input_byte = bytes,
                   .bytes_in_buffer = size,
                   .init_source = no_more,
                   .fill_input_buffer = on_end,
                   .skip_input_data = on_skip,
                   .resync_to_restart = on_resync,
                   .term_source = no_more},
        .out = out,
        .why = why,
    };
    const int status = attempt(&r);
    jpeg_destroy_decompress(&r.jpeg);
    free(r.row);
    return status;
}
