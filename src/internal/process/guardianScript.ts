/**
 * The guardian's program, in POSIX sh; `$1` is the assignment by which its jobs are marked, `$2` the cgroup that holds
 * them, or nothing.
 *
 * It says "ready" once it knows that this shell can do what it must. Then it reads lines of "slot pgid": from now on this
 * slot holds that process group, or none. The end of its input is the end of its host, and comes no earlier than the
 * `exec` of a job that was just being made, for that holds the pipe too.
 *
 * Sweeps through /proc go on beside it: they may take long, or for ever, where a process is stuck in the kernel, and what
 * it knows by its number has a deadline.
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

# Signals each group that has a member with the mark, unless it is one of $groups, and tells which: such are jobs that were
# never registered, and what has left the group of its job. Each is signalled as soon as it is found, and few processes
# share a grep, for one that hangs hides those after it, and none do where grep keeps what it found until its end. $2 is the
# order of the processes. Finds nothing without a /proc.
signal_marked() {
  at_once=--line-buffered share=100
  echo x | grep -q "$at_once" x || { at_once= share=1; }
  echo /proc/[0-9]*/environ | tr ' ' '\\n' | $2 | xargs -n "$share" -P 16 grep $at_once -ls -- "$mark" | while read -r environ; do
    pgid=
    read_pgid <"\${environ%environ}stat"
    [ "$pgid" -gt 1 ] || continue
    case "$groups " in *" $pgid "*) continue ;; esac
    groups="$groups $pgid"
    kill "-$1" "-$pgid"
    kill -CONT "-$pgid"
    echo "$pgid"
  done
}

# State, parent and group follow the program's name, which may contain anything.
read_pgid() {
  stat=
  while read -r line; do stat=$line; done
  set -- \${stat##*\\) }
  pgid=$3
}

# Asks what carries the mark to end, and waits until all that has been asked is gone, or the grace period is over. Two
# looks: a process that is in its exec shows no environment.
ask_marked() {
  tries=8
  while [ "$tries" -gt 0 ]; do
    found=
    [ "$tries" -lt 7 ] || found=$(signal_marked TERM cat)
    for pgid in $found; do groups="$groups $pgid"; done
    forget_gone
    [ "$groups" ] || break
    tries=$((tries - 1))
    pause
  done
  kill -USR1 "$$"
}

# A process may slip through a pass by its exec or by a fork: the sweep is over after five passes in a row without a find,
# or after a hundred.
kill_marked() {
  empty=0 passes=0
  while [ "$empty" -lt 5 ] && [ "$passes" -lt 100 ]; do
    groups=
    found=$(signal_marked KILL "$1")
    if [ "$found" ]; then empty=0; else empty=$((empty + 1)); fi
    passes=$((passes + 1))
    pause
  done
  kill -USR2 "$$"
}

# In "command eval" a fork that fails is an error like any other; elsewhere dash and ash would leave.
beside() {
  command eval '"$@" &'
}

# Where no process can be made, or "sleep" counts in seconds alone, it is busy for as long: by hundredths of a second since
# the machine was started, or else by turns.
pause() {
  command eval 'sleep 0.1' && return
  begin= turns=200000
  while [ "$turns" -gt 0 ]; do
    now=0
    read -r now rest </proc/uptime && now=\${now%.*}\${now#*.}
    [ "$begin" ] || begin=$now
    [ "$((now - begin))" -lt 10 ] || return
    turns=$((turns - 1))
  done
}

kill_cgroup() {
  [ ! "$cgroup" ] || echo 1 >"$cgroup/cgroup.kill"
}

# A signal to its own group must be heard, and a group that cannot be must not be there. This is for the shell's own "kill":
# one that is a program may take "-123" for "-1", which is everybody.
rehearse() {
  PATH=/dev/null kill -0 "$$" || exit 1
  heard=
  trap 'heard=yes' USR1
  groups=" $$ 999999999"
  signal_groups USR1
  forget_gone
  [ "$heard" ] && [ "$groups" = " $$" ] || exit 1
  groups=
}

rehearse
echo ready
exec >&2

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

asked= swept=
trap 'asked=yes' USR1
trap 'swept=yes' USR2
signal_groups TERM
signal_groups CONT
beside ask_marked
tries=8
while [ "$tries" -gt 0 ]; do
  forget_gone
  [ "$groups" ] || [ ! "$asked" ] || break
  tries=$((tries - 1))
  pause
done
signal_groups KILL
kill_cgroup

# A second sweep, when the first one takes long, goes the other way, to those whom that one does not reach.
groups= sweeping= tries=300
while [ ! "$swept" ] && [ "$tries" -gt 0 ]; do
  [ "$sweeping" ] || { beside kill_marked cat && sweeping=yes; } || [ "$tries" -gt 290 ] || break
  [ "$tries" -ne 280 ] || beside kill_marked 'sort -r'
  tries=$((tries - 1))
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

# A sweep that hangs goes too.
[ "$asked" ] && [ "$swept" ] || kill -KILL "-$$"
`
