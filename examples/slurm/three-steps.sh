#!/bin/bash
#SBATCH --job-name=three-steps
#SBATCH --nodes=2
#SBATCH --output=three-steps.out
# Three steps, three images. The script itself runs on the host.
set -euo pipefail

echo "prepare:"
srun --nodes=1 --ntasks=1 --container qnib/plain-featuretest:generic bench
echo "compute:"
srun --ntasks-per-node=1 --container qnib/bench bench
echo "combine:"
srun --mpi=pmix --ntasks-per-node=1 --container mpi mpihello
