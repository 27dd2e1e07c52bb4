#!/bin/bash
#SBATCH --job-name=mpi
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --container=mpi
#SBATCH --output=mpi.out
# Every srun of this job runs in the image that the job names; Slurm's PMIx wires up the ranks.
set -euo pipefail

srun --mpi=pmix mpihello
