/* The choice of a backend, and the only place that knows what was built in. */

#include "kernels/ops.h"

#include "kernels/cpu.h"
#include "kernels/ops_cuda.h"

#include <stdio.h>
#include <string.h>

#ifdef WITH_CUDA
enum { CUDA_BUILT = 1 };

static enum status open_cuda(struct ops **out, char *err, size_t err_size)
{
    return ops_cuda_open(out, err, err_size);
}
#else
enum { CUDA_BUILT = 0 };

static enum status open_cuda(struct ops **out, char *err, size_t err_size)
{
    (void)out;
    (void)snprintf(err, err_size, "this build has no CUDA backend (build with -DWITH_CUDA=ON)");
    return E_UNSUPPORTED;
}
#endif

struct own_bytes ops_own_bytes(const char *backend)
{
    const struct own_bytes cuda = {.device = CUDA_OWN_BYTES, .host = CUDA_HOST_BYTES};
    return strcmp(backend, "cuda") == 0 ? cuda : (struct own_bytes){0, 0};
}

static enum status open_cpu(struct ops **out, int32_t threads, char *err, size_t err_size)
{
    enum status status = ops_cpu_open(out, threads);
    if (status)
        (void)snprintf(err, err_size, "cpu backend: %s", status_text(status));
    return status;
}

enum status ops_open(struct ops **out, const struct ops_options *opt, char *err, size_t err_size)
{
    const char *backend = opt->backend ? opt->backend : "auto";
    if (strcmp(backend, "cpu") == 0)
        return open_cpu(out, opt->threads, err, err_size);
    if (strcmp(backend, "cuda") == 0)
        return open_cuda(out, err, err_size);
    if (strcmp(backend, "auto") != 0) {
        (void)snprintf(err, err_size, "unknown backend (cpu, cuda or auto)");
        return E_INVALID;
    }
    if (open_cuda(out, err, err_size) == OK)
        return OK;
    if (CUDA_BUILT)
        log_line(LOG_INFO, "using the cpu: %s", err);
    if (err_size > 0)
        err[0] = '\0';
    return open_cpu(out, opt->threads, err, err_size);
}
