# Run as root on a node: separate clients that have an image in the site's store, all at once.
# Usage: bash -c THIS _ NAME PLAIN OWN: so many ordinary ones, and so many that see neither the
# others' processes nor their mounts. Prints their numbers on a line, then how each of them ended.
name=$1
as="setpriv --reuid=hpcimg --regid=hpcimg --clear-groups"
own="unshare --pid --mount --fork --kill-child --mount-proc $as"
for ((number = 0; number < $2 + $3; number++)); do
    how=$([ "$number" -lt "$2" ] && echo "$as" || echo "$own")
    $how /opt/hpcimg/bin/hpcimg get "$name" >/dev/null 2>&1 &
    pids="$pids $!"
done
echo "$pids"
for pid in $pids; do
    wait "$pid"
    echo $?
done
