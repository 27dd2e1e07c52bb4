// A GPU node's libnvidia-ml.so.1 without a GPU: answers the NVML calls that a probe makes from
// the lines of /etc/nvml-stub ("key value"), read anew at each initialisation.
//   count N  name TEXT  capability M.N[ M.N...] (one a device, the last repeats)  driver TEXT
//   cuda N   mig off|on|unsupported (on: each device has two slices)   error CODE (initialisation fails)   hang SECONDS (before it)

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    MAX_DEVICES = 16,
    SLICES = 2,
};

typedef int nvmlReturn_t;
/* A slice's handle has the number of its device and its own from 1 up; a device's has 0 there. */
typedef struct {
    unsigned index, slice;
} * nvmlDevice_t;

static struct {
    int is_ready;
    unsigned count;
    int cuda;
    char name[80], capability[80], driver[80], mig[80];
} stub;

static struct {
    unsigned index, slice;
} devices[MAX_DEVICES * (1 + SLICES)];

static const struct {
    int code;
    const char *text;
} errors[] = {
    {NVML_SUCCESS, "Success"},
    {NVML_ERROR_UNINITIALIZED, "Uninitialized"},
    {NVML_ERROR_INVALID_ARGUMENT, "Invalid Argument"},
    {NVML_ERROR_NOT_SUPPORTED, "Not Supported"},
    {NVML_ERROR_NOT_FOUND, "Not Found"},
    {NVML_ERROR_INSUFFICIENT_SIZE, "Insufficient Size"},
    {NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded"},
};

static nvmlReturn_t take(const char *key, const char *value)
{
    if (strcmp(key, "count") == 0)
        stub.count = (unsigned)atoi(value) < MAX_DEVICES ? (unsigned)atoi(value) : MAX_DEVICES;
    else if (strcmp(key, "cuda") == 0)
        stub.cuda = atoi(value);
    else if (strcmp(key, "name") == 0)
        snprintf(stub.name, sizeof stub.name, "%s", value);
    else if (strcmp(key, "capability") == 0)
        snprintf(stub.capability, sizeof stub.capability, "%s", value);
    else if (strcmp(key, "driver") == 0)
        snprintf(stub.driver, sizeof stub.driver, "%s", value);
    else if (strcmp(key, "mig") == 0)
        snprintf(stub.mig, sizeof stub.mig, "%s", value);
    else if (strcmp(key, "hang") == 0)
        sleep((unsigned)atoi(value));
    else if (strcmp(key, "error") == 0)
        return atoi(value);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    FILE *file = fopen("/etc/nvml-stub", "re");
    if (!file)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    memset(&stub, 0, sizeof stub);
    char key[32], value[80];
    nvmlReturn_t result = NVML_SUCCESS;
    while (result == NVML_SUCCESS && fscanf(file, "%31s %79[^\n]", key, value) == 2)
        result = take(key, value);
    fclose(file);
    for (unsigned i = 0; i < MAX_DEVICES * (1 + SLICES); i++) {
        devices[i].index = i % MAX_DEVICES;
        devices[i].slice = i / MAX_DEVICES;
    }
    stub.is_ready = result == NVML_SUCCESS;
    return result;
}

nvmlReturn_t nvmlInit_v2(void)
{
    return nvmlInitWithFlags(0);
}

nvmlReturn_t nvmlShutdown(void)
{
    nvmlReturn_t result = stub.is_ready ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
    stub.is_ready = 0;
    return result;
}

const char *nvmlErrorString(nvmlReturn_t code)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "Unknown Error";
}

static nvmlReturn_t answer(const char *text, char *buffer, unsigned length)
{
    if (!stub.is_ready)
        return NVML_ERROR_UNINITIALIZED;
    if (strlen(text) >= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    return answer(stub.driver, version, length);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    *version = stub.cuda;
    return stub.is_ready ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    return nvmlSystemGetCudaDriverVersion(version);
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = stub.count;
    return stub.is_ready ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    if (!stub.is_ready)
        return NVML_ERROR_UNINITIALIZED;
    if (index >= stub.count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = (nvmlDevice_t)&devices[index];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
    (void)device;
    return answer(stub.name, name, length);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *number)
{
    *number = device->index;
    return stub.is_ready ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
    char text[64];
    snprintf(text, sizeof text, "%s-00000000-0000-0000-%04u-%012u", device->slice ? "MIG" : "GPU",
             device->slice, device->index);
    return answer(text, uuid, length);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    unsigned index = 0;
    if (sscanf(uuid, "GPU-00000000-0000-0000-0000-%u", &index) != 1 || index >= stub.count)
        return NVML_ERROR_NOT_FOUND;
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    const char *at = stub.capability;
    for (unsigned i = 0; i < device->index && strchr(at, ' '); i++)
        at = strchr(at, ' ') + 1;
    if (sscanf(at, "%d.%d", major, minor) != 2)
        return NVML_ERROR_NOT_SUPPORTED;
    return stub.is_ready ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    (void)device;
    if (strcmp(stub.mig, "on") != 0 && strcmp(stub.mig, "off") != 0)
        return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = strcmp(stub.mig, "on") == 0;
    return stub.is_ready ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    (void)device;
    *count = strcmp(stub.mig, "on") == 0 ? SLICES : 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned at,
                                                 nvmlDevice_t *slice)
{
    if (at >= SLICES)
        return NVML_ERROR_NOT_FOUND;
    *slice = (nvmlDevice_t)&devices[(at + 1) * MAX_DEVICES + device->index];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t slice, unsigned *number)
{
    *number = slice->slice;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t slice, unsigned *number)
{
    (void)slice;
    *number = 0;
    return NVML_SUCCESS;
}
