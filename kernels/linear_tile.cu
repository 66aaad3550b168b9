/* The tiles of linear_tile.cuh that the product has. */
#include "kernels/linear_tile.cuh"

using namespace tiles;

int linear_tile_small(const struct gpu *g, const struct product *p)
{
    return launch_tile<struct tile<64, 64, 4, 32, 32>>(g, p);
}

/* 96 KB of shared memory: what the smallest devices in the table have. */
int linear_tile_large(const struct gpu *g, const struct product *p)
{
    return launch_tile<struct tile<128, 128, 3, 64, 32>>(g, p);
}
