/* A stand-in for libnvidia-ml: answers about GPUs that a test describes, fails or hangs as it is told. */

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, MOST = 32 };

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } Process;
typedef struct { char call[64]; int code; volatile int hangs; } Fault;

static int gpu_count = 0;
static Fault faults[MOST];
static int fault_count = 0;
static Process processes[MOST];
static unsigned int process_count = 0;
static int calls = 0;

void fake_reset(int gpus) {
    for (int i = 0; i < MOST; i++) faults[i].hangs = 0;
    gpu_count = gpus;
    fault_count = 0;
    process_count = 0;
    calls = 0;
}

void fake_fault(const char *call, int code, int hangs) {
    Fault *fault = &faults[fault_count];
    snprintf(fault->call, sizeof fault->call, "%s", call);
    fault->code = code;
    fault->hangs = hangs;
    fault_count++;
}

void fake_release(void) {
    for (int i = 0; i < MOST; i++) faults[i].hangs = 0;
}

void fake_process(unsigned int pid, unsigned long long used) {
    processes[process_count++] = (Process){pid, used, 0, 0};
}

int fake_calls(void) { return calls; }

static int obey(const char *call) {
    calls++;
    for (int i = 0; i < fault_count; i++) {
        if (strcmp(faults[i].call, call) != 0) continue;
        struct timespec pause = {0, 5000000};
        while (faults[i].hangs) nanosleep(&pause, NULL);
        return faults[i].code;
    }
    return SUCCESS;
}

#define OBEY()                              \
    int told = obey(__func__);              \
    if (told != SUCCESS) return told

#ifndef WITHOUT_nvmlInitWithFlags
int nvmlInitWithFlags(unsigned int flags) { (void)flags; OBEY(); return SUCCESS; }
#endif
#ifndef WITHOUT_nvmlShutdown
int nvmlShutdown(void) { OBEY(); return SUCCESS; }
#endif
#ifndef WITHOUT_nvmlErrorString
const char *nvmlErrorString(int code) { static char text[32]; snprintf(text, sizeof text, "fault %d", code); return text; }
#endif
#ifndef WITHOUT_nvmlDeviceGetCount_v2
int nvmlDeviceGetCount_v2(unsigned int *count) { OBEY(); *count = gpu_count; return SUCCESS; }
#endif
#ifndef WITHOUT_nvmlDeviceGetHandleByIndex_v2
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    OBEY();
    if ((int)index >= gpu_count) return INVALID_ARGUMENT;
    *device = (void *)(uintptr_t)(index + 1);
    return SUCCESS;
}
#endif
#ifndef WITHOUT_nvmlDeviceGetUUID
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    OBEY();
    unsigned int index = (unsigned int)(uintptr_t)device - 1;
    snprintf(uuid, length, "GPU-%x%07x-0000-0000-0000-000000000000", 0xa + index % 6, index);
    return SUCCESS;
}
#endif
#ifndef WITHOUT_nvmlDeviceGetName
int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    OBEY();
    (void)device;
    snprintf(name, length, "NVIDIA H200");
    return SUCCESS;
}
#endif
#ifndef WITHOUT_nvmlDeviceGetMemoryInfo
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    OBEY();
    unsigned long long index = (unsigned long long)(uintptr_t)device - 1;
    *memory = (Memory){80ull << 30, (80ull - 10 - index) << 30, (10 + index) << 30};
    return SUCCESS;
}
#endif
#ifndef WITHOUT_nvmlDeviceGetComputeRunningProcesses_v3
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, Process *into) {
    OBEY();
    (void)device;
    unsigned int room = *count;
    *count = process_count;
    if (room < process_count) return INSUFFICIENT_SIZE;
    memcpy(into, processes, process_count * sizeof *into);
    return SUCCESS;
}
#endif
