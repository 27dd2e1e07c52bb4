#!/bin/sh
# A room: own network, mounts, processes and control groups, in which daemons and clients of
# images leave nothing behind. It ends when its standard input does, with all that runs in it.
#   room.sh NAME    prints the first process's number in the machine's own count
set -eu
name=$1
hierarchies=$(awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo)

make_groups() {
    for hierarchy in $hierarchies; do
        mkdir "$hierarchy/$name"
        # A new cpuset is empty, and nothing can join an empty one.
        for file in cpuset.cpus cpuset.mems; do
            if [ -e "$hierarchy/tasks" ] && [ -e "$hierarchy/$file" ]; then
                cat "$hierarchy/$file" >"$hierarchy/$name/$file"
            fi
        done
    done
}

join_groups() {
    for hierarchy in $hierarchies; do
        sh -c 'echo $PPID' >"$hierarchy/$name/cgroup.procs"
    done
}

remove_groups() {
    for hierarchy in $hierarchies; do
        # The kernel lets the last process go a moment after it died.
        tries=100
        while [ -e "$hierarchy/$name" ] && [ "$tries" -gt 0 ]; do
            find "$hierarchy/$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
            if [ -e "$hierarchy/$name" ]; then sleep 0.05; fi
            tries=$((tries - 1))
        done
    done
}

if [ "${2:-}" = inside ]; then
    read -r pid _ </proc/self/stat # the old /proc still counts as the machine does
    for hierarchy in $hierarchies; do mount --bind "$hierarchy/$name" "$hierarchy"; done
    mount -t proc proc /proc
    # What the programs keep outside the folders that they are told, as sockets of shims and keys.
    for folder in /run /var/lib /var/tmp; do mount -t tmpfs tmpfs "$folder"; done
    mkdir /var/tmp/etc /var/tmp/work
    mount -t overlay -o lowerdir=/etc,upperdir=/var/tmp/etc,workdir=/var/tmp/work overlay /etc
    ip link set lo up
    # Set aside for documentation: docker looks at no certificate of the loopback's own addresses.
    ip addr add 192.0.2.1/32 dev lo
    echo "$pid"
    exec >/dev/null
    cat
    exit
fi

trap remove_groups EXIT
make_groups
(
    join_groups
    exec unshare --net --mount --propagation private --ipc --uts --pid --cgroup --fork --kill-child \
        sh "$0" "$name" inside
)
