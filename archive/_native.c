/* What `files`, `restore`, `tree_plan` and `fuse` do one by one, for many files or bytes at a time.
 *
 * Owns: the common case. Whatever is not quite common (an error, an attribute, a file that changed, a
 * number out of range) is left to the twins in Python, which look again, and tell what was wrong.
 * Nothing is followed, and nothing is kept between calls. Safe in many threads: system calls run
 * without the interpreter's lock, on copies, or on objects that are held meanwhile.
 *
 * Only wrong types of arguments raise; no file does. `accelerate.REVISION` must be the one below.
 */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define REVISION 4 /* of the functions: what they take, give and do */

#define WANT_ATTRIBUTES 1
#define WANT_FILE_FLAGS 2
#define GETFLAGS 0x80086601UL
#define FILE_FLAGS (0xFFU | 0x4000U | 0x8000U | 0x10000U | 0x20000U | 0x800000U | 0x2000000U)
#define NOREPLACE 1U

#define LOOK_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
#define NEW_FILE_FLAGS (O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC)

#define NS 1000000000LL
#define BATCH 256         /* names that are looked at before signals are */
#define RETRIES 64        /* after so many interruptions a call is left to Python, which sees signals */
#define MOST_AT_ONCE (1UL << 30)
#define PATH_BYTES 4096

_Static_assert(sizeof(off_t) == 8, "offsets in files are 64-bit");
_Static_assert(sizeof(long long) == 8, "what Python's numbers are copied to");

/* Repeat a call while it is interrupted. */
#define RETRY(result, call)                                                                        \
    do {                                                                                           \
        int tries_ = RETRIES;                                                                      \
        do {                                                                                       \
            (result) = (call);                                                                     \
        } while ((result) < 0 && errno == EINTR && tries_--);                                      \
    } while (0)

/* What a field or a file is. A failure has set an exception. */
enum outcome { FAILED = -1, UNCOMMON = 0, COMMON = 1 };

/* --- fields of Python's tuples ---------------------------------------------------------------- */

/* Copy an integer; it is uncommon if it does not fit. */
static enum outcome integer(PyObject *tuple, Py_ssize_t at, int64_t *value)
{
    PyObject *field = PyTuple_GetItem(tuple, at);
    int overflow = 0;
    if (field == NULL) {
        return FAILED;
    }
    if (!PyLong_Check(field)) {
        PyErr_Format(PyExc_TypeError, "field %zd is not an integer", at);
        return FAILED;
    }
    *value = PyLong_AsLongLongAndOverflow(field, &overflow);
    if (*value == -1 && PyErr_Occurred()) {
        return FAILED;
    }
    return overflow ? UNCOMMON : COMMON;
}

/* As `integer`, for 0 to 2**64 - 1. */
static enum outcome unsigned_integer(PyObject *tuple, Py_ssize_t at, uint64_t *value)
{
    int64_t number;
    enum outcome outcome = integer(tuple, at, &number);
    if (outcome == COMMON) {
        *value = (uint64_t)number;
        return number < 0 ? UNCOMMON : COMMON;
    }
    if (outcome == FAILED) {
        return FAILED;
    }
    *value = PyLong_AsUnsignedLongLong(PyTuple_GetItem(tuple, at));
    if (*value == UINT64_MAX && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return FAILED;
        }
        PyErr_Clear();
        return UNCOMMON;
    }
    return COMMON;
}

/* Borrow the characters of a name, for as long as the object is held; uncommon if they hold a NUL. */
static enum outcome name_of(PyObject *field, const char **name)
{
    char *text;
    Py_ssize_t length;
    if (field == NULL) {
        return FAILED;
    }
    if (!PyBytes_Check(field)) {
        PyErr_SetString(PyExc_TypeError, "a name is not bytes");
        return FAILED;
    }
    if (PyBytes_AsStringAndSize(field, &text, &length) < 0) {
        return FAILED;
    }
    *name = text;
    return memchr(text, 0, (size_t)length) == NULL ? COMMON : UNCOMMON;
}

/* Check that something is a tuple that has so many fields at least. */
static int is_record(PyObject *record, Py_ssize_t fields)
{
    if (record == NULL) {
        return 0;
    }
    if (!PyTuple_Check(record)) {
        PyErr_SetString(PyExc_TypeError, "an item is not a tuple");
        return 0;
    }
    if (PyTuple_Size(record) < fields) {
        PyErr_Format(PyExc_TypeError, "an item has fewer than %zd fields", fields);
        return 0;
    }
    return 1;
}

/* Fold the outcome of one more field into that of its item; tells whether it failed. */
static int fold(enum outcome *item, enum outcome field)
{
    if (field < *item) {
        *item = field;
    }
    return field == FAILED;
}

/* Return the list of the items that were not common. */
static PyObject *uncommon(const char *items, size_t step, Py_ssize_t count)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t n = 0; list != NULL && n < count; n++) {
        enum outcome outcome;
        memcpy(&outcome, items + (size_t)n * step, sizeof outcome);
        if (outcome == COMMON) {
            continue;
        }
        PyObject *number = PyLong_FromSsize_t(n);
        if (number == NULL || PyList_Append(list, number) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(number);
    }
    return list;
}

/* --- times ------------------------------------------------------------------------------------ */

/* Split ns since 1970; the ns of the result are never negative. */
static struct timespec time_of(int64_t ns)
{
    struct timespec time;
    int64_t seconds = ns / NS, rest = ns % NS;
    if (rest < 0) {
        seconds -= 1;
        rest += NS;
    }
    time.tv_sec = (time_t)seconds;
    time.tv_nsec = (long)rest;
    return time;
}

static int is_time(const struct timespec *time, int64_t ns)
{
    struct timespec wanted = time_of(ns);
    return time->tv_sec == wanted.tv_sec && time->tv_nsec == wanted.tv_nsec;
}

/* Give ns since 1970; tells whether they fit into 64 bits. */
static int ns_of(const struct timespec *time, int64_t *ns)
{
    int64_t seconds = time->tv_sec, rest = time->tv_nsec, whole;
    if (seconds < 0) { /* so that the first of the two sums fits wherever the second does */
        seconds += 1;
        rest -= NS;
    }
    return !__builtin_mul_overflow(seconds, NS, &whole) &&
           !__builtin_add_overflow(whole, rest, ns);
}

/* --- looking ---------------------------------------------------------------------------------- */

struct look {
    enum outcome outcome;
    const char *name;
    struct stat stat;
    int64_t mtime_ns, ctime_ns;
    uint32_t file_flags;
};

/* Open for reading, without a change of the access time where that is allowed. */
static int open_quietly(int folder, const char *name)
{
    int fd;
    RETRY(fd, openat(folder, name, LOOK_FLAGS | O_NOATIME));
    if (fd < 0 && errno == EPERM) {
        RETRY(fd, openat(folder, name, LOOK_FLAGS));
    }
    return fd;
}

static int get_file_flags(int fd, uint32_t *file_flags)
{
    /* Declared as a long; file systems write an int. */
    uint32_t raw[2] = {0, 0};
    int result;
    RETRY(result, ioctl(fd, GETFLAGS, raw));
    if (result >= 0) {
        *file_flags = raw[0] & FILE_FLAGS;
        return 1;
    }
    *file_flags = 0;
    return errno == ENOTTY || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS;
}

/* Tell whether a list of attributes, of that length or errno, is empty or can't be had at all. */
static int is_without(ssize_t length)
{
    if (length < 0) {
        return errno == ENOTSUP || errno == ENOSYS || errno == EPERM || errno == EACCES;
    }
    return length == 0;
}

static int has_no_attributes(int fd)
{
    ssize_t length;
    RETRY(length, flistxattr(fd, NULL, 0));
    return is_without(length);
}

/* As above, for what is not opened: opening a device or a FIFO may do something. */
static int name_has_no_attributes(int folder, const char *name)
{
    char path[PATH_BYTES];
    ssize_t length;
    int bytes = snprintf(path, sizeof path, "/proc/self/fd/%d/%s", folder, name);
    if (bytes < 0 || (size_t)bytes >= sizeof path) {
        return 0;
    }
    RETRY(length, llistxattr(path, NULL, 0));
    return is_without(length);
}

static enum outcome look_at(int folder, int wanted, struct look *look)
{
    struct stat *stat = &look->stat;
    int result;
    RETRY(result, fstatat(folder, look->name, stat, AT_SYMLINK_NOFOLLOW));
    if (result < 0) {
        return UNCOMMON;
    }
    /* What Python's os.stat gives otherwise, or what does not fit. */
    if (stat->st_uid == (uid_t)-1 || stat->st_gid == (gid_t)-1 || stat->st_dev > INT64_MAX ||
        stat->st_rdev > INT64_MAX || !ns_of(&stat->st_mtim, &look->mtime_ns) ||
        !ns_of(&stat->st_ctim, &look->ctime_ns)) {
        return UNCOMMON;
    }
    look->file_flags = 0;
    if (S_ISREG(stat->st_mode) || S_ISDIR(stat->st_mode)) {
        int fd = open_quietly(folder, look->name);
        if (fd < 0) {
            return UNCOMMON;
        }
        int common = (!(wanted & WANT_FILE_FLAGS) || get_file_flags(fd, &look->file_flags)) &&
                     (!(wanted & WANT_ATTRIBUTES) || has_no_attributes(fd));
        return close(fd) == 0 && common ? COMMON : UNCOMMON;
    }
    if (wanted & WANT_ATTRIBUTES && !name_has_no_attributes(folder, look->name)) {
        return UNCOMMON;
    }
    return COMMON;
}

/* Put a new object into a tuple; tells whether there is one. */
static int put(PyObject *tuple, Py_ssize_t at, PyObject *field)
{
    return field != NULL && PyTuple_SetItem(tuple, at, field) == 0;
}

/* Return what `files.Found` is made of. */
static PyObject *found(PyObject *name, PyObject *attributes, const struct look *look)
{
    const struct stat *stat = &look->stat;
    PyObject *tuple = PyTuple_New(15);
    if (tuple != NULL && put(tuple, 0, Py_NewRef(name)) &&
        put(tuple, 1, PyLong_FromUnsignedLong(stat->st_mode)) &&
        put(tuple, 2, PyLong_FromUnsignedLong(stat->st_uid)) &&
        put(tuple, 3, PyLong_FromUnsignedLong(stat->st_gid)) &&
        put(tuple, 4, PyLong_FromLongLong(stat->st_size)) &&
        put(tuple, 5, PyLong_FromLongLong(look->mtime_ns)) &&
        put(tuple, 6, PyLong_FromLongLong(look->ctime_ns)) &&
        put(tuple, 7, PyLong_FromUnsignedLongLong(stat->st_dev)) &&
        put(tuple, 8, PyLong_FromUnsignedLongLong(stat->st_ino)) &&
        put(tuple, 9, PyLong_FromUnsignedLongLong(stat->st_nlink)) &&
        put(tuple, 10, PyLong_FromUnsignedLongLong(stat->st_rdev)) &&
        put(tuple, 11, PyLong_FromLongLong(stat->st_blocks)) &&
        put(tuple, 12, PyLong_FromUnsignedLong(look->file_flags)) &&
        put(tuple, 13, Py_NewRef(attributes)) && put(tuple, 14, PyLong_FromLong(0))) {
        return tuple;
    }
    Py_XDECREF(tuple);
    return NULL;
}

/* Look at `count` names from `first` on, and append what was found. */
static int scan_batch(int folder, PyObject *names, Py_ssize_t first, Py_ssize_t count, int wanted,
                      struct look *looks, PyObject *attributes, PyObject *list)
{
    for (Py_ssize_t n = 0; n < count; n++) {
        looks[n].outcome = name_of(PyTuple_GetItem(names, first + n), &looks[n].name);
        if (looks[n].outcome == FAILED) {
            return 0;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t n = 0; n < count; n++) {
        if (looks[n].outcome == COMMON) {
            looks[n].outcome = look_at(folder, wanted, &looks[n]);
        }
    }
    Py_END_ALLOW_THREADS
    for (Py_ssize_t n = 0; n < count; n++) {
        PyObject *item = looks[n].outcome == COMMON
                             ? found(PyTuple_GetItem(names, first + n), attributes, &looks[n])
                             : Py_NewRef(Py_None);
        int added = item == NULL ? -1 : PyList_Append(list, item);
        Py_XDECREF(item);
        if (added < 0) {
            return 0;
        }
    }
    return 1;
}

PyDoc_STRVAR(scan_doc,
             "scan(fd, names, wanted, /)\n--\n\n"
             "Look at things in a folder, as `files.scan`; None stands for what is not common.");

static PyObject *scan(PyObject *module, PyObject *arguments)
{
    int folder, wanted;
    PyObject *given;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iOi:scan", &folder, &given, &wanted)) {
        return NULL;
    }
    PyObject *names = PySequence_Tuple(given);
    if (names == NULL) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(names);
    struct look *looks = PyMem_Calloc((size_t)(count < BATCH ? count : BATCH), sizeof *looks);
    PyObject *attributes = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *list = PyList_New(0);
    int good = looks != NULL && attributes != NULL && list != NULL;
    if (looks == NULL) {
        PyErr_NoMemory();
    }
    for (Py_ssize_t first = 0; good && first < count; first += BATCH) {
        Py_ssize_t some = count - first < BATCH ? count - first : BATCH;
        good = scan_batch(folder, names, first, some, wanted, looks, attributes, list) &&
               PyErr_CheckSignals() == 0;
    }
    PyMem_Free(looks);
    Py_XDECREF(attributes);
    Py_DECREF(names);
    if (!good) {
        Py_CLEAR(list);
    }
    return list;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct span {
    enum outcome outcome; /* first, for `uncommon` */
    const char *name;
    int64_t size, mtime_ns, ctime_ns;
    uint64_t dev, ino;
    int64_t member_offset, length, view_offset;
};

/* Copy a `files.Wanted`, whose span of a view of so many bytes is checked. */
static enum outcome take_span(PyObject *wanted, Py_ssize_t view_bytes, struct span *span)
{
    enum outcome outcome = COMMON;
    if (!is_record(wanted, 4)) {
        return FAILED;
    }
    PyObject *found = PyTuple_GetItem(wanted, 0);
    if (!is_record(found, 9) || fold(&outcome, name_of(PyTuple_GetItem(found, 0), &span->name)) ||
        fold(&outcome, integer(found, 4, &span->size)) ||
        fold(&outcome, integer(found, 5, &span->mtime_ns)) ||
        fold(&outcome, integer(found, 6, &span->ctime_ns)) ||
        fold(&outcome, unsigned_integer(found, 7, &span->dev)) ||
        fold(&outcome, unsigned_integer(found, 8, &span->ino)) ||
        fold(&outcome, integer(wanted, 1, &span->member_offset)) ||
        fold(&outcome, integer(wanted, 2, &span->length)) ||
        fold(&outcome, integer(wanted, 3, &span->view_offset))) {
        return FAILED;
    }
    if (outcome != COMMON) {
        return outcome;
    }
    int fits = span->length >= 0 && span->view_offset >= 0 && span->view_offset <= view_bytes &&
               span->length <= view_bytes - span->view_offset && span->member_offset >= 0 &&
               span->member_offset <= INT64_MAX - span->length;
    return fits ? COMMON : UNCOMMON;
}

static int read_fully(int fd, char *to, int64_t length, int64_t offset)
{
    while (length > 0) {
        size_t some = (uint64_t)length < MOST_AT_ONCE ? (size_t)length : MOST_AT_ONCE;
        struct iovec into = {to, some};
        ssize_t got;
        RETRY(got, preadv(fd, &into, 1, offset)); /* the call that the twin makes */
        if (got <= 0) {
            return 0;
        }
        to += got;
        offset += got;
        length -= got;
    }
    return 1;
}

static int stat_of(int fd, struct stat *stat)
{
    int result;
    RETRY(result, fstat(fd, stat));
    return result == 0;
}

static enum outcome read_span(int folder, const struct span *span, char *view)
{
    struct stat before, after;
    int fd = open_quietly(folder, span->name);
    if (fd < 0) {
        return UNCOMMON;
    }
    int common = stat_of(fd, &before) && before.st_dev == span->dev && before.st_ino == span->ino &&
                 read_fully(fd, view + span->view_offset, span->length, span->member_offset) &&
                 stat_of(fd, &after) && after.st_size == span->size &&
                 is_time(&after.st_mtim, span->mtime_ns) && is_time(&after.st_ctim, span->ctime_ns);
    return close(fd) == 0 && common ? COMMON : UNCOMMON;
}

PyDoc_STRVAR(read_files_doc,
             "read_files(fd, wanted, view, /)\n--\n\n"
             "Fill spans of `view` as `files.read_files`; return the numbers of those items that\n"
             "are not common: their spans may hold anything.");

static PyObject *read_files(PyObject *module, PyObject *arguments)
{
    int folder;
    PyObject *given, *list = NULL;
    Py_buffer view;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iOw*:read_files", &folder, &given, &view)) {
        return NULL;
    }
    PyObject *wanted = PySequence_Tuple(given);
    if (wanted == NULL) {
        PyBuffer_Release(&view);
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(wanted);
    struct span *spans = PyMem_Calloc((size_t)count, sizeof *spans);
    if (spans == NULL) {
        PyErr_NoMemory();
        goto end;
    }
    for (Py_ssize_t n = 0; n < count; n++) {
        spans[n].outcome = take_span(PyTuple_GetItem(wanted, n), view.len, &spans[n]);
        if (spans[n].outcome == FAILED) {
            goto end;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t n = 0; n < count; n++) {
        if (spans[n].outcome == COMMON) {
            spans[n].outcome = read_span(folder, &spans[n], view.buf);
        }
    }
    Py_END_ALLOW_THREADS
    list = uncommon((const char *)spans, sizeof *spans, count);
end:
    PyMem_Free(spans);
    Py_DECREF(wanted);
    PyBuffer_Release(&view);
    return list;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Spec section 6.5: where the fields of an entry's row stand. */
#define ROW_BYTES 80
#define ROW_KIND 0
#define ROW_FLAGS 1
#define ROW_MODE 2
#define ROW_UID 4
#define ROW_GID 8
#define ROW_FILE_FLAGS 12
#define ROW_MTIME 16
#define ROW_PARENT 24
#define ROW_NAME_OFFSET 32
#define ROW_NAME_BYTES 40
#define ROW_RESERVED_1 42
#define ROW_ATTRIBUTES 44
#define ROW_MEMBER_BYTES 48
#define ROW_FIRST 56
#define ROW_COUNT 64
#define ROW_LINK_COUNT 72
#define ROW_RESERVED_2 76
#define KIND_FILE 2
#define MODE_BITS 07777
#define MOST_NAME 255

struct new_file {
    enum outcome outcome;
    char name[MOST_NAME + 1];
    uint64_t row;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    int64_t mtime_ns;
    const char *content;
    size_t size;
};

/* What all files of a call share. */
struct placing {
    int folder;
    const char *prefix;
    int noreplace;
    int able; /* becomes 0 where the file system can't keep what stands under a name */
};

static uint64_t number_at(const unsigned char *row, size_t at, size_t bytes)
{
    uint64_t number = 0;
    for (size_t n = bytes; n-- > 0;) {
        number = number << 8 | row[at + n];
    }
    return number;
}

/* Copy a name; tells whether it can be one (section 6.6). */
static int take_name(const unsigned char *row, const Py_buffer *strings, uint64_t strings_offset,
                     char *name)
{
    uint64_t offset = number_at(row, ROW_NAME_OFFSET, 8);
    size_t length = (size_t)number_at(row, ROW_NAME_BYTES, 2);
    uint64_t there = (uint64_t)strings->len;
    if (length < 1 || length > MOST_NAME || offset < strings_offset ||
        offset - strings_offset > there || length > there - (offset - strings_offset)) {
        return 0;
    }
    const char *text = (const char *)strings->buf + (offset - strings_offset);
    if (memchr(text, '/', length) != NULL || memchr(text, 0, length) != NULL ||
        (text[0] == '.' && (length == 1 || (length == 2 && text[1] == '.')))) {
        return 0;
    }
    memcpy(name, text, length);
    name[length] = 0;
    return 1;
}

/* Tell whether a row is that of a file like most others, in this directory. */
static int is_plain(const unsigned char *row, uint64_t parent)
{
    return row[ROW_KIND] == KIND_FILE && row[ROW_FLAGS] == 0 &&
           number_at(row, ROW_FILE_FLAGS, 4) == 0 && number_at(row, ROW_ATTRIBUTES, 4) == 0 &&
           number_at(row, ROW_MODE, 2) <= MODE_BITS && number_at(row, ROW_PARENT, 8) == parent &&
           number_at(row, ROW_COUNT, 8) == 0 && number_at(row, ROW_LINK_COUNT, 4) != 0 &&
           number_at(row, ROW_RESERVED_1, 2) == 0 && number_at(row, ROW_RESERVED_2, 4) == 0;
}

/* Find the bytes of a file in a piece of content; tells whether the walk may go on behind it. */
static int take_content(const unsigned char *row, const Py_buffer *content,
                        uint64_t content_offset, struct new_file *file)
{
    uint64_t size = number_at(row, ROW_MEMBER_BYTES, 8), first = number_at(row, ROW_FIRST, 8);
    uint64_t there = (uint64_t)content->len;
    file->outcome = UNCOMMON;
    if (size == 0) {
        file->content = "";
        file->size = 0;
        file->outcome = first == 0 ? COMMON : UNCOMMON;
        return 1;
    }
    if (first >= content_offset && first - content_offset >= there) {
        return 0;
    }
    if (first >= content_offset && size <= there - (first - content_offset)) {
        file->content = (const char *)content->buf + (first - content_offset);
        file->size = (size_t)size;
        file->outcome = COMMON;
    }
    return 1;
}

/* Look up who owns a file here; `last` is the row before, whose answer is in `file` still. */
static enum outcome take_owner(PyObject *owners, uint64_t uid, uint64_t gid, struct new_file *file)
{
    int64_t here[2];
    enum outcome outcome = COMMON;
    file->uid = (uid_t)-1;
    file->gid = (gid_t)-1;
    if (owners == Py_None) {
        return COMMON;
    }
    PyObject *key = Py_BuildValue("(KK)", (unsigned long long)uid, (unsigned long long)gid);
    if (key == NULL) {
        return FAILED;
    }
    PyObject *pair = PyDict_GetItemWithError(owners, key);
    Py_DECREF(key);
    if (pair == NULL) {
        return PyErr_Occurred() ? FAILED : UNCOMMON;
    }
    if (!is_record(pair, 2) || fold(&outcome, integer(pair, 0, &here[0])) ||
        fold(&outcome, integer(pair, 1, &here[1]))) {
        return FAILED;
    }
    if (outcome == COMMON && here[0] >= -1 && here[0] < UINT32_MAX && here[1] >= -1 &&
        here[1] < UINT32_MAX) {
        file->uid = (uid_t)here[0];
        file->gid = (gid_t)here[1];
        return COMMON;
    }
    return UNCOMMON;
}

static int write_fully(int fd, const char *from, size_t left)
{
    int64_t offset = 0;
    while (left > 0) {
        ssize_t written;
        RETRY(written, pwrite(fd, from, left < MOST_AT_ONCE ? left : MOST_AT_ONCE, offset));
        if (written <= 0) {
            return 0;
        }
        from += written;
        offset += written;
        left -= (size_t)written;
    }
    return 1;
}

/* Tell whether a file has its owner already, as most have: asking takes half the time of setting. */
static int has_owner(int fd, const struct new_file *file)
{
    struct stat stat;
    if (file->uid == (uid_t)-1 && file->gid == (gid_t)-1) {
        return 1;
    }
    return stat_of(fd, &stat) && (file->uid == (uid_t)-1 || file->uid == stat.st_uid) &&
           (file->gid == (gid_t)-1 || file->gid == stat.st_gid);
}

static int set_metadata(int fd, const struct new_file *file)
{
    struct timespec times[2] = {time_of(file->mtime_ns), time_of(file->mtime_ns)};
    int result = 0;
    if (!has_owner(fd, file)) {
        RETRY(result, fchown(fd, file->uid, file->gid));
    }
    if (result == 0) { /* after the owner: changing that takes setuid away */
        RETRY(result, fchmod(fd, file->mode));
    }
    if (result == 0) {
        RETRY(result, futimens(fd, times));
    }
    return result == 0;
}

/* Make a file, or nothing. */
static enum outcome write_file(const struct new_file *file, struct placing *placing)
{
    char part[MOST_NAME + 1];
    int fd, folder = placing->folder;
    long published = -1;
    int bytes = snprintf(part, sizeof part, "%s%llu.part", placing->prefix,
                         (unsigned long long)file->row);
    if (bytes < 0 || (size_t)bytes >= sizeof part) {
        return UNCOMMON;
    }
    RETRY(fd, openat(folder, part, NEW_FILE_FLAGS, 0600));
    if (fd < 0) {
        return UNCOMMON;
    }
    if (write_fully(fd, file->content, file->size) && set_metadata(fd, file)) {
        RETRY(published, syscall(SYS_renameat2, folder, part, folder, file->name,
                                 placing->noreplace ? NOREPLACE : 0U));
        if (published < 0 && (errno == EINVAL || errno == ENOSYS)) {
            placing->able = 0;
        }
    }
    /* Some file systems tell only here that they could not keep what was written. */
    if (close(fd) == 0 && published == 0) {
        return COMMON;
    }
    unlinkat(folder, published == 0 ? file->name : part, 0);
    return UNCOMMON;
}

struct rows {
    const unsigned char *raw;
    Py_ssize_t first, end;
    uint64_t number, parent; /* of the first row of all; of their directory */
};

/* Copy the rows from `first` on, as far as the content goes; return how many, or -1. */
static Py_ssize_t take_rows(const struct rows *rows, const Py_buffer *strings,
                            uint64_t strings_offset, const Py_buffer *content,
                            uint64_t content_offset, PyObject *owners, mode_t mode_bits,
                            struct new_file *files)
{
    uint64_t last_uid = UINT64_MAX, last_gid = UINT64_MAX;
    struct new_file last = {.outcome = UNCOMMON};
    Py_ssize_t count = 0;
    for (Py_ssize_t at = rows->first; at < rows->end; at++, count++) {
        const unsigned char *row = rows->raw + at * ROW_BYTES;
        struct new_file *file = &files[count];
        file->outcome = UNCOMMON;
        if (!is_plain(row, rows->parent)) {
            continue;
        }
        if (!take_content(row, content, content_offset, file)) {
            break;
        }
        if (file->outcome != COMMON) {
            continue;
        }
        uint64_t uid = number_at(row, ROW_UID, 4), gid = number_at(row, ROW_GID, 4);
        if (uid != last_uid || gid != last_gid) {
            last.outcome = take_owner(owners, uid, gid, &last);
            if (last.outcome == FAILED) {
                return -1;
            }
            last_uid = uid;
            last_gid = gid;
        }
        file->uid = last.uid;
        file->gid = last.gid;
        file->outcome = last.outcome;
        file->row = rows->number + (uint64_t)at;
        file->mode = (mode_t)number_at(row, ROW_MODE, 2) & mode_bits;
        file->mtime_ns = (int64_t)number_at(row, ROW_MTIME, 8);
        /* What the mode loses is told, and so left to Python. */
        if (file->mode != (mode_t)number_at(row, ROW_MODE, 2) ||
            !take_name(row, strings, strings_offset, file->name)) {
            file->outcome = UNCOMMON;
        }
    }
    return count;
}

PyDoc_STRVAR(restore_rows_doc,
             "restore_rows(folder, raw, first, end, number, parent, strings, strings_offset,\n"
             "             content, content_offset, owners, prefix, noreplace, mode_bits, /)\n--\n\n"
             "Make the files of rows `first` to `end` - 1 whose bytes are in `content`, each under\n"
             "a temporary name, then under its own, as NewEntryFile of `restore` does.\n\n"
             "Returns the first row that was not looked at, since it lies behind the content; the\n"
             "rows before it of which nothing was made; how many were; and their bytes.");

static PyObject *restore_rows(PyObject *module, PyObject *arguments)
{
    struct placing placing = {.able = 1};
    struct rows rows;
    Py_buffer raw, strings, content;
    unsigned long long number, parent, strings_offset, content_offset;
    PyObject *owners, *list = NULL, *result = NULL;
    struct new_file *files = NULL;
    int mode_bits;
    unsigned long long made = 0, bytes = 0;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iy*nnKKy*Ky*KOypi:restore_rows", &placing.folder, &raw,
                          &rows.first, &rows.end, &number, &parent, &strings, &strings_offset,
                          &content, &content_offset, &owners, &placing.prefix, &placing.noreplace,
                          &mode_bits)) {
        return NULL;
    }
    rows.raw = raw.buf;
    rows.number = number;
    rows.parent = parent;
    if (rows.first < 0 || rows.first > rows.end || rows.end > raw.len / ROW_BYTES ||
        !(owners == Py_None || PyDict_Check(owners))) {
        PyErr_SetString(PyExc_TypeError, "there are no such rows, or owners are no dict");
        goto end;
    }
    files = PyMem_Calloc((size_t)(rows.end - rows.first), sizeof *files);
    list = PyList_New(0);
    if (files == NULL || list == NULL) {
        PyErr_NoMemory();
        goto end;
    }
    Py_ssize_t count = take_rows(&rows, &strings, strings_offset, &content, content_offset, owners,
                                 (mode_t)mode_bits, files);
    if (count < 0) {
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t n = 0; n < count; n++) {
        if (files[n].outcome == COMMON) {
            files[n].outcome = placing.able ? write_file(&files[n], &placing) : UNCOMMON;
        }
    }
    Py_END_ALLOW_THREADS
    for (Py_ssize_t n = 0; n < count; n++) {
        if (files[n].outcome == COMMON) {
            made++;
            bytes += files[n].size;
            continue;
        }
        PyObject *left = PyLong_FromSsize_t(rows.first + n);
        int added = left == NULL ? -1 : PyList_Append(list, left);
        Py_XDECREF(left);
        if (added < 0) {
            goto end;
        }
    }
    result = Py_BuildValue("(nOKK)", rows.first + count, list, made, bytes);
end:
    Py_XDECREF(list);
    PyMem_Free(files);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&strings);
    PyBuffer_Release(&content);
    return result;
}

/* --- planning --------------------------------------------------------------------------------- */

/* Spec section 6.11: where the fields of a ustar header stand. */
#define BLOCK 512
#define TAR_PATH_BYTES 100
#define TAR_MODE 100
#define TAR_UID 108
#define TAR_GID 116
#define TAR_SIZE 124
#define TAR_MTIME 136
#define TAR_CHECKSUM 148
#define TAR_TYPE 156
#define TAR_MAGIC 257
#define TAR_USER 265
#define TAR_GROUP 297
#define TAR_MAJOR 329
#define TAR_MINOR 337
#define TAR_PREFIX 345
#define TAR_PREFIX_BYTES 155
#define TAR_OWNER_NAME_BYTES 31
#define TAR_MOST_ID 2097151LL        /* seven octal digits */
#define TAR_MOST_SECONDS 8589934591LL /* eleven */
#define MOST_HEADER (3 * BLOCK)
#define MOST_PATH (TAR_PREFIX_BYTES + 1 + TAR_PATH_BYTES)
#define STAT_BLOCK 512

/* What the files of a call share. */
struct plan {
    const char *prefix, *user, *group;
    Py_ssize_t prefix_bytes, user_bytes, group_bytes;
    int64_t uid, gid, least_large;
    uint64_t parent, row, name_offset, unit_start;
    int64_t at, zeros, room; /* in the unit: where the next byte stands; before it; at most */
    PyObject *leave_out, *is_new;
};

/* One file of it. */
struct planned {
    const char *name;
    Py_ssize_t name_bytes;
    int64_t mode, uid, gid, size, mtime_ns, dev, ino, links, blocks, file_flags, error;
};

static void put_number(unsigned char *to, uint64_t number, size_t bytes)
{
    for (size_t n = 0; n < bytes; n++, number >>= 8) {
        to[n] = (unsigned char)number;
    }
}

/* Write octal digits, and a NUL. */
static void put_octal(unsigned char *to, uint64_t number, size_t digits)
{
    to[digits] = 0;
    while (digits-- > 0) {
        to[digits] = (unsigned char)('0' + (number & 7));
        number >>= 3;
    }
}

/* Fill the fields in that headers of one kind share, then the checksum. */
static void seal(unsigned char *header, int64_t mode, int64_t size, char type)
{
    unsigned sum = 0;
    put_octal(header + TAR_MODE, (uint64_t)mode, 7);
    put_octal(header + TAR_SIZE, (uint64_t)size, 11);
    put_octal(header + TAR_MAJOR, 0, 7);
    put_octal(header + TAR_MINOR, 0, 7);
    header[TAR_TYPE] = (unsigned char)type;
    memcpy(header + TAR_MAGIC, "ustar\0" "00", 8);
    memset(header + TAR_CHECKSUM, ' ', 8);
    for (size_t n = 0; n < BLOCK; n++) {
        sum += header[n];
    }
    put_octal(header + TAR_CHECKSUM, sum, 6);
}

/* Write the pax header for a time that has ns. */
static void put_time(unsigned char *to, const struct timespec *time)
{
    char digits[10], record[BLOCK];
    int length, rest;
    snprintf(digits, sizeof digits, "%09ld", time->tv_nsec);
    for (length = 9; digits[length - 1] == '0'; length--) {
    }
    rest = snprintf(record, sizeof record, "mtime=%lld.%.*s\n", (long long)time->tv_sec, length,
                    digits);
    length = snprintf((char *)to + BLOCK, BLOCK, "%d %s", rest + 3, record); /* 10 to 99 bytes */
    memcpy(to, "PaxHeaders/0", 12);
    put_octal(to + TAR_UID, 0, 7);
    put_octal(to + TAR_GID, 0, 7);
    put_octal(to + TAR_MTIME, 0, 11);
    seal(to, 0644, length, 'x');
}

/* Write the headers of a file, as pax.encode_member; return their length, 0 if more is needed. */
static size_t put_headers(unsigned char *to, const struct plan *plan, const struct planned *file)
{
    struct timespec time = time_of(file->mtime_ns);
    char path[MOST_PATH];
    size_t length = (size_t)(plan->prefix_bytes + file->name_bytes), cut = 0;
    if (length > sizeof path || time.tv_sec < 0 || time.tv_sec > TAR_MOST_SECONDS) {
        return 0;
    }
    memcpy(path, plan->prefix, (size_t)plan->prefix_bytes);
    memcpy(path + plan->prefix_bytes, file->name, (size_t)file->name_bytes);
    if (length > TAR_PATH_BYTES) { /* the first slash behind which the rest fits */
        for (cut = length - TAR_PATH_BYTES - 1; path[cut] != '/'; cut++) {
            if (cut == length - 1) {
                return 0;
            }
        }
        if (cut == 0 || cut > TAR_PREFIX_BYTES) {
            return 0;
        }
    }
    memset(to, 0, MOST_HEADER);
    unsigned char *header = to;
    if (time.tv_nsec) {
        put_time(to, &time);
        header += 2 * BLOCK;
    }
    if (cut) {
        memcpy(header + TAR_PREFIX, path, cut);
        memcpy(header, path + cut + 1, length - cut - 1);
    } else {
        memcpy(header, path, length);
    }
    put_octal(header + TAR_UID, (uint64_t)file->uid, 7);
    put_octal(header + TAR_GID, (uint64_t)file->gid, 7);
    put_octal(header + TAR_MTIME, (uint64_t)time.tv_sec, 11);
    memcpy(header + TAR_USER, plan->user, (size_t)plan->user_bytes);
    memcpy(header + TAR_GROUP, plan->group, (size_t)plan->group_bytes);
    seal(header, file->mode & MODE_BITS, file->size, '0');
    return (size_t)(header - to) + BLOCK;
}

/* Write the row of a file (section 6.5). */
static void put_row(unsigned char *row, const struct plan *plan, const struct planned *file,
                    uint64_t first)
{
    memset(row, 0, ROW_BYTES);
    row[ROW_KIND] = KIND_FILE;
    put_number(row + ROW_MODE, (uint64_t)file->mode & MODE_BITS, 2);
    put_number(row + ROW_UID, (uint64_t)file->uid, 4);
    put_number(row + ROW_GID, (uint64_t)file->gid, 4);
    put_number(row + ROW_FILE_FLAGS, (uint64_t)file->file_flags, 4);
    put_number(row + ROW_MTIME, (uint64_t)file->mtime_ns, 8);
    put_number(row + ROW_PARENT, plan->parent, 8);
    put_number(row + ROW_NAME_OFFSET, plan->name_offset, 8);
    put_number(row + ROW_NAME_BYTES, (uint64_t)file->name_bytes, 2);
    put_number(row + ROW_MEMBER_BYTES, (uint64_t)file->size, 8);
    put_number(row + ROW_FIRST, first, 8);
    put_number(row + ROW_LINK_COUNT, 1, 4);
}

/* Copy a `files.Found` whose owner is that of the plan, and which is like most files. */
static enum outcome take_found(PyObject *found, const struct plan *plan, struct planned *file)
{
    enum outcome outcome = COMMON;
    PyObject *name, *attributes;
    if (!is_record(found, 15)) {
        return FAILED;
    }
    name = PyTuple_GetItem(found, 0);
    attributes = PyTuple_GetItem(found, 13);
    if (fold(&outcome, name_of(name, &file->name)) ||
        fold(&outcome, integer(found, 1, &file->mode)) ||
        fold(&outcome, integer(found, 2, &file->uid)) ||
        fold(&outcome, integer(found, 3, &file->gid)) ||
        fold(&outcome, integer(found, 4, &file->size)) ||
        fold(&outcome, integer(found, 5, &file->mtime_ns)) ||
        fold(&outcome, integer(found, 9, &file->links)) ||
        fold(&outcome, integer(found, 11, &file->blocks)) ||
        fold(&outcome, integer(found, 12, &file->file_flags)) ||
        fold(&outcome, integer(found, 14, &file->error))) {
        return FAILED;
    }
    if (!PyBytes_Check(attributes)) {
        PyErr_SetString(PyExc_TypeError, "attributes are not bytes");
        return FAILED;
    }
    if (outcome != COMMON || !S_ISREG((mode_t)file->mode) || file->error || file->links != 1 ||
        PyBytes_Size(attributes) != 0 || file->uid != plan->uid || file->gid != plan->gid ||
        file->size < 0 || (file->size >= plan->least_large && plan->is_new == Py_None) ||
        file->mtime_ns == INT64_MIN ||
        file->file_flags < 0 || file->file_flags > UINT32_MAX || file->blocks < 0 ||
        file->blocks < (file->size + STAT_BLOCK - 1) / STAT_BLOCK) {
        return UNCOMMON;
    }
    file->name_bytes = PyBytes_Size(name);
    int is_name = file->name_bytes >= 1 && file->name_bytes <= MOST_NAME &&
                  memchr(file->name, '/', (size_t)file->name_bytes) == NULL &&
                  strcmp(file->name, ".") != 0 && strcmp(file->name, "..") != 0;
    if (!is_name || PyObject_Size(plan->leave_out) == 0) {
        return is_name ? COMMON : UNCOMMON;
    }
    PyObject *identity = PyTuple_Pack(2, PyTuple_GetItem(found, 7), PyTuple_GetItem(found, 8));
    int left_out = identity == NULL ? -1 : PySequence_Contains(plan->leave_out, identity);
    Py_XDECREF(identity);
    return left_out < 0 ? FAILED : left_out ? UNCOMMON : COMMON;
}

/* Append to a list, and let go of what was appended; tells whether it was. */
static int append(PyObject *list, PyObject *item)
{
    int added = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return added == 0;
}

/* What a call gives. */
struct outlines {
    PyObject *literals, *wanted, *numbers;
    unsigned char *rows;
    char *names;
    size_t name_bytes;
};

/* Plan one file; it is uncommon if its headers are, or the unit has no room. */
static enum outcome plan_file(struct plan *plan, PyObject *found, const struct planned *file,
                              struct outlines *out, Py_ssize_t number)
{
    unsigned char buffer[BLOCK + MOST_HEADER];
    size_t length = put_headers(buffer + BLOCK, plan, file), zeros = (size_t)plan->zeros;
    int64_t start = plan->at, behind;
    /* What is beyond the room may be too long to add to. */
    if (length == 0 || file->size >= plan->room ||
        file->size + (int64_t)(zeros + length) >= plan->room - start) {
        return UNCOMMON;
    }
    behind = start + (int64_t)(zeros + length);
    if (file->size >= plan->least_large) {
        PyObject *told = PyObject_CallFunction(plan->is_new, "(OKK)", found,
                                               (unsigned long long)plan->row,
                                               (unsigned long long)plan->unit_start +
                                                   (unsigned long long)behind);
        int is_new = told == NULL ? -1 : PyObject_IsTrue(told);
        Py_XDECREF(told);
        if (is_new <= 0) {
            return is_new < 0 ? FAILED : UNCOMMON;
        }
    }
    memset(buffer + BLOCK - zeros, 0, zeros);
    if (!append(out->literals, Py_BuildValue("(Ly#)", (long long)start, buffer + BLOCK - zeros,
                                             (Py_ssize_t)(zeros + length)))) {
        return FAILED;
    }
    if (file->size &&
        (!append(out->wanted, Py_BuildValue("(OiLL)", found, 0, (long long)file->size,
                                            (long long)behind)) ||
         !append(out->numbers, PyLong_FromUnsignedLongLong(plan->row)))) {
        return FAILED;
    }
    put_row(out->rows + (size_t)number * ROW_BYTES, plan, file,
            file->size ? plan->unit_start + (uint64_t)behind : 0);
    memcpy(out->names + out->name_bytes, file->name, (size_t)file->name_bytes);
    out->name_bytes += (size_t)file->name_bytes;
    plan->name_offset += (uint64_t)file->name_bytes;
    plan->row += 1;
    plan->at = behind + file->size;
    plan->zeros = (BLOCK - file->size % BLOCK) % BLOCK;
    return COMMON;
}

PyDoc_STRVAR(plan_files_doc,
             "plan_files(found, first, prefix, parent, row, name_offset, unit_start, at, zeros,\n"
             "           room, owner, least_large, is_new, leave_out, /)\n--\n\n"
             "Plan files from `first` on, as TreePlanner does one by one, up to the first that is\n"
             "not common. Returns the number of that one; the rows, and their names; the literals,\n"
             "the spans and their rows; the next place in the unit; the zeros before it; and the\n"
             "length of all files.");

static PyObject *plan_files(PyObject *module, PyObject *arguments)
{
    struct plan plan;
    struct outlines out = {NULL, NULL, NULL, NULL, NULL, 0};
    PyObject *given, *found, *result = NULL;
    Py_ssize_t first, number = 0, count;
    unsigned long long parent, row, name_offset, unit_start, file_bytes = 0;
    long long at, zeros, room, uid, gid, least_large;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "Ony#KKKKLLL(LLy#y#)LOO:plan_files", &given, &first,
                          &plan.prefix, &plan.prefix_bytes, &parent, &row, &name_offset,
                          &unit_start, &at, &zeros, &room, &uid, &gid, &plan.user,
                          &plan.user_bytes, &plan.group, &plan.group_bytes, &least_large,
                          &plan.is_new, &plan.leave_out)) {
        return NULL;
    }
    found = PySequence_Tuple(given);
    if (found == NULL) {
        return NULL;
    }
    count = PyTuple_Size(found) - first;
    if (first < 0 || count < 0 || at < 0 || zeros < 0 || zeros >= BLOCK || least_large < 0 ||
        room < at || PyObject_Size(plan.leave_out) < 0) {
        PyErr_SetString(PyExc_TypeError, "there is no such file, or no such place");
        Py_DECREF(found);
        return NULL;
    }
    plan.parent = parent;
    plan.row = row;
    plan.name_offset = name_offset;
    plan.unit_start = unit_start;
    plan.at = at;
    plan.zeros = zeros;
    plan.room = room;
    plan.uid = uid;
    plan.gid = gid;
    plan.least_large = least_large;
    /* What does not fit into a header without pax is not common. */
    if (uid < 0 || uid > TAR_MOST_ID || gid < 0 || gid > TAR_MOST_ID ||
        plan.user_bytes > TAR_OWNER_NAME_BYTES || plan.group_bytes > TAR_OWNER_NAME_BYTES) {
        count = 0;
    }
    out.literals = PyList_New(0);
    out.wanted = PyList_New(0);
    out.numbers = PyList_New(0);
    out.rows = PyMem_Malloc((size_t)count * ROW_BYTES + 1);
    out.names = PyMem_Malloc((size_t)count * MOST_NAME + 1);
    if (out.literals == NULL || out.wanted == NULL || out.numbers == NULL) {
        goto end;
    }
    if (out.rows == NULL || out.names == NULL) {
        PyErr_NoMemory();
        goto end;
    }
    for (; number < count; number++) {
        struct planned file;
        PyObject *item = PyTuple_GetItem(found, first + number);
        enum outcome outcome = take_found(item, &plan, &file);
        if (outcome == COMMON) {
            outcome = plan_file(&plan, item, &file, &out, number);
        }
        if (outcome == FAILED) {
            goto end;
        }
        if (outcome == UNCOMMON) {
            break;
        }
        file_bytes += (unsigned long long)file.size;
    }
    result = Py_BuildValue("(ny#y#OOOLLK)", first + number, out.rows, number * ROW_BYTES,
                           out.names, (Py_ssize_t)out.name_bytes, out.literals, out.wanted,
                           out.numbers, (long long)plan.at, (long long)plan.zeros, file_bytes);
end:
    PyMem_Free(out.rows);
    PyMem_Free(out.names);
    Py_XDECREF(out.literals);
    Py_XDECREF(out.wanted);
    Py_XDECREF(out.numbers);
    Py_DECREF(found);
    return result;
}

/* --- showing ---------------------------------------------------------------------------------- */

#define KIND_DIRECTORY 3
#define KIND_SYMLINK 4
#define KIND_FIFO 7
#define FLAG_BITS 0x07 /* changed, incomplete, shared: of a file, and no matter of its status */
#define MOST_TARGET 4095
#define BEST_READ 131072

/* What libfuse 3 gives to take a name: fuse_fill_dir_t. */
typedef int (*fill_function)(void *buffer, const char *name, const struct stat *stat, off_t next,
                             int flags);

/* What the rows of a call share. */
struct showing {
    uint64_t parent, strings_offset, content_bytes, rows, sets, first_inode;
    int64_t uid, gid; /* -1 for those of a row */
};

/* Fill in what `fuse.status` tells of a row; it is uncommon where more must be looked at. */
static enum outcome show_row(const unsigned char *row, uint64_t number,
                             const struct showing *showing, struct stat *stat)
{
    uint64_t size = number_at(row, ROW_MEMBER_BYTES, 8), first = number_at(row, ROW_FIRST, 8);
    uint64_t count = number_at(row, ROW_COUNT, 8), mode = number_at(row, ROW_MODE, 2);
    uint64_t links = number_at(row, ROW_LINK_COUNT, 4);
    int kind = row[ROW_KIND], flags = row[ROW_FLAGS];
    if (mode > MODE_BITS || links == 0 || number_at(row, ROW_PARENT, 8) != showing->parent ||
        showing->parent >= number || number_at(row, ROW_RESERVED_1, 2) != 0 ||
        number_at(row, ROW_RESERVED_2, 4) != 0 ||
        number_at(row, ROW_ATTRIBUTES, 4) > showing->sets) {
        return UNCOMMON;
    }
    memset(stat, 0, sizeof *stat);
    if (kind == KIND_FILE) {
        if (flags & ~FLAG_BITS || count != 0 || (first != 0 && size == 0) ||
            first > showing->content_bytes || size > showing->content_bytes - first) {
            return UNCOMMON;
        }
        stat->st_mode = S_IFREG;
        stat->st_blocks = (blkcnt_t)((size + STAT_BLOCK - 1) / STAT_BLOCK);
    } else if (flags != 0) {
        return UNCOMMON;
    } else if (kind == KIND_DIRECTORY) {
        if (size != 0 || count > showing->rows || first > showing->rows - count ||
            (count == 0 ? first != 0 : first <= number)) {
            return UNCOMMON;
        }
        stat->st_mode = S_IFDIR;
    } else if (kind == KIND_SYMLINK) {
        if (size < 1 || size > MOST_TARGET || count != 0) {
            return UNCOMMON;
        }
        stat->st_mode = S_IFLNK;
    } else if (kind == KIND_FIFO && size == 0 && first == 0 && count == 0) {
        stat->st_mode = S_IFIFO;
    } else {
        return UNCOMMON;
    }
    stat->st_mode |= (mode_t)mode;
    stat->st_ino = (ino_t)(showing->first_inode + number);
    stat->st_nlink = (nlink_t)links;
    stat->st_uid = showing->uid < 0 ? (uid_t)number_at(row, ROW_UID, 4) : (uid_t)showing->uid;
    stat->st_gid = showing->gid < 0 ? (gid_t)number_at(row, ROW_GID, 4) : (gid_t)showing->gid;
    stat->st_size = (off_t)size;
    stat->st_blksize = BEST_READ;
    stat->st_mtim = time_of((int64_t)number_at(row, ROW_MTIME, 8));
    stat->st_atim = stat->st_ctim = stat->st_mtim;
    return COMMON;
}

PyDoc_STRVAR(fill_rows_doc,
             "fill_rows(filler, buffer, raw, first, number, strings, strings_offset, position,\n"
             "          flags, parent, content_bytes, rows, sets, first_inode, uid, gid, /)\n--\n\n"
             "Give libfuse the names and the status of rows from `first` on, as long as it takes\n"
             "them, and they are common, and their names rise.\n\n"
             "Returns the first row that was not taken, and whether libfuse took no more.");

static PyObject *fill_rows(PyObject *module, PyObject *arguments)
{
    unsigned long long filler, buffer, number, strings_offset, position, parent, content_bytes;
    unsigned long long rows, sets, first_inode;
    long long uid, gid;
    Py_buffer raw, strings;
    Py_ssize_t at;
    int flags, full = 0;
    char names[2][MOST_NAME + 1] = {"", ""};
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "KKy*nKy*KKiKKKKKLL:fill_rows", &filler, &buffer, &raw, &at,
                          &number, &strings, &strings_offset, &position, &flags, &parent,
                          &content_bytes, &rows, &sets, &first_inode, &uid, &gid)) {
        return NULL;
    }
    struct showing showing = {
        .parent = parent, .strings_offset = strings_offset, .content_bytes = content_bytes,
        .rows = rows, .sets = sets, .first_inode = first_inode, .uid = uid, .gid = gid,
    };
    fill_function fill = (fill_function)(uintptr_t)filler;
    Py_ssize_t end = raw.len / ROW_BYTES;
    if (at < 0 || at > end || filler == 0) {
        PyErr_SetString(PyExc_TypeError, "there is no such row, or nothing that takes it");
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    for (int turn = 0; at < end; at++, turn = !turn) {
        const unsigned char *row = (const unsigned char *)raw.buf + at * ROW_BYTES;
        struct stat stat;
        if (!take_name(row, &strings, strings_offset, names[turn]) ||
            strcmp(names[turn], names[!turn]) <= 0 ||
            show_row(row, number + (uint64_t)at, &showing, &stat) != COMMON) {
            break;
        }
        position++;
        if (fill((void *)(uintptr_t)buffer, names[turn], &stat, (off_t)position, flags)) {
            full = 1;
            break;
        }
    }
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("(nN)", at, PyBool_FromLong(full));
end:
    PyBuffer_Release(&raw);
    PyBuffer_Release(&strings);
    return result;
}

PyDoc_STRVAR(copy_doc, "copy(to, size, pieces, /)\n--\n\n"
                       "Copy pieces, one behind the other, to an address; at most `size` bytes.\n\n"
                       "Returns how many.");

static PyObject *copy(PyObject *module, PyObject *arguments)
{
    unsigned long long to;
    Py_ssize_t size, done = 0, count;
    PyObject *pieces;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "KnO!:copy", &to, &size, &PyList_Type, &pieces)) {
        return NULL;
    }
    for (Py_ssize_t n = 0; n < PyList_Size(pieces) && done < size; n++) {
        Py_buffer piece;
        if (PyObject_GetBuffer(PyList_GetItem(pieces, n), &piece, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        count = piece.len < size - done ? piece.len : size - done;
        Py_BEGIN_ALLOW_THREADS
        memcpy((char *)(uintptr_t)to + done, piece.buf, (size_t)count);
        Py_END_ALLOW_THREADS
        done += count;
        PyBuffer_Release(&piece);
    }
    return PyLong_FromSsize_t(done);
}

/* --- the module ------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"scan", scan, METH_VARARGS, scan_doc},
    {"read_files", read_files, METH_VARARGS, read_files_doc},
    {"restore_rows", restore_rows, METH_VARARGS, restore_rows_doc},
    {"plan_files", plan_files, METH_VARARGS, plan_files_doc},
    {"fill_rows", fill_rows, METH_VARARGS, fill_rows_doc},
    {"copy", copy, METH_VARARGS, copy_doc},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module)
{
    return PyModule_AddIntConstant(module, "REVISION", REVISION);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "onggi.archive._native", NULL, 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
