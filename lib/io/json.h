/* SPDX-License-Identifier: Apache-2.0 */
/* Strict JSON (RFC 8259), read token by token without recursion, and written.
 *
 * The reader takes a bounded buffer and refuses what the RFC refuses: comments,
 * trailing commas, invalid UTF-8, bad escapes, numbers like 01 or 1. or NaN. It also
 * refuses nesting beyond VGG_JSON_DEPTH. Integers are exact to 64 bits. Whether a key
 * occurs twice is for the caller to see (vgg__json_field() does, for small objects).
 * Neither side depends on the locale. */
#ifndef VGG_IO_JSON_H
#define VGG_IO_JSON_H

#include <stdbool.h>
#include <vgg/context.h>

#define VGG_JSON_DEPTH 32 /* most open objects and arrays */

enum vgg__json_kind {
    VGG_JSON_OBJECT,     /* { */
    VGG_JSON_OBJECT_END, /* } */
    VGG_JSON_ARRAY,      /* [ */
    VGG_JSON_ARRAY_END,  /* ] */
    VGG_JSON_KEY,        /* a string and its colon */
    VGG_JSON_STRING,
    VGG_JSON_NUMBER,
    VGG_JSON_TRUE,
    VGG_JSON_FALSE,
    VGG_JSON_NULL,
    VGG_JSON_END /* nothing but white space is left */
};

/* A reader. The first block is the present token. */
struct vgg__json {
    enum vgg__json_kind kind;
    size_t start;  /* byte where it begins */
    size_t first;  /* of a string: first byte within the quotes */
    size_t length; /* of a string: bytes when decoded; of a number: of its text */

    const char *text;
    size_t size, at;
    const char *file; /* for error texts */
    uint32_t depth;
    uint32_t objects; /* bit per level: is it an object? */
    int expect;       /* what may come next */
};

/* Both strings are borrowed. */
void vgg__json_begin(struct vgg__json *json, const char *file, const char *text,
                     size_t size);

/* Go to the next token. VGG_EFORMAT, VGG_ELIMIT (nesting). */
vgg_status vgg__json_next(struct vgg__json *json);

/* The next token must be of this kind. */
vgg_status vgg__json_expect(struct vgg__json *json, enum vgg__json_kind kind);

/* The value that follows is not of interest: go to its last token. */
vgg_status vgg__json_skip(struct vgg__json *json);

/* Fail with "<file>: byte <start of token>: <text>". */
vgg_status vgg__json_fail(const struct vgg__json *json, vgg_status status,
                          const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Decode the present key or string to `out` of `size` bytes, with a final zero.
 * VGG_ELIMIT when it is longer, VGG_EFORMAT when it has a zero byte (\u0000) in it. */
vgg_status vgg__json_text(const struct vgg__json *json, char *out, size_t size);

/* Is the present key or string this one? */
bool vgg__json_is(const struct vgg__json *json, const char *text);

/* Within an object: go to the next key, which must be one of `names` and not one that
 * was there before (its bit in *seen). *which is its index; `count` (at most 32) at the
 * object's end. */
vgg_status vgg__json_field(struct vgg__json *json, const char *const *names,
                           uint32_t count, uint32_t *seen, uint32_t *which);

/* At the end of an object: fail unless all `names` were seen. `what` is for the
 * text. */
vgg_status vgg__json_complete(const struct vgg__json *json, const char *const *names,
                              uint32_t count, uint32_t seen, const char *what);

/* Read the value that comes next. Integers have neither sign, fraction nor exponent. */
vgg_status vgg__json_read_u64(struct vgg__json *json, uint64_t *out); /* VGG_ELIMIT */
vgg_status vgg__json_read_u32(struct vgg__json *json, uint32_t *out); /* VGG_ELIMIT */
vgg_status vgg__json_read_double(struct vgg__json *json, double *out);
vgg_status vgg__json_read_text(struct vgg__json *json, char *out, size_t size);
/* A string as vgg__json_put_exact() writes it. */
vgg_status vgg__json_read_exact(struct vgg__json *json, double *out);

/* Can this text be in a JSON string, that is, is it valid UTF-8? */
bool vgg__json_can_hold(const char *text);

/* A writer, indented by two spaces a level or compact. */
struct vgg__json_out {
    vgg_context *ctx;
    char *text; /* ends with a zero byte; vgg__json_out_free() */
    size_t size, capacity;
    vgg_status status; /* the first failure; nothing is written after it */
    uint32_t depth;
    bool compact, empty;
};

void vgg__json_out_begin(struct vgg__json_out *out, vgg_context *ctx, bool compact);
void vgg__json_out_free(struct vgg__json_out *out);

/* `key` is NULL within an array and for the outermost value. */
void vgg__json_open(struct vgg__json_out *out, const char *key, char bracket);
void vgg__json_close(struct vgg__json_out *out, char bracket);
void vgg__json_put_text(struct vgg__json_out *out, const char *key, const char *text);
void vgg__json_put_u64(struct vgg__json_out *out, const char *key, uint64_t value);
/* The shortest decimal that reads back as the same number. Not finite: VGG_EINVAL. */
void vgg__json_put_double(struct vgg__json_out *out, const char *key, double value);
/* A string that C's hexadecimal notation gives every bit of: "0x1.8p+1", "nan",
 * "inf". */
void vgg__json_put_exact(struct vgg__json_out *out, const char *key, double value);

#endif
