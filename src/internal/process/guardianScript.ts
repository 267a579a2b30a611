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
  for pgid in $groups; do kill "-$1" "-$pgid"; done
}

# Forgets the groups that are gone, since their ids may be taken anew.
forget_gone() {
  living=
  for pgid in $groups; do kill -0 "-$pgid" && living="$living $pgid"; done
  groups=$living
}

# Signals each group that has a member with the mark, unless it is one of $groups, and makes it one: such are jobs that
# were never registered, and what has left the group of its job. Finds nothing where there is no /proc.
signal_marked() {
  marked=
  # In "command eval" a fork that fails is an error like any other; elsewhere dash and ash would leave.
  command eval 'marked=$(grep -ls -- "$mark" /proc/[0-9]*/environ)'
  for environ in $marked; do
    pgid=
    read_pgid <"\${environ%environ}stat"
    [ "$pgid" -gt 1 ] || continue
    case "$groups " in *" $pgid "*) continue ;; esac
    groups="$groups $pgid"
    kill "-$1" "-$pgid"
    kill -CONT "-$pgid"
  done
}

# State, parent and group follow the program's name, which may contain anything.
read_pgid() {
  stat=
  while read -r line; do stat=$line; done
  set -- \${stat##*) }
  pgid=$3
}

pause() {
  command eval 'sleep 0.1'
}

kill_cgroup() {
  [ ! "$cgroup" ] || echo 1 >"$cgroup/cgroup.kill"
}

# bash leaves at a fork that fails even so: then at least the groups and the cgroup are killed.
trap 'signal_groups KILL; kill_cgroup' EXIT

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
tries=8
while [ "$tries" -gt 0 ]; do
  signal_marked TERM
  forget_gone
  [ "$groups" ] || break
  tries=$((tries - 1))
  pause || break
done
signal_groups KILL
kill_cgroup

# A process that is in its exec shows no environment, and one that forks may slip through a pass: the sweep is over after
# five passes in a row without a find, or after a hundred.
empty=0 passes=0
while [ "$empty" -lt 5 ] && [ "$passes" -lt 100 ]; do
  groups=
  signal_marked KILL
  if [ "$groups" ]; then empty=0; else empty=$((empty + 1)); fi
  passes=$((passes + 1))
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
