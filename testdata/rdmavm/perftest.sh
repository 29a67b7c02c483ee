# SPDX-License-Identifier: Apache-2.0
# Sourced after hosts.sh: what linux-rdma's perftest measures between hosts 1 and 2, as numbers to compare with.
# shellcheck shell=bash

# listening PID PORT : whether some process in PID's network namespace waits for TCP connections to PORT.
listening() { grep -qi "^ *[0-9]*: [0-9a-f]*:$(printf %04x "$2") [0-9a-f]*:0000 0A" "/proc/$1/net/tcp" "/proc/$1/net/tcp6"; }

# perftest PROGRAM SIZE OPTION... : runs the program on hosts 1 and 2 and prints its line of results.
perftest() {
  local program=$1 size=$2 log server code=0
  log=$(mktemp)
  shift 2
  # -F: do not complain about the clock; -u 18: 1 s until a packet is sent again, as emulated processors are slow.
  local options=(-F -u 18 -s "$size" "$@")
  exec_in_host 1 "$program" -d rxe1 -x "$(gid_index 1)" "${options[@]}" >"$log" 2>&1 &
  server=$!
  until_ 20 "$program listens" listening "$server" 18515 &&
    in_host 2 timeout 60 "$program" -d rxe2 -x "$(gid_index 2)" "${options[@]}" 10.7.0.1 >>"$log" 2>&1 || code=$?
  [ "$code" -eq 0 ] || kill "$server" || true
  wait "$server" || code=$?
  # The server of a test in one direction prints a line without results.
  awk -v size="$size" '$1 == size { line = $0 } END { print line; exit line == "" }' "$log" || code=$?
  [ "$code" -eq 0 ] || cat "$log" >&2
  rm "$log"
  return "$code"
}

# bandwidth SIZE OPTION... : MB/s (10^6 bytes) of 32 MiB in messages of SIZE, but of 20 messages at least.
bandwidth() {
  local size=$1 n=$(((32 << 20) / $1))
  shift
  perftest ib_write_bw "$size" -n $((n < 20 ? 20 : n)) --report_gbits "$@" | awk '{ printf "%.1f\n", $4 * 125 }'
}

# ref_bw SIZE : MB/s of RDMA writes from one host to the other.
ref_bw() { bandwidth "$1"; }

# ref_bw_both SIZE : MB/s of RDMA writes in each direction, when both hosts write.
ref_bw_both() { bandwidth "$1" -b | awk '{ printf "%.1f\n", $1 / 2 }'; }

# ref_lat SIZE : microseconds that an RDMA write takes to arrive, half a round trip, as a rule.
ref_lat() { perftest ib_write_lat "$1" -n 200 | awk '{ print $5 }'; }
