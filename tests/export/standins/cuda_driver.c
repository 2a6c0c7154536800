/* The entry points of CUDA's driver that the package calls, with host memory for device memory.
   Copies are checked against the allocations, so that a wrong size or address is an error. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, MOST = 256 };
static struct { char *address; size_t size; } blocks[MOST];
static int ready;

static int inside(uint64_t device, size_t size) {
  for (int i = 0; i < MOST; i++)
    if (blocks[i].address && device >= (uint64_t)blocks[i].address &&
        device + size <= (uint64_t)blocks[i].address + blocks[i].size)
      return 1;
  return 0;
}

int cuInit(unsigned flags) { ready = 1; return flags ? INVALID_VALUE : SUCCESS; }
int cuDeviceGet(int *device, int number) { *device = number; return ready ? SUCCESS : NOT_INITIALIZED; }
int cuDeviceGetName(char *name, int room, int device) {
  strncpy(name, device == 0 ? "Stand-in GPU" : "?", room);
  return SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 9 : -1;
  return device;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &ready; return device; }
int cuCtxSetCurrent(void *context) { return context == &ready ? SUCCESS : INVALID_VALUE; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = &blocks; return flags; }
int cuStreamSynchronize(void *stream) { return stream == &blocks ? SUCCESS : INVALID_VALUE; }
int cuMemAlloc_v2(uint64_t *device, size_t size) {
  if (size == 0) return INVALID_VALUE;
  if (size >= (size_t)1 << 40) return OUT_OF_MEMORY;
  for (int i = 0; i < MOST; i++)
    if (!blocks[i].address) {
      blocks[i].address = malloc(size);
      blocks[i].size = size;
      *device = (uint64_t)blocks[i].address;
      return SUCCESS;
    }
  return OUT_OF_MEMORY;
}
int cuMemFree_v2(uint64_t device) {
  for (int i = 0; i < MOST; i++)
    if (blocks[i].address == (char *)device) {
      free(blocks[i].address);
      blocks[i].address = 0;
      return SUCCESS;
    }
  return INVALID_VALUE;
}
int cuMemcpyHtoDAsync_v2(uint64_t device, const void *host, size_t size, void *stream) {
  if (stream != &blocks || !inside(device, size)) return INVALID_VALUE;
  memcpy((void *)device, host, size);
  return SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void *host, uint64_t device, size_t size, void *stream) {
  if (stream != &blocks || !inside(device, size)) return INVALID_VALUE;
  memcpy(host, (void *)device, size);
  return SUCCESS;
}
int cuGetErrorString(int code, const char **text) {
  *text = code == OUT_OF_MEMORY ? "out of memory" : "invalid argument";
  return SUCCESS;
}
