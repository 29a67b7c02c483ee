# SPDX-License-Identifier: Apache-2.0
# Sourced inside the virtual machine: hosts with an RDMA device each, and faults of their links.
# shellcheck shell=bash
#
# Host i has two networks. Over the one, 10.9.0.i, goes RDMA: device rxe_i on interface h_i, whose other end p_i is a port
# of bridge br0. Over the other, 10.7.0.i, goes TCP: host i has a network namespace, in which it is called eth0; its other
# end c_i is a port of bridge br1. What runs on a host (in_host) sees its own TCP stack and its own RDMA device alone.
#
# The h_i are not in the hosts' namespaces: soft-RoCE sends and receives in the initial one only. There all 10.9.0.i are
# addresses of one machine, and its kernel would deliver packets between them itself. Policy routing sends them out
# through h_i and in through h_j instead, so that they cross the bridge, and the faults below meet them.

# until_ SECONDS TEXT COMMAND... : waits for the command to succeed; says what did not become true if it takes too long.
until_() {
  local end=$((SECONDS + $1)) limit=$1 text=$2
  shift 2
  until "$@"; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "still not so after $limit s: $text" >&2
      return 1
    fi
    sleep 0.02
  done
}

# setup_hosts N [MTU] : makes N hosts. With an MTU of 9000, RDMA packets are 4096 bytes, and two to four times as fast as
# with one of 1500 when processors are emulated.
setup_hosts() {
  local n=$1 mtu=${2:-9000} conf=/proc/sys/net/ipv4/conf i
  links "$n" "$mtu" | ip -batch - || return # one process instead of a hundred, which take long in emulation
  # A bridge answers ARP for every address of the machine. RDMA packets would go to it and be lost.
  ip link set br0 up arp off
  ip link set br1 up arp off
  echo 1 >$conf/all/arp_ignore
  echo 0 >$conf/all/rp_filter
  echo 100000 >/proc/sys/net/core/netdev_max_backlog # the usual 1000 packets are too few for a burst of large messages
  for ((i = 1; i <= n; i++)); do
    echo 1 >"$conf/h$i/accept_local" # packets from the machine's own addresses
    echo 0 >"$conf/h$i/rp_filter"
    echo 1 >"$conf/h$i/arp_ignore"
    echo 2 >"$conf/h$i/arp_announce"
    printf '%s\n' "addr add 10.7.0.$i/24 dev eth0" "link set eth0 up" "link set lo up" | ip -n "host$i" -batch - || return
    rdma link add "rxe$i" type rxe netdev "h$i" || return
  done
  for ((i = 1; i <= n; i++)); do
    until_ 20 "rxe$i is active" active "$i" || return
    until_ 20 "rxe$i has a GID for 10.9.0.$i" gid_index "$i" >/dev/null || return
  done
}

# links N MTU : prints what makes the links of N hosts, their addresses and their routes, as commands for ip.
links() {
  local i j
  echo "link add br0 mtu $2 type bridge"
  echo "link add br1 type bridge"
  echo "rule add pref 100 lookup local" # after the rules below, instead of before all
  echo "rule del pref 0"
  for ((i = 1; i <= $1; i++)); do
    echo "link add h$i mtu $2 type veth peer name p$i mtu $2"
    echo "link set p$i master br0 up"
    echo "addr add 10.9.0.$i/24 dev h$i"
    echo "link set h$i up"
    echo "route add $(route "$i")"
    for ((j = 1; j <= $1; j++)); do
      [ "$i" = "$j" ] || echo "rule add pref 50 iif lo from 10.9.0.$i to 10.9.0.$j lookup $((200 + i))"
    done
    echo "netns add host$i"
    echo "link add c$i type veth peer name eth0 netns host$i"
    echo "link set c$i master br1 up"
  done
}

# route I : prints the way from host I to the others.
route() { echo "10.9.0.0/24 dev h$1 src 10.9.0.$1 table $((200 + $1))"; }

# active I : whether the port of host I's device is active.
active() { grep -q ACTIVE "/sys/class/infiniband/rxe$1/ports/1/state"; }
inactive() { ! active "$1"; }

# gid_index I : prints which of the device's addresses is the one for 10.9.0.I.
gid_index() {
  local want file
  want=$(printf '0000:0000:0000:0000:0000:ffff:0a09:%04x' "$1")
  for file in "/sys/class/infiniband/rxe$1/ports/1/gids"/*; do
    # Entries that are not in use cannot be read in some kernels.
    if [ "$(cat "$file" 2>/dev/null)" = "$want" ]; then basename "$file"; return; fi
  done
  return 1
}

# in_host I COMMAND... : runs the command on host I; its exit code is the command's.
in_host() { (exec_in_host "$@"); }

# exec_in_host I COMMAND... : becomes the command on host I. After "exec_in_host I COMMAND... &" its process is $!. A host
# has one of the machine's processors: two processes that poll could share one for seconds while another is idle.
exec_in_host() {
  local i=$1 device
  shift
  for device in /sys/class/infiniband_verbs/uverbs*; do
    [ "$(<"$device/ibdev")" != "rxe$i" ] || break
  done
  # ip netns makes a mount namespace too, so that /dev/infiniband can be one of the host's own.
  # shellcheck disable=SC2016 # the inner shell expands
  exec ip netns exec "host$i" bash -c '
    mount -t tmpfs devices /dev/infiniband && mknod "/dev/infiniband/$1" c "${2%:*}" "${2#*:}" || exit 125
    shift 2
    exec taskset -c "$@"' in_host "${device##*/}" "$(<"$device/dev")" $(((i - 1) % $(nproc))) "$@"
}

# port_down I, port_up I : cuts host I off from the RDMA network, and connects it again.
port_down() { ip link set "p$1" down && until_ 20 "rxe$1 is down" inactive "$1"; }
port_up() { ip link set "p$1" up && until_ 20 "rxe$1 is active" active "$1"; }

# loss I PERCENT : loses so many of the RDMA packets to host I, from 0 to 100.
loss() {
  if [ "$2" = 0 ]; then
    tc qdisc del dev "p$1" root
  else
    tc qdisc replace dev "p$1" root netem loss "$2%" limit 100000
  fi
}
