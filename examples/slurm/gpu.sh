#!/bin/bash
#SBATCH --job-name=gpu
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --output=gpu.out
# The job has a GPU, so every step gets the build for that GPU.
set -euo pipefail

srun --container qnib/bench bench
