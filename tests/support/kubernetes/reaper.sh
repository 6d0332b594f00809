#!/bin/sh
# Ends the processes of a test program when it is gone, however it went, and removes its folder.
# Usage: reaper.sh FOLDER; standard input: "+ PID START" for each process started, "- PID START" for
# each one collected. The test program holds the other end of that pipe, so end of file means: it
# ended.
#
# START is field 22 of /proc/PID/stat, the start time in clock ticks since boot. A PID is signalled
# only while that field still agrees: a PID that the kernel gave to somebody else is left alone.
trap '' HUP INT TERM
folder=$1
listed=''

# The process with this PID exists, is the one that was registered, and has not ended yet.
runs() {
  { read -r stat < "/proc/$1/stat"; } 2> /dev/null || return 1
  # The name in parentheses may hold spaces and parentheses itself: count behind its last one.
  set -- "$2" ${stat##*) }
  # $2 is now field 3 (the state: Z has ended and waits to be collected), ${21} is field 22.
  [ "$2" != Z ] && [ "${21}" = "$1" ]
}

signal() {
  for entry in $listed; do
    if runs "${entry%:*}" "${entry#*:}"; then
      kill "-$1" "${entry%:*}" 2> /dev/null
    fi
  done
}

any_runs() {
  for entry in $listed; do
    runs "${entry%:*}" "${entry#*:}" && return 0
  done
  return 1
}

while read -r sign pid start; do
  case $sign in
    # The newest first: what was started last depends on what was started before it.
    +) listed="$pid:$start $listed" ;;
    -)
      kept=''
      for entry in $listed; do
        [ "$entry" = "$pid:$start" ] || kept="$kept $entry"
      done
      listed=$kept
      ;;
  esac
done

signal TERM
# Nothing of a test is worth a longer farewell; an API server that lost its etcd would take 11 s.
rounds=20
while any_runs && [ "$rounds" -gt 0 ]; do
  rounds=$((rounds - 1))
  sleep 0.1
done
signal KILL
# That is the kernel's work, and a busy machine takes its time for it.
rounds=300
while any_runs && [ "$rounds" -gt 0 ]; do
  rounds=$((rounds - 1))
  sleep 0.1
done

case $folder in
  */rrsa-cluster-*) rm -rf -- "$folder" ;;
esac
