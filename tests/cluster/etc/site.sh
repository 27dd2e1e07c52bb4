#!/bin/sh
# Runs once inside the tree: the site's accounts and what its nodes have that Debian does not ship.
set -eu
here=/mnt/cluster

groupadd -g 1001 alice
groupadd -g 1002 bob
groupadd -g 1100 physics
groupadd -g 1101 project1
useradd -u 1001 -g alice -G physics,project1 -M -d /home/alice -s /bin/bash alice
useradd -u 1002 -g bob -G physics -M -d /home/bob -s /bin/bash bob
groupadd -r -g 980 hpcimg
useradd -r -u 980 -g hpcimg -M -d /srv/hpcimg -s /usr/sbin/nologin hpcimg
# The Slurm packages' own account writes the controller's state.
install -d -o slurm -g slurm -m 0755 /var/spool/slurmctld
install -d -m 0755 /var/spool/slurmd /srv/hpcimg /etc/slurm /etc/hpcimg

cat >/etc/hosts <<'HOSTS'
127.0.0.1 localhost
192.0.2.1 login registry
192.0.2.11 bdw1
192.0.2.12 skx1
192.0.2.13 zen1
192.0.2.14 gpu1
HOSTS
: >/etc/resolv.conf

# These nodes have shared memory and Ethernet, and Open MPI shall not look for more.
printf 'pml = ob1\nbtl = self,sm,tcp\n' >>/etc/openmpi/openmpi-mca-params.conf

install -D -m 0755 $here/etc/init.sh /usr/local/libexec/cluster/init
install -D -m 0644 $here/etc/registry.yml /etc/docker/registry/config.yml
install -D -m 0644 $here/etc/nvml-stub /usr/local/lib/cluster/nvml-stub
if [ -f $here/nvml_stub.c ]; then
    gcc -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 \
        -o /usr/local/lib/cluster/libnvidia-ml.so.1 $here/nvml_stub.c
fi
if [ -f $here/cuda_stub.c ]; then
    gcc -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -Wl,-soname,libcuda.so.1 \
        -o /usr/local/lib/cluster/libcuda.so.396.44 $here/cuda_stub.c
fi
install -d /usr/local/lib/cluster/mpich
for source in "$here"/images/*.c; do
    [ -f "$source" ] || continue
    name=$(basename "$source" .c)
    set -- -std=gnu11 -O2 -Wall -Wextra -Werror "$source" -o
    mpicc "$@" "/usr/local/bin/$name"
    mpicc.mpich "$@" "/usr/local/lib/cluster/mpich/$name"
done
cp -R $here/images /usr/local/lib/cluster/images
