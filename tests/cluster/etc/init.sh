#!/bin/sh
# PID 1 of a node, after its disk, devices and hardware are in place: network, services, then reaping.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
address=$1
name=$(hostname)

ip link set lo up
ip addr add "$address/24" dev eth0
ip link set eth0 up
busybox syslogd -O /var/log/syslog

install -d -o munge -g munge -m 0755 /run/munge
install -d -o munge -g munge -m 0700 /var/log/munge /var/lib/munge
runuser -u munge -- munged --num-threads=2 --syslog

# A GPU's driver has put its libraries there.
[ ! -e /usr/lib/x86_64-linux-gnu/libcuda.so.396.44 ] || ldconfig

if [ "$name" = login ]; then
    install -d -o slurm -g slurm /var/spool/slurmctld
    setsid docker-registry serve /etc/docker/registry/config.yml >/var/log/registry.log 2>&1 &
    slurmctld || exit 1
else
    # A node tells the site what hardware it has before it takes jobs.
    [ ! -x /usr/local/bin/hpcimg ] || hpcimg node publish >/var/log/publish.log 2>&1
    slurmd || exit 1
fi
: >/run/ready
# Children that lost their parents end up here; wait collects them.
sleep infinity &
wait
