/* A program of a user's, as CUDA's runtime would start: it loads the driver's library by its name
 * and prints the version that it speaks and the device files of the GPUs it finds. */
#include <dlfcn.h>
#include <stdio.h>

int main(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    int version = 0, count = 0, code;

    if (library == NULL) {
        printf("no driver: %s\n", dlerror());
        return 1;
    }
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(library, "cuInit");
    int (*get_version)(int *) = (int (*)(int *))dlsym(library, "cuDriverGetVersion");
    int (*get_count)(int *) = (int (*)(int *))dlsym(library, "cuDeviceGetCount");
    int (*device_file)(int) = (int (*)(int))dlsym(library, "stubDeviceFile");
    code = init(0);
    get_version(&version);
    get_count(&count);
    printf("cuda %d, code %d:", version, code);
    for (int device = 0; device < count; device++)
        printf(" nvidia%d", device_file(device));
    printf("\n");
    return 0;
}
