/* The numbers by which programs find their GPUs, where a task sees the step's GPUs alone. */
#ifndef HPCIMG_GPU_NUMBERS_H
#define HPCIMG_GPU_NUMBERS_H

/* Write Slurm's numbers in the environment as places in `order`, the step's numbers: of "1,3" they
 * are 0 and 1. A variable with any other word in it stays as it is: it may hold UUIDs. */
void renumber_gpus(const char *order);

#endif
