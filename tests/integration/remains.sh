# What is on a node, as lines that are the same before and after steps that leave nothing behind.
# Root runs it there; the argument is the job that goes on meanwhile.
store=/srv/hpcimg/store
ps -eo user:16,args | grep -Ev '\] *$|ps -eo|sed |bash -s|sort|grep|sleep|slurmctld|docker-registry|^munge' |
    sed 's/^/process /'
sed -E 's/^[0-9]+ [0-9]+ [0-9:]+ /mount /' /proc/1/mountinfo
find /run/hpcimg /tmp /dev/shm /var/spool/slurmd -path "*cred*" -prune -o -print | sed 's/^/file /'
losetup -anO NAME,BACK-FILE | sed 's/^/loop /'
find /sys/fs/cgroup -path '*slurm*' -type d 2>/dev/null | grep -E "step_|job_" | grep -v "job_$1\$" |
    sed 's/^/group /'
find $store/leases $store/locks $store/tmp -type f ! -empty 2>/dev/null | sed 's/^/store /'
ls -l /proc/"$(cat /run/slurmd.pid)"/fd | sed -E 's/.* -> /descriptor /; s/:\[[0-9]+\]//'
