/* SPDX-License-Identifier: Apache-2.0 */
/* Naming a file by its first bytes: a table of magic numbers, and text that is told by
 * its first word. */
#include "io/sniff.h"

#include <string.h>
#include <strings.h>

static const struct magic {
    size_t offset, size;
    const char *bytes;
    const char *name;
} magics[] = {
    {0, 2, "\x1f\x8b", "a gzip file"},
    {0, 4, "PK\x03\x04", "a zip archive (PyTorch .pth and NumPy .npz files are such)"},
    {0, 4, "PK\x05\x06", "an empty zip archive"},
    {0, 2, "\x80\x02", "a Python pickle"},
    {0, 2, "\x80\x03", "a Python pickle"},
    {0, 2, "\x80\x04", "a Python pickle"},
    {0, 2, "\x80\x05", "a Python pickle"},
    {0, 6, "\x93NUMPY", "a NumPy .npy array"},
    {0, 4, "GGUF", "a GGUF file"},
    {0, 4, "ggml", "a GGML file"},
    {0, 8, "\x89HDF\r\n\x1a\n", "an HDF5 file"},
    {0, 10, "MATLAB 5.0", "a MATLAB file"},
    {0, 4, "PAR1", "a Parquet file"},
    {0, 8, "\x89PNG\r\n\x1a\n", "a PNG image"},
    {0, 3, "\xff\xd8\xff", "a JPEG image"},
    {0, 3, "BZh", "a bzip2 file"},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     "an xz file"},
    {0, 4, "\x28\xb5\x2f\xfd", "a zstd file"},
    {0, 6, "7z\xbc\xaf\x27\x1c", "a 7z archive"},
    {0, 2, "\x78\x01", "a zlib stream"},
    {0, 2, "\x78\x9c", "a zlib stream"},
    {0, 2, "\x78\xbb", "a zlib stream"},
    {0, 2, "\x78\xda", "a zlib stream"},
    {257, 5, "ustar", "a tar archive"},
};

/* First words of text files, in any case. */
static const struct word {
    const char *text;
    const char *name;
} words[] = {
    {"<!doctype", "a web page"},
    {"<html", "a web page"},
    {"<?xml", "an XML text"},
    {"version https://git-lfs", "a git-LFS pointer (the file itself was not fetched)"},
    {"label,", "a CSV text"},
    {"{", "a JSON text"},
};

static int is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

const char *vgg__sniff(const uint8_t *head, size_t size)
{
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        const struct magic *const m = &magics[i];
        if (size >= m->offset + m->size &&
            memcmp(head + m->offset, m->bytes, m->size) == 0)
            return m->name;
    }
    size_t start = size >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (start < size && is_space(head[start])) start++;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const size_t length = strlen(words[i].text);
        if (size - start >= length &&
            strncasecmp((const char *)head + start, words[i].text, length) == 0)
            return words[i].name;
    }
    return NULL;
}
