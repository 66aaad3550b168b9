/* Which of linear_skinny.cuh's shapes stands for how many rows and channels. No choice here changes
 * a bit: a row's sums are the same in all of them. */
#include "kernels/linear_skinny.cuh"

using namespace skinny;

/* Groups of channels share what a block loads of the activations, but make blocks fewer: worth it
 * where there is one for each place on the device, several times. */
static bool wide(const struct gpu *g, const struct product *p, int channels)
{
    enum { WAVES = 2, BLOCKS = 2 };
    return p->w.n / channels >= WAVES * BLOCKS * g->n_multiprocessors;
}

int linear_skinny_q8(const struct gpu *g, const struct product *p)
{
    if (p->rows <= 8 && p->w.n <= 16 * g->n_multiprocessors)
        return launch_skinny<struct shape<struct integers, 1, 1, 8, 1>>(g, p); /* one block each */
    if (p->rows <= 8)
        return launch_skinny<struct shape<struct integers, 1, 1, 4, 2>>(g, p);
    if (p->rows > 16)
        return launch_skinny<struct shape<struct integers, 4, 1, 4, 2>>(g, p);
    if (wide(g, p, 32))
        return launch_skinny<struct shape<struct integers, 2, 2, 2, 2>>(g, p);
    return launch_skinny<struct shape<struct integers, 2, 1, 4, 2>>(g, p);
}

int linear_skinny_exact(const struct gpu *g, const struct product *p)
{
    if (p->rows <= 8)
        return launch_skinny<struct shape<struct exact, 1, 1, 4, 2>>(g, p);
    if (p->rows <= 16)
        return launch_skinny<struct shape<struct exact, 2, 1, 4, 2>>(g, p);
    return launch_skinny<struct shape<struct exact, 4, 1, 4, 1>>(g, p);
}

/* Activations here are four bytes each, and have to be rounded: groups matter more. */
int linear_skinny_half(const struct gpu *g, const struct product *p)
{
    if (p->rows <= 8)
        return wide(g, p, 64) ? launch_skinny<struct shape<struct halves, 1, 4, 1, 2>>(g, p)
                              : launch_skinny<struct shape<struct halves, 1, 1, 4, 2>>(g, p);
    if (p->rows <= 16)
        return wide(g, p, 64) ? launch_skinny<struct shape<struct halves, 2, 4, 2, 1>>(g, p)
                              : launch_skinny<struct shape<struct halves, 2, 1, 4, 2>>(g, p);
    return wide(g, p, 64) ? launch_skinny<struct shape<struct halves, 4, 4, 1, 1>>(g, p)
                          : launch_skinny<struct shape<struct halves, 4, 1, 4, 1>>(g, p);
}
