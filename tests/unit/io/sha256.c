/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 against the known answers of FIPS 180-4 and the NIST example messages. */
#include "io/sha256.h"
#include "harness.h"

#include <string.h>

static const struct {
    const char *text;
    size_t repeat;
    const char *hash;
} answers[] = {
    {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
     "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

START_TEST(known_answers)
{
    struct vgg__sha256 sha;
    char hash[VGG_SHA256_TEXT];
    vgg__sha256_begin(&sha);
    for (size_t i = 0; i < answers[_i].repeat; i++)
        vgg__sha256_add(&sha, answers[_i].text, strlen(answers[_i].text));
    vgg__sha256_end(&sha, hash);
    ck_assert_str_eq(hash, answers[_i].hash);
}
END_TEST

/* Where the stream is cut must not matter: every pair of cuts of 200 bytes. */
START_TEST(pieces)
{
    char data[200], whole[VGG_SHA256_TEXT], cut[VGG_SHA256_TEXT];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 7);
    struct vgg__sha256 sha;
    vgg__sha256_begin(&sha);
    vgg__sha256_add(&sha, data, sizeof data);
    vgg__sha256_end(&sha, whole);
    for (size_t a = 0; a <= sizeof data; a++)
        for (size_t b = a; b <= sizeof data; b++) {
            vgg__sha256_begin(&sha);
            vgg__sha256_add(&sha, data, a);
            vgg__sha256_add(&sha, data + a, b - a);
            vgg__sha256_add(&sha, data + b, sizeof data - b);
            vgg__sha256_end(&sha, cut);
            ck_assert_str_eq(cut, whole);
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sha256");
    TCase *tests = tcase_create("sha256");
    tcase_add_loop_test(tests, known_answers, 0, sizeof answers / sizeof answers[0]);
    tcase_add_test(tests, pieces);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
