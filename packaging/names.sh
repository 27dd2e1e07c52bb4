# What both kinds of package are called after: to be read by a shell in the checkout.
# shellcheck shell=sh disable=SC2034 # the reader uses them
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' hpcimg/__init__.py)

# "24.11" of the headers that the plugin is compiled with, and the release that follows it at soonest:
# Slurm loads a plugin of its own major and minor release alone.
slurm_number=$(printf '#include <slurm/slurm.h>\nSLURM_VERSION_NUMBER\n' | cc -E -P - | tail -n 1)
case $slurm_number in
0x*) ;;
*)
    echo "hpcimg: Slurm's headers are missing: install libslurm-dev (Debian) or slurm-devel" >&2
    exit 1
    ;;
esac
slurm_minor=$((slurm_number >> 8 & 255))
slurm=$(printf '%d.%02d' $((slurm_number >> 16)) "$slurm_minor")
slurm_next=$(printf '%d.%02d' $((slurm_number >> 16)) $((slurm_minor + 1)))
