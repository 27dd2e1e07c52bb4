/* Slurm's control groups of a step, for the processes that Slurm has not started there itself. */
#ifndef HPCIMG_GROUPS_H
#define HPCIMG_GROUPS_H

#include <stddef.h>
#include <sys/types.h>

struct process {
    pid_t pid;
    unsigned long long start; /* by which a pid that was used again is told */
};

/* Root: move processes to the groups of the step whose task this is. */
void join_groups_of(pid_t task, const struct process *processes, size_t count);

/* Root: move this process to the groups of a step of its job, as far as Slurm has made them and
 * the process is not there: what it starts then ends with the step, whatever it starts. */
void join_step(const char *step);

/* Root, when a step's last task has ended: end what the user has in slurmstepd's own group, where
 * version 2 keeps what a plugin has started; Slurm ends only what is in those of the tasks. */
void end_beside(uid_t uid);

#endif
