/**
 * The guardian's program, in POSIX sh; `$1` is the assignment by which its jobs are marked, `$2` the cgroup that holds
 * them, or nothing.
 *
 * It reads lines of "slot pgid": from now on this slot holds that process group, or none. The end of its input is the
 * end of its host, and comes no earlier than the `exec` of a job that was just being made, for that holds the pipe too.
 *
 * @internal
 */
export const guardianScript = `
trap '' HUP INT QUIT PIPE TERM
mark=$1 cgroup=$2 slots=0 groups=

signal_groups() {
  for pgid in $groups; do kill -s "$1" -- "-$pgid"; done
}

# Forgets the groups that are gone, since their ids may be taken anew. Fails when none is left.
some_group_lives() {
  living=
  for pgid in $groups; do kill -s 0 -- "-$pgid" && living="$living $pgid"; done
  groups=$living
  [ "$groups" ]
}

# In "command eval", here and below, a fork that fails is an error like any other; elsewhere dash and ash would leave.
pause() {
  command eval 'sleep 0.05'
}

kill_cgroup() {
  [ ! "$cgroup" ] || echo 1 >"$cgroup/cgroup.kill"
}

# Kills every process that carries the mark, with its group. Fails when there is none.
sweep() {
  found=
  command eval 'found=$(grep -lsF -- "$mark" /proc/[0-9]*/environ)'
  for environ in $found; do
    pid=\${environ#/proc/} pid=\${pid%/environ} stat=
    read -r stat <"/proc/$pid/stat"
    set -- \${stat##*) } # what follows the program's name: state, parent, group
    case $3 in [2-9]* | 1?*) kill -s KILL -- "-$3" ;; esac
    kill -s KILL "$pid"
  done
  [ "$found" ]
}

while read -r slot pgid; do
  eval "group$slot=\\$pgid"
  [ "$slot" -lt "$slots" ] || slots=$((slot + 1))
done

slot=0
while [ "$slot" -lt "$slots" ]; do
  eval "groups=\\"\\$groups \\$group$slot\\""
  slot=$((slot + 1))
done

signal_groups TERM
signal_groups CONT
tries=20
while some_group_lives && [ "$tries" -gt 0 ]; do
  tries=$((tries - 1))
  pause
done
signal_groups KILL
kill_cgroup

# A process that is in its exec shows no environment, and one that forks may slip through a pass: the sweep is over after
# eight passes in a row without a find, or after two hundred.
empty=0 passes=0
while [ "$empty" -lt 8 ] && [ "$passes" -lt 200 ]; do
  passes=$((passes + 1))
  if sweep; then empty=0; else empty=$((empty + 1)); fi
  pause
done

# Once more, for what was still on its way into the cgroup; then there is no reason but a slow end to find it busy.
kill_cgroup
tries=20
while [ -d "$cgroup" ] && [ "$tries" -gt 0 ]; do
  command eval 'find "$cgroup" -depth -type d -exec rmdir {} +'
  tries=$((tries - 1))
  pause
done
`
