/* kernels/cpu_amx.c over a model of the tile registers: linked in front of the real one, it makes
 * its table one of this machine's, and every test of the tables runs it. */

#include "tests/amx_model.h"

#include "kernels/cpu_amx.c"
