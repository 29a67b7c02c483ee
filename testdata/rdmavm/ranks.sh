# SPDX-License-Identifier: Apache-2.0
# Sourced after hosts.sh: the program hfreduce with one rank on each host. Who sources it has set what joins the ranks, a
# folder for what they print, and a first port.
# shellcheck shell=bash
: "${transport:?}" "${work:?}" "${port:?}"

# start_ranks N ARGUMENT... : starts hfreduce bench with rank r on host r+1. ranks holds their processes; what they print
# goes to $work/rank0, $work/rank1, ...
start_ranks() {
  local n=$1 r
  shift
  ranks=()
  port=$((port + 2)) # the launcher's and the one after it, which ours uses
  for ((r = 0; r < n; r++)); do
    RANK=$r WORLD_SIZE=$n LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.7.0.1 MASTER_PORT=$port \
      HFREDUCE_TRANSPORT=$transport exec_in_host $((r + 1)) hfreduce bench "$@" >"$work/rank$r" 2>&1 &
    ranks+=($!)
  done
}

# ended RANK... : whether these ranks' processes have ended.
ended() {
  local r
  for r in "$@"; do
    ! kill -0 "${ranks[r]}" 2>/dev/null || return 1
  done
}

# bench N ARGUMENT... : runs hfreduce bench to its end. The table, in $work/rank0, must have rows, and zeros in both #wrong
# columns.
bench() {
  local r code=0
  echo "+ $1 hosts: hfreduce bench ${*:2}"
  start_ranks "$@"
  until_ 150 "all ranks have ended" ended "${!ranks[@]}" || kill -QUIT "${ranks[@]}" || true # Go prints what each does
  for r in "${!ranks[@]}"; do
    wait "${ranks[r]}" || { code=$?; echo "rank $r ended with exit code $code:"; tail -n 40 "$work/rank$r"; }
  done
  [ "$code" -eq 0 ] || return "$code"
  awk '
    $1 ~ /^[0-9]+$/ { rows++; for (c = 9; c <= 13; c += 4) if ($c != "0") { print; bad++ } }
    /^# Out of bounds values : 0 OK/ { ok = 1 }
    END { printf "  %d rows, %d of them wrong\n", rows, bad; exit !(rows > 0 && bad == 0 && ok) }
  ' "$work/rank0" || { cat "$work/rank0"; return 1; }
}

# link ARGUMENT... : runs hfreduce bench link between hosts 1 and 2 and prints the row of its table, which must be verified.
link() {
  local r code=0
  start_ranks 2 link "$@"
  for r in "${!ranks[@]}"; do
    wait "${ranks[r]}" || { code=$?; tail -n 40 "$work/rank$r" >&2; }
  done
  [ "$code" -eq 0 ] || return "$code"
  awk -v transport="$transport" '$1 == 0 && $5 == transport && $NF == 0 { row = $0 } END { print row; exit row == "" }' "$work/rank0"
}

# link_bw MODE SIZE : MB/s by bench link, one way (bandwidth) or in each direction (both).
link_bw() { link "$1" -b "$2" -e "$2" -n 40 -w 8 | awk -v ways="$([ "$1" = both ] && echo 2 || echo 1)" '{ printf "%.1f\n", $8 * 1000 / ways }'; }

# link_lat SIZE : microseconds that a message typically takes, by bench link.
link_lat() { link latency -b "$1" -e "$1" -n 300 -w 30 | awk '{ print $8 }'; }

# time_of SIZE : microseconds of an allreduce of SIZE bytes in the table of the last bench, out of place.
time_of() { awk -v size="$1" '$1 == size { print $6; exit }' "$work/rank0"; }

# sent HOST : bytes that the host has sent on both networks.
sent() { echo $(($(<"/sys/class/net/c$1/statistics/rx_bytes") + $(<"/sys/class/net/p$1/statistics/rx_bytes"))); }
