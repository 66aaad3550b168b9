#ifndef SIMT_FAULT_H
#define SIMT_FAULT_H

/* Calls of the emulated CUDA runtime are counted, launches too, and one of them can be made to
 * fail: the n-th from now; 0: none. stays: every later call fails too, as after a kernel's fault.
 */
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void simt_fail_call(unsigned n, bool stays);
unsigned simt_calls(void);  /* since then */
unsigned simt_failed(void); /* how many of them failed, but for those that nobody need mind */
long simt_allocations(
    void); /* device and pinned memory, streams, events and graphs that are held */
size_t simt_device_bytes(void); /* of device memory that are held, each piece rounded up as the
                                   driver does */
size_t simt_pinned_bytes(void);
unsigned simt_replays(void); /* graphs launched */
long simt_graphs(void);      /* that may be launched now */
bool simt_fault(void);       /* counts a call; true: it fails */

#ifdef __cplusplus
}
#endif

#endif
