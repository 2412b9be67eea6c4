// Counts what a process asks of the disk and, in the operator library, of the memory, and fails or ends it at the n-th
// call. Loaded by LD_PRELOAD. The page in the file named by EVM_FAULTS says what to do; sweep.py writes it. All
// processes that have it mapped count together.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <new>

namespace {

enum Kind : int64_t { kWrite, kSync, kName, kMemory, kRemoval, kKinds };
enum Mode : int64_t { kOnce = 0, kFromThenOn = 1, kKill = 2 };

struct Page {
  int64_t armed, kind, at, mode, error;  // which call of which kind fails, from 0 on, and with what errno
  int64_t seen[kKinds];                  // calls of each kind
  uint64_t library[2];                   // from where to where the operator library lies in memory, in one process
  char root[4096];                       // files below this folder count
};

Page* page = nullptr;

__attribute__((constructor)) void open_page() {
  const char* name = getenv("EVM_FAULTS");
  const int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void* mapped = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (mapped != MAP_FAILED) page = static_cast<Page*>(mapped);
}

// Whether this call is to fail; sets errno.
bool fails(Kind kind) {
  const int64_t call = __atomic_fetch_add(&page->seen[kind], 1, __ATOMIC_SEQ_CST);
  if (kind != page->kind || call < page->at || (call > page->at && page->mode != kFromThenOn)) return false;
  if (page->mode == kKill) kill(0, SIGKILL);  // the group: also the processes that this one started
  errno = kind == kMemory ? ENOMEM : static_cast<int>(page->error);
  return true;
}

bool is_armed() { return page && page->armed; }

bool below_root(const char* path) { return strncmp(path, page->root, strlen(page->root)) == 0; }

bool fails_at(Kind kind, const char* path, int folder = AT_FDCWD) {
  if (!is_armed()) return false;
  char place[4096] = "";
  if (path[0] != '/' && folder != AT_FDCWD) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    if (readlink(link, place, sizeof place - 1) < 0) return false;
    path = place;
  } else if (path[0] != '/') {
    path = getcwd(place, sizeof place);
  }
  return path && below_root(path) && fails(kind);
}

bool fails_on(Kind kind, int file) {
  if (!is_armed()) return false;
  char link[64], place[4096] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  return readlink(link, place, sizeof place - 1) > 0 && below_root(place) && fails(kind);
}

// Whether the operator library asks for memory.
bool is_for_operators(void* caller) {
  const uint64_t address = reinterpret_cast<uint64_t>(caller);
  return is_armed() && address >= page->library[0] && address < page->library[1];
}

void* allocate(size_t bytes, size_t alignment, void* caller) {
  void* memory = nullptr;
  if (is_for_operators(caller) && fails(kMemory)) throw std::bad_alloc();
  if (posix_memalign(&memory, alignment, bytes ? bytes : 1) != 0) throw std::bad_alloc();
  return memory;
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

#define CALLER __builtin_return_address(0)
void* operator new(size_t bytes) { return allocate(bytes, 16, CALLER); }
void* operator new[](size_t bytes) { return allocate(bytes, 16, CALLER); }
void* operator new(size_t bytes, std::align_val_t to) { return allocate(bytes, static_cast<size_t>(to), CALLER); }
void* operator new[](size_t bytes, std::align_val_t to) { return allocate(bytes, static_cast<size_t>(to), CALLER); }

#define REPLACE(result, name, types, values, failure)      \
  extern "C" result name types {                           \
    static const auto real = next<result(*) types>(#name); \
    if (failure) return -1;                                \
    return real values;                                    \
  }

REPLACE(ssize_t, write, (int f, const void* b, size_t n), (f, b, n), fails_on(kWrite, f))
REPLACE(ssize_t, pwrite, (int f, const void* b, size_t n, off_t o), (f, b, n, o), fails_on(kWrite, f))
REPLACE(ssize_t, pwrite64, (int f, const void* b, size_t n, off_t o), (f, b, n, o), fails_on(kWrite, f))
REPLACE(ssize_t, writev, (int f, const iovec* v, int n), (f, v, n), fails_on(kWrite, f))
REPLACE(ssize_t, sendfile, (int to, int from, off_t* o, size_t n), (to, from, o, n), fails_on(kWrite, to))
REPLACE(ssize_t, sendfile64, (int to, int from, off_t* o, size_t n), (to, from, o, n), fails_on(kWrite, to))
REPLACE(ssize_t, copy_file_range, (int from, off64_t* a, int to, off64_t* b, size_t n, unsigned x),
        (from, a, to, b, n, x), fails_on(kWrite, to))
REPLACE(int, ftruncate, (int f, off_t n), (f, n), fails_on(kWrite, f))
REPLACE(int, ftruncate64, (int f, off_t n), (f, n), fails_on(kWrite, f))
REPLACE(int, fsync, (int f), (f), fails_on(kSync, f))
REPLACE(int, fdatasync, (int f), (f), fails_on(kSync, f))
REPLACE(int, rename, (const char* a, const char* b), (a, b), fails_at(kName, b))
REPLACE(int, renameat, (int x, const char* a, int y, const char* b), (x, a, y, b), fails_at(kName, b, y))
REPLACE(int, renameat2, (int x, const char* a, int y, const char* b, unsigned how), (x, a, y, b, how),
        fails_at(kName, b, y))
REPLACE(int, link, (const char* a, const char* b), (a, b), fails_at(kName, b))
REPLACE(int, linkat, (int x, const char* a, int y, const char* b, int how), (x, a, y, b, how), fails_at(kName, b, y))
REPLACE(int, symlink, (const char* a, const char* b), (a, b), fails_at(kName, b))
REPLACE(int, mkdir, (const char* a, mode_t m), (a, m), fails_at(kName, a))
REPLACE(int, mkdirat, (int x, const char* a, mode_t m), (x, a, m), fails_at(kName, a, x))
REPLACE(int, unlink, (const char* a), (a), fails_at(kRemoval, a))
REPLACE(int, unlinkat, (int x, const char* a, int how), (x, a, how), fails_at(kRemoval, a, x))
REPLACE(int, rmdir, (const char* a), (a), fails_at(kRemoval, a))

#define REPLACE_OPEN(name, types, folder, ...)                          \
  extern "C" int name types {                                          \
    va_list rest;                                                      \
    va_start(rest, flags);                                             \
    const bool makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; \
    const mode_t mode = makes ? va_arg(rest, mode_t) : 0;              \
    va_end(rest);                                                      \
    static const auto real = next<int(*) types>(#name);                \
    if (makes && fails_at(kName, path, folder)) return -1; \
    return real(__VA_ARGS__, mode);                                    \
  }

REPLACE_OPEN(open, (const char* path, int flags, ...), AT_FDCWD, path, flags)
REPLACE_OPEN(open64, (const char* path, int flags, ...), AT_FDCWD, path, flags)
REPLACE_OPEN(openat, (int folder, const char* path, int flags, ...), folder, folder, path, flags)
REPLACE_OPEN(openat64, (int folder, const char* path, int flags, ...), folder, folder, path, flags)
