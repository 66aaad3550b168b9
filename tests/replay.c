/* Runs a fuzzer's function over every file of the folders given: the corpus as a test in
 * builds without a fuzzing engine. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REPLAY_PATH_MAX = 4096, REPLAY_BYTES_MAX = 64 << 20 };

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) || st.st_size > REPLAY_BYTES_MAX) {
        fprintf(stderr, "%s: cannot be read\n", path);
        if (f)
            fclose(f);
        return 1;
    }
    size_t n = (size_t)st.st_size;
    uint8_t *data = malloc(n ? n : 1); /* exact, so that ASan sees one byte too many */
    int bad = !data || fread(data, 1, n, f) != n;
    fclose(f);
    if (!bad)
        (void)LLVMFuzzerTestOneInput(data, n);
    free(data);
    return bad;
}

static int replay_folder(const char *dir, int *n_files)
{
    DIR *d = opendir(dir);
    if (!d) {
        fprintf(stderr, "%s: no such corpus\n", dir);
        return 1;
    }
    int bad = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        char path[REPLAY_PATH_MAX];
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        bad |= replay_file(path);
        *n_files += 1;
    }
    closedir(d);
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0;
    int n_files = 0;
    for (int i = 1; i < argc; i++)
        bad |= replay_folder(argv[i], &n_files);
    printf("[  %s  ] 1 test(s).\n", bad || n_files == 0 ? "FAILED" : "PASSED");
    printf("%d corpus files\n", n_files);
    return bad || n_files == 0;
}
