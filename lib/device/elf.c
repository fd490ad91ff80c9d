/* SPDX-License-Identifier: Apache-2.0 */
/* The head of an ELF file, as System V's gABI has it (chapters "ELF Header" and
 * "Program Header"). */
#include "device/elf.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "io/os.h"

typedef ElfW(Ehdr) header;
typedef ElfW(Phdr) segment;

static bool read_at(int fd, void *to, size_t size, uint64_t offset)
{
    if (offset > INT64_MAX) return false;
    const ssize_t got = pread(fd, to, size, (off_t)offset);
    return got >= 0 && (size_t)got == size;
}

/* Whether bytes are of the kind of file that this process itself is. */
static bool is_native(const header *head)
{
    const unsigned char class = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;
    return memcmp(head->e_ident, ELFMAG, SELFMAG) == 0 &&
           head->e_ident[EI_CLASS] == class && head->e_phentsize == sizeof(segment);
}

/* Whether all that is to be mapped lies within `size` bytes. */
static bool is_whole(int fd, uint64_t size)
{
    header head;
    if (!read_at(fd, &head, sizeof head, 0) || !is_native(&head)) return true;
    for (uint32_t i = 0; i < head.e_phnum; i++) {
        segment s;
        if (!read_at(fd, &s, sizeof s, head.e_phoff + (uint64_t)i * sizeof s))
            return false;
        if (s.p_type != PT_LOAD) continue;
        if (s.p_offset > size || s.p_filesz > size - s.p_offset) return false;
    }
    return true;
}

vgg_status vgg__elf_check(const char *path)
{
    struct stat info;
    /* Not to wait for somebody who writes into a pipe. */
    const int fd = vgg__openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0 || fstat(fd, &info) != 0) {
        const int why = errno;
        if (fd >= 0) close(fd);
        return vgg__fail_errno(VGG_EDEVICE, why, "%s", path);
    }
    const bool regular = S_ISREG(info.st_mode);
    const bool whole = regular && is_whole(fd, (uint64_t)info.st_size);
    close(fd);
    if (!regular)
        return vgg__fail(VGG_EDEVICE, "%s: can't be loaded: it is no regular file",
                         path);
    if (!whole)
        return vgg__fail(VGG_EDEVICE,
                         "%s: can't be loaded: the file was cut off at %lld bytes: "
                         "install it again",
                         path, (long long)info.st_size);
    return VGG_OK;
}
