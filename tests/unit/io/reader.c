/* SPDX-License-Identifier: Apache-2.0 */
/* The reader: plain and gzip files, whole, cut at every byte and damaged.
 *
 * A good file here is `CONTENT` bytes of a pattern that deflate makes about half as
 * long; a reader takes a file if it gives exactly these bytes and then the end. */
#include "harness.h"

#include "files.h"
#include "io/reader.h"
#include "io/sniff.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONTENT 1500

static char dir[64];
static uint8_t content[CONTENT];

static void setup(void)
{
    harness_mkdtemp(dir);
    for (unsigned i = 0; i < CONTENT; i++) content[i] = (uint8_t)(i * i / 7 % 61);
}

static void teardown(void)
{
    harness_rmdir(dir);
}

/* Read a whole good file's worth, in two uneven pieces, and ask for the end. */
static vgg_status take(const char *path)
{
    struct vgg__reader *reader = NULL;
    vgg_status status = vgg__reader_open(NULL, path, &reader);
    if (status != VGG_OK) {
        ck_assert_ptr_null(reader);
        return status;
    }
    static uint8_t got[CONTENT];
    status = vgg__reader_read(reader, got, 7, "header");
    if (status == VGG_OK)
        status = vgg__reader_read(reader, got + 7, CONTENT - 7, "pixels");
    if (status == VGG_OK) status = vgg__reader_finish(reader);
    vgg__reader_close(reader);
    if (status == VGG_OK) ck_assert_mem_eq(got, content, CONTENT);
    return status;
}

static vgg_status take_bytes(const void *data, size_t size)
{
    char path[256];
    file_write(dir, "file", data, size, path);
    return take(path);
}

START_TEST(plain)
{
    ck_ok(take_bytes(content, CONTENT));
    for (size_t size = 0; size < CONTENT; size += size < 20 ? 1 : 59)
        ck_fails_with(take_bytes(content, size), VGG_ETRUNCATED, "file: ends in ");
    uint8_t longer[CONTENT + 1] = {0};
    memcpy(longer, content, CONTENT);
    ck_fails_with(take_bytes(longer, sizeof longer), VGG_EFORMAT, "more bytes");
}
END_TEST

START_TEST(large_plain_file_bypasses_the_buffer)
{
    struct bytes file = {0};
    for (unsigned i = 0; i < 300000; i++) bytes_fill(&file, (uint8_t)(i * 31 / 17), 1);
    char path[256];
    file_write(dir, "large", file.at, file.size, path);
    struct vgg__reader *reader = NULL;
    ck_ok(vgg__reader_open(NULL, path, &reader));
    ck_assert(!vgg__reader_is_gzip(reader));
    ck_assert_str_eq(vgg__reader_name(reader), "large");
    static uint8_t got[300000];
    const size_t pieces[] = {1, 600, 65536, 3, 200000, 33860};
    size_t done = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        ck_assert_uint_eq(vgg__reader_most(reader), 300000 - done);
        ck_ok(vgg__reader_read(reader, got + done, pieces[i], "piece"));
        done += pieces[i];
    }
    ck_assert_uint_eq(done, 300000);
    ck_ok(vgg__reader_finish(reader));
    ck_assert_mem_eq(got, file.at, file.size);
    vgg__reader_close(reader);
    bytes_free(&file);
}
END_TEST

START_TEST(gzip_whole_and_every_prefix)
{
    struct bytes file = {0};
    bytes_gzip(&file, content, CONTENT);
    ck_ok(take_bytes(file.at, file.size));
    for (size_t size = 0; size < file.size; size++)
        ck_fails(take_bytes(file.at, size), VGG_ETRUNCATED);
    bytes_free(&file);
}
END_TEST

/* Whatever one byte is changed to, a wrong content must not pass. Bytes 4 to 9 (time,
 * level, system) carry nothing, and so does the flag "is text". */
START_TEST(gzip_every_byte_changed)
{
    static const uint8_t changes[] = {1, 2, 4, 8, 16, 32, 64, 128, 255, 3, 6};
    struct bytes file = {0};
    char path[256];
    bytes_gzip(&file, content, CONTENT);
    file_write(dir, "file", file.at, file.size, path);
    for (size_t i = 0; i < file.size; i++) {
        for (size_t k = 0; k < (i < 18 ? sizeof changes : 2); k++) {
            file_poke(path, i, file.at[i] ^ changes[k]);
            const bool carries_nothing =
                (i >= 4 && i < 10) || (i == 3 && changes[k] == 1);
            const vgg_status status = take(path);
            ck_assert_msg(carries_nothing ? status == VGG_OK : status != VGG_OK,
                          "byte %zu changed by %02x: %s", i, changes[k],
                          vgg_status_name(status));
        }
        file_poke(path, i, file.at[i]);
    }
    ck_ok(take(path));
    bytes_free(&file);
}
END_TEST

/* A good member's bytes with its header replaced. */
static void with_header(struct bytes *out, const char *header, size_t size)
{
    struct bytes good = {0};
    bytes_gzip(&good, content, CONTENT);
    bytes_add(out, header, size);
    bytes_add(out, good.at + 10, good.size - 10);
    bytes_free(&good);
}

START_TEST(gzip_headers)
{
    static const struct {
        const char *name, *header;
        size_t size;
        vgg_status expected;
    } cases[] = {
        {"text flag", "\x1f\x8b\x08\x01\0\0\0\0\0\x03", 10, VGG_OK},
        {"name",
         "\x1f\x8b\x08\x08\0\0\0\0\0\x03"
         "name",
         15, VGG_OK},
        {"comment",
         "\x1f\x8b\x08\x10\0\0\0\0\0\x03"
         "some words",
         21, VGG_OK},
        {"extra field", "\x1f\x8b\x08\x04\0\0\0\0\0\x03\x03\0abc", 15, VGG_OK},
        {"header CRC", "\x1f\x8b\x08\x02\0\0\0\0\0\x03\xa7\x77", 12, VGG_OK},
        {"bad header CRC", "\x1f\x8b\x08\x02\0\0\0\0\0\x03\xa7\x76", 12, VGG_ECHECKSUM},
        {"method 0", "\x1f\x8b\x00\0\0\0\0\0\0\x03", 10, VGG_EUNSUPPORTED},
        {"method 7", "\x1f\x8b\x07\0\0\0\0\0\0\x03", 10, VGG_EUNSUPPORTED},
        {"method 9", "\x1f\x8b\x09\0\0\0\0\0\0\x03", 10, VGG_EUNSUPPORTED},
        {"flag bit 5", "\x1f\x8b\x08\x20\0\0\0\0\0\x03", 10, VGG_EUNSUPPORTED},
        {"flag bit 6", "\x1f\x8b\x08\x40\0\0\0\0\0\x03", 10, VGG_EUNSUPPORTED},
        {"flag bit 7", "\x1f\x8b\x08\x80\0\0\0\0\0\x03", 10, VGG_EUNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes file = {0};
        with_header(&file, cases[i].header, cases[i].size);
        const vgg_status status = take_bytes(file.at, file.size);
        ck_assert_msg(status == cases[i].expected, "%s: %s: %s", cases[i].name,
                      vgg_status_name(status), vgg_last_error());
        bytes_free(&file);
    }
}
END_TEST

/* Optional fields that are as long as they may be, longer, or run past the end. */
START_TEST(gzip_long_headers)
{
    static const struct {
        const char *name;
        uint8_t flag;
        size_t filler; /* bytes 'x' after the fixed header */
        const char *tail;
        size_t tail_size;
        vgg_status expected;
    } cases[] = {
        {"name of 4096 bytes", 8, 4096, "", 1, VGG_OK},
        {"name of 4097 bytes", 8, 4097, "", 1, VGG_ELIMIT},
        {"comment of 1 MiB", 16, 1 << 20, "", 1, VGG_ELIMIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes head = {0}, file = {0};
        const uint8_t fixed[10] = {0x1f, 0x8b, 8, cases[i].flag};
        bytes_add(&head, fixed, sizeof fixed);
        bytes_fill(&head, 'x', cases[i].filler);
        bytes_add(&head, cases[i].tail, cases[i].tail_size);
        with_header(&file, (const char *)head.at, head.size);
        const vgg_status status = take_bytes(file.at, file.size);
        ck_assert_msg(status == cases[i].expected, "%s: %s", cases[i].name,
                      vgg_status_name(status));
        bytes_free(&head);
        bytes_free(&file);
    }
    struct bytes extra = {0}, file = {0};
    bytes_add(&extra, "\x1f\x8b\x08\x04\0\0\0\0\0\x03\xff\xff", 12);
    bytes_fill(&extra, 'x', 65535);
    with_header(&file, (const char *)extra.at, extra.size);
    ck_ok(take_bytes(file.at, file.size));
    ck_fails(take_bytes(extra.at, extra.size - 1), VGG_ETRUNCATED);
    ck_fails(take_bytes("\x1f\x8b\x08\x08\0\0\0\0\0\x03unended", 17), VGG_ETRUNCATED);
    bytes_free(&extra);
    bytes_free(&file);
}
END_TEST

/* Deflate streams that no compressor writes, by hand. The first byte's low bits are:
 * last block (1), block type (2). */
START_TEST(gzip_bad_deflate)
{
    static const struct {
        const char *name, *deflate;
        size_t size;
        vgg_status expected;
    } cases[] = {
        {"block type 3", "\x07", 1, VGG_EFORMAT},
        {"stored length without its complement", "\x01\x04\0\0\0abcd", 9, VGG_EFORMAT},
        {"stored block cut",
         "\x01\x04\0\xfb\xff"
         "ab",
         7, VGG_ETRUNCATED},
        {"distance before the start", "\x03\x02", 2, VGG_EFORMAT},
        {"distance after one byte", "\x4b\x04\x42\0", 4, VGG_EFORMAT},
        {"dynamic block, too many lengths", "\xfd\xff\xff\xff\xff\xff", 6, VGG_EFORMAT},
        {"dynamic block, over-subscribed", "\x05\xe0\x81\x08\xff\xff\xff\xff\xff\xff",
         10, VGG_EFORMAT},
        {"no block", "", 0, VGG_ETRUNCATED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes file = {0};
        bytes_add(&file, "\x1f\x8b\x08\0\0\0\0\0\0\x03", 10);
        bytes_add(&file, cases[i].deflate, cases[i].size);
        const vgg_status status = take_bytes(file.at, file.size);
        ck_assert_msg(status == cases[i].expected, "%s: %s: %s", cases[i].name,
                      vgg_status_name(status), vgg_last_error());
        bytes_free(&file);
    }
}
END_TEST

START_TEST(gzip_trailers)
{
    struct bytes good = {0}, file = {0};
    bytes_gzip(&good, content, CONTENT);
    for (int i = 8; i >= 1; i--)
        ck_fails_with(take_bytes(good.at, good.size - (size_t)i), VGG_ETRUNCATED,
                      "trailer");
    good.at[good.size - 8] ^= 1;
    ck_fails_with(take_bytes(good.at, good.size), VGG_ECHECKSUM, "CRC");
    good.at[good.size - 8] ^= 1;
    memset(good.at + good.size - 4, 0, 4);
    ck_fails_with(take_bytes(good.at, good.size), VGG_EFORMAT, "length is 0");
    bytes_free(&good);

    static const struct {
        const char *name, *tail;
        size_t size;
        vgg_status expected;
    } cases[] = {
        {"one byte", "x", 1, VGG_EFORMAT},
        {"zero padding", "\0\0\0\0\0\0\0\0", 8, VGG_EFORMAT},
        {"half a magic", "\x1f", 1, VGG_EFORMAT},
        {"second member", "\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0", 20,
         VGG_EUNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes_gzip(&file, content, CONTENT);
        bytes_add(&file, cases[i].tail, cases[i].size);
        const vgg_status status = take_bytes(file.at, file.size);
        ck_assert_msg(status == cases[i].expected, "%s: %s: %s", cases[i].name,
                      vgg_status_name(status), vgg_last_error());
        bytes_free(&file);
    }
}
END_TEST

START_TEST(gzip_content_of_another_length)
{
    struct bytes file = {0};
    uint8_t longer[CONTENT + 1] = {0};
    memcpy(longer, content, CONTENT);
    bytes_gzip(&file, longer, CONTENT + 1);
    ck_fails_with(take_bytes(file.at, file.size), VGG_EFORMAT, "more bytes");
    bytes_free(&file);
    bytes_gzip(&file, content, CONTENT - 1);
    ck_fails_with(take_bytes(file.at, file.size), VGG_ETRUNCATED,
                  "pixels: 1492 of 1493");
    bytes_free(&file);
    bytes_gzip(&file, content, 0);
    ck_assert_uint_eq(file.size, 20);
    ck_fails_with(take_bytes(file.at, file.size), VGG_ETRUNCATED, "header: 0 of 7");
    bytes_free(&file);
}
END_TEST

/* Content cut in two members, as some tools write it: told by what it is. */
START_TEST(gzip_content_in_two_members)
{
    struct bytes file = {0}, second = {0};
    bytes_gzip(&file, content, 100);
    bytes_gzip(&second, content + 100, CONTENT - 100);
    bytes_add(&file, second.at, second.size);
    ck_fails_with(take_bytes(file.at, file.size), VGG_EUNSUPPORTED,
                  "a second gzip member begins");
    bytes_free(&second);
    bytes_free(&file);
}
END_TEST

/* What a file can hold at most is never less than what it holds, and for the densest
 * deflate stream not much more. */
START_TEST(most_bounds_the_content)
{
    struct bytes zeros = {0}, file = {0};
    bytes_fill(&zeros, 0, 1 << 22);
    bytes_gzip(&file, zeros.at, zeros.size);
    char path[256];
    file_write(dir, "bomb", file.at, file.size, path);
    struct vgg__reader *reader = NULL;
    ck_ok(vgg__reader_open(NULL, path, &reader));
    ck_assert(vgg__reader_is_gzip(reader));
    ck_assert_uint_ge(vgg__reader_most(reader), zeros.size);
    ck_assert_uint_le(vgg__reader_most(reader), zeros.size + zeros.size / 50);
    uint64_t count = 0;
    ck_ok(vgg__reader_count(reader, &count));
    ck_assert_uint_eq(count, zeros.size);
    vgg__reader_close(reader);
    bytes_free(&zeros);
    bytes_free(&file);
}
END_TEST

START_TEST(paths)
{
    char path[256];
    ck_fails_with(take("/tmp/vgg-test-does-not-exist"), VGG_EIO, "No such file");
    ck_fails_with(take(dir), VGG_EIO, "is a folder");
    ck_fails_with(take("/dev/null"), VGG_EIO, "is a device");
    ck_fails(take(""), VGG_EIO);
    snprintf(path, sizeof path, "%s/fifo", dir);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_fails_with(take(path), VGG_EIO, "is a FIFO"); /* and doesn't wait for a writer */
    snprintf(path, sizeof path, "%s/loop", dir);
    ck_assert_int_eq(symlink(path, path), 0);
    ck_fails(take(path), VGG_EIO);
    char link[256];
    file_write(dir, "good", content, CONTENT, path);
    snprintf(link, sizeof link, "%s/link", dir);
    ck_assert_int_eq(symlink("good", link), 0);
    ck_ok(take(link));
    static char endless[5000];
    memset(endless, 'x', sizeof endless - 1);
    ck_fails_with(take(endless), VGG_EIO, "name too long");
}
END_TEST

/* The content of a file that isn't an IDX file is named, also within gzip. */
START_TEST(foreign_formats)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *name;
    } cases[] = {
        {"PK\x03\x04rest", 8, "a zip archive"},
        {"\x80\x02}q", 4, "a Python pickle"},
        {"GGUF\x03", 5, "a GGUF file"},
        {"\x89HDF\r\n\x1a\n", 8, "an HDF5 file"},
        {"MATLAB 5.0 MAT-file", 19, "a MATLAB file"},
        {"\r\n  <!DOCTYPE html>", 19, "a web page"},
        {"<HTML><body>", 12, "a web page"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "a git-LFS pointer"},
        {"label,pixel1,pixel2\n", 20, "a CSV text"},
        {"\x93NUMPY\x01", 7, "a NumPy .npy array"},
        {"\x78\xbb\x01", 3, "a zlib stream"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes file = {0};
        char path[256];
        bytes_gzip(&file, cases[i].bytes, cases[i].size);
        for (int zipped = 0; zipped < 2; zipped++) {
            struct vgg__reader *reader = NULL;
            file_write(dir, "foreign", zipped ? (const void *)file.at : cases[i].bytes,
                       zipped ? file.size : cases[i].size, path);
            ck_ok(vgg__reader_open(NULL, path, &reader));
            ck_fails_with(vgg__reader_refuse(reader, "an IDX file"), VGG_EUNSUPPORTED,
                          cases[i].name);
            ck_assert_int_eq(strstr(vgg_last_error(), "within gzip") != NULL, zipped);
            vgg__reader_close(reader);
        }
        bytes_free(&file);
    }
    uint8_t tar[512] = "data_batch_1.bin";
    memcpy(tar + 257, "ustar", 5);
    ck_assert_str_eq(vgg__sniff(tar, sizeof tar), "a tar archive");
    ck_assert_ptr_null(vgg__sniff(tar, 261));
    ck_assert_ptr_null(vgg__sniff(content, CONTENT));
    ck_assert_ptr_null(vgg__sniff(content, 0));
    struct vgg__reader *reader = NULL;
    char path[256];
    file_write(dir, "short", "\x01\x02", 2, path);
    ck_ok(vgg__reader_open(NULL, path, &reader));
    ck_fails_with(vgg__reader_refuse(reader, "an IDX file"), VGG_EFORMAT,
                  "01 02 00 00");
    vgg__reader_close(reader);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("reader");
    TCase *const tcase = tcase_create("reader");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, plain);
    tcase_add_test(tcase, large_plain_file_bypasses_the_buffer);
    tcase_add_test(tcase, gzip_whole_and_every_prefix);
    tcase_add_test(tcase, gzip_every_byte_changed);
    tcase_add_test(tcase, gzip_headers);
    tcase_add_test(tcase, gzip_long_headers);
    tcase_add_test(tcase, gzip_bad_deflate);
    tcase_add_test(tcase, gzip_trailers);
    tcase_add_test(tcase, gzip_content_of_another_length);
    tcase_add_test(tcase, gzip_content_in_two_members);
    tcase_add_test(tcase, most_bounds_the_content);
    tcase_add_test(tcase, paths);
    tcase_add_test(tcase, foreign_formats);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
