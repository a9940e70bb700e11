/* Checks a max pooling in C against the golden corpus, without Python, zip or JSON.

       python -m pooling.testing export corpus
       cc -O2 -std=c99 -o corpus_reader examples/corpus_reader.c && ./corpus_reader corpus

   Every line of cases.tsv is a call and where its arrays lie: "float32@128:2,8,11,3" is an array of that type and shape
   whose cells begin at byte 128 of the case's file. All two-dimensional max poolings of float32 are asked, under every order
   of the axes. Put your own kernel in the place of max_pool. The machine must be little-endian, as the files are. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 64, AXES = 4 };
static const char LETTERS[] = "NCHW";
static char *heading[COLUMNS], *cell[COLUMNS];

typedef struct {
    long long size[AXES], stride[AXES]; /* N, C, H, W: in cells, wherever they stand in memory */
    float *data;
} Array;

static void fail(const char *what, const char *which) {
    fprintf(stderr, "%s: %s\n", what, which);
    exit(2);
}

static void split(char *line, char **into) {
    for (int i = 0; i < COLUMNS; i++) into[i] = "";
    for (int i = 0; i < COLUMNS && line; i++) {
        into[i] = line;
        line = strpbrk(line, "\t\n");
        if (line) *line++ = 0;
    }
}

static char *get(const char *name) {
    for (int i = 0; i < COLUMNS; i++)
        if (!strcmp(heading[i], name)) return cell[i];
    fail("cases.tsv has no column", name);
    return NULL;
}

static void numbers(const char *name, long long *into, int count) {
    char *text = get(name);
    for (int i = 0; i < count; i++) {
        into[i] = strtoll(text, &text, 10);
        if (*text == ',') text++;
    }
}

static Array load(const char *folder, const char *name) {
    char path[1024];
    Array array;
    char *text = strchr(get(name), '@');
    if (!text) fail("no array", name);
    long offset = strtol(text + 1, &text, 10);
    long long shape[AXES], cells = 1;
    for (int i = 0; i < AXES; i++) cells *= shape[i] = strtoll(text + 1, &text, 10);
    long long stride = 1;
    for (int i = AXES - 1; i >= 0; i--) { /* "axes" has a letter for each axis, as NHWC */
        const char *axis = strchr(LETTERS, get("axes")[i]);
        if (!axis) fail("unknown axes", get("axes"));
        array.size[axis - LETTERS] = shape[i];
        array.stride[axis - LETTERS] = stride;
        stride *= shape[i];
    }
    snprintf(path, sizeof path, "%s/%s", folder, get("file"));
    FILE *file = fopen(path, "rb");
    array.data = malloc(cells ? (size_t)cells * sizeof(float) : 1);
    if (!file || !array.data || fseek(file, offset, SEEK_SET)) fail("cannot read", path);
    if (fread(array.data, sizeof(float), (size_t)cells, file) != (size_t)cells) fail("too short", path);
    fclose(file);
    return array;
}

static float *at(const Array *a, long long n, long long c, long long h, long long w) {
    return a->data + n * a->stride[0] + c * a->stride[1] + h * a->stride[2] + w * a->stride[3];
}

/* The first tap of a window that lies in the data, and the one behind the last: taps outside are not visited. */
static void clip(long long start, long long cells, long long kernel, long long dilation, long long *first, long long *end) {
    *first = start < 0 ? (-start + dilation - 1) / dilation : 0;
    *end = start < cells ? (cells - 1 - start) / dilation + 1 : 0;
    if (*end > kernel) *end = kernel;
}

static void max_pool(const Array *x, Array *y, const long long *kernel, const long long *stride, const long long *before,
                     const long long *dilation) {
    for (long long n = 0; n < y->size[0]; n++)
        for (long long c = 0; c < y->size[1]; c++)
            for (long long h = 0; h < y->size[2]; h++)
                for (long long w = 0; w < y->size[3]; w++) {
                    long long top = h * stride[0] - before[0], left = w * stride[1] - before[1], i, j, i1, j0, j1;
                    float best = -1.0f / 0.0f; /* of a window without a cell */
                    clip(top, x->size[2], kernel[0], dilation[0], &i, &i1);
                    clip(left, x->size[3], kernel[1], dilation[1], &j0, &j1);
                    for (; i < i1; i++)
                        for (j = j0; j < j1; j++) {
                            float v = *at(x, n, c, top + i * dilation[0], left + j * dilation[1]);
                            if (v > best || v != v) best = v; /* a NaN is never left again */
                        }
                    *at(y, n, c, h, w) = best;
                }
}

int main(int argc, char **argv) {
    char path[1024], first[4096], line[4096];
    int cases = 0, wrong = 0;
    if (argc != 2) fail("usage", "corpus_reader FOLDER");
    snprintf(path, sizeof path, "%s/cases.tsv", argv[1]);
    FILE *table = fopen(path, "r");
    if (!table || !fgets(first, sizeof first, table)) fail("cannot read", path);
    split(first, heading);
    while (fgets(line, sizeof line, table)) {
        split(line, cell);
        if (strcmp(get("function"), "pool") || strcmp(get("mode"), "max") || strlen(get("axes")) != AXES) continue;
        if (strncmp(get("x"), "float32@", 8) || strncmp(get("expected"), "float32@", 8)) continue;
        long long kernel[2], stride[2], padding[4], dilation[2];
        numbers("kernel", kernel, 2);
        numbers("stride", stride, 2);
        numbers("padding", padding, 4); /* before and after H, before and after W */
        numbers("dilation", dilation, 2);
        long long before[2] = {padding[0], padding[2]};
        Array x = load(argv[1], "x"), want = load(argv[1], "expected"), got = want;
        long long cells = got.size[0] * got.size[1] * got.size[2] * got.size[3], differ = 0;
        got.data = malloc(cells ? (size_t)cells * sizeof(float) : 1);
        if (!got.data) fail("no memory for", get("name"));
        max_pool(&x, &got, kernel, stride, before, dilation);
        for (long long i = 0; i < cells; i++) {
            float a = got.data[i], b = want.data[i];
            if (a != b && (a == a || b == b) && !differ++)
                printf("%s: cell %lld is %.9g, not %.9g\n", get("name"), i, a, b);
        }
        cases++;
        wrong += differ > 0;
        free(x.data), free(want.data), free(got.data);
    }
    fclose(table);
    printf("%d cases, %d of them wrong\n", cases, wrong);
    return wrong || !cases;
}
