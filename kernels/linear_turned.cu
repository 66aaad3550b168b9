/* The shapes of linear_turned.cuh that the product has: as many columns as there are rows of
 * activations, rounded up; slots fill 200 KB of shared memory. */
#include "kernels/linear_turned.cuh"

using namespace turned;

int linear_turned(const struct gpu *g, const struct product *p)
{
    if (p->rows <= 16)
        return launch_turned<struct shape<16, 11>>(g, p);
    if (p->rows <= 32)
        return launch_turned<struct shape<32, 10>>(g, p);
    if (p->rows <= 64)
        return launch_turned<struct shape<64, 8>>(g, p);
    if (p->rows <= 128)
        return launch_turned<struct shape<128, 6>>(g, p);
    if (p->rows <= 192)
        return launch_turned<struct shape<192, 5>>(g, p);
    return launch_turned<struct shape<256, 4>>(g, p);
}
